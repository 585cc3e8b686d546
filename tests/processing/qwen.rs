//! Qwen's image processing, prompts and positions against the references of transformers.

use std::sync::Arc;

use sightline::{
    image::{dynamic::Dynamic, patches::Patches, settings::Settings},
    model::families::{family::Family, registry},
    trace::geometry::Geometry,
};

use super::{
    images::{Levels, Tensors, tensors_of},
    prompts::{ids, turns},
    *,
};

/// Both processor families, and who uses them.
const KINDS: [(&str, &str); 3] = [("qwen2_5", "qwen2_vl"), ("qwen2_5", "qwen2_5_vl"), ("qwen3", "qwen3_vl")];

fn all() -> Value {
    let text = std::fs::read_to_string(fixtures().join("processing/qwen-processing.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tensors() -> Tensors {
    tensors_of("processing/qwen-processing.safetensors")
}

/// A family by its defaults, over a decoder that matters for nothing here.
fn family(model_type: &str) -> Arc<dyn Family> {
    let config = json!({
        "model_type": model_type, "vocab_size": 500, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 512, "rope_theta": 1e6, "image_token_id": 489,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "vision_config": {},
    });
    registry::from_json(&Section::root(&config, Path::new("config.json")).unwrap()).unwrap()
}

/// The settings file of a family's hub, with other limits.
fn settings(kind: &str, limits: &Value) -> Value {
    let file = fixtures().join(format!("qwen-tokenizer/preprocessor_config-{kind}.json"));
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    settings.as_object_mut().unwrap().remove("size");
    for key in ["min_pixels", "max_pixels"] {
        settings[key] = limits[key].clone();
    }
    settings
}

fn processor(family: &dyn Family, settings: &Value) -> ImageProcessor {
    let dir = folder_with(&[("preprocessor_config.json", settings.to_string())]);
    ImageProcessor::from_dir(dir.path(), |settings| family.pixels(settings)).unwrap()
}

/// A picture as the reference decoded it.
fn picture(tensors: &Tensors, entry: &Value, name: &str) -> image::RgbImage {
    match tensors.bytes.get(&format!("decoded/{name}")) {
        Some((shape, bytes)) => {
            image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes.clone()).unwrap()
        }
        None => {
            let file = entry["file"].as_str().unwrap();
            pixels::open(&fixtures().join("processing").join(file)).unwrap()
        }
    }
}

fn patches(family: &dyn Family) -> Patches {
    family.patches().unwrap()
}

fn rows(family: &dyn Family, processed: &Processed) -> Vec<f32> {
    let input = &processed.inputs[0];
    patches(family).rows(&input.pixels, input.size)
}

/// `[[1, rows, columns]]`, counted in patches.
fn grid_thw(family: &dyn Family, geometry: &Geometry) -> Value {
    let (Grid { rows, cols }, m) = (geometry.views[0].grid, patches(family).merge);
    json!([1, rows * m, cols * m])
}

fn size(value: &Value) -> (u32, u32) {
    (value[1].as_u64().unwrap() as u32, value[0].as_u64().unwrap() as u32)
}

#[test]
fn sizes_are_those_of_smart_resize() {
    let reference = all();
    for (kind, model_type) in KINDS {
        let family = family(model_type);
        let sizes = reference[kind]["sizes"].as_array().unwrap();
        assert!(sizes.len() > 40);
        for entry in sizes {
            let settings = settings(kind, &reference[kind][entry["setting"].as_str().unwrap()]);
            let section = Section::root(&settings, Path::new("preprocessor_config.json")).unwrap();
            let plan = Dynamic::read(&Settings(section), patches(&*family)).unwrap();
            let expected = (!entry["resized"].is_null()).then(|| size(&entry["resized"]));
            assert_eq!(plan.view(size(&entry["size"])), expected, "{kind} {entry}");
        }
    }
}

#[test]
fn patches_match_the_reference() {
    let (reference, tensors) = (all(), tensors());
    for (kind, model_type) in KINDS {
        let (family, of) = (family(model_type), &reference[kind]);
        let processor = processor(&*family, &settings(kind, &of["small_setting"]));
        let level =
            [0, 1, 2].map(|channel: usize| 1.0 / 255.0 / of["image_std"][channel].as_f64().unwrap() as f32);
        for (name, entry) in of["images"].as_object().unwrap() {
            let found = processor.process(&picture(&tensors, entry, name)).unwrap();
            assert_eq!(found.geometry.source, size(&entry["decoded_size"]), "{name}");
            assert_eq!(found.resized, size(&entry["resized"]), "{name}");
            assert_eq!(json!([grid_thw(&*family, &found.geometry)]), entry["image_grid_thw"], "{name}");
            let (_, values) = &tensors.floats[&format!("{kind}/{name}/pixel_values")];
            // A row has two frames of each channel.
            let area = 2 * patches(&*family).side * patches(&*family).side;
            Levels::between(&rows(&*family, &found), values, area, level)
                .assert_met(&format!("{kind} {name}"));
        }
    }
}

#[test]
fn real_settings_give_the_reference_grids_and_patches() {
    let (reference, tensors) = (all(), tensors());
    for (kind, model_type) in KINDS {
        let (family, of) = (family(model_type), &reference[kind]);
        let processor = processor(&*family, &settings(kind, &of["real_setting"]));
        for (name, entry) in of["images"].as_object().unwrap() {
            let found = processor.process(&picture(&tensors, entry, name)).unwrap();
            assert_eq!(json!([grid_thw(&*family, &found.geometry)]), entry["real_image_grid_thw"], "{name}");
        }
        let real = &of["real"];
        let name = real["image"].as_str().unwrap();
        let found = processor.process(&picture(&tensors, &of["images"][name], name)).unwrap();
        assert_eq!(found.geometry.n_tokens(), real["n_image_tokens"], "{kind}");
        let (found, each) = (rows(&*family, &found), patches(&*family).len());
        let near = |ours: f32, theirs: f32| assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
        let of = |what: &str| &tensors.floats[&format!("{kind}_real/{what}")].1;
        let statistics = of("patch_mean").iter().zip(of("patch_std"));
        assert_eq!(found.len() / each, of("patch_mean").len());
        for (patch, (&mean, &std)) in found.chunks(each).zip(statistics) {
            let values = || patch.iter().map(|&v| f64::from(v));
            let ours = values().sum::<f64>() / each as f64;
            near(ours as f32, mean);
            near((values().map(|v| (v - ours).powi(2)).sum::<f64>() / each as f64).sqrt() as f32, std);
        }
        for (at, row) in real["rows"].as_array().unwrap().iter().zip(of("rows").chunks(each)) {
            let at = at.as_u64().unwrap() as usize;
            found[at * each..].iter().zip(row).for_each(|(&ours, &theirs)| near(ours, theirs));
        }
    }
}

/// Prompts of a family with the small tokenizer.
fn builder(family: &dyn Family, kind: &str) -> PromptBuilder {
    let file = |name: &str| std::fs::read_to_string(fixtures().join("qwen-tokenizer").join(name)).unwrap();
    let dir = folder_with(&[
        ("tokenizer.json", file("tokenizer.json")),
        ("tokenizer_config.json", file("tokenizer_config.json")),
        ("chat_template.jinja", file(&format!("chat_template-{kind}.jinja"))),
    ]);
    PromptBuilder::from_dir(dir.path(), 489, family.template()).unwrap().with_around(family.around())
}

#[test]
fn prompts_and_positions_match_the_reference() {
    let (reference, tensors) = (all(), tensors());
    for (kind, model_type) in KINDS {
        let (family, of) = (family(model_type), &reference[kind]);
        let processor = processor(&*family, &settings(kind, &of["small_setting"]));
        let builder = builder(&*family, kind);
        let see =
            |name: &str| processor.process(&picture(&tensors, &of["images"][name], name)).unwrap().geometry;
        let single = of["images"].as_object().unwrap().iter();
        let single = single.map(|(name, entry)| (entry, vec![see(name)]));
        let several = ["two_images", "two_turns", "text_first", "with_system", "text_only"].map(|name| {
            let images = of[name]["images"].as_array().into_iter().flatten();
            (&of[name], images.map(|image| see(image.as_str().unwrap())).collect())
        });
        for (entry, images) in single.chain(several) {
            let pieces: Vec<Vec<Piece>> = images.iter().map(|image| family.layout(image)).collect();
            let prompt = builder.build(&turns(&entry["messages"]), &pieces).unwrap();
            assert_eq!(prompt.text, entry["expanded_prompt"].as_str().unwrap(), "{kind}");
            assert_eq!(prompt.ids(), ids(entry), "{kind} {}", prompt.text);
            assert_sound(&prompt);
            let grids: Vec<Value> = images.iter().map(|image| grid_thw(&*family, image)).collect();
            let markers = "<|vision_start|><|vision_end|>".repeat(images.len());
            assert_eq!(text_of(&prompt, Span::Markers), markers, "what the template writes around images");
            let positions = family.positions(&prompt.tokens, &images);
            let next = positions.iter().flatten().max().unwrap() + 1;
            let delta = i64::from(next) - prompt.len() as i64;
            if images.is_empty() {
                assert_eq!(delta, 0);
                continue;
            }
            assert_eq!(json!(grids), entry["image_grid_thw"], "{kind}");
            assert_eq!(json!(delta), entry["rope_deltas"], "{kind} {}", prompt.text);
            assert_eq!(count(&prompt, Span::Visual), entry["n_image_tokens"]);
            if let Some(axes) = entry["position_ids"].as_array() {
                for (axis, expected) in axes.iter().enumerate() {
                    let ours: Vec<u32> = positions.iter().map(|position| position[axis]).collect();
                    assert_eq!(json!(ours), *expected, "{kind}, axis {axis}");
                }
            }
        }
    }
}

#[test]
fn typed_text_comes_back_as_the_reference_encodes_it() {
    let text = std::fs::read_to_string(fixtures().join("qwen-tokenizer/roundtrip.json")).unwrap();
    let entries: Value = serde_json::from_str(&text).unwrap();
    let builder = builder(&*family("qwen3_vl"), "qwen3");
    let special = |text: &str| text.contains("<|");
    let plain = entries.as_array().unwrap().iter().filter(|e| !special(e["text"].as_str().unwrap()));
    let mut seen = 0;
    for entry in plain {
        let ids: Vec<u32> = serde_json::from_value(entry["ids"].clone()).unwrap();
        assert_eq!(builder.text_ids(entry["text"].as_str().unwrap()).unwrap(), ids, "{entry}");
        seen += 1;
    }
    assert!(seen > 5);
}

#[test]
fn limits_count_pixels_and_what_does_not_fit_is_refused() {
    let family = family("qwen3_vl");
    let read = |change: &dyn Fn(&mut Value)| {
        let mut settings = settings("qwen3", &json!({"min_pixels": 65_536, "max_pixels": 16_777_216}));
        change(&mut settings);
        let dir = folder_with(&[("preprocessor_config.json", settings.to_string())]);
        ImageProcessor::from_dir(dir.path(), |settings| family.pixels(settings)).map_err(|e| e.to_string())
    };
    // The hub's own file has edges that are counts of pixels.
    let with_size = |s: &mut Value| {
        s.as_object_mut().unwrap().retain(|key, _| !key.ends_with("_pixels"));
        s["size"] = json!({"shortest_edge": 65_536, "longest_edge": 16_777_216});
    };
    let processor = read(&with_size).unwrap();
    let found = processor.process(&image::RgbImage::new(640, 427)).unwrap();
    assert_eq!(found.inputs[0].size, (640, 416));
    let long = processor.process(&image::RgbImage::new(1, 201)).unwrap_err().to_string();
    assert!(long.contains("1 x 201 pixels is more than 200 times as long"), "{long}");
    let cases = [
        ("patch_size", json!(14)),
        ("merge_size", json!(1)),
        ("max_pixels", json!(1)),
        ("min_pixels", json!(0)),
        ("do_resize", json!(false)),
        ("image_processor_type", json!("CLIPImageProcessor")),
    ];
    for (key, value) in cases {
        let message = read(&|s| s[key] = value.clone()).unwrap_err();
        assert!(message.contains(key) && message.contains("expected"), "{message}");
    }
}
