//! Pixels: decoding, resizing, cutting, normalising.

use super::*;

/// The f32 tensors of the reference, and the u8 ones, with shapes.
pub struct Tensors {
    pub floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    pub bytes: HashMap<String, (Vec<usize>, Vec<u8>)>,
}

fn tensors() -> Tensors {
    tensors_of("processing/processing.safetensors")
}

/// Those of a file of the fixtures.
pub fn tensors_of(file: &str) -> Tensors {
    let file = std::fs::read(fixtures().join(file)).unwrap();
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
pub fn processor(settings: &Value) -> ImageProcessor {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
    families::processor(dir.path()).unwrap()
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

/// The reference's own decoding of a picture, where it keeps one: the JPEG's, so that only the resize is measured.
pub fn decoded(name: &str) -> Option<image::RgbImage> {
    let (shape, bytes) = tensors().bytes.remove(&format!("decoded/{name}"))?;
    image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes)
}

/// Names of the reference images.
fn names(reference: &Value) -> Vec<String> {
    reference["idefics3"]["images"].as_object().unwrap().keys().cloned().collect()
}

pub fn all_pixels(processed: &Processed) -> Vec<f32> {
    processed.inputs.iter().flat_map(|input| input.pixels.iter().copied()).collect()
}

/// How far two lists of normalised pixels are apart, in 8-bit levels.
#[derive(Default, Clone, Copy)]
pub struct Levels {
    largest: f32,
    differing: usize,
    of: usize,
}

impl Levels {
    /// `level[c]`: size of one level of channel c; both lists are `[.., 3, area]`.
    pub fn between(found: &[f32], expected: &[f32], area: usize, level: [f32; 3]) -> Levels {
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
    pub fn assert_met(self, what: &str) {
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
pub fn size(value: &Value) -> (u32, u32) {
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
        let geometry = &found.geometry;
        assert_eq!(geometry.source, size(&expected["decoded_size"]), "{name}");
        assert_eq!(found.resized, size(&expected["resized"]), "{name}");
        assert_eq!(geometry.rows, expected["rows"], "{name}");
        assert_eq!(geometry.cols, expected["cols"], "{name}");
        let sides = ((geometry.cols * 64) as u32, (geometry.rows * 64) as u32);
        assert_eq!(sides, size(&expected["grid_size"]), "{name}");
        assert_eq!(found.inputs.len(), expected["n_tiles"], "{name}");
        assert_eq!(geometry.views.len(), found.inputs.len(), "{name}");
        let (shape, values) = &tensors.floats[&format!("idefics3/{name}/pixel_values")];
        assert_eq!(*shape, [found.inputs.len(), 3, 64, 64]);
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
        assert_eq!(found.inputs[0].size, size(&expected["crop"]), "{name}");
        let geometry = &found.geometry;
        assert_eq!((geometry.rows, geometry.cols, geometry.views[0].place), (0, 0, Place::Whole));
        let (_, values) = &tensors.floats[&format!("llava/{name}/pixel_values")];
        let level = [1.0 / 255.0 / std[0], 1.0 / 255.0 / std[1], 1.0 / 255.0 / std[2]];
        Levels::between(&all_pixels(&found), values, 56 * 56, level).assert_met(&format!("llava {name}"));
    }
}

fn edge_cases() -> Value {
    let text = std::fs::read_to_string(fixtures().join("processing/edge_cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn formats_decode_as_pillow_does() {
    for (name, expected) in edge_cases()["formats"].as_object().unwrap() {
        let found = pixels::open(&fixtures().join("processing/formats").join(name)).unwrap();
        assert_eq!(
            json!([found.width(), found.height()]),
            json!([expected["width"], expected["height"]]),
            "{name}"
        );
        let hex = expected["rgb"].as_str().unwrap();
        let expected = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap());
        let largest = found.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        println!("{name}: largest {largest} levels");
        // Lossy decoders may round differently, and interpolate coarser colour differently.
        let allowed = match name.as_str() {
            "subsampled.jpg" => 16,
            "lossy.webp" => 2,
            _ if name.ends_with(".jpg") => 3,
            _ => 0,
        };
        assert!(largest <= allowed, "{name}: {largest} levels");
    }
}

/// The synthetic picture of edge_cases.py.
pub fn picture(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| (x * x * 3 + y * 7 + x * y * 5 + c * 85 + (x / 3) * (y / 2)) as u8))
    })
}

#[test]
fn extreme_sizes_and_settings_match_the_reference() {
    let cases = edge_cases()["sizes"].as_array().unwrap().clone();
    assert!(cases.len() > 30);
    for case in cases {
        let (width, height) =
            (case["width"].as_u64().unwrap() as u32, case["height"].as_u64().unwrap() as u32);
        let what = format!("{width} x {height}, {}", case["settings"]);
        // Without normalisation the pixels are levels / 255.
        let mut settings = case["settings"].clone();
        settings["do_normalize"] = json!(false);
        let found = processor(&settings).process(&picture(width, height)).unwrap();
        assert_eq!(
            json!([found.inputs.len(), 3, found.inputs[0].size.1, found.inputs[0].size.0]),
            case["shape"],
            "{what}"
        );
        assert_eq!(json!([found.geometry.rows, found.geometry.cols]), case["grid"], "{what}");
        let levels: Vec<u8> = all_pixels(&found).iter().map(|v| (v * 255.0).round() as u8).collect();
        let hash: String = Sha256::digest(&levels).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, case["sha256"], "{what}");
    }
}

#[test]
fn a_window_of_a_resize_is_the_crop_of_the_whole() {
    let source = picture(130, 41);
    for filter in [Filter::Lanczos, Filter::Bicubic, Filter::Bilinear, Filter::Box, Filter::Hamming] {
        for (width, height) in [(300, 95), (60, 19), (130, 17), (57, 41), (131, 300), (400, 12)] {
            let whole = resample::resize(&source, width, height, filter);
            for (xs, ys) in [(0..1, 0..1), (width / 3..width / 2, 2..height - 1), (width - 5..width, 5..12)] {
                let window =
                    resample::resize_window(&source, (width, height), xs.clone(), ys.clone(), filter);
                let cut =
                    image::imageops::crop_imm(&whole, xs.start, ys.start, window.width(), window.height());
                assert_eq!(window, cut.to_image(), "{filter:?} {width} x {height}, {xs:?}, {ys:?}");
            }
        }
    }
}

/// The part of the source image behind one cell of a view of `rows` x `cols` tokens.
fn token_rect(found: &Processed, view: usize, row: usize, col: usize, rows: usize, cols: usize) -> [f32; 4] {
    View { grid: Grid { rows, cols }, ..found.geometry.views[view] }.rect_of(Cell { row, col })
}

fn assert_rect(found: [f32; 4], expected: [f32; 4]) {
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?}, {expected:?}");
}

#[test]
fn token_cells_map_to_the_source_image() {
    // LLaVA: 640 x 427 resized to 83 x 56, of which columns 13 to 69 are seen.
    let clip = json!({ "image_processor_type": "CLIPImageProcessor", "size": 56, "crop_size": 56 });
    let found = processor(&clip).process(&picture(640, 427)).unwrap();
    assert_eq!((found.geometry.source, found.resized), ((640, 427), (83, 56)));
    let (left, right) = (13.0 * 640.0 / 83.0, 69.0 * 640.0 / 83.0);
    assert_rect(token_rect(&found, 0, 0, 0, 1, 1), [left, 0.0, right, 427.0]);
    assert_rect(token_rect(&found, 0, 3, 0, 4, 4), [left, 320.25, left + (right - left) / 4.0, 427.0]);
    // Padding: a 30 x 20 image in the middle of 56 x 56.
    let clip = json!({ "image_processor_type": "CLIPImageProcessor", "do_resize": false, "crop_size": 56 });
    let found = processor(&clip).process(&picture(30, 20)).unwrap();
    assert_rect(token_rect(&found, 0, 0, 0, 1, 1), [-13.0, -18.0, 43.0, 38.0]);
    // Idefics3: 3 rows and 4 columns of tiles, then the whole.
    let tiles = json!({ "image_processor_type": "Idefics3ImageProcessor",
                        "size": { "longest_edge": 256 }, "max_image_size": { "longest_edge": 64 } });
    let found = processor(&tiles).process(&picture(640, 427)).unwrap();
    assert_eq!((found.geometry.rows, found.geometry.cols, found.inputs.len()), (3, 4, 13));
    assert_eq!(found.geometry.views[6].place, Place::Tile { row: 1, col: 2 });
    assert_rect(token_rect(&found, 6, 0, 0, 1, 1), [320.0, 427.0 / 3.0, 480.0, 427.0 * 2.0 / 3.0]);
    assert_rect(token_rect(&found, 6, 0, 3, 4, 4), [440.0, 427.0 / 3.0, 480.0, 427.0 / 3.0 + 427.0 / 12.0]);
    assert_eq!(found.geometry.views[12].place, Place::Whole);
    assert_rect(token_rect(&found, 12, 3, 3, 4, 4), [480.0, 320.25, 640.0, 427.0]);
    // The cells of all grid tiles cover the image once.
    let area: f32 = (0..12)
        .flat_map(|tile| (0..16).map(move |cell| (tile, cell / 4, cell % 4)))
        .map(|(tile, row, col)| token_rect(&found, tile, row, col, 4, 4))
        .map(|[x0, y0, x1, y1]| (x1 - x0) * (y1 - y0))
        .sum();
    assert!((area - 640.0 * 427.0).abs() < 1.0, "{area}");
}

#[test]
fn settings_of_both_transformers_generations() {
    let old = json!({
        "image_processor_type": "CLIPImageProcessor", "crop_size": { "height": 56, "width": 56 },
        "size": { "shortest_edge": 56 }, "do_center_crop": true, "resample": 3, "do_pad": false,
    });
    // Which file it came from is the one thing that differs.
    let text = |processor: ImageProcessor| {
        format!("{processor:?}").replace("preprocessor_config.json", "processor_config.json")
    };
    let same = |found: ImageProcessor| assert_eq!(text(found), text(processor(&old)));
    // transformers 5: everything in processor_config.json, sizes with all their keys, names with Fast.
    let new = json!({ "processor_class": "LlavaProcessor", "image_processor": {
        "image_processor_type": "LlavaImageProcessorFast", "crop_size": { "height": 56, "width": 56 },
        "size": { "shortest_edge": 56, "longest_edge": null, "height": null }, "do_pad": null,
    }});
    let dir = folder_with(&[
        ("processor_config.json", new.to_string()),
        ("preprocessor_config.json", json!({ "image_processor_type": "ignored" }).to_string()),
    ]);
    same(families::processor(dir.path()).unwrap());
    // Sizes as plain numbers, the class by its old name.
    let oldest = json!({ "feature_extractor_type": "CLIPFeatureExtractor", "size": 56, "crop_size": 56 });
    same(processor(&oldest));
    // Unused numbers of the processor do not hide the image processor's own file.
    let dir = folder_with(&[
        ("processor_config.json", json!({ "image_seq_len": 64 }).to_string()),
        ("preprocessor_config.json", old.to_string()),
    ]);
    same(families::processor(dir.path()).unwrap());
    // SmolVLM's own file, and its class's defaults.
    let smolvlm: Value = serde_json::from_str(&smolvlm_file("preprocessor_config.json")).unwrap();
    let found = processor(&smolvlm).process(&picture(20, 10)).unwrap();
    assert_eq!((found.geometry.rows, found.geometry.cols), (2, 4));
    assert_eq!((found.inputs[0].size, found.resized), ((512, 512), (2048, 1024)));
}

/// What transformers 5.24 does: its processors' defaults are for keys that are absent.
#[test]
fn a_null_flag_is_off_and_a_null_value_is_none() {
    let clip = json!({ "image_processor_type": "CLIPImageProcessor", "size": 56, "crop_size": 56 });
    let tiles = json!({ "image_processor_type": "Idefics3ImageProcessor",
                        "size": { "longest_edge": 256 }, "max_image_size": { "longest_edge": 64 } });
    let with = |settings: &Value, key: &str, value: Value| {
        let mut settings = settings.clone();
        settings[key] = value;
        settings
    };
    let same = |a: &Value, b: &Value| format!("{:?}", processor(a)) == format!("{:?}", processor(b));
    for (settings, key) in [
        (&clip, "do_normalize"),
        (&clip, "do_rescale"),
        (&clip, "do_resize"),
        (&clip, "do_center_crop"),
        (&tiles, "do_normalize"),
        (&tiles, "do_rescale"),
        (&tiles, "do_resize"),
        (&tiles, "do_image_splitting"),
    ] {
        let null = with(settings, key, Value::Null);
        assert!(same(&null, &with(settings, key, json!(false))), "{key}");
        assert!(!same(&null, settings), "{key}");
    }
    // A step that is off needs no value; one that is on does.
    for (settings, key, step) in [
        (&clip, "size", "do_resize"),
        (&clip, "crop_size", "do_center_crop"),
        (&clip, "resample", "do_resize"),
        (&clip, "rescale_factor", "do_rescale"),
        (&clip, "image_mean", "do_normalize"),
        (&tiles, "image_std", "do_normalize"),
        (&tiles, "size", "do_resize"),
    ] {
        let null = with(settings, key, Value::Null);
        let dir = folder_with(&[("preprocessor_config.json", null.to_string())]);
        let error = families::processor(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}` is null, expected a value")), "{error}");
        processor(&with(&null, step, Value::Null));
    }
    // Where processor_config.json says nothing of images, the other file is read.
    let dir = folder_with(&[
        ("processor_config.json", json!({ "image_processor": null }).to_string()),
        ("preprocessor_config.json", clip.to_string()),
    ]);
    assert_eq!(format!("{:?}", families::processor(dir.path()).unwrap()), format!("{:?}", processor(&clip)));
}

#[test]
fn bad_images_are_refused() {
    let refused = |bytes: &[u8]| pixels::decode(bytes, "it.png").unwrap_err().to_string();
    assert!(refused(b"").contains("it.png is not a readable image"));
    assert!(refused(b"<html>").contains("no known image format"));
    let file = std::fs::read(fixtures().join("processing/images/gradient_200x120.png")).unwrap();
    assert!(refused(&file[..file.len() / 2]).contains("it.png is not a readable image"));
    assert!(refused(&file[..20]).contains("it.png is not a readable image"));
    // A header that claims 40000 x 40000 pixels, and one that claims 70000 x 1.
    for (width, height) in [(40_000_u32, 40_000_u32), (70_000, 1)] {
        let mut bomb = file.clone();
        bomb[16..20].copy_from_slice(&width.to_be_bytes());
        bomb[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = refused(&bomb);
        assert!(error.contains(&format!("{width} x {height}")) && error.contains("65535"), "{error}");
    }
    // A WebP whose last chunk, its EXIF block, claims 4 GB.
    let mut webp = std::fs::read(fixtures().join("processing/formats/orientation_8.webp")).unwrap();
    let exif = webp.windows(4).position(|w| w == b"EXIF").unwrap();
    webp[exif + 4..exif + 8].copy_from_slice(&0xFFFF_FFF0_u32.to_le_bytes());
    assert!(refused(&webp).contains("it ends before one of its chunks does"));
    assert!(pixels::open(Path::new("/nowhere.png")).unwrap_err().to_string().contains("/nowhere.png"));
}

#[test]
fn a_file_that_is_cut_short_is_refused_in_every_format() {
    use image::{DynamicImage, ImageFormat};
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(fixtures().join("processing/formats")).unwrap() {
        let path = entry.unwrap().path();
        // Of an animation only the first picture is read, which lies in its first half.
        if !path.ends_with("animated.gif") {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    let noise = DynamicImage::from(picture(64, 48));
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        noise.write_to(&mut bytes, format).unwrap();
        files.push((format!("{format:?}"), bytes.into_inner()));
    }
    assert!(files.len() > 40 && files.iter().any(|(name, _)| name.ends_with("progressive.jpg")));
    for (name, whole) in &files {
        assert!(pixels::decode(whole, name).is_ok(), "{name}");
        for percent in [10, 50, 90] {
            let cut = &whole[..whole.len() * percent / 100];
            assert!(pixels::decode(cut, name).is_err(), "{percent} % of {name}");
        }
        let jpeg = name.ends_with(".jpg") || name == "Jpeg";
        // Of small files the last hundredth holds no pixel.
        if jpeg || !name.contains('.') {
            assert!(pixels::decode(&whole[..whole.len() * 99 / 100], name).is_err(), "99 % of {name}");
        }
        if jpeg {
            // As Pillow: the end marker must be there, what follows it is nobody's.
            assert!(pixels::decode(&whole[..whole.len() - 1], name).is_err(), "{name} without its last byte");
            assert!(pixels::decode(&[&whole[..], b"garbage"].concat(), name).is_ok(), "{name} and more");
        }
    }
}

#[test]
fn bad_settings_are_refused() {
    let refused = |settings: Value| {
        let dir = folder_with(&[("preprocessor_config.json", settings.to_string())]);
        families::processor(dir.path()).unwrap_err().to_string()
    };
    let clip = |key: &str, value: Value| {
        let mut settings = json!({ "image_processor_type": "LlavaImageProcessor" });
        settings[key] = value;
        refused(settings)
    };
    assert!(
        refused(json!({ "image_processor_type": "LlavaNextImageProcessor" }))
            .contains("LlavaNextImageProcessor")
    );
    assert!(refused(json!({})).contains("image_processor_type"));
    assert!(
        refused(json!([])).contains("preprocessor_config.json: `the file` is [], expected a JSON object")
    );
    assert!(clip("do_pad", json!(true)).contains("do_pad"));
    assert!(clip("resample", json!(0)).contains("`resample` is 0"));
    assert!(clip("size", json!({ "shortest_edge": 56, "longest_edge": 90 })).contains("longest_edge"));
    assert!(clip("size", json!({ "shortest_edge": -1 })).contains("`size`"));
    assert!(clip("crop_size", json!(0)).contains("`crop_size` is 0"));
    assert!(
        clip("crop_size", json!(60_000)).contains("`crop_size` is 60000, expected at most 100000000 pixels")
    );
    assert!(clip("image_std", json!([0.5, 0.0, 0.5])).contains("image_std"));
    assert!(clip("image_std", json!([0.5, -0.5, 0.5])).contains("image_std"));
    assert!(clip("image_mean", json!([0.5])).contains("image_mean"));
    assert!(clip("image_mean", json!([0.5, 1e300, 0.5])).contains("from -1e6 to 1e6"));
    for factor in [json!(0), json!(-1), json!(1e300), json!("1")] {
        assert!(clip("rescale_factor", factor).contains("a number from 1e-6 to 1e6"));
    }
    assert!(clip("size", json!(vec![0; 10_000])).len() < 500, "long values are cut short");
    assert!(clip("do_resize", json!("yes")).contains("do_resize"));
    let idefics3 =
        json!({ "image_processor_type": "Idefics3ImageProcessor", "max_image_size": { "longest_edge": 1 } });
    assert!(refused(idefics3).contains("max_image_size"));
    let dir = folder_with(&[("preprocessor_config.json", "{".to_owned())]);
    assert!(families::processor(dir.path()).unwrap_err().to_string().contains("not valid JSON"));
    let dir = folder_with(&[]);
    assert!(families::processor(dir.path()).unwrap_err().to_string().contains("neither"));
    // Settings that are fine by themselves, on images that are not.
    let nothing = processor(&json!({ "image_processor_type": "CLIPImageProcessor" }))
        .process(&image::RgbImage::new(0, 3));
    assert!(nothing.unwrap_err().to_string().contains("0 x 3"));
    let open = processor(&json!({ "image_processor_type": "CLIPImageProcessor", "do_center_crop": false }));
    assert!(
        open.process(&image::RgbImage::new(60_000, 2)).unwrap_err().to_string().contains("6720000 x 224")
    );
}

/// The checksum of a PNG chunk.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// Means, deviations and 8 x 8 averages of square tiles, of so many pixels a side: the largest distance to the
/// reference's, `[tiles]`, `[tiles]` and `[tiles, 3, 8, 8]`.
pub fn furthest_statistic(found: &Processed, side: usize, [means, stds, pooled]: [&[f32]; 3]) -> f64 {
    let mut largest = 0.0_f64;
    let part = side / 8;
    for (t, tile) in found.inputs.iter().enumerate() {
        let n = tile.pixels.len() as f64;
        let mean = tile.pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = tile.pixels.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        largest = largest.max((mean - f64::from(means[t])).abs());
        largest = largest.max((variance.sqrt() - f64::from(stds[t])).abs());
        for cell in 0..3 * 8 * 8 {
            let (channel, y, x) = (cell / 64, cell / 8 % 8 * part, cell % 8 * part);
            let square =
                (0..part * part).map(|i| channel * side * side + (y + i / part) * side + x + i % part);
            let mean = square.map(|i| f64::from(tile.pixels[i])).sum::<f64>() / (part * part) as f64;
            largest = largest.max((mean - f64::from(pooled[t * 192 + cell])).abs());
        }
    }
    largest
}

#[test]
fn the_real_setting_matches_the_reference() {
    let (reference, tensors) = (reference(), tensors());
    let expected = &reference["idefics3"]["real"];
    let picture = image(&reference, expected["image"].as_str().unwrap());
    let found = idefics3(&reference["idefics3"]["real_setting"]).process(&picture).unwrap();
    assert_eq!(found.resized, size(&expected["resized"]));
    let sides = ((found.geometry.cols * 512) as u32, (found.geometry.rows * 512) as u32);
    assert_eq!(sides, size(&expected["grid_size"]));
    assert_eq!(found.inputs.len(), expected["n_tiles"]);
    let tensor = |name: &str| &tensors.floats[&format!("idefics3_real/{name}")].1;
    let statistics = ["tile_mean", "tile_std", "pooled"].map(|name| tensor(name).as_slice());
    let largest = furthest_statistic(&found, 512, statistics);
    println!("idefics3 real: largest difference of a mean or deviation {largest:.2e}");
    assert!(largest < 1e-6, "{largest}");
}

#[test]
fn alpha_is_composited_not_dropped() {
    let (reference, tensors) = (reference(), tensors());
    let dropped = &tensors.floats["idefics3/alpha_97x300/tile_mean_alpha_dropped"].1;
    let setting = &reference["idefics3"]["small_setting"];
    let found = idefics3(setting).process(&image(&reference, "alpha_97x300")).unwrap();
    for (tile, dropped) in found.inputs.iter().zip(dropped) {
        let mean = tile.pixels.iter().sum::<f32>() / tile.pixels.len() as f32;
        assert!((mean - dropped).abs() > 0.01, "{mean}, {dropped}");
    }
}
