//! Tokenizers, chat templates, and the files beside them.

use super::*;

/// Small tokenizers of every kind that model folders have.
#[expect(clippy::too_many_lines, reason = "a list of documents")]
fn tokenizers() -> Vec<Value> {
    let added: Vec<Value> = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let words = [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "<image>",
        "user",
        ":",
        "what",
        "is",
        "it",
        "?",
        "assistant",
        "\u{2581}",
        "w",
        "h",
        "a",
        "t",
        "wh",
        "at",
        "##t",
    ];
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.to_string(), json!(id))).collect();
    let scores: Vec<Value> = words.iter().enumerate().map(|(i, word)| json!([word, -(i as f64)])).collect();
    let template = json!({ "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } });
    let tokenizer = |normalizer: Value, pre: Value, post: Value, decoder: Value, model: Value| {
        json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model })
    };
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    vec![
        read(&bundled::model().join("tokenizer.json")),
        tokenizer(
            json!({ "type": "Lowercase" }),
            json!({ "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" }, { "type": "Punctuation", "behavior": "Isolated" } ] }),
            template.clone(),
            json!(null),
            json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" }),
        ),
        tokenizer(
            json!({ "type": "Sequence", "normalizers": [ { "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" } ] }),
            json!(null),
            template,
            json!({ "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }, { "type": "ByteFallback" },
                { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] }),
            json!({ "type": "BPE", "vocab": vocab, "merges": ["w h", ["a", "t"]], "unk_token": "<unk>", "dropout": null,
                "fuse_unk": true, "byte_fallback": true, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "ignore_merges": false }),
        ),
        tokenizer(
            json!({ "type": "NFKC" }),
            json!({ "type": "Sequence", "pretokenizers": [ { "type": "Digits", "individual_digits": true },
                { "type": "Split", "pattern": { "Regex": "\\s+" }, "behavior": "MergedWithNext", "invert": false },
                byte_level ] }),
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true }),
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
            json!({ "type": "BPE", "vocab": vocab, "merges": [["w", "h"], ["a", "t"]], "unk_token": null }),
        ),
        tokenizer(
            json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true }),
            json!({ "type": "BertPreTokenizer" }),
            json!({ "type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1] }),
            json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
            json!({ "type": "WordPiece", "vocab": vocab, "unk_token": "<unk>", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100 }),
        ),
        tokenizer(
            json!({ "type": "Strip", "strip_left": false, "strip_right": true }),
            json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true }),
            json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": true,
                "add_prefix_space": false }),
            json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true }),
            json!({ "type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": false }),
        ),
    ]
}

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% for c in m.content %}\
    {% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}\
    {% if add_generation_prompt %} assistant:{% endif %}";

/// The image token.
const IMAGE: u32 = 4;

static LLAVA: LazyLock<Arc<dyn Family>> = LazyLock::new(families::llava);

/// Builds prompts as a run would, and reads tokens back.
fn converse(dir: &Path) {
    let Some(builder) = outcome(PromptBuilder::from_dir(dir, IMAGE, LLAVA.template())) else { return };
    builder.largest_id();
    let answer = Turn { role: Role::Assistant, content: vec![Content::Text(" ".to_string())] };
    builder.end_of_turn();
    let begun = Turn::of(Role::Assistant, "it <s> is");
    let conversations = [
        vec![Turn::ask(1, "what?"), begun],
        vec![Turn::ask(1, "What is it? \u{E9}\u{1F600}<image></s>")],
        vec![Turn::ask(1, "  "), answer, Turn::ask(0, "what\n\nis it?")],
    ];
    for turns in conversations {
        let Some(prompt) = outcome(builder.build(&turns, &[families::view(2, 3, false)])) else { continue };
        assert!(prompt.tokens.iter().enumerate().all(|(i, t)| t.position == i));
        assert_eq!(prompt.spans().iter().filter(|s| **s == Span::Visual).count(), 6);
        assert_eq!(prompt.spans().last(), Some(&Span::Last));
        for id in prompt.ids().into_iter().chain([0, 1, 19, 1 << 20, u32::MAX]).take(64) {
            builder.token_text(id);
        }
        builder.decode(&prompt.ids());
    }
    builder.unknown_words("what zebra?");
}

#[test]
fn tokenizer_files() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } }).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    // A panic of the tokenizers crate is caught; reporting it reads the debug symbols.
    try_all("tokenizer.json", 1, 128 * MB, broken(tokenizers()), |bytes| {
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        converse(dir.path());
    });
}

#[test]
fn tokenizers_of_older_kinds() {
    let _alone = memory::alone();
    let folder = |class: &str, files: &[(&str, Vec<u8>)]| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
        let config = json!({ "tokenizer_class": class, "bos_token": "<s>",
            "added_tokens_decoder": { "4": { "content": "<image>", "special": true } } });
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        dir
    };
    for model in ["blanks.model", "collapsed.model"] {
        let whole = fs::read(fixture("sentencepiece").join(model)).unwrap();
        let dir = folder("LlamaTokenizer", &[]);
        let inputs = damages(6).prop_map(move |d| damaged(whole.clone(), &d));
        try_all("tokenizer.model", 2, 128 * MB, inputs, |bytes| {
            fs::write(dir.path().join("tokenizer.model"), bytes).unwrap();
            converse(dir.path());
        });
    }
    let from = fixture("tiny-internvl-chat");
    let files: Vec<(&str, Vec<u8>)> =
        ["vocab.json", "merges.txt"].map(|name| (name, fs::read(from.join(name)).unwrap())).into();
    let dir = folder("Qwen2Tokenizer", &files);
    let (vocabulary, merges) = (read(&from.join("vocab.json")), files[1].1.clone());
    try_all("vocab.json", 2, 128 * MB, broken(vec![vocabulary]), |bytes| {
        fs::write(dir.path().join("vocab.json"), bytes).unwrap();
        converse(dir.path());
    });
    fs::write(dir.path().join("vocab.json"), &files[0].1).unwrap();
    try_all("merges.txt", 2, 128 * MB, damages(6).prop_map(move |d| damaged(merges.clone(), &d)), |bytes| {
        fs::write(dir.path().join("merges.txt"), bytes).unwrap();
        converse(dir.path());
    });
    fs::write(dir.path().join("merges.txt"), &files[1].1).unwrap();
    for name in ["added_tokens.json", "special_tokens_map.json"] {
        let document = read(&from.join(name));
        try_all(name, 4, 128 * MB, broken(vec![document.clone()]), |bytes| {
            fs::write(dir.path().join(name), bytes).unwrap();
            converse(dir.path());
        });
        fs::write(dir.path().join(name), document.to_string()).unwrap();
    }
}

/// A folder with a small tokenizer.
fn folder_with_tokenizer() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizers()[1].to_string()).unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    dir
}

#[test]
fn files_beside_the_tokenizer() {
    let _alone = memory::alone();
    let dir = folder_with_tokenizer();
    fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let files = [
        (
            "tokenizer_config.json",
            json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" }, "chat_template": [] }),
        ),
        ("config.json", json!({ "eos_token_id": 2, "text_config": { "eos_token_id": [3] } })),
        ("generation_config.json", json!({ "eos_token_id": [2, 3] })),
        ("chat_template.json", json!({ "chat_template": TEMPLATE })),
        ("processor_config.json", json!({ "image_seq_len": 6, "chat_template": { "default": TEMPLATE } })),
    ];
    let tiled = families::idefics3(4);
    let check_processor = || {
        let file = dir.path().join("processor_config.json");
        let Some(Some(json)) = outcome(read_json(&file)) else { return };
        let checked = Section::root(&json, &file).and_then(|section| tiled.check_processor(&section));
        outcome(checked);
    };
    for (name, document) in files {
        try_all(name, 4, 4 * MB, broken(vec![document.clone()]), |bytes| {
            fs::write(dir.path().join(name), bytes).unwrap();
            converse(dir.path());
            check_processor();
            outcome(end_tokens(dir.path()));
        });
        fs::write(dir.path().join(name), document.to_string()).unwrap();
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of texts")]
fn chat_templates() {
    let _alone = memory::alone();
    const PIECES: &[&str] = &[
        "{% for m in messages %}",
        "{% endfor %}",
        "{{ m.content }}",
        "{{ m['content'][0].text }}",
        "{{ bos_token }}",
        "{%",
        "%}",
        "{{",
        "}}",
        "{#",
        "#}",
        "{% if m %}",
        "{% else %}",
        "{% endif %}",
        "{% generation %}",
        "{% endgeneration %}",
        "{%- generation -%}",
        "<image>",
        "\n",
        " ",
        "x",
        "{% set ns = namespace(v=[]) %}",
        "{% set ns.v = [ns.v] %}",
        "{{ ns.v }}",
        "{{ ns.v | tojson }}",
        "{% for i in range(99999) %}",
        "{% set ns.v = ns.v ~ 'xy' %}",
        "{{ messages | tojson }}",
        "{{ messages[0].content[1].text.strip() }}",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "{{ f(f) }}",
        "{{ 'a'.split('') | length }}",
        "{{ 'aa'.replace('a', 'bb') }}",
        "{{ ','.join(['a', 'b']) }}",
        "{{ strftime_now('%Y%') }}",
        "{{ raise_exception('no') }}",
        "{{ 2 ** 999 }}",
        "{{ 1 / 0 }}",
        "{{ 'x' * 99999999999 }}",
        "{% break %}",
        "{% continue %}",
        "{{ loop.index }}",
        "{{ messages.x.y }}",
        "{{ m.items() }}",
        "{{ 'aB'.title().upper().capitalize().lower() }}",
        "{{ 'a'.startswith(1) }}",
        "{{ m.get() }}",
    ];
    let pieces = proptest::collection::vec(select(PIECES), 0..16).prop_map(|p| p.concat().into_bytes());
    let bundled = fs::read(bundled::model().join("chat_template.jinja")).unwrap();
    let smolvlm =
        read(&fixture("smolvlm-tokenizer/chat_template.json"))["chat_template"].as_str().unwrap().into();
    let whole = select(vec![bundled, smolvlm, TEMPLATE.as_bytes().to_vec()]);
    let inputs = prop_oneof![
        3 => pieces,
        2 => (whole, damages(4)).prop_map(|(text, d)| damaged(text, &d)),
        1 => any::<String>().prop_map(String::into_bytes),
    ];
    let dir = folder_with_tokenizer();
    try_all("chat templates", 1, 256 * MB, inputs, |bytes| {
        fs::write(dir.path().join("chat_template.jinja"), bytes).unwrap();
        converse(dir.path());
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of texts")]
fn chat_templates_that_mean_harm() {
    let _alone = memory::alone();
    // `n` times the body, which makes `ns.v` larger or deeper, and then an expression.
    let grow = |n: usize, body: &str, then: &str| {
        format!(
            "{{% set ns = namespace(v='xy') %}}{{% for i in range({n}) %}}{body}{{% endfor %}}{{{{ {then} }}}}"
        )
    };
    let set = |value: &str| format!("{{% set ns.v = {value} %}}");
    let print = |expression: &str| format!("{{{{ {expression} }}}}");
    let captured = "{% set v %}{{ ns.v }}{{ ns.v }}{% endset %}{% set ns.v = v %}";
    let loops = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}";
    // What grows has no end that could be waited for.
    let growing = [
        ("an endless loop", loops.to_string()),
        ("a doubled text", grow(60, &set("ns.v ~ ns.v"), "ns.v")),
        ("an added text", grow(60, &set("ns.v + ns.v"), "ns.v")),
        ("a captured text", grow(60, captured, "ns.v")),
        ("a replaced text", grow(60, &set("ns.v.replace('x', ns.v)"), "ns.v")),
        ("a joined text", grow(60, &set("ns.v.join([ns.v, ns.v])"), "ns.v")),
        ("many pieces", grow(60, &set("ns.v ~ ns.v"), "ns.v.split('')")),
        ("a multiplied text", print("'x' * 99999999")),
        ("a multiplied list", print("([0] * 99999999) | list")),
        ("a long number", print("'%0999999999d' | format(1)")),
        ("a deep indent", print("'x\ny' | indent(999999999)")),
        ("many slices", print("[1] | slice(999999999) | list")),
        ("a long batch", print("[1] | batch(999999999, 'x') | list")),
        ("a nested list, as JSON", grow(60, &set("[ns.v, ns.v]"), "ns.v | tojson")),
        ("a deep list, as JSON", grow(10_000, &set("[ns.v]"), "ns.v | tojson")),
        ("a deeper list", grow(99_999, &set("[ns.v]"), "1")),
        ("a macro that calls itself", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".to_string()),
        ("a template that includes itself", "{% include 'chat' %}".to_string()),
        ("a template that extends itself", "{% extends 'chat' %}".to_string()),
        ("the text, again and again", grow(5000, "{{ messages[0].content[0].text }}", "1")),
        ("a tag without an end", "{%}".to_string()),
        ("too long a template", "x".repeat(70_000)),
        ("many brackets", print(&format!("{}1{}", "(".repeat(30_000), ")".repeat(30_000)))),
        ("many lists", print(&format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)))),
        ("many conditions", "{% if true %}".repeat(5000)),
        ("many attributes", print(&format!("a{}", ".b".repeat(32_000)))),
        ("many calls", print(&format!("a{}", "()".repeat(32_000)))),
    ];
    // What is deep is computed, if there is stack for it.
    let deep = [
        ("a deep list, printed", grow(10_000, &set("[ns.v]"), "ns.v")),
        ("deep lists, compared", grow(5000, &set("[ns.v]"), "ns.v == [ns.v]")),
        ("many negations", print(&format!("{}1", "not ".repeat(16_000)))),
        ("many minuses", print(&format!("{}1", "-".repeat(65_000)))),
        ("many sums", print(&format!("1{}", " + 1".repeat(16_000)))),
        ("many filters", print(&format!("'a'{}", "|upper".repeat(10_000)))),
        ("many cases", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(5000))),
        ("many alternatives", print(&format!("{}1", "1 if 0 else ".repeat(5000)))),
    ];
    let dir = folder_with_tokenizer();
    let refused = growing.len();
    for (n, (what, template)) in growing.iter().chain(&deep).enumerate() {
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        let start = Instant::now();
        let (result, peak) = memory::peak_of(|| {
            let builder = PromptBuilder::from_dir(dir.path(), IMAGE, None)?;
            builder.build(&[Turn::ask(0, "What is it?")], &[])
        });
        let took = start.elapsed();
        let error = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        println!("{what}: {} kB, {took:?}, {error:.150}", peak / 1024);
        outcome(result);
        assert!(peak < 32 * MB, "{what}: {} MB", peak / MB);
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
        assert!(n >= refused || error.contains("template failed"), "{what} was accepted");
    }
}
