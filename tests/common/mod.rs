//! What the integration tests share.
#![allow(dead_code, clippy::unwrap_used)]

pub mod families;
pub mod program;

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::{
        open as device,
        open::{Compute, DeviceChoice},
    },
    engine::{error::EngineError, load::Engine},
    progress::Cancel,
    spec::{
        experiment::Experiment,
        picture::{ImageSource, Picture},
        turn::Turn,
    },
};
use tempfile::TempDir;

/// A model folder, loaded on the CPU.
pub fn load(dir: &Path) -> Engine {
    load_as(dir, &device::cpu(), WeightDtype::F32).unwrap()
}

/// A model folder, loaded in one go.
pub fn load_as(dir: &Path, compute: &Compute, dtype: WeightDtype) -> Result<Engine, EngineError> {
    Engine::load(dir, compute, dtype, &Cancel::default(), &mut |_| {})
}

/// An image in which nothing is marked.
pub fn picture(file: impl Into<PathBuf>) -> Picture {
    Picture { image: ImageSource::File(file.into()), object: None }
}

/// A question about one image, which is handed over encoded.
pub fn ask(text: &str, max_new: usize) -> Experiment {
    Experiment::ask(ImageSource::File(bundled::sample_image()), text, max_new)
}

/// A question about so many images.
pub fn ask_about(images: usize, text: &str, max_new: usize) -> Experiment {
    Experiment {
        images: vec![picture(bundled::sample_image()); images],
        turns: vec![Turn::ask(images, text)],
        ..ask(text, max_new)
    }
}

/// A folder under tests/fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture's files in a folder that may be changed.
pub fn copy_of(name: &str) -> TempDir {
    copy_of_folder(&fixture(name))
}

/// A folder's files in a folder that may be changed.
pub fn copy_of_folder(folder: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// The bundled model with weights that cannot be read: whatever else is wrong has to be told before them.
pub fn without_weights() -> TempDir {
    let dir = copy_of_folder(&bundled::model());
    fs::write(dir.path().join("model.safetensors"), "no weights").unwrap();
    dir
}

/// The wgpu device, or `None`, said aloud, where there is no adapter. `SIGHTLINE_REQUIRE_GPU=1`
/// makes that a failure.
pub fn gpu() -> Option<Compute> {
    match device::open(DeviceChoice::Gpu) {
        Ok(compute) => Some(compute),
        Err(error) => {
            let required = std::env::var("SIGHTLINE_REQUIRE_GPU").is_ok_and(|v| v == "1");
            assert!(!required, "SIGHTLINE_REQUIRE_GPU=1, but {error}");
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

/// A small Idefics3 that answers questions about tiles: the fixture's weights, a context of `context`
/// positions, and a tokenizer made of the bundled model's words and Idefics3's special tokens. Images
/// get up to 2 x 2 tiles of 4 x 4 visual tokens, and a view of the whole; two query heads share a key
/// head.
pub fn tiled_model(context: usize) -> TempDir {
    let dir = copy_of("tiny-idefics3");
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let write = |name: &str, value: &Value| {
        fs::write(dir.path().join(name), serde_json::to_vec(value).unwrap()).unwrap()
    };
    let mut config = read(&dir.path().join("config.json"));
    config["text_config"]["max_position_embeddings"] = context.into();
    write("config.json", &config);

    let bundled = bundled::model();
    let mut tokenizer = read(&bundled.join("tokenizer.json"));
    let mut special = |content: String, id: usize| {
        tokenizer["model"]["vocab"][&content] = id.into();
        let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true});
        let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
        tokens.retain(|t| t["content"] != token["content"]);
        tokens.push(token);
    };
    special("<image>".to_string(), 299);
    special("<fake_token_around_image>".to_string(), 298);
    special("<global-img>".to_string(), 297);
    for place in 0..4 {
        special(format!("<row_{}_col_{}>", place / 2 + 1, place % 2 + 1), 290 + place);
    }
    write("tokenizer.json", &tokenizer);
    for name in ["tokenizer_config.json", "chat_template.jinja"] {
        fs::copy(bundled.join(name), dir.path().join(name)).unwrap();
    }
    write(
        "preprocessor_config.json",
        &json!({"image_processor_type": "Idefics3ImageProcessor", "do_image_splitting": true,
            "do_resize": true, "do_rescale": true, "do_normalize": true, "do_pad": true,
            "do_convert_rgb": true, "resample": 1, "rescale_factor": 1.0 / 255.0,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}}),
    );
    dir
}

/// The chat template of LLaVA-1.5 on the hub.
pub const LLAVA_TEMPLATE: &str = "{% for message in messages %}{% if message['role'] != 'system' %}\
    {{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}\
    {# Render all text next #}{% if message['role'] != 'assistant' %}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}\
    {% endfor %}{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
    {% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// A fixture (`tiny-idefics3` or `tiny-llava`) with SmolVLM's tokenizer: its embedding and head repeat the
/// fixture's, a little larger each time, so that no two tokens are the same. Idefics3 has SmolVLM's chat template,
/// LLaVA its own from the hub.
pub fn with_smolvlm_tokenizer(name: &str) -> TempDir {
    const VOCABULARY: usize = 49280;
    const IMAGE: usize = 49190;
    let (dir, tokenizer) = (copy_of(name), fixture("smolvlm-tokenizer"));
    let write = |name: &str, value: &Value| {
        fs::write(dir.path().join(name), serde_json::to_vec(value).unwrap()).unwrap();
    };
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.json"] {
        fs::copy(tokenizer.join(file), dir.path().join(file)).unwrap();
    }
    let file = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["text_config"]["vocab_size"] = VOCABULARY.into();
    let half = json!([0.5, 0.5, 0.5]);
    let mut pixels = json!({"do_resize": true, "do_rescale": true, "do_normalize": true, "do_convert_rgb": true,
        "rescale_factor": 1.0 / 255.0, "image_mean": half, "image_std": half});
    let more = if name == "tiny-llava" {
        config["image_token_index"] = IMAGE.into();
        write("chat_template.json", &json!({"chat_template": LLAVA_TEMPLATE}));
        json!({"image_processor_type": "CLIPImageProcessor", "resample": 3, "do_center_crop": true,
            "crop_size": {"height": 56, "width": 56}, "size": {"shortest_edge": 56}})
    } else {
        config["vocab_size"] = VOCABULARY.into();
        config["image_token_id"] = IMAGE.into();
        json!({"image_processor_type": "Idefics3ImageProcessor", "resample": 1, "do_image_splitting": true,
            "do_pad": true, "size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}})
    };
    pixels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    write("preprocessor_config.json", &pixels);
    write("config.json", &config);

    let file = dir.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let grown = |name: String, view: TensorView<'_>| -> (String, Vec<usize>, Vec<u8>) {
        if !(name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight")) {
            return (name, view.shape().to_vec(), view.data().to_vec());
        }
        let [rows, width] = view.shape()[..] else { panic!("{:?}", view.shape()) };
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let value = |at: usize| {
            let (row, column) = (at / width, at % width);
            values[row % rows * width + column] * (1.0 + 1e-3 * (row / rows) as f32)
        };
        let data = (0..VOCABULARY * width).flat_map(|at| value(at).to_le_bytes()).collect();
        (name, vec![VOCABULARY, width], data)
    };
    let tensors: Vec<_> = stored.tensors().into_iter().map(|(name, view)| grown(name, view)).collect();
    let views = tensors.iter().map(|(n, s, b)| (n, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &file).unwrap();
    dir
}
