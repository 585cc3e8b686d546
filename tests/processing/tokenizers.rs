//! Prompts of other kinds of tokenizers.

use sightline::trace::words::{self, Piece as Told};

use super::{prompts::smolvlm, *};

/// The tokenizer and template style of the bundled model: lower-cased words, one token each.
fn word_level() -> PromptBuilder {
    word_level_with(&["<unk>", "<s>", "</s>", "<pad>", "<image>"])
}

/// The same with other special tokens.
fn word_level_with(special: &[&str]) -> PromptBuilder {
    let vocabulary: serde_json::Map<String, Value> = [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "<image>",
        ".",
        ":",
        "?",
        "a",
        "assistant",
        "ball",
        "is",
        "red",
        "the",
        "user",
        "what",
        "where",
        "image",
    ]
    .iter()
    .enumerate()
    .map(|(id, word)| ((*word).to_owned(), json!(id)))
    .collect();
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "WhitespaceSplit" }, { "type": "Punctuation", "behavior": "Isolated" } ] },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": {} },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    });
    let template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}USER: \
        {% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}\
        {% endfor %}{% else %} ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %} ASSISTANT:{% endif %}";
    let dir = folder_with(&[
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string()),
        ("chat_template.jinja", template.to_owned()),
    ]);
    PromptBuilder::from_dir(dir.path(), 4, families::llava().template()).unwrap()
}

#[test]
fn word_level_prompts() {
    let builder = word_level();
    let prompt =
        builder.build(&[Turn::ask(1, "Where is the Zebra? ")], &[families::view(2, 2, false)]).unwrap();
    // <s> user : <image> x 4, where is the <unk> ?, assistant :
    assert_eq!(prompt.ids(), [1, 14, 6, 4, 4, 4, 4, 16, 11, 13, 0, 7, 9, 6]);
    use Span::{Bos, Last, Question, System, Visual};
    let spans = [Bos, System, System, Visual, Visual, Visual, Visual];
    assert_eq!(prompt.spans()[..7], spans);
    assert_eq!(prompt.spans()[7..], [Question, Question, Question, Question, Question, System, Last]);
    assert_eq!(
        builder.unknown_words("Where is the Zebra, zebra or <image>?"),
        ["Zebra", ",", "zebra", "or", "<", ">"]
    );
    // A typed <image> is unknown punctuation around a known word, not an image.
    let prompt = builder.build(&[Turn::ask(1, "the <image>?")], &[families::view(2, 2, false)]).unwrap();
    assert_eq!(prompt.ids()[7..], [13, 0, 17, 0, 7, 9, 6]);
    // Earlier answers print as their text, also in templates that expect a string.
    let answer = Turn { role: Role::Assistant, content: vec![Content::Text("a red ball".to_owned())] };
    let turns = [Turn::ask(1, "what?"), answer, Turn::ask(0, "where?")];
    let prompt = builder.build(&turns, &[families::view(2, 2, false)]).unwrap();
    let image = "<image>".repeat(4);
    let history = format!("<s>USER: {image}\nwhat? ASSISTANT: a red ball</s>USER: where? ASSISTANT:");
    assert_eq!(prompt.text, history);
    assert_eq!(prompt.tokens.iter().filter(|t| t.id == 2).count(), 1);
    assert_eq!(builder.decode(&[8, 12, 10, 2]), "a red ball");
    assert_eq!(builder.token_text(12), " red");
    // The blanks that this tokenizer drops part the words of a prompt all the same.
    let image = [families::view(2, 2, false)];
    let prompt = builder.build(&[Turn::ask(1, "what  is the red ball?")], &image).unwrap();
    assert_eq!(text_of(&prompt, Question), "what  is the red ball?");
    let told: Vec<Told> = (prompt.tokens.iter().filter(|t| t.visual.is_none()))
        .map(|t| Told { position: t.position, text: &t.text, partial: t.partial })
        .collect();
    let found = words::find(&told, "red ball");
    assert_eq!(found.len(), 1, "{told:?}");
    assert_eq!(found[0].positions, [10, 11]);
}

#[test]
fn an_image_token_that_is_no_token_is_refused() {
    let builder = word_level_with(&["<unk>", "<s>", "</s>"]);
    let error =
        builder.build(&[Turn::ask(1, "where?")], &[families::view(2, 2, false)]).unwrap_err().to_string();
    assert!(error.contains("encodes 4 image tokens as 0"), "{error}");
}

/// The kind of tokenizer that LLaVA-1.5 has, see [`models::llama_tokenizer`].
fn llama_style() -> PromptBuilder {
    let dir = folder_with(&[
        ("tokenizer.json", models::llama_tokenizer(3).to_string()),
        ("tokenizer_config.json", json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string()),
    ]);
    PromptBuilder::from_dir(dir.path(), 3, families::llava().template()).unwrap()
}

#[test]
fn llama_style_prompts() {
    let builder = llama_style();
    let prompt = builder.build(&[Turn::ask(1, "what is?")], &[families::view(1, 2, false)]).unwrap();
    let found: Vec<(&str, Span)> = prompt.tokens.iter().map(|t| (t.text.as_str(), t.span)).collect();
    use Span::{Bos, Last, Question, System, Visual};
    // BOS comes from the tokenizer, and so does the space before "USER" and before "\n".
    let start = [
        ("<s>", Bos),
        ("", System),
        ("USER", System),
        (":", System),
        (" ", System),
        ("<image>", Visual),
        ("<image>", Visual),
        ("", System),
        ("\n", System),
        ("what", Question),
        (" is", Question),
        ("?", Question),
    ];
    assert_eq!(found[..start.len()], start);
    assert_eq!(*found.last().unwrap(), (":", Last));
    // What is typed is text: the special token's letters, and the same ids around them.
    let typed = builder.build(&[Turn::ask(1, "<image> what</s>?")], &[families::view(1, 2, false)]).unwrap();
    assert_eq!(text_of(&typed, Question), "<image> what</s>?");
    assert_eq!(typed.ids()[..9], prompt.ids()[..9]);
    assert!(typed.ids()[9..].iter().all(|id| *id > 3), "{:?}", typed.ids());
    // Leading spaces survive; a byte that is no character by itself shows by value.
    let id = |text: &str| prompt.tokens.iter().find(|t| t.text == text).unwrap().id;
    assert_eq!(builder.token_text(id(" is")), " is");
    assert_eq!(builder.token_text(5 + 0xE4), "<0xE4>");
    assert_eq!(builder.decode(&[id(" is"), id("?"), 2]), "is?");
    assert_eq!(builder.decode_with_special(&[id("?"), 2]), "?</s>");
    assert!(builder.unknown_words("what is 大?").is_empty()); // bytes stand for everything
}

/// What is told of a text's tokens one by one: the texts, which of them end within a character, and what is left at
/// the end.
fn told(builder: &PromptBuilder, ids: &[u32]) -> (Vec<String>, Vec<bool>, &'static str) {
    let mut spoken = builder.spoken();
    let added = ids.iter().map(|&id| spoken.push(id, false)).map(|added| (added.text, added.partial));
    let (texts, partial) = added.unzip();
    (texts, partial, spoken.rest())
}

#[test]
fn the_last_token_of_a_character_carries_it() {
    for builder in [smolvlm(4), llama_style()] {
        let mut split = 0;
        for text in [
            "\u{1F436}狗 dog",
            "汉字符号 is",
            "a \u{1F469}\u{200D}\u{1F469}\u{200D}\u{1F467} and \u{1F44D}\u{1F3FD}",
            "\u{1F1EB}\u{1F1F7}",
            "cafe\u{301} na\u{EF}ve ฉันรักแมว",
            "고양이\n\n\u{1F600}",
        ] {
            let ids = builder.text_ids(text).unwrap();
            let (texts, partial, rest) = told(&builder, &ids);
            assert_eq!(texts.concat(), text);
            assert_eq!((builder.decode(&ids).as_str(), rest), (text, ""));
            assert!(texts.iter().all(|text| !text.contains('\u{FFFD}')), "{texts:?}");
            assert!(!partial.ends_with(&[true]), "{texts:?}");
            // Of a partial token nothing is told but what came before its character.
            split += partial.iter().filter(|partial| **partial).count();
        }
        assert!(split > 10, "{split} tokens ended within a character");
    }
}

#[test]
fn bytes_that_are_no_character_are_one_sign() {
    let builder = llama_style();
    let byte = |byte: u32| 5 + byte;
    let a = builder.text_ids("what").unwrap()[0];
    assert_eq!(builder.token_text(a), " what");
    let sign = "\u{FFFD}";
    for (ids, expected) in [
        (vec![byte(0xE5)], sign.to_string()),
        (vec![byte(0xE5), byte(0xAD)], sign.to_string()),
        // A whole character is none the worse for what follows or came before.
        (vec![byte(0xE5), byte(0xAD), byte(0x97), byte(0xE5)], format!("字{sign}")),
        (vec![byte(0xE5), byte(0xE5), byte(0xAD), byte(0x97)], format!("{sign}字")),
        (vec![byte(0xF0), byte(0x9F), a], format!("{sign} what")),
        ([vec![byte(0x90); 10], vec![a]].concat(), format!("{sign} what")),
        (vec![byte(0x90); 10], sign.to_string()),
        ([vec![byte(0x90); 5], vec![byte(0xE5), byte(0xAD), byte(0x97)]].concat(), format!("{sign}字")),
    ] {
        assert_eq!(builder.decode(&ids), expected, "{ids:?}");
        let (texts, partial, rest) = told(&builder, &ids);
        assert_eq!(texts.concat() + rest, expected, "{ids:?}");
        assert!(partial[0] && texts[0].is_empty(), "{texts:?}");
    }
    // What could come next shows as what it would say here.
    let mut spoken = builder.spoken();
    for b in [0xE5, 0xAD] {
        assert!(spoken.push(byte(b), false).partial);
    }
    assert_eq!(builder.spoken().candidate(byte(0xE5)), "<0xE5>");
    assert_eq!(spoken.candidate(byte(0x97)), "字");
    assert_eq!(spoken.candidate(byte(0x98)), "\u{5B58}");
    assert_eq!(spoken.candidate(a), " what", "its own text, whatever becomes of the bytes before it");
    // The end of an answer is no part of it, and leaves open what is.
    assert_eq!(spoken.push(2, true).text, "</s>");
    assert_eq!(spoken.rest(), sign);
    assert_eq!(spoken.push(3, false).text, format!("{sign}<image>"));
    assert_eq!(spoken.rest(), "");
    // The same where a token holds some of the bytes.
    let builder = smolvlm(4);
    let dog = builder.text_ids("\u{1F436}").unwrap();
    assert!(dog.len() > 1, "{dog:?}");
    let word = builder.text_ids(" dog").unwrap();
    assert_eq!(builder.decode(&dog[..1]), sign);
    let shown: String = dog.iter().map(|&id| builder.token_text(id)).collect();
    assert_eq!(shown, "<0xF0><0x9F><0x90><0xB6>");
    assert_eq!(builder.decode(&[&dog[..1], &word].concat()), format!("{sign} dog"));
}

#[test]
fn characters_of_several_tokens_are_found_in_a_prompt() {
    for (builder, image) in
        [(smolvlm(4), families::tiles(0, 0, 4)), (llama_style(), families::view(1, 2, false))]
    {
        let prompt = builder.build(&[Turn::ask(1, "\u{1F436} is 汉字符号?")], &[image]).unwrap();
        let told: Vec<Told> = (prompt.tokens.iter().filter(|t| t.visual.is_none()))
            .map(|t| Told { position: t.position, text: &t.text, partial: t.partial })
            .collect();
        assert_eq!(words::find(&told, "字符").len(), 1, "a word need not stand between blanks");
        for phrase in ["汉字符", "\u{1F436}", "\u{1F436} is"] {
            let found = words::find(&told, phrase);
            assert_eq!(found.len(), 1, "{phrase}");
            let at = &found[0].positions;
            let text: String = at.iter().map(|&p| prompt.tokens[p].text.as_str()).collect();
            assert_eq!(text.trim(), phrase);
            // All tokens of the first character, of which the last alone is not partial.
            let before = &prompt.tokens[at[0] - 1];
            assert!(prompt.tokens[at[0]].partial && !before.partial, "{phrase}: {at:?}");
            assert!(at.is_sorted_by(|a, b| a + 1 == *b), "{phrase}: {at:?}");
        }
    }
}

#[test]
fn what_people_type_is_text_wherever_they_type_it() {
    let builder = smolvlm(4);
    for text in ["a <image> b", "yes<end_of_utterance>no", "<|im_start|>", "<row_1_col_1> x"] {
        let ids = builder.text_ids(text).unwrap();
        assert!(ids.iter().all(|id| (17..49152).contains(id)), "{text}: {ids:?}");
        assert_eq!(builder.decode(&ids), text);
        assert!(builder.word_ids(text).iter().all(|id| (17..49152).contains(id)), "{text}");
    }
    let builder = llama_style();
    for text in ["a <image> b", "</s>", "is<s>what"] {
        let ids = builder.text_ids(text).unwrap();
        assert!(ids.iter().all(|id| *id > 3), "{text}: {ids:?}");
        assert_eq!(builder.decode(&ids), text);
    }
    let builder = word_level();
    assert_eq!(builder.text_ids("the <image>?").unwrap(), [13, 0, 17, 0, 7]);
    assert_eq!(builder.unknown_words("the <image>, a </s>"), ["<", ">", ",", "/", "s"]);
}

/// A folder with one of the SentencePiece models, an `<image>` token behind its pieces, and these further settings.
fn sentencepiece(model: &str, pieces: u64, settings: Value) -> tempfile::TempDir {
    let mut config = json!({ "bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "LlamaTokenizer",
        "added_tokens_decoder": { pieces.to_string(): { "content": "<image>", "special": true } } });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let dir = folder_with(&[
        ("tokenizer_config.json", config.to_string()),
        ("chat_template.jinja", "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}\
            {% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}\
            {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}".to_owned()),
    ]);
    let from = fixtures().join("sentencepiece").join(model);
    std::fs::copy(from, dir.path().join("tokenizer.model")).unwrap();
    dir
}

fn sentencepiece_expected() -> Value {
    let text = std::fs::read_to_string(fixtures().join("sentencepiece/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn numbers(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn sentencepiece_models_are_read_as_sentencepiece_reads_them() {
    for (model, all) in sentencepiece_expected().as_object().unwrap() {
        let pieces = all["pieces"].as_u64().unwrap();
        let dir = sentencepiece(model, pieces, json!({}));
        let builder = PromptBuilder::from_dir(dir.path(), pieces as u32, None).unwrap();
        assert_eq!(builder.tokenizer_file(), "tokenizer.model");
        assert_eq!(builder.largest_id(), Some(pieces as u32));
        let cases = all["cases"].as_array().unwrap();
        assert!(cases.len() >= 45);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let ids = builder.text_ids(text).unwrap();
            assert_eq!(ids, numbers(&case["ids"]), "{model}: {text:?}");
            // What is unknown is written by SentencePiece as a sign of its own.
            if model != "collapsed.model" {
                assert_eq!(builder.decode(&ids), case["decoded"].as_str().unwrap(), "{model}: {text:?}");
            }
        }
    }
}

#[test]
fn sentencepiece_prompts_have_their_beginning_and_their_added_tokens() {
    let expected = sentencepiece_expected();
    let pieces = expected["blanks.model"]["pieces"].as_u64().unwrap();
    // As InternLM2 has it: the class adds <s>, and a piece has another name now.
    let settings = json!({ "tokenizer_class": "InternLM2Tokenizer", "added_tokens_decoder": {
        pieces.to_string(): { "content": "<image>", "special": true },
        "4": { "content": "<|renamed|>", "special": true } } });
    let dir = sentencepiece("blanks.model", pieces, settings.clone());
    let template = std::fs::read_to_string(dir.path().join("chat_template.jinja")).unwrap();
    let renamed = template.replace("<|im_end|>", "<|renamed|>");
    std::fs::write(dir.path().join("chat_template.jinja"), renamed).unwrap();
    let image = pieces as u32;
    let builder = PromptBuilder::from_dir(dir.path(), image, None).unwrap();
    assert_eq!(builder.end_of_turn(), Some((4, "<|renamed|>".to_owned())));
    let typed = "What is <|renamed|> or <|im_end|>?";
    let prompt = builder.build(&[Turn::ask(1, typed)], &[families::view(1, 2, false)]).unwrap();
    let ids = prompt.ids();
    assert_eq!((ids[0], prompt.tokens[0].span, ids[1]), (1, Span::Bos, 3), "<s>, then <|im_start|>");
    assert_eq!(ids.iter().filter(|id| **id == 4).count(), 1, "what is typed is no token");
    assert_eq!(ids.iter().filter(|id| **id == image).count(), 2);
    assert_eq!(text_of(&prompt, Span::Question), typed);
    // Without it, if the folder says so.
    let mut without = settings;
    without["add_bos_token"] = false.into();
    let dir = sentencepiece("blanks.model", pieces, without);
    let builder = PromptBuilder::from_dir(dir.path(), image, None).unwrap();
    let prompt = builder.build(&[Turn::ask(1, "What?")], &[families::view(1, 2, false)]).unwrap();
    assert_eq!(prompt.ids()[0], 3);
    // A blank begins the text only, not every stretch of it.
    let blank = |legacy: bool| {
        let dir = sentencepiece("blanks.model", pieces, json!({ "legacy": legacy }));
        let builder = PromptBuilder::from_dir(dir.path(), image, None).unwrap();
        builder.build(&[Turn::ask(1, "What?")], &[families::view(1, 2, false)]).unwrap().len()
    };
    assert!(blank(true) >= blank(false));
}

#[test]
fn what_would_be_read_otherwise_is_refused() {
    let refused = |settings: Value| {
        let dir = sentencepiece("blanks.model", 720, settings);
        PromptBuilder::from_dir(dir.path(), 720, None).unwrap_err().to_string()
    };
    let error = refused(json!({ "tokenizer_class": "T5Tokenizer" }));
    assert!(error.contains("tokenizer.model") && error.contains("T5Tokenizer"), "{error}");
    assert!(refused(json!({ "add_eos_token": true })).contains("`add_eos_token`"));
    assert!(refused(json!({ "legacy": "no" })).contains("`legacy`"));
    let dir = sentencepiece("blanks.model", 720, json!({}));
    for (bytes, part) in [(&b"\xFF\xFF\xFF"[..], "no SentencePiece model"), (&b""[..], "tokenizer.model")] {
        std::fs::write(dir.path().join("tokenizer.model"), bytes).unwrap();
        let error = PromptBuilder::from_dir(dir.path(), 720, None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// InternVL's own folders have vocab.json and merges.txt: ids of its own prompts, every image token in its place.
#[test]
fn vocabularies_with_merges_are_read_as_qwens_tokenizer_reads_them() {
    let text = std::fs::read_to_string(fixtures().join("processing/processing_internvl.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, entry) in reference["internvl"]["chat_prompts"].as_object().unwrap() {
        let (Some(prompt), Some(ids)) = (entry["prompt"].as_str(), entry["input_ids"].as_array()) else {
            continue;
        };
        let question = entry["question"].as_str().unwrap();
        let template =
            prompt.replace("<image>", "<IMG_CONTEXT>").replace(question, "{{ messages[0].content }}");
        // Templates lose the line break at their end.
        let template = template.trim_end().to_owned() + "{{ '\\n' }}";
        let dir = folder_with(&[("chat_template.jinja", template)]);
        for file in [
            "vocab.json",
            "merges.txt",
            "added_tokens.json",
            "special_tokens_map.json",
            "tokenizer_config.json",
        ] {
            std::fs::copy(fixtures().join("tiny-internvl-chat").join(file), dir.path().join(file)).unwrap();
        }
        let tokens = entry["expanded_prompt"].as_str().unwrap().matches("<IMG_CONTEXT>").count();
        let mut image = vec![Piece::Marker("<img>".to_owned())];
        let cell = |i: usize| Some(Cell { row: i / 4 % 4, col: i % 4 });
        image.extend((0..tokens).map(|i| Piece::Token { view: i / 16, cell: cell(i) }));
        image.push(Piece::Marker("</img>".to_owned()));
        let builder = PromptBuilder::from_dir(dir.path(), 277, None).unwrap();
        assert_eq!(builder.tokenizer_file(), "vocab.json");
        // What the template says after a question of one text part and an image.
        let built = builder.build(&[Turn::ask(1, question)], &[image]).unwrap();
        assert_eq!(built.text, entry["expanded_prompt"].as_str().unwrap(), "{name}");
        let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(built.ids(), ids, "{name}");
        assert_sound(&built);
        compared += 1;
    }
    assert!(compared >= 3, "{compared}");
    // The same vocabulary as tokenizer.json, by texts.
    let [slow, fast] = ["tiny-internvl-chat", "tiny-internvl"].map(|name| {
        let dir = folder_with(&[("chat_template.jinja", "{{ messages }}".to_owned())]);
        for file in
            ["tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"]
        {
            let _ = std::fs::copy(fixtures().join(name).join(file), dir.path().join(file));
        }
        PromptBuilder::from_dir(dir.path(), 277, None).unwrap()
    });
    for text in [
        "the image",
        "Where's it? I'll 1234\r\n\n  see",
        "cafe\u{301} 汉字 \u{1F436}",
        "<|im_end|><img>",
        "DON'T  stop",
    ] {
        assert_eq!(slow.text_ids(text).unwrap(), fast.text_ids(text).unwrap(), "{text:?}");
    }
}

#[test]
fn a_folder_without_a_vocabulary_says_what_is_missing() {
    {
        let name = "tiny-internvl-chat-internlm2";
        let error = PromptBuilder::from_dir(&fixtures().join(name), 277, Some("")).unwrap_err().to_string();
        for part in [name, "tokenizer.json", "merges.txt", "tokenizer.model"] {
            assert!(error.contains(part), "{error}");
        }
    }
    let refused = |name: &str, text: &str| {
        let dir = folder_with(&[
            ("vocab.json", json!({ "a": 0, "b": 1, "ab": 2 }).to_string()),
            ("merges.txt", "#version: 0.2\na b\n".to_owned()),
            ("tokenizer_config.json", json!({ "tokenizer_class": "GPT2Tokenizer" }).to_string()),
        ]);
        std::fs::write(dir.path().join(name), text).unwrap();
        PromptBuilder::from_dir(dir.path(), 0, Some("")).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(refused("merges.txt", "#version: 0.2\na b\n"), "");
    assert!(refused("merges.txt", "a\n").contains("merges.txt: line 1 is no pair"));
    assert!(refused("merges.txt", "a x\n").contains("vocab.json"));
    assert!(refused("vocab.json", r#"{"a": -1}"#).contains("vocab.json: the token `a` has no id"));
    assert!(refused("vocab.json", "[]").contains("is no list of tokens"));
    assert!(refused("tokenizer_config.json", "{}").contains("`tokenizer_class` is none"));
}
