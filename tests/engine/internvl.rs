//! InternVL from picture to tokens, and its folders in other styles.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use sightline::{
    checkpoint::weights::WeightDtype,
    device::open as device,
    model::vlm::Vlm,
    progress::Cancel,
    spec::{experiment::Experiment, picture::ImageSource, turn::Turn},
    studies::verify::verify,
};
use tempfile::TempDir;

use crate::common::{copy_of, fixture, load};

/// A fixture with the tokenizer by which the reference's prompts were made.
fn with_tokenizer(name: &str) -> TempDir {
    let dir = copy_of(name);
    fs::copy(fixture("tiny-internvl/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    dir
}

fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn edit_json(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = json_of(file);
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

/// Gives the weights other keys; `None` drops one.
fn rename(dir: &Path, name: impl Fn(&str) -> Option<String>) {
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = (stored.tensors().into_iter())
        .filter_map(|(key, v)| Some((name(&key)?, (v.dtype(), v.shape().to_vec(), v.data().to_vec()))))
        .collect();
    let views = tensors.iter().map(|(n, (d, s, b))| (n.clone(), TensorView::new(*d, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &file).unwrap();
}

#[test]
fn pictures_become_the_references_tokens() {
    let reference = json_of(&fixture("processing/processing_internvl.json"));
    let runs = reference["internvl"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        let image = run["image"].as_str().unwrap();
        let file = reference["internvl"]["images"][image]["file"].as_str().unwrap();
        let engine = load(with_tokenizer(run["model"].as_str().unwrap()).path());
        let seen = engine.look_at(fixture("processing").join(file), &Cancel::default()).unwrap();
        assert_eq!(seen.geometry.views.len(), run["n_tiles"], "{run}");
        let picture = ImageSource::File(fixture("processing").join(file));
        let ask = Experiment::ask(picture, "Describe this image.", 16);
        let trace = engine.scratch(&ask, &[&seen], &Cancel::default(), &mut |_| {}).unwrap();
        let prompt: Vec<u32> = trace.prompt.iter().map(|t| t.id).collect();
        assert_eq!(
            (json!(prompt), json!(trace.ids())),
            (run["input_ids"].clone(), run["tokens"].clone()),
            "{image}"
        );
    }
}

/// transformers 5: names as they are in memory, its own config keys.
#[test]
fn folders_of_transformers_5_are_read() {
    let dir = copy_of("tiny-internvl");
    rename(dir.path(), |key| {
        Some(match key.strip_prefix("language_model.") {
            Some(of_text) => match of_text.strip_prefix("model.") {
                Some(inside) => format!("model.language_model.{inside}"),
                None => of_text.to_string(),
            },
            None => format!("model.{key}"),
        })
    });
    edit_json(&dir.path().join("config.json"), |config| {
        let text = &mut config["text_config"];
        text["rope_parameters"] =
            json!({"rope_type": "dynamic", "factor": 2.0, "rope_theta": text["rope_theta"].take()});
        text["rope_scaling"].take();
        config["dtype"] = config["torch_dtype"].take();
    });
    let report = verify(dir.path(), &device::cpu()).unwrap();
    assert!(report.pass, "{report}");
}

#[test]
fn a_stored_head_counts_and_the_embedding_stands_in_for_none() {
    let load = |dir: &Path| Vlm::load(dir, &device::cpu().device, WeightDtype::F32);
    let no_head = |key: &str| (!key.contains("lm_head")).then(|| key.to_string());
    let dir = copy_of("tiny-internvl");
    let whole = load(dir.path()).unwrap().parameters();
    rename(dir.path(), no_head);
    assert_eq!(load(dir.path()).unwrap().parameters(), whole - 300 * 64);
    // Where the config says that it is not tied, a head that is missing is missing.
    edit_json(&dir.path().join("config.json"), |config| config["tie_word_embeddings"] = json!(false));
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("language_model.lm_head.weight") && error.contains("missing"), "{error}");
}

/// As `<video>` of the hub's InternVL3, which the embedding has no row for.
#[test]
fn an_added_token_without_an_embedding_is_refused_where_it_is_used() {
    let dir = copy_of("tiny-internvl");
    edit_json(&dir.path().join("tokenizer.json"), |tokenizer| {
        // Added tokens are numbered as they come: sixteen more before it, and its id is 300.
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let video = added.iter().position(|token| token["content"] == "<video>").unwrap();
        let video = added.remove(video);
        let first = video["id"].as_u64().unwrap();
        for id in first..=300 {
            let content = if id == 300 { json!("<video>") } else { json!(format!("<more {id}>")) };
            let mut token = video.clone();
            (token["id"], token["content"]) = (json!(id), content);
            added.push(token);
        }
    });
    let engine = load(dir.path());
    let geometry =
        engine.look_at(fixture("processing/images/grey_300x75.png"), &Cancel::default()).unwrap().geometry;
    let ask = [Turn::ask(1, "What is a <video>?")];
    assert!(engine.folder.prompt(&ask, &[&geometry]).is_ok(), "typed, it is text");
    let file = dir.path().join("chat_template.jinja");
    fs::write(&file, format!("{}<video>.", fs::read_to_string(&file).unwrap())).unwrap();
    let error = load(dir.path()).folder.prompt(&ask, &[&geometry]).unwrap_err().to_string();
    assert!(error.contains("300") && error.contains("no embedding"), "{error}");
}

#[test]
fn the_originals_settings_are_its_configs() {
    let dir = with_tokenizer("tiny-internvl-chat");
    let engine = load(dir.path());
    let sources = &engine.folder.sources;
    assert_eq!(sources.image_processor, "config.json");
    assert!(sources.template.contains("family"), "{}", sources.template);
    assert!(engine.folder.is_end(274), "<|im_end|>");
    let views = |dir: &Path| {
        let seen =
            load(dir).look_at(fixture("processing/images/grey_300x75.png"), &Cancel::default()).unwrap();
        seen.geometry.views.len()
    };
    assert_eq!(views(dir.path()), 5);
    edit_json(&dir.path().join("config.json"), |config| config["dynamic_image_size"] = json!(false));
    assert_eq!(views(dir.path()), 1);
}
