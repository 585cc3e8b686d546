//! Image processing and prompts against the references of transformers: tile grids, sizes, pixel
//! values, expanded prompts, token ids.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use sightline::model::image::{self as pixels, ImageProcessor, Place, Processed};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn reference() -> Value {
    let text = std::fs::read_to_string(fixtures().join("processing/processing.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The f32 tensors of the reference, and the u8 ones, with shapes.
struct Tensors {
    floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    bytes: HashMap<String, (Vec<usize>, Vec<u8>)>,
}

fn tensors() -> Tensors {
    let file = std::fs::read(fixtures().join("processing/processing.safetensors")).unwrap();
    let mut out = Tensors { floats: HashMap::new(), bytes: HashMap::new() };
    for (name, tensor) in SafeTensors::deserialize(&file).unwrap().tensors() {
        let shape = tensor.shape().to_vec();
        if tensor.dtype() == safetensors::Dtype::U8 {
            out.bytes.insert(name, (shape, tensor.data().to_vec()));
        } else {
            assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
            let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            out.floats.insert(name, (shape, data.collect()));
        }
    }
    out
}

/// A folder with one settings file.
fn processor(settings: &Value) -> ImageProcessor {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
    ImageProcessor::from_dir(dir.path()).unwrap()
}

fn idefics3(setting: &Value) -> ImageProcessor {
    processor(&json!({
        "image_processor_type": "Idefics3ImageProcessor",
        "size": setting["size"], "max_image_size": setting["max_image_size"], "resample": 1,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098,
    }))
}

fn image(reference: &Value, name: &str) -> image::RgbImage {
    let file = reference["idefics3"]["images"][name]["file"].as_str().unwrap();
    pixels::open(&fixtures().join("processing").join(file)).unwrap()
}

/// Names of the reference images.
fn names(reference: &Value) -> Vec<String> {
    reference["idefics3"]["images"].as_object().unwrap().keys().cloned().collect()
}

fn all_pixels(processed: &Processed) -> Vec<f32> {
    processed.tiles.iter().flat_map(|t| t.pixels.iter().copied()).collect()
}

/// How far two lists of normalised pixels are apart, in 8-bit levels.
#[derive(Default, Clone, Copy)]
struct Levels {
    largest: f32,
    differing: usize,
    of: usize,
}

impl Levels {
    /// `level[c]`: size of one level of channel c; both lists are `[.., 3, area]`.
    fn between(found: &[f32], expected: &[f32], area: usize, level: [f32; 3]) -> Levels {
        assert_eq!(found.len(), expected.len());
        let mut out = Levels { of: found.len(), ..Levels::default() };
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            let levels = (a - b).abs() / level[i / area % 3];
            out.differing += usize::from(levels > 0.5);
            out.largest = out.largest.max(levels);
        }
        out
    }

    /// Equal up to the rounding of the normalisation.
    fn assert_met(self, what: &str) {
        println!(
            "{what}: largest {:.6} levels, {} of {} samples differ",
            self.largest, self.differing, self.of
        );
        assert!(
            self.largest < 1e-4,
            "{what}: {} levels, {} of {} differ",
            self.largest,
            self.differing,
            self.of
        );
    }
}

/// (height, width) as the reference writes sizes.
fn size(value: &Value) -> (u32, u32) {
    (value[1].as_u64().unwrap() as u32, value[0].as_u64().unwrap() as u32)
}

#[test]
fn decoding_turns_composites_and_expands() {
    let (reference, tensors) = (reference(), tensors());
    assert!(tensors.bytes.len() >= 3);
    for (name, (shape, expected)) in &tensors.bytes {
        let name = name.strip_prefix("decoded/").unwrap();
        let found = image(&reference, name);
        assert_eq!(vec![found.height() as usize, found.width() as usize, 3], *shape, "{name}");
        let largest = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
        println!("decoded {name}: largest {largest} levels, {differing} of {} differ", expected.len());
        // JPEG decoders are allowed to round differently; nothing else is.
        assert!(largest <= if name.starts_with("exif") { 3 } else { 0 }, "{name}: {largest} levels");
    }
}

#[test]
fn idefics3_tiles_match_the_reference() {
    let (reference, tensors) = (reference(), tensors());
    let setting = &reference["idefics3"]["small_setting"];
    let processor = idefics3(setting);
    for name in names(&reference) {
        let expected = &reference["idefics3"]["images"][&name];
        // The reference's own decoding of the JPEG, so that only the resize is measured.
        let picture = match tensors.bytes.get(&format!("decoded/{name}")) {
            Some((shape, bytes)) => {
                image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes.clone()).unwrap()
            }
            None => image(&reference, &name),
        };
        let found = processor.process(&picture).unwrap();
        assert_eq!(found.source, size(&expected["decoded_size"]).min(found.source), "{name}");
        assert_eq!(found.resized, size(&expected["resized"]), "{name}");
        assert_eq!(found.rows, expected["rows"], "{name}");
        assert_eq!(found.cols, expected["cols"], "{name}");
        assert_eq!((found.cols * 64, found.rows * 64), size(&expected["grid_size"]), "{name}");
        assert_eq!(found.tiles.len(), expected["n_tiles"], "{name}");
        let (shape, values) = &tensors.floats[&format!("idefics3/{name}/pixel_values")];
        assert_eq!(*shape, [found.tiles.len(), 3, 64, 64]);
        Levels::between(&all_pixels(&found), values, 64 * 64, [2.0 / 255.0; 3])
            .assert_met(&format!("idefics3 {name}"));
    }
}

#[test]
fn llava_crops_match_the_reference() {
    let (reference, tensors) = (reference(), tensors());
    let setting = &reference["llava"]["setting"];
    let std: Vec<f32> =
        setting["image_std"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    // Mean and standard deviation are left to the defaults of CLIPImageProcessor.
    let processor = processor(&json!({
        "image_processor_type": "CLIPImageProcessor",
        "size": setting["size"], "crop_size": setting["crop_size"], "resample": 3,
    }));
    for name in names(&reference) {
        let picture = match tensors.bytes.get(&format!("decoded/{name}")) {
            Some((shape, bytes)) => {
                image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes.clone()).unwrap()
            }
            None => image(&reference, &name),
        };
        let found = processor.process(&picture).unwrap();
        let expected = &reference["llava"]["images"][&name];
        assert_eq!(found.resized, size(&expected["resized"]), "{name}");
        assert_eq!(found.tile_size, size(&expected["crop"]), "{name}");
        assert_eq!((found.rows, found.cols, found.tiles[0].place), (0, 0, Place::Whole));
        let (_, values) = &tensors.floats[&format!("llava/{name}/pixel_values")];
        let level = [1.0 / 255.0 / std[0], 1.0 / 255.0 / std[1], 1.0 / 255.0 / std[2]];
        Levels::between(&all_pixels(&found), values, 56 * 56, level).assert_met(&format!("llava {name}"));
    }
}
