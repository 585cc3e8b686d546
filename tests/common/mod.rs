//! What the integration tests share.
#![allow(dead_code, clippy::unwrap_used)]

pub mod families;
pub mod hub;
pub mod models;
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

/// Every folder under tests/fixtures, or under a folder of it, that has a reference beside a model.
pub fn references() -> Vec<PathBuf> {
    let inside = |dir: PathBuf| {
        let folders = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|path| path.join("reference.safetensors").exists())
    };
    let mut found: Vec<PathBuf> = ["", "other"].into_iter().map(fixture).flat_map(inside).collect();
    found.sort();
    assert!(found.len() >= 23, "{found:?}");
    found
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

/// Rewrites a safetensors file: `change` gets every tensor's name and bytes.
pub fn rewrite(file: &Path, mut change: impl FnMut(&str, &mut [u8])) {
    let whole = fs::read(file).unwrap();
    let stored = SafeTensors::deserialize(&whole).unwrap();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = stored
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    tensors.iter_mut().for_each(|(name, _, _, bytes)| change(name, bytes));
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, file).unwrap();
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

    let places: Vec<String> = (0..4).map(|n| format!("<row_{}_col_{}>", n / 2 + 1, n % 2 + 1)).collect();
    let places = places.iter().map(String::as_str).zip(290..);
    let special = [("<image>", 299), ("<fake_token_around_image>", 298), ("<global-img>", 297)];
    write("tokenizer.json", &models::words_with(special.into_iter().chain(places)));
    let bundled = bundled::model();
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
