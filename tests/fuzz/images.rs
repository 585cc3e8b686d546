//! Image files, and the settings of image processors.

use super::*;

fn image_settings() -> Vec<Value> {
    vec![
        json!({
            "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 56 }, "resample": 3,
            "crop_size": { "height": 56, "width": 56 }, "do_center_crop": true, "do_rescale": true,
            "rescale_factor": 0.00392156862745098, "do_normalize": true, "do_resize": true,
            "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
        }),
        json!({
            "image_processor_type": "Idefics3ImageProcessor", "size": { "longest_edge": 128 }, "resample": 1,
            "max_image_size": { "longest_edge": 64 }, "do_image_splitting": true, "do_resize": true,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098,
        }),
        json!({ "feature_extractor_type": "CLIPFeatureExtractor", "size": 56, "crop_size": 56 }),
    ]
}

#[test]
fn image_processor_settings() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("preprocessor_config.json");
    // 32 million input pixels are allowed: 0.4 GB, and the resized image beside them.
    try_all("preprocessor_config.json", 4, 700 * MB, broken(image_settings()), |bytes| {
        fs::write(&file, bytes).unwrap();
        let Some(processor) = outcome(families::processor(dir.path())) else { return };
        for (width, height) in [(1, 1), (7, 3), (1, 400)] {
            let picture = image::RgbImage::from_pixel(width, height, image::Rgb([9, 99, 199]));
            let Some(seen) = outcome(processor.process(&picture)) else { continue };
            assert_eq!(seen.inputs.len(), seen.geometry.views.len());
            let (w, h) = seen.inputs[0].size;
            for (input, view) in seen.inputs.iter().zip(&seen.geometry.views) {
                assert_eq!((input.size, input.pixels.len()), ((w, h), 3 * w as usize * h as usize));
                assert!(
                    input.pixels.iter().all(|p| p.is_finite()) && view.rect.iter().all(|p| p.is_finite())
                );
            }
        }
    });
}

/// Small images in every format: made here, and the fixtures.
fn images() -> Vec<(String, Vec<u8>)> {
    use image::{DynamicImage, ImageFormat};
    let rgb =
        image::RgbImage::from_fn(13, 9, |x, y| image::Rgb([(x * 19) as u8, (y * 28) as u8, (x * y) as u8]));
    let rgb = DynamicImage::from(rgb);
    let kinds = [
        ("rgb", rgb.clone()),
        ("rgba", rgb.to_rgba8().into()),
        ("grey", rgb.to_luma8().into()),
        ("rgb16", rgb.to_rgb16().into()),
        ("grey16", rgb.to_luma16().into()),
    ];
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ];
    let mut all = Vec::new();
    for (kind, picture) in &kinds {
        for format in formats {
            let mut bytes = std::io::Cursor::new(Vec::new());
            // Not every format holds every kind.
            if picture.write_to(&mut bytes, format).is_ok() {
                all.push((format!("{kind} {format:?}"), bytes.into_inner()));
            }
        }
    }
    let made: std::collections::BTreeSet<&str> =
        all.iter().map(|(n, _)| n.split_once(' ').unwrap().1).collect();
    assert_eq!(made.len(), formats.len(), "{made:?}");
    let mut files: Vec<_> =
        fs::read_dir(fixture("processing/formats")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    all.extend(files.iter().map(|f| (f.display().to_string(), fs::read(f).unwrap())));
    all
}

/// Sets the checksums of a PNG's chunks right, so that decoders look inside.
fn mend_png(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(crc) = bytes.get(at + 4..end).map(crc32) else { break };
        let Some(stored) = bytes.get_mut(end..end + 4) else { break };
        stored.copy_from_slice(&crc.to_be_bytes());
        at = end + 4;
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// What decoding may hold: 8 bytes for each of the pixels allowed, the same as RGB, and small change.
const DECODING: usize = MAX_PIXELS as usize * 11 + 128 * MB;

fn decode(bytes: &[u8]) {
    if let Some(mask) = outcome(sightline::image::mask::Mask::decode(bytes, "mask")) {
        let (width, height) = mask.size();
        assert!((0.0..=1.0).contains(&mask.covered([0.0, 0.0, width as f32, height as f32], None)));
    }
    let Some(picture) = outcome(pixels::decode(bytes, "picture")) else { return };
    let (width, height) = picture.dimensions();
    assert!(width <= MAX_SIDE && height <= MAX_SIDE);
    assert!(u64::from(width) * u64::from(height) <= MAX_PIXELS);
}

#[test]
fn image_files() {
    let _alone = memory::alone();
    let inputs = (select(images()), damages(6), any::<bool>());
    try_all("image files", 1, DECODING, inputs, |((name, whole), damages, mend)| {
        let bytes = damaged(whole, &damages);
        let is_png = name.ends_with("Png") || name.ends_with(".png");
        decode(&if is_png && mend { mend_png(bytes) } else { bytes });
    });
}

#[test]
fn image_headers_that_declare_too_much() {
    let _alone = memory::alone();
    let all = images();
    let made = |name: &str| all.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let with = |mut bytes: Vec<u8>, at: usize, new: &[u8]| {
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    let side = 40_000u32;
    let (big, little) = (side.to_be_bytes(), side.to_le_bytes());
    let png = mend_png(with(with(made("rgb Png"), 16, &big), 20, &big));
    let wide = mend_png(with(made("rgb Png"), 16, &70_000u32.to_be_bytes()));
    let bmp = with(with(made("rgb Bmp"), 18, &little), 22, &little);
    let gif = with(with(made("rgb Gif"), 6, &little[..2]), 8, &little[..2]);
    let jpeg = made("rgb Jpeg");
    let frame = find(&jpeg, &[0xFF, 0xC0]);
    let jpeg = with(with(jpeg, frame + 5, &big[2..]), frame + 7, &big[2..]);
    // A TIFF's header is its list of tags: width, height, bits, no compression, RGB, one strip of 3 bytes.
    let tags = [
        (256u16, side),
        (257, side),
        (258, 8),
        (259, 1),
        (262, 2),
        (273, 8),
        (277, 3),
        (278, side),
        (279, 3),
    ];
    let mut tiff = [b"II\x2A\0\x0C\0\0\0abc\0", &(tags.len() as u16).to_le_bytes()[..]].concat();
    for (tag, value) in tags {
        tiff.extend(tag.to_le_bytes().into_iter().chain([4, 0, 1, 0, 0, 0]).chain(value.to_le_bytes()));
    }
    tiff.extend([0; 4]);
    let webp = made("rgb WebP");
    let lossless = find(&webp, b"VP8L") + 9; // 14 bits of width - 1, 14 bits of height - 1
    let webp = with(webp, lossless, &(10_000u32 | 10_000 << 14).to_le_bytes());
    let pnm = b"P6\n40000 40000\n255\nabc".to_vec();
    for (name, bytes) in [
        ("png", png),
        ("wide png", wide),
        ("bmp", bmp),
        ("gif", gif),
        ("jpeg", jpeg),
        ("tiff", tiff),
        ("webp", webp),
        ("pnm", pnm),
    ] {
        let (error, peak) = memory::peak_of(|| pixels::decode(&bytes, name).err().map(|e| e.to_string()));
        let error = error.unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(error.contains(name) && error.contains("the limit is 65535 on a side"), "{error}");
        assert!(peak < 4 * MB, "{name}: {peak} bytes");
    }
}
