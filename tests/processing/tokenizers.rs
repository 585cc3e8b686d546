//! Prompts of other kinds of tokenizers.

use super::*;

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
        ("generation_config.json", json!({ "eos_token_id": [2, 3] }).to_string()),
    ]);
    PromptBuilder::from_dir(dir.path(), 4, families::llava().template()).unwrap()
}

#[test]
fn word_level_prompts() {
    let builder = word_level();
    assert_eq!(builder.eos_ids(), [2, 3]);
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
    assert_eq!(builder.text_ids("a <image>").unwrap(), [8, 0, 17, 0]);
    assert!(builder.word_ids("<image>").is_empty(), "no token stands for it");
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
}

#[test]
fn an_image_token_that_is_no_token_is_refused() {
    let builder = word_level_with(&["<unk>", "<s>", "</s>"]);
    let error =
        builder.build(&[Turn::ask(1, "where?")], &[families::view(2, 2, false)]).unwrap_err().to_string();
    assert!(error.contains("encodes 4 image tokens as 0"), "{error}");
}

/// The kind of tokenizer that LLaVA-1.5 has: Llama's, which marks spaces in the text, puts one before
/// every stretch of it, adds BOS itself, and falls back to bytes.
fn llama_style() -> PromptBuilder {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "<image>", "\u{2581}"].map(str::to_owned).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend("USERAINT:whatis?<mge>".chars().map(String::from).collect::<BTreeSet<_>>());
    let merges = ["w h", "wh a", "wha t", "\u{2581} what", "i s", "\u{2581} is", "U S", "US E", "USE R"];
    tokens.extend(merges.map(|pair| pair.replace(' ', "")));
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> = ["<unk>", "<s>", "</s>", "<image>"]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": { "direction": "Right", "max_length": 5, "strategy": "LongestFirst",
            "stride": 0 }, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "\u{2581}" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" } ] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "<unk>",
            "fuse_unk": true, "byte_fallback": true },
    });
    let dir = folder_with(&[
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string()),
        ("config.json", json!({ "text_config": { "eos_token_id": 2 } }).to_string()),
    ]);
    PromptBuilder::from_dir(dir.path(), 3, families::llava().template()).unwrap()
}

#[test]
fn llama_style_prompts() {
    let builder = llama_style();
    assert_eq!(builder.eos_ids(), [2]);
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
    assert_eq!(builder.token_text(5 + u32::from(b'~')), "~");
    // A character comes with its last byte; what is none is one replacement sign, its neighbours untouched.
    let texts = |ids: &[u32]| -> (Vec<String>, String) {
        let mut spelling = Spelling::default();
        let texts = ids.iter().map(|&id| builder.next_text(&mut spelling, id)).collect();
        (texts, spelling.finish())
    };
    let bytes: Vec<u32> = "字".bytes().map(|byte| 5 + u32::from(byte)).collect();
    let ids = [id(" is"), bytes[0], bytes[1], bytes[2], id(" is"), bytes[0], id("?"), bytes[0], bytes[1]];
    let (found, left) = texts(&ids);
    assert_eq!(found.join("|"), "is|||字| is||\u{FFFD}?||");
    assert_eq!(left, "\u{FFFD}");
    assert_eq!(builder.decode(&ids), "is字 is\u{FFFD}?\u{FFFD}");
    assert_eq!(builder.decode(&[id(" is"), id("?"), 2]), "is?");
    assert_eq!(builder.decode_with_special(&[id("?"), 2]), "?</s>");
    assert!(builder.unknown_words("what is 大?").is_empty()); // bytes stand for everything
}

/// What people type is found in the prompt, whatever tokens it takes, also where the tokenizer drops blanks.
#[test]
fn words_of_a_prompt_are_found_with_all_their_tokens() {
    let found = |builder: &PromptBuilder, image: Vec<Piece>, text: &str, phrase: &str| -> Vec<usize> {
        let prompt = builder.build(&[Turn::ask(1, text)], &[image]).unwrap();
        let typed = prompt.tokens.iter().filter(|t| t.visual.is_none());
        let pieces: Vec<words::Piece<'_>> =
            typed.map(|t| words::Piece { position: t.position, text: &t.text }).collect();
        let mut found = words::find(&pieces, phrase);
        assert_eq!(found.len(), 1, "{phrase:?} in {text:?}: {pieces:?}");
        found.remove(0).positions
    };
    let grid = || families::view(2, 2, false);
    assert_eq!(found(&word_level(), grid(), "what is the red ball?", "red ball"), [10, 11]);
    let bytes = found(&llama_style(), grid(), "what is 字?", "字");
    assert_eq!(bytes.len(), 3, "{bytes:?}");
}
