//! config.json and weights.

use super::*;

fn configs() -> Vec<Value> {
    let llava_7b = json!({
        "image_token_index": 32000, "model_type": "llava", "vision_feature_layer": [-2, 3], "torch_dtype": "float16",
        "text_config": { "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "vocab_size": 32064,
            "rope_scaling": null, "num_key_value_heads": 8, "eos_token_id": [2, 3] },
        "vision_config": { "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
            "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14 },
    });
    let bundled = bundled::model().join("config.json");
    let tiny = ["tiny-llava", "tiny-idefics3", "tiny-qwen2-vl", "tiny-qwen2_5-vl", "tiny-qwen3-vl"];
    let tiny = tiny.map(|name| read(&fixture(name).join("config.json")));
    [llava_7b, read(&bundled)].into_iter().chain(tiny).collect()
}

/// A view as the family's image processor makes it of a small picture, and its width and height.
fn one_view(family: &dyn Family) -> (View, (u32, u32)) {
    let dir = tempfile::tempdir().unwrap();
    let settings = match (family.patches(), family.config().model_type.as_str()) {
        (Some(patches), _) => json!({ "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 1,
            "patch_size": patches.side, "merge_size": patches.merge, "temporal_patch_size": patches.frames }),
        (None, "llava") => json!({ "image_processor_type": "CLIPImageProcessor", "size": 8, "crop_size": 8 }),
        (None, _) => json!({ "image_processor_type": "Idefics3ImageProcessor", "size": { "longest_edge": 8 },
            "max_image_size": { "longest_edge": 8 } }),
    };
    fs::write(dir.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
    let processor = ImageProcessor::from_dir(dir.path(), |settings| family.pixels(settings)).unwrap();
    let processed = processor.process(&image::RgbImage::new(8, 8)).unwrap();
    let [view] = processed.geometry.views[..] else { panic!("{:?}", processed.geometry) };
    let side = family.side().map(|side| (side, side));
    (view, side.unwrap_or(processed.inputs[0].size))
}

#[test]
fn config_files() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    try_all("config.json", 1, 2 * MB, broken(configs()), |bytes| {
        fs::write(&file, bytes).unwrap();
        let Some(family) = outcome(
            registry::open(dir.path()).inspect_err(|e| assert!(e.to_string().contains("config.json"), "{e}")),
        ) else {
            return;
        };
        let config = family.config();
        let (t, v) = (&config.text, &config.vision);
        assert!(t.n_heads.is_multiple_of(t.n_kv_heads) && t.head_dim.is_multiple_of(2));
        assert!(v.width.is_multiple_of(v.n_heads) && !one_view(&*family).0.grid.is_empty());
        assert!(v.image_size.is_none() || v.grid() >= 1);
        assert!((config.image_token_id as usize) < t.vocabulary);
        for number in [t.eps, t.rope.theta, v.eps] {
            assert!((number as f32).is_normal() && number > 0.0, "{number}");
        }
        let side = v.image_size.unwrap_or(0);
        let largest = [t.vocabulary, t.width, t.intermediate, t.n_heads * t.head_dim, v.width, side];
        assert!(largest.iter().all(|&n| n < 1 << 41), "{largest:?}");
    });
}

/// A folder that loads is a model that runs.
fn load_and_run(dir: &Path) {
    let device = device::cpu().device;
    let Some(vlm) = outcome(Vlm::load(dir, &device, WeightDtype::F32)) else { return };
    let (View { grid, lead, .. }, size) = one_view(&*vlm.family);
    let values = vec![0.5; 3 * size.0 as usize * size.1 as usize];
    let view = Pixels { values: &values, size, grid };
    let encoded = vlm.encoder.encode(view, hooks::Watch::Nothing, &Cancel::default()).unwrap();
    assert_eq!(encoded.tokens.dims(), [lead + grid.len(), vlm.config.text.width]);
    let cancel = Cancel::default();
    let mut decoding = Decoding::new(&vlm, &[], 4, &cancel).unwrap();
    let rows = decoding.text(vlm.decoder.embed(&[0, 1]));
    assert_eq!(decoding.logits(rows).unwrap().len(), vlm.config.text.vocabulary);
}

#[test]
fn config_files_beside_weights() {
    let _alone = memory::alone();
    for name in ["tiny-llava", "tiny-idefics3", "tiny-qwen2_5-vl", "tiny-qwen3-vl"] {
        let dir = copy_of(name);
        let file = dir.path().join("config.json");
        let inputs = broken(vec![read(&file)]);
        try_all("config.json beside weights", 20, 64 * MB, inputs, |bytes| {
            fs::write(&file, bytes).unwrap();
            load_and_run(dir.path());
        });
    }
}

fn small_header() -> Value {
    json!({
        "a.weight": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] },
        "b": { "dtype": "F16", "shape": [4], "data_offsets": [24, 32] },
        "c": { "dtype": "BF16", "shape": [1, 2], "data_offsets": [32, 36] },
        "__metadata__": { "format": "pt" },
    })
}

/// A safetensors file: the header's length, the header, the data.
fn safetensors(header: &[u8], length: u64, data: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], header, &vec![0x3C; data]].concat()
}

/// Does something with a folder's weights, if they open.
fn with_weights<T>(
    dir: &Path,
    dtype: WeightDtype,
    work: impl FnOnce(Weights<'_>, &Watch<'_>) -> T,
) -> Result<T, WeightError> {
    let (cancel, most) = (Cancel::default(), Cell::new(0));
    let tell = |progress: Progress| {
        assert!(most.get() <= progress.done && progress.done <= progress.total.unwrap(), "{progress:?}");
        most.set(progress.done);
    };
    let watch = Watch::new(dir, &cancel, &tell)?;
    Ok(work(Weights::open(dir, &device::cpu().device, dtype, &watch)?, &watch))
}

fn open_weights(dir: &Path) {
    outcome(with_weights(dir, WeightDtype::F16, |weights, watch| read_weights(dir, weights, watch)));
}

fn read_weights(dir: &Path, weights: Weights<'_>, watch: &Watch<'_>) {
    outcome(weights.matrix("a.weight", [2, 3]));
    outcome(weights.vector("b", 4));
    outcome(weights.matrix("c", [1, 2]));
    outcome(weights.excuse_copy("b", "c", [1, 2]));
    outcome(weights.finish());
    outcome(sha256(dir, watch.cancel, &watch.summed()));
}

#[test]
fn safetensors_headers() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let length = prop_oneof![
        6 => Just(None),
        1 => any::<u64>().prop_map(Some),
        1 => (0u64..400).prop_map(Some),
        1 => select(vec![u64::MAX, 1 << 63, 100_000_000, 100_000_001, u64::MAX - 7]).prop_map(Some),
    ];
    let data = prop_oneof![4 => Just(36usize), 1 => 0usize..80];
    let inputs = (broken(vec![small_header()]), length, data, damages(2));
    try_all("safetensors headers", 1, 4 * MB, inputs, |(header, length, data, damages)| {
        let whole = safetensors(&header, length.unwrap_or(header.len() as u64), data);
        fs::write(&file, damaged(whole, &damages)).unwrap();
        open_weights(dir.path());
    });
}

#[test]
fn safetensors_that_ask_for_too_much() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let one = |dtype: &str, shape: Value, offsets: [u64; 2]| json!({ "a.weight": { "dtype": dtype, "shape": shape, "data_offsets": offsets } });
    let overlapping = json!({
        "a.weight": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] },
        "b": { "dtype": "F32", "shape": [2], "data_offsets": [20, 28] },
    });
    for (header, data) in [
        (one("F32", json!([2, 3]), [0, 1 << 40]), 24),
        (one("F32", json!([1u64 << 40, 1u64 << 40]), [0, 24]), 24),
        (one("F32", json!([u64::MAX, 2]), [0, 24]), 24),
        (one("F32", json!([2, 3]), [24, 0]), 24),
        (one("F32", json!([2, 3]), [8, 32]), 32),
        (one("F64", json!([2, 3]), [0, 24]), 24),
        (one("F4", json!([2, 3]), [0, 24]), 24),
        (one("F32", json!([2, 3]), [0, 24]), 23),
        (one("F32", json!([2, 3]), [0, 24]), 25),
        (overlapping, 28),
    ] {
        let text = header.to_string();
        let file = dir.path().join("model.safetensors");
        fs::write(&file, safetensors(text.as_bytes(), text.len() as u64, data)).unwrap();
        let (error, peak) = memory::peak_of(|| {
            with_weights(dir.path(), WeightDtype::F32, |_, _| ()).err().map(|e| e.to_string())
        });
        let error = error.unwrap_or_else(|| panic!("{header} was accepted"));
        assert!(error.contains("model.safetensors") && peak < MB, "{peak}: {error}");
    }
}

#[test]
fn weights_of_a_small_model() {
    let _alone = memory::alone();
    let dir = copy_of("tiny-idefics3");
    let file = dir.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    // In the header as often as in the megabyte of numbers after it.
    let inputs = (any::<bool>(), damages(4));
    try_all("weights of a small model", 20, 64 * MB, inputs, |(in_header, damages)| {
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let bytes = match in_header {
            true => [damaged(whole[..header].to_vec(), &damages), whole[header..].to_vec()].concat(),
            false => damaged(whole.clone(), &damages),
        };
        fs::write(&file, bytes).unwrap();
        load_and_run(dir.path());
    });
}

#[test]
fn indices_of_shards() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let text = small_header().to_string();
    fs::write(dir.path().join("one.safetensors"), safetensors(text.as_bytes(), text.len() as u64, 36))
        .unwrap();
    fs::create_dir(dir.path().join("folder.safetensors")).unwrap();
    let index = json!({
        "metadata": { "total_size": 36 },
        "weight_map": { "a.weight": "one.safetensors", "b": "one.safetensors", "c": "folder.safetensors" },
    });
    let good = json!({ "weight_map": { "a.weight": "one.safetensors", "b": "one.safetensors" } });
    try_all("model.safetensors.index.json", 1, 2 * MB, broken(vec![index, good]), |bytes| {
        fs::write(dir.path().join("model.safetensors.index.json"), bytes).unwrap();
        open_weights(dir.path());
    });
}
