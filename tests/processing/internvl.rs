//! InternVL's tiles and prompts, in transformers' format and in its authors'.

use std::sync::Arc;

use sightline::model::families::{family::Family, registry};

use super::{
    images::{Levels, all_pixels, furthest_statistic, picture, processor, size},
    prompts::{ids, turns},
    *,
};
use crate::common::copy_of;

const IMAGE_ID: u32 = 277;
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

fn internvl() -> Value {
    let text = std::fs::read_to_string(fixtures().join("processing/processing_internvl.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["internvl"].take()
}

fn tensors() -> HashMap<String, Vec<f32>> {
    let file = std::fs::read(fixtures().join("processing/processing_internvl.safetensors")).unwrap();
    let floats = |data: &[u8]| data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let stored = SafeTensors::deserialize(&file).unwrap();
    stored.tensors().into_iter().map(|(name, tensor)| (name, floats(tensor.data()))).collect()
}

/// The processor of a setting; the hub's files say that images are not cut, which its calls overrule.
fn of_setting(setting: &Value) -> ImageProcessor {
    processor(&json!({
        "image_processor_type": "GotOcr2ImageProcessorFast", "crop_to_patches": false, "size": setting["size"],
        "min_patches": setting["min_patches"], "max_patches": setting["max_patches"], "resample": 3,
        "image_mean": MEAN, "image_std": STD,
    }))
}

/// A picture of the reference; of the JPEG, its decoding there.
fn pictured(reference: &Value, name: &str) -> image::RgbImage {
    super::images::decoded(name).unwrap_or_else(|| {
        let file = reference["images"][name]["file"].as_str().unwrap();
        pixels::open(&fixtures().join("processing").join(file)).unwrap()
    })
}

#[test]
fn tiles_match_the_reference() {
    let (reference, tensors) = (internvl(), tensors());
    let processor = of_setting(&reference["small_setting"]);
    let level = STD.map(|std| (1.0 / 255.0 / std) as f32);
    for (name, expected) in reference["images"].as_object().unwrap() {
        let found = processor.process(&pictured(&reference, name)).unwrap();
        let geometry = &found.geometry;
        assert_eq!(geometry.source, size(&expected["decoded_size"]), "{name}");
        assert_eq!(
            (json!(geometry.rows), json!(geometry.cols)),
            (expected["rows"].clone(), expected["cols"].clone())
        );
        assert_eq!(found.resized, size(&expected["grid_size"]), "{name}");
        assert_eq!(found.inputs.len(), expected["n_tiles"], "{name}");
        let whole = geometry.views.last().unwrap().place == Place::Whole;
        assert_eq!(whole, expected["thumbnail"].as_bool().unwrap(), "{name}");
        let values = &tensors[&format!("internvl/{name}/pixel_values")];
        Levels::between(&all_pixels(&found), values, 56 * 56, level).assert_met(&format!("internvl {name}"));
    }
}

#[test]
fn the_real_setting_matches_the_reference() {
    let (reference, tensors) = (internvl(), tensors());
    let expected = &reference["real"];
    let picture = pictured(&reference, expected["image"].as_str().unwrap());
    let found = of_setting(&reference["real_setting"]).process(&picture).unwrap();
    assert_eq!((found.inputs.len(), found.resized), (7, size(&expected["grid_size"])));
    let tensor = |name: &str| &tensors[&format!("internvl_real/{name}")];
    let statistics = ["tile_mean", "tile_std", "pooled"].map(|name| tensor(name).as_slice());
    let largest = furthest_statistic(&found, 448, statistics);
    assert!(largest < 1e-6, "{largest}");
}

#[test]
fn alpha_is_composited_not_dropped() {
    let (reference, tensors) = (internvl(), tensors());
    let found =
        of_setting(&reference["small_setting"]).process(&pictured(&reference, "alpha_97x300")).unwrap();
    for (tile, dropped) in found.inputs.iter().zip(&tensors["internvl/alpha_97x300/tile_mean_alpha_dropped"])
    {
        let mean = tile.pixels.iter().sum::<f32>() / tile.pixels.len() as f32;
        assert!((mean - dropped).abs() > 0.01, "{mean}, {dropped}");
    }
}

/// What settles a view's place: a picture that is bright under one token's patch alone is bright in that token's pixels.
#[test]
fn every_token_of_every_tile_sees_what_lies_under_it() {
    let processor = of_setting(&json!({ "size": { "height": 56, "width": 56 }, "max_patches": 6 }));
    // Grids of 2 x 3, 3 x 1 and 1 x 4 tiles, each with a view of the whole, and a single one.
    for (width, height, views) in [(336, 224, 7), (112, 336, 4), (448, 112, 5), (40, 40, 1)] {
        let dark = image::RgbImage::new(width, height);
        let geometry = processor.process(&dark).unwrap().geometry;
        assert_eq!(geometry.views.len(), views);
        for (n, patch) in geometry.patches().iter().enumerate() {
            let [x0, y0, x1, y1] = patch.rect.map(|v| v.round() as u32);
            let bright = image::RgbImage::from_fn(width, height, |x, y| {
                let inside = (x0..x1).contains(&x) && (y0..y1).contains(&y);
                image::Rgb([if inside { 255 } else { 0 }; 3])
            });
            let found = processor.process(&bright).unwrap();
            // Of its own view, no other token is as bright.
            let (view, token) = (n / 16, n % 16);
            let light = |token: usize| -> f32 {
                let (top, left) = (token / 4 * 14, token % 4 * 14);
                (0..14 * 14).map(|i| found.inputs[view].pixels[(top + i / 14) * 56 + left + i % 14]).sum()
            };
            let brightest = (0..16).max_by(|&a, &b| light(a).total_cmp(&light(b))).unwrap();
            assert_eq!(brightest, token, "{width} x {height}, view {view}");
        }
    }
}

#[test]
fn settings_that_no_internvl_has_are_refused() {
    let refused = |key: &str, value: Value| {
        let mut settings = json!({ "image_processor_type": "GotOcr2ImageProcessor" });
        settings[key] = value;
        let dir = folder_with(&[("preprocessor_config.json", settings.to_string())]);
        families::processor(dir.path()).unwrap_err().to_string()
    };
    for (key, value) in [
        ("size", json!({ "height": 56, "width": 57 })),
        ("size", json!({ "shortest_edge": 56 })),
        ("max_patches", json!(0)),
        ("max_patches", json!(1 << 20)),
        ("min_patches", json!(13)),
        ("do_resize", json!(false)),
        ("use_thumbnail", json!("yes")),
    ] {
        let error = refused(key, value);
        let named = if key == "min_patches" { "max_patches" } else { key };
        assert!(error.contains(&format!("`{named}`")) && error.contains("expected"), "{key}: {error}");
    }
    // One tile at most switches cutting off; without a view of the whole there are tiles alone.
    let views = |more: Value| {
        let mut settings = json!({ "image_processor_type": "InternVLImageProcessor", "size": { "height": 56, "width": 56 } });
        more.as_object().unwrap().iter().for_each(|(key, value)| settings[key] = value.clone());
        let found = processor(&settings).process(&picture(300, 100)).unwrap();
        (found.geometry.views.iter().map(|view| view.place).collect::<Vec<_>>(), found.describe())
    };
    assert_eq!(views(json!({ "max_patches": 1 })).0, [Place::Whole]);
    let (tiles, words) = views(json!({ "use_thumbnail": false, "max_patches": 3 }));
    assert_eq!(tiles, [0, 1, 2].map(|col| Place::Tile { row: 0, col }));
    assert!(words.ends_with("cut into 1 x 3 tiles of 56x56"), "{words}");
}

/// The family of a folder, and its prompts.
fn opened(dir: &Path) -> (Arc<dyn Family>, PromptBuilder) {
    let family = registry::open(dir).unwrap();
    let prompts = PromptBuilder::from_dir(dir, family.config().image_token_id, family.template()).unwrap();
    (family, prompts)
}

/// `messages` of the reference, where a text may stand for its only part.
fn messages(entry: &Value) -> Vec<Turn> {
    let mut all = entry["messages"].clone();
    for message in all.as_array_mut().unwrap() {
        if let Some(text) = message["content"].as_str() {
            message["content"] = json!([{ "type": "text", "text": text }]);
        }
    }
    turns(&all)
}

#[test]
fn prompts_match_the_reference() {
    let reference = internvl();
    let (family, prompts) = opened(&fixtures().join("tiny-internvl"));
    let processor = of_setting(&reference["small_setting"]);
    let layout =
        |name: &str| family.layout(&processor.process(&pictured(&reference, name)).unwrap().geometry);
    let check = |what: &str, entry: &Value, images: &[&str]| {
        let images: Vec<Vec<Piece>> = images.iter().map(|name| layout(name)).collect();
        let prompt = prompts.build(&messages(entry), &images).unwrap();
        assert_eq!(prompt.text, entry["expanded_prompt"].as_str().unwrap(), "{what}");
        assert_eq!(prompt.ids(), ids(entry), "{what}");
        assert_sound(&prompt);
        for token in &prompt.tokens {
            assert_eq!(token.span == Span::Visual, token.id == IMAGE_ID, "{what}: {token:?}");
        }
        prompt
    };
    for (name, entry) in reference["images"].as_object().unwrap() {
        let prompt = check(name, entry, &[name]);
        assert_eq!(text_of(&prompt, Span::Markers), "<img></img>", "{name}");
        assert_eq!(text_of(&prompt, Span::Question), "Describe this image.", "{name}");
    }
    for what in ["two_images", "text_first", "text_only", "system_and_history"] {
        let entry = &reference[what];
        let images = entry["images"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
        check(what, entry, &images.collect::<Vec<_>>());
    }
}

/// The fixture of the original format with another conversation, and a tokenizer.json.
fn chat(template: &str) -> tempfile::TempDir {
    let dir = copy_of("tiny-internvl-chat");
    let file = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["template"] = template.into();
    std::fs::write(file, config.to_string()).unwrap();
    std::fs::copy(fixtures().join("tiny-internvl/tokenizer.json"), dir.path().join("tokenizer.json"))
        .unwrap();
    dir
}

#[test]
fn conversations_of_the_original_match_the_reference() {
    let reference = internvl();
    let processor = of_setting(&reference["small_setting"]);
    let geometry = processor.process(&pictured(&reference, "alpha_97x300")).unwrap().geometry;
    for (template, entry) in reference["chat_prompts"].as_object().unwrap() {
        let dir = chat(template);
        let (family, prompts) = opened(dir.path());
        let ask = [Turn::ask(1, entry["question"].as_str().unwrap())];
        let prompt = prompts.build(&ask, &[family.layout(&geometry)]).unwrap();
        assert_eq!(prompt.text, entry["expanded_prompt"].as_str().unwrap(), "{template}");
        if !entry["input_ids"].is_null() {
            assert_eq!(prompt.ids(), ids(entry), "{template}");
        }
        assert_sound(&prompt);
        // What is said first can be replaced.
        let told = Turn { role: Role::System, content: vec![Content::Text("Be brief.".to_owned())] };
        let prompt = prompts.build(&[told, ask[0].clone()], &[family.layout(&geometry)]).unwrap();
        assert!(prompt.text.contains("Be brief.") && !prompt.text.contains("InternVL"), "{}", prompt.text);
    }
}

#[test]
fn a_text_models_template_gives_way_to_the_familys() {
    let (dir, ask) = (chat("Hermes-2"), [Turn::ask(1, "Why?")]);
    let file = dir.path().join("tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut with = |template: &str| {
        settings["chat_template"] = template.into();
        std::fs::write(&file, settings.to_string()).unwrap();
        let (family, prompts) = opened(dir.path());
        let geometry = of_setting(&internvl()["small_setting"]).process(&picture(56, 56)).unwrap().geometry;
        prompts.build(&ask, &[family.layout(&geometry)]).unwrap().text
    };
    // As in the hub's InternVL2.
    let text = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}{% endfor %}";
    assert!(with(text).starts_with("<|im_start|>system\n你是"));
    assert!(with("<IMG_CONTEXT>{{ messages[0].content[1].text }}|").starts_with("<img><IMG_CONTEXT>"));
}
