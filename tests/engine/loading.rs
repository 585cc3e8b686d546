//! Folders as they come: shards, tied heads, other key styles, half precision; and folders that must
//! be refused, by key.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::Tensor;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use sightline::{
    bundled,
    checkpoint::{
        inventory::estimate,
        shards::{Watch, sha256},
        weights::WeightDtype,
    },
    device::open as device,
    engine::{
        decoding::{Decoding, Rows},
        folder::ModelFolder,
        load::Engine,
    },
    model::{
        encoder::Pixels,
        families::registry,
        hooks,
        vlm::{LoadError, Vlm},
    },
    progress::{Cancel, Progress, Stage},
    studies::verify::verify,
    trace::{geometry::Grid, run::Sources},
};

use crate::common::{
    copy_of, copy_of_folder, fixture,
    program::{asset, json as read_json, sightline, text},
};

type Stored = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(dir: &Path) -> Stored {
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    stored
        .tensors()
        .into_iter()
        .map(|(n, v)| (n, (v.dtype(), v.shape().to_vec(), v.data().to_vec())))
        .collect()
}

fn write(file: &Path, tensors: &Stored) {
    let views = tensors.iter().map(|(n, (d, s, b))| (n.clone(), TensorView::new(*d, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, file).unwrap();
}

fn edit(dir: &Path, change: impl FnOnce(&mut Stored)) {
    let mut tensors = read(dir);
    change(&mut tensors);
    write(&dir.join("model.safetensors"), &tensors);
}

fn edit_config(dir: &Path, change: impl FnOnce(&mut Value)) {
    let file = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(file, config.to_string()).unwrap();
}

fn load(dir: &Path) -> Result<Vlm, LoadError> {
    Vlm::load(dir, &device::cpu().device, WeightDtype::F32)
}

fn refusal(dir: &Path) -> String {
    load(dir).err().map(|e| e.to_string()).unwrap_or_else(|| panic!("was accepted"))
}

fn passes(dir: &Path) {
    let report = verify(dir, &device::cpu()).unwrap();
    assert!(report.pass, "{report}");
}

#[test]
fn shards_are_joined() {
    let dir = copy_of("tiny-idefics3");
    let all = read(dir.path());
    let (mut first, mut second) = (Stored::new(), Stored::new());
    for (n, (key, value)) in all.iter().enumerate() {
        let half = if n % 2 == 0 { &mut first } else { &mut second };
        half.insert(key.clone(), value.clone());
    }
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    write(&dir.path().join(names[0]), &first);
    write(&dir.path().join(names[1]), &second);
    let map: serde_json::Map<String, Value> =
        all.keys().map(|k| (k.clone(), json!(names[usize::from(second.contains_key(k))]))).collect();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    passes(dir.path());

    fs::remove_file(dir.path().join(names[1])).unwrap();
    assert!(refusal(dir.path()).contains(names[1]));
    fs::write(&index, json!({"weight_map": {"a": "../../etc/passwd"}}).to_string()).unwrap();
    assert!(refusal(dir.path()).contains("beside it"));
}

#[test]
fn keys_of_later_transformers_are_found() {
    let dir = copy_of("tiny-llava");
    edit(dir.path(), |t| {
        *t = std::mem::take(t)
            .into_iter()
            .map(|(k, v)| {
                let k = k.replace("vision_tower.vision_model.", "model.vision_tower.");
                let k = k.replace("language_model.model.", "model.language_model.");
                let k = k.replace("language_model.lm_head.", "lm_head.");
                (
                    k.replace("multi_modal_projector.", "model.multi_modal_projector.")
                        .replace("model.model.", "model."),
                    v,
                )
            })
            .collect();
    });
    edit_config(dir.path(), |c| {
        let theta = c["text_config"]["rope_theta"].take();
        c["text_config"]["rope_parameters"] = json!({"rope_type": "default", "rope_theta": theta});
        c["dtype"] = c["torch_dtype"].take();
    });
    passes(dir.path());
}

#[test]
fn what_the_feature_layer_leaves_unused_is_listed_and_may_be_absent() {
    let dir = copy_of("tiny-llava");
    let unused = load(dir.path()).unwrap().unused;
    assert!(unused.iter().any(|k| k.contains("encoder.layers.2.")), "{unused:?}");
    assert!(unused.iter().any(|k| k.contains("post_layernorm")), "{unused:?}");
    edit(dir.path(), |t| {
        t.retain(|k, _| !k.contains("encoder.layers.2.") && !k.contains("post_layernorm"));
        t.insert(
            "vision_tower.vision_model.embeddings.position_ids".to_string(),
            (Dtype::I64, vec![1], vec![0; 8]),
        );
        t.insert(
            "language_model.model.layers.0.self_attn.rotary_emb.inv_freq".to_string(),
            (Dtype::F32, vec![1], vec![0; 4]),
        );
    });
    let unused = load(dir.path()).unwrap().unused;
    assert_eq!(unused.len(), 2, "{unused:?}");
}

#[test]
fn a_tied_head_may_be_stored_twice_but_not_differ() {
    let dir = copy_of("tiny-llava");
    edit_config(dir.path(), |c| c["tie_word_embeddings"] = json!(true));
    assert!(refusal(dir.path()).contains("language_model.lm_head.weight"));
    edit(dir.path(), |t| {
        let embedding = t["language_model.model.embed_tokens.weight"].clone();
        t.insert("language_model.lm_head.weight".to_string(), embedding);
    });
    let vlm = load(dir.path()).unwrap();
    assert!(vlm.unused.contains(&"language_model.lm_head.weight".to_string()));
    edit(dir.path(), |t| {
        t.remove("language_model.lm_head.weight");
    });
    assert_eq!(load(dir.path()).unwrap().parameters(), vlm.parameters());
}

#[test]
fn half_precision_files_load_as_either_format() {
    let dir = copy_of("tiny-idefics3");
    edit(dir.path(), |t| {
        for (dtype, _, bytes) in t.values_mut() {
            *dtype = Dtype::BF16;
            *bytes = bytes.as_chunks::<4>().0.iter().flat_map(|b| [b[2], b[3]]).collect();
        }
    });
    for (_, dtype) in WeightDtype::ALL {
        let vlm = Vlm::load(dir.path(), &device::cpu().device, dtype).unwrap();
        let values = vec![0.1; 3 * 64 * 64];
        let view = Pixels { values: &values, size: (64, 64), grid: Grid { rows: 4, cols: 4 } };
        let encoded = vlm.encoder.encode(view, hooks::Watch::Nothing, &Default::default()).unwrap();
        let logits = vlm.decoder.unembed(encoded.tokens).try_into_vec_as::<f32>().unwrap();
        assert!(logits.iter().all(|l| l.is_finite()), "{dtype:?}");
    }
    edit(dir.path(), |t| {
        let (_, _, bytes) = t.get_mut("lm_head.weight").unwrap();
        bytes[..2].copy_from_slice(&half::bf16::from_f32(1e30).to_le_bytes());
    });
    let error = Vlm::load(dir.path(), &device::cpu().device, WeightDtype::F16).unwrap_err().to_string();
    assert!(error.contains("lm_head.weight") && error.contains("float16"), "{error}");
    // bfloat16 holds it.
    load_as(dir.path(), WeightDtype::Auto);
}

/// Rewrites every tensor of a folder in another format, as `format` says by its key.
fn stored_as(dir: &Path, format: impl Fn(&str) -> Dtype) {
    edit(dir, |t| {
        for (key, (dtype, _, bytes)) in t {
            assert_eq!(*dtype, Dtype::F32);
            let values = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
            *dtype = format(key);
            *bytes = match dtype {
                Dtype::F16 => values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
                Dtype::BF16 => values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect(),
                _ => values.flat_map(f32::to_le_bytes).collect(),
            };
        }
    });
}

fn load_as(dir: &Path, dtype: WeightDtype) -> Vlm {
    Vlm::load(dir, &device::cpu().device, dtype).unwrap()
}

/// Logits of a view's tokens and some words, `[vocabulary]`.
fn logits(vlm: &Vlm) -> Vec<f32> {
    let side = vlm.config.vision.image_size.unwrap();
    let values: Vec<f32> = (0..3 * side * side).map(|n| (n % 255) as f32 / 128.0 - 1.0).collect();
    let grid = match vlm.config.model_type.as_str() {
        "llava" => Grid { rows: vlm.config.vision.grid(), cols: vlm.config.vision.grid() },
        _ => Grid { rows: 4, cols: 4 },
    };
    let view = Pixels { values: &values, size: (side as u32, side as u32), grid };
    let cancel = Cancel::default();
    let seen = vlm.encoder.encode(view, hooks::Watch::Nothing, &cancel).unwrap().tokens;
    let resid = Tensor::cat(vec![seen, vlm.decoder.embed(&[5, 9, 40, 7])], 0);
    let rows = resid.dims()[0];
    let rows = Rows::text(resid, (0..rows as u32).map(|p| [p; 3]).collect());
    Decoding::new(vlm, &[], rows.len() + 1, &cancel).unwrap().logits(rows).unwrap()
}

/// A file's name, the format of each of its weights, what comes of it, and that in words.
type InFormat = (&'static str, fn(&str) -> Dtype, WeightDtype, &'static str);

#[test]
fn weights_stay_in_the_format_of_their_files() {
    const F32: &str = "float32 weights and KV cache; float32 norms";
    let cases: [InFormat; 4] = [
        ("F32", |_| Dtype::F32, WeightDtype::F32, F32),
        ("F16", |_| Dtype::F16, WeightDtype::F16, "float16 weights and KV cache; float32 norms"),
        ("BF16", |_| Dtype::BF16, WeightDtype::Bf16, "bfloat16 weights, float32 KV cache; float32 norms"),
        (
            "mixed",
            |key| if key.contains("vision") { Dtype::F32 } else { Dtype::BF16 },
            WeightDtype::Auto,
            "float32 and bfloat16 weights, float32 KV cache; float32 norms",
        ),
    ];
    for (name, format, dtype, words) in cases {
        for fixture in ["tiny-llava", "tiny-idefics3"] {
            let dir = copy_of(fixture);
            stored_as(dir.path(), format);
            let vlm = load_as(dir.path(), WeightDtype::Auto);
            assert_eq!(vlm.dtype, dtype, "{name}");
            assert!(vlm.dtype_text().starts_with(words), "{name}: {}", vlm.dtype_text());
            // The files' own numbers, computed in float32.
            let (found, expected) = (logits(&vlm), logits(&load_as(dir.path(), WeightDtype::F32)));
            let largest = expected.iter().fold(0.0f32, |most, l| most.max(l.abs()));
            let error = found.iter().zip(&expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            // Only the KV cache of float16 rounds anything.
            let tolerance = if name == "F16" { 2e-2 } else { 1e-5 };
            assert!(largest > 0.0 && error <= tolerance * largest, "{name}, {fixture}: {error} of {largest}");
        }
    }
}

#[test]
fn what_weights_take_is_known_from_the_headers() {
    let dir = copy_of("tiny-idefics3");
    let stored = read(dir.path());
    let numbers = |matrices: bool| -> u64 {
        let of = stored.values().filter(|(_, shape, _)| (shape.len() > 1) == matrices);
        of.map(|(_, shape, _)| shape.iter().product::<usize>() as u64).sum()
    };
    let (matrices, vectors) = (numbers(true), numbers(false));
    let half = 2 * matrices + 4 * vectors;
    let found = estimate(dir.path()).unwrap();
    assert_eq!((found.f32, found.f16, found.bf16), (4 * (matrices + vectors), half, half));
    assert_eq!(ModelFolder::open(&bundled::model()).unwrap().inventory.bytes(WeightDtype::Auto), {
        estimate(&bundled::model()).unwrap().f32
    });
    fs::write(dir.path().join("model.safetensors"), "none").unwrap();
    assert!(estimate(dir.path()).unwrap_err().to_string().contains("model.safetensors"));
}

#[test]
fn wrong_weights_are_refused_by_key() {
    const KEY: &str = "language_model.model.layers.1.mlp.up_proj.weight";
    let dir = copy_of("tiny-llava");
    edit(dir.path(), |t| {
        t.remove(KEY);
    });
    let error = refusal(dir.path());
    assert!(error.contains(KEY) && error.contains("missing") && error.contains("[160, 64]"), "{error}");

    let dir = copy_of("tiny-llava");
    edit(dir.path(), |t| t.get_mut(KEY).unwrap().1 = vec![64, 160]);
    let error = refusal(dir.path());
    assert!(error.contains(KEY) && error.contains("[64, 160]") && error.contains("[160, 64]"), "{error}");

    // A layer more than config.json has.
    let dir = copy_of("tiny-llava");
    edit_config(dir.path(), |c| c["text_config"]["num_hidden_layers"] = json!(3));
    let error = refusal(dir.path());
    assert!(
        error.contains("language_model.model.layers.3.") && error.contains("not in the architecture"),
        "{error}"
    );

    let dir = copy_of("tiny-llava");
    edit(dir.path(), |t| t.get_mut(KEY).unwrap().0 = Dtype::I32);
    assert!(refusal(dir.path()).contains("expected F32, F16 or BF16"));
}

#[test]
fn broken_files_are_refused_by_name() {
    let dir = copy_of("tiny-llava");
    let file = dir.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for keep in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..keep]).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains("model.safetensors"), "{keep}: {error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(refusal(dir.path()).contains("model.safetensors"));

    for (text, part) in
        [("", "JSON"), ("[1]", "JSON object"), (r#"{"model_type": "qwen7_vl"}"#, "model_type")]
    {
        fs::write(dir.path().join("config.json"), text).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains("config.json") && error.contains(part), "{text}: {error}");
    }
}

/// Everything that loading the bundled model tells.
fn told(cancel: &Cancel, mut on: impl FnMut(&Progress)) -> (Result<Engine, String>, Vec<Progress>, bool) {
    let mut told = Vec::new();
    let mut tell = |progress: Progress| {
        on(&progress);
        told.push(progress);
    };
    let loaded = Engine::load(&bundled::model(), &device::cpu(), WeightDtype::F32, cancel, &mut tell);
    let stopped = loaded.as_ref().is_err_and(sightline::engine::error::EngineError::is_cancelled);
    (loaded.map_err(|e| e.to_string()), told, stopped)
}

#[test]
fn progress_grows_to_its_total_and_never_beyond() {
    let (loaded, told, _) = told(&Cancel::default(), |_| {});
    loaded.unwrap();
    assert!(told.len() > 10, "{} pieces", told.len());
    // Once for their numbers, once for their sum.
    let total = 2 * fs::metadata(bundled::model().join("model.safetensors")).unwrap().len();
    for step in &told {
        assert_eq!((step.stage, step.total), (Stage::Load, Some(total)));
        assert!(step.done <= total && step.share().unwrap() <= 1.0, "{step:?}");
    }
    assert!(told.is_sorted_by(|a, b| a.done <= b.done));
    assert!(told[0].done < total / 2, "it begins at {:?}", told[0]);
    assert_eq!(told.last().unwrap().done, total);
}

#[test]
fn loading_stops_in_the_middle_when_it_is_told_to() {
    let (_, whole, _) = told(&Cancel::default(), |_| {});
    // After the first piece of the numbers, somewhere among them, and while the sum is made.
    for at in [1, whole.len() / 3, whole.len() - 2] {
        let (cancel, mut pieces) = (Cancel::default(), 0);
        let (loaded, told, stopped) = told(&cancel, |_| {
            pieces += 1;
            if pieces == at {
                cancel.cancel();
            }
        });
        let error = loaded.err().unwrap_or_else(|| panic!("it was loaded, {at} of {}", whole.len()));
        assert!(error.contains("cancelled") && stopped, "{error}");
        assert_eq!(told.len(), at, "nothing is read after that");
    }
    // Before anything is read.
    let cancel = Cancel::default();
    cancel.cancel();
    let (loaded, told, stopped) = told(&cancel, |_| {});
    assert!(loaded.is_err() && stopped && told.is_empty());
    // A broken folder is no cancelled one.
    let dir = copy_of_folder(&bundled::model());
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let error = crate::common::load_as(dir.path(), &device::cpu(), WeightDtype::F32).unwrap_err();
    assert!(!error.is_cancelled(), "{error}");
}

#[test]
fn the_parts_of_loading_stop_too() {
    let dir = fixture("tiny-idefics3");
    let cancel = Cancel::default();
    cancel.cancel();
    let watch = Watch::new(&dir, &cancel, &|_| {}).unwrap();
    let family = registry::open(&dir).unwrap();
    let vlm = Vlm::load_as(family, &dir, &device::cpu().device, WeightDtype::F32, &watch);
    assert!(vlm.err().is_some_and(|e| e.to_string() == "cancelled"));
    assert_eq!(sha256(&dir, watch.cancel, &watch.summed()).unwrap_err().to_string(), "cancelled");
}

/// What transformers 5.24 takes of a local folder (`_get_resolved_checkpoint_files`).
#[test]
fn one_weight_file_wins_over_an_index_and_one_named_in_the_config_over_both() {
    const SHARD: &str = "model-00001-of-00001.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    let dir = copy_of("tiny-idefics3");
    let at = |name: &str| dir.path().join(name);
    let weights =
        || verify(dir.path(), &device::cpu()).map(|report| report.weights).map_err(|e| e.to_string());
    fs::write(at(INDEX), json!({ "weight_map": { "a": SHARD } }).to_string()).unwrap();
    // The shard is not there, and not looked for.
    passes(dir.path());
    assert_eq!(weights().unwrap(), "model.safetensors");
    let report = verify(dir.path(), &device::cpu()).unwrap().to_string();
    assert!(report.contains("weights: model.safetensors\n"), "{report}");

    fs::rename(at("model.safetensors"), at(SHARD)).unwrap();
    passes(dir.path());
    assert_eq!(weights().unwrap(), INDEX);

    fs::write(at("model.safetensors"), "another model").unwrap();
    edit_config(dir.path(), |c| c["transformers_weights"] = SHARD.into());
    passes(dir.path());
    assert_eq!(weights().unwrap(), SHARD);
    edit_config(dir.path(), |c| c["transformers_weights"] = INDEX.into());
    passes(dir.path());
    for named in [json!("../a.safetensors"), json!("model.bin"), json!(3)] {
        edit_config(dir.path(), |c| c["transformers_weights"] = named.clone());
        let error = refusal(dir.path());
        assert!(
            error.contains("config.json") && error.contains("`transformers_weights`"),
            "{named}: {error}"
        );
    }
}

/// What `GenerationConfig.from_pretrained` of transformers 5.24 says, and without its file that of config.json; and
/// what the template ends an answer with, where that is another.
#[test]
fn answers_end_with_the_tokens_that_end_them_in_transformers() {
    let none = || json!({});
    let both = || json!({ "eos_token_id": 5, "text_config": { "eos_token_id": 6 } });
    let text = || json!({ "text_config": { "eos_token_id": [6, 9] } });
    let generation = "generation_config.json";
    for (config, said, ends, source) in [
        (both(), Some(json!({ "eos_token_id": 7 })), vec![7], generation),
        (both(), Some(json!({ "eos_token_id": [7, 8] })), vec![7, 8], generation),
        // The file has the only word, even if it says nothing.
        (both(), Some(none()), vec![], "generation_config.json (names none)"),
        (both(), Some(json!({ "eos_token_id": null })), vec![], "generation_config.json (names none)"),
        (both(), Some(json!({ "_from_model_config": true })), vec![], "generation_config.json (names none)"),
        (both(), None, vec![5], "config.json"),
        (json!({ "eos_token_id": [5, 9] }), None, vec![5, 9], "config.json"),
        (text(), None, vec![6, 9], "config.json (text_config)"),
        (
            json!({ "eos_token_id": null, "text_config": { "eos_token_id": 6 } }),
            None,
            vec![6],
            "config.json (text_config)",
        ),
        // No class's default.
        (none(), None, vec![], "config.json (names none)"),
        (json!({ "llm_config": { "eos_token_id": 11 } }), None, vec![11], "config.json (llm_config)"),
    ] {
        let dir = copy_of_folder(&bundled::model());
        edit_config(dir.path(), |c| {
            let inner = c["text_config"].as_object_mut().unwrap();
            inner.remove("eos_token_id");
            inner.extend(config["text_config"].as_object().cloned().unwrap_or_default());
            c.as_object_mut().unwrap().remove("eos_token_id");
            if let Some(part) = config.get("llm_config") {
                c["llm_config"] = part.clone();
            }
            if let Some(root) = config.get("eos_token_id") {
                c["eos_token_id"] = root.clone();
            }
        });
        let file = dir.path().join(generation);
        match &said {
            Some(said) => fs::write(file, said.to_string()).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let folder = ModelFolder::open(dir.path()).unwrap();
        let found: Vec<u32> = (0..20).filter(|&id| folder.is_end(id)).collect();
        // The template ends an answer with </s>, which is 2.
        let all: Vec<u32> = [2].into_iter().chain(ends).collect();
        let source = format!("{source}, chat template (`</s>`)");
        assert_eq!((found, folder.sources.end_tokens.as_str()), (all, source.as_str()), "{config} {said:?}");
    }
    for wrong in [json!("x"), json!(-1), json!([2, null])] {
        let dir = copy_of_folder(&bundled::model());
        fs::write(dir.path().join(generation), json!({ "eos_token_id": wrong }).to_string()).unwrap();
        let error = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("generation_config.json: `eos_token_id`"), "{error}");
    }
}

#[test]
fn a_run_says_and_writes_down_which_files_won() {
    let dir = copy_of_folder(&bundled::model());
    let at = |name: &str| dir.path().join(name);
    let template = fs::read_to_string(at("chat_template.jinja")).unwrap();
    fs::write(at("chat_template.json"), json!({ "chat_template": template }).to_string()).unwrap();
    let settings: Value = serde_json::from_slice(&fs::read(at("preprocessor_config.json")).unwrap()).unwrap();
    fs::write(at("processor_config.json"), json!({ "image_processor": settings }).to_string()).unwrap();
    fs::write(at("model.safetensors.index.json"), "{}").unwrap();
    let expected = Sources {
        template: "chat_template.json".to_string(),
        weights: "model.safetensors".to_string(),
        tokenizer: "tokenizer.json".to_string(),
        end_tokens: "generation_config.json".to_string(),
        image_processor: "processor_config.json".to_string(),
    };
    let out = dir.path().join("out");
    let (image, model) = (asset("scenes/images/000000.png"), dir.path());
    let run = ["run", "--device", "cpu", "--model", text(model), "--image", text(&image)];
    let rest = ["--prompt", "is there a duck?", "--max-new", "2", "--out", text(&out)];
    let done = sightline(run.iter().chain(&rest)).succeeds();
    let said = format!("read from {expected}");
    assert!(done.err.contains(&said) && done.out.contains(&said), "{}\n{}", done.err, done.out);
    let written = serde_json::to_value(&expected).unwrap();
    assert_eq!(read_json(&out.join("trace.json"))["model"]["sources"], written);
    assert_eq!(read_json(&out.join("session.json"))["sources"], written);
    assert_eq!(sightline::export::open::open(&out).unwrap().model.sources, expected);

    // Files of before, which do not say, are read.
    let (mut trace, mut session) = (read_json(&out.join("trace.json")), read_json(&out.join("session.json")));
    for part in [&mut trace["model"], &mut session] {
        assert!(part.as_object_mut().unwrap().remove("sources").is_some());
    }
    fs::write(out.join("trace.json"), trace.to_string()).unwrap();
    fs::write(out.join("session.json"), session.to_string()).unwrap();
    assert_eq!(sightline::export::open::open(&out).unwrap().model.sources, Sources::default());
    sightline(["replay", text(&out.join("session.json")), "--device", "cpu"]).succeeds();
}
