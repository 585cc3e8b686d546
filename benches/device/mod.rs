//! Models of real shapes on one device: what they cost, beside what the device can do at most, measured in the same run.
//!
//! Of every shape: the encoder on one picture, the prefill of its prompt, decode steps with all attention of the answer
//! row read back and with none, and the share of the device's limits that these reach. Limits are burn's own operators: the
//! most bytes a second of a sum and of an addition, the most operations a second of a float16 product. A peer is
//! transformers on the same card (scripts/peer_device.py says what it keeps).

mod shapes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use burn::tensor::{DType, Device, Distribution, Tensor};
use image::RgbImage;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde_json::{Value, json};
use sightline::{
    checkpoint::weights::WeightDtype,
    device::{
        limits::largest_tensor,
        open::{self, DeviceChoice},
    },
    engine::{
        decoding::{Decoding, Rows, place_rows},
        logits::argmax,
    },
    image::plan::ImageProcessor,
    model::{encoder::Pixels, hooks::Watch, vlm::Vlm},
    progress::Cancel,
    spec::span::Span,
    trace::{
        geometry::{Geometry, Piece},
        tokens::{PromptToken, VisualRef},
    },
};

use crate::{NEW, Outcome, json_line, median, spread, step};
use shapes::Shape;

/// Tokens of text in a prompt.
const WORDS: usize = 34;
/// Passes of a measurement in one process; the first, in which kernels are compiled, does not count.
const PASSES: usize = 4;

/// What the options say, by name.
pub struct Options<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Options<'_> {
    fn get(&self, name: &str, usual: &str) -> String {
        (self.0)(name).unwrap_or_else(|| usual.to_string())
    }
}

/// The parent: every shape, ours and the peer's in turn.
pub fn main(options: &Options<'_>) -> Outcome<()> {
    let (device, shape) = (options.get("device", "gpu"), options.get("shape", "all"));
    let shapes = shapes::named(&shape).ok_or_else(|| {
        format!("--shape {shape}: expected all, smolvlm-256m, qwen2.5-vl-3b, llava-7b or tiny")
    })?;
    let usual = if shape == "tiny" { "1" } else { "3" };
    let pairs: usize = options.get("pairs", usual).parse()?;
    let dtype = options.get("dtype", "f16");
    let models = PathBuf::from(options.get("models", "target/bench-models"));
    let this = std::env::current_exe()?;
    let child = |folder: &Path, what: &str| {
        let mut command = Command::new(&this);
        command.arg(folder).args(["--child", what, "--device", &device, "--dtype", &dtype]);
        json_line(&mut command)
    };
    let limits = child(&models, "limits")?;
    let text = |key: &str| limits[key].as_str().unwrap_or_default();
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap_or(f64::NAN);
    let (bytes, flops) = (number(&limits, "bytes_s"), number(&limits, "flop_s"));
    println!("{}, load {}", text("device"), crate::load());
    println!(
        "streaming {:.1} GB/s ({}), float16 product {:.2} TFLOP/s",
        bytes / 1e9,
        text("by"),
        flops / 1e12
    );
    for shape in shapes {
        let folder = models.join(shape.name);
        shape.write(&folder)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..pairs {
            ours.push(child(&folder, shape.name)?);
            theirs.extend(peer(options, &folder, &ours[0], &device, &dtype)?);
        }
        report(&shape, &ours, &theirs, (bytes, flops));
    }
    Ok(())
}

/// Transformers on the same folder, with the same ids and as large a picture, if it is asked for.
fn peer(
    options: &Options<'_>,
    folder: &Path,
    ours: &Value,
    device: &str,
    dtype: &str,
) -> Outcome<Option<Value>> {
    let Some(python) = (options.0)("python") else { return Ok(None) };
    let inputs = folder.join("inputs.json");
    fs::write(&inputs, ours["inputs"].to_string())?;
    let mut command = Command::new(python);
    command.arg(options.get("peer", "scripts/peer_device.py")).arg(folder).arg(inputs);
    command.args(["--device", if device == "cpu" { "cpu" } else { "cuda" }]);
    command.args(["--dtype", if dtype == "f32" { "float32" } else { "float16" }]);
    command.args(["--new", &NEW.to_string(), "--passes", &PASSES.to_string()]);
    json_line(&mut command).map(Some)
}

fn report(shape: &Shape, ours: &[Value], theirs: &[Value], (bytes, flops): (f64, f64)) {
    let inputs = &ours[0]["inputs"];
    let [rows, visual] = ["rows", "visual"].map(|key| inputs[key].as_u64().unwrap_or(0));
    println!(
        "\n{}: {:.2} G weights, {}",
        shape.name,
        shape.parameters() as f64 / 1e9,
        inputs["dtype"].as_str().unwrap_or_default()
    );
    println!("  a picture of {:?}, {visual} visual tokens, {rows} rows of prompt, {NEW} new", shape.picture);
    let work = |key: &str| ours[0][key].as_f64().unwrap_or(f64::NAN);
    let share = |of: f64, least: f64| format!("{:5.1} % of the device's limit", 100.0 * least / of);
    let lines = [
        ("vision, s", "vision_s", share(median(ours, "vision_s"), shape.vision_flop / flops)),
        ("prefill, s", "prefill_s", share(median(ours, "prefill_s"), work("prefill_flop") / flops)),
        (
            "decode, recording, tokens/s",
            "decode_tok_s",
            share(1.0 / median(ours, "decode_tok_s"), work("step_bytes") / bytes),
        ),
        (
            "decode, not recording",
            "plain_tok_s",
            share(1.0 / median(ours, "plain_tok_s"), work("step_bytes") / bytes),
        ),
    ];
    for (name, key, share) in lines {
        print!("  {name:28} {}   {share}", spread(ours, key));
        match theirs {
            [] => println!(),
            _ => println!("   peer {}", spread(theirs, key)),
        }
    }
    let cost = 100.0 * (median(ours, "plain_tok_s") / median(ours, "decode_tok_s") - 1.0);
    println!(
        "  recording every layer and head, read back: {cost:.1} % slower; loading {} s",
        spread(ours, "load_s")
    );
    let differ: u64 = ours.iter().filter_map(|run| run["differ"].as_u64()).sum();
    println!("  without recording {differ} of {} tokens come out as others", NEW * (PASSES - 1) * ours.len());
    if theirs.is_empty() {
        println!("  peer not measured: --python is not given");
    }
}

/// A child: one measurement, as JSON.
pub fn child(folder: &Path, what: &str, options: &Options<'_>) -> Outcome<Value> {
    let choice: DeviceChoice = options.get("device", "gpu").parse()?;
    let compute = open::open(choice)?;
    if what == "limits" {
        let (bytes, by, flops) = limits(&compute.device)?;
        return Ok(json!({"device": compute.description, "bytes_s": bytes, "by": by, "flop_s": flops}));
    }
    let dtype = options.get("dtype", "f16");
    let named = WeightDtype::ALL.iter().find(|(name, _)| *name == dtype);
    let dtype = named.ok_or_else(|| format!("--dtype {dtype}: no such format"))?.1;
    let shape =
        shapes::named("all").into_iter().chain(shapes::named("tiny")).flatten().find(|s| s.name == what);
    measure(folder, &shape.ok_or("no such shape")?, &compute.device, dtype)
}

/// Bytes a second, of which operator, and operations a second.
fn limits(device: &Device) -> Outcome<(f64, &'static str, f64)> {
    let software = largest_tensor(device).is_none_or(|most| most < 1 << 30);
    let (n, side) = if software { (1 << 23, 512) } else { (1 << 27, 4096) };
    let values = Tensor::<1>::random([n], Distribution::Default, device).cast(DType::F16);
    let sum = best(device, || drop(values.clone().sum()))?;
    let add = best(device, || drop(values.clone().add_scalar(1.0)))?;
    let size = 2.0 * n as f64;
    let rates = [(size / sum, "a sum"), (2.0 * size / add, "an addition")];
    let (bytes, by) =
        rates.into_iter().fold((0.0, ""), |most, rate| if rate.0 > most.0 { rate } else { most });
    let matrix = || Tensor::<2>::random([side, side], Distribution::Default, device).cast(DType::F16);
    let (a, b) = (matrix(), matrix());
    let product = best(device, || drop(a.clone().matmul(b.clone())))?;
    Ok((bytes, by, 2.0 * (side as f64).powi(3) / product))
}

/// Seconds of one call, at best; several go to the device together, so that asking for them costs nothing.
fn best(device: &Device, mut work: impl FnMut()) -> Outcome<f64> {
    const TOGETHER: u32 = 8;
    let mut least = f64::INFINITY;
    for _ in 0..=PASSES {
        device.sync().map_err(|e| e.to_string())?;
        let start = Instant::now();
        (0..TOGETHER).for_each(|_| work());
        device.sync().map_err(|e| e.to_string())?;
        least = least.min(start.elapsed().as_secs_f64() / f64::from(TOGETHER));
    }
    Ok(least)
}

/// A prompt with one picture, as the family places it.
struct Prompt {
    tokens: Vec<PromptToken>,
    visual: Vec<usize>,
}

fn prompt(vlm: &Vlm, geometry: &Geometry) -> Prompt {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    // Special tokens are the last.
    let words = vlm.config.text.vocabulary as u32 - 200;
    let mut prompt = Prompt { tokens: Vec::new(), visual: Vec::new() };
    let mut put = |id: Option<u32>, visual: Option<VisualRef>| {
        let position = prompt.tokens.len();
        let id = id.unwrap_or_else(|| 3 + random.next_u32() % (words - 3));
        let span = if visual.is_some() { Span::Visual } else { Span::Question };
        prompt.visual.extend(visual.map(|_| position));
        prompt.tokens.push(PromptToken { position, id, text: String::new(), span, visual, partial: false });
    };
    (0..4).for_each(|_| put(None, None));
    for piece in vlm.family.layout(geometry) {
        match piece {
            Piece::Marker(_) => put(None, None),
            Piece::Token { view, cell } => {
                put(Some(vlm.config.image_token_id), Some(VisualRef { image: 0, view, cell }));
            }
        }
    }
    (4..WORDS).for_each(|_| put(None, None));
    prompt
}

fn measure(folder: &Path, shape: &Shape, device: &Device, dtype: WeightDtype) -> Outcome<Value> {
    let start = Instant::now();
    let vlm = Vlm::load(folder, device, dtype)?;
    device.sync().map_err(|e| e.to_string())?;
    let load = start.elapsed().as_secs_f64();
    let processor = ImageProcessor::from_dir(folder, |settings| vlm.family.pixels(settings))?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let noise = RgbImage::from_fn(shape.picture.0, shape.picture.1, |_, _| {
        let [r, g, b, _] = random.next_u32().to_le_bytes();
        image::Rgb([r, g, b])
    });
    let processed = processor.process(&noise)?;
    let ([input], [view]) = (processed.inputs.as_slice(), processed.geometry.views.as_slice()) else {
        return Err("the picture became several views".into());
    };
    let pixels = Pixels { values: &input.pixels, size: input.size, grid: view.grid };
    let prompt = prompt(&vlm, &processed.geometry);
    let (mut vision, mut prefill) = (f64::INFINITY, f64::INFINITY);
    let (mut on, mut off, mut differ) = (f64::INFINITY, f64::INFINITY, 0);
    for pass in 0..PASSES {
        let cancel = Cancel::default();
        let start = Instant::now();
        let encoded = vlm.encoder.encode(pixels, Watch::Nothing, &cancel)?;
        device.sync().map_err(|e| e.to_string())?;
        let seen = start.elapsed().as_secs_f64();
        let rows = rows(&vlm, &prompt, &processed.geometry, (encoded.tokens, encoded.added));
        let start = Instant::now();
        let mut decoding = Decoding::new(&vlm, &[], prompt.tokens.len() + NEW, &cancel)?;
        let first = argmax(&decoding.logits(rows)?) as u32;
        let filled = start.elapsed().as_secs_f64();
        let (times, others) = decode(&vlm, &mut decoding, first)?;
        if pass > 0 {
            (vision, prefill) = (vision.min(seen), prefill.min(filled));
            (on, off) = (on.min(times[0]), off.min(times[1]));
            differ += others;
        }
    }
    let [prefill_flop, step_bytes] = work(&vlm, prompt.tokens.len(), dtype);
    let ids: Vec<u32> = prompt.tokens.iter().map(|token| token.id).collect();
    let inputs = json!({"ids": ids, "image_token": vlm.config.image_token_id, "picture": input.size,
        "rows": ids.len(), "visual": prompt.visual.len(), "dtype": vlm.dtype_text()});
    Ok(json!({"load_s": load, "vision_s": vision, "prefill_s": prefill, "decode_tok_s": NEW as f64 / on,
        "plain_tok_s": NEW as f64 / off, "prefill_flop": prefill_flop, "step_bytes": step_bytes, "differ": differ,
        "inputs": inputs}))
}

/// The prompt as rows, visual tokens in their places.
fn rows(vlm: &Vlm, prompt: &Prompt, image: &Geometry, seen: (Tensor<2>, Vec<(usize, Tensor<2>)>)) -> Rows {
    let ids: Vec<u32> = prompt.tokens.iter().map(|token| token.id).collect();
    let resid = vlm.decoder.embed(&ids);
    let nothing = || Tensor::zeros(resid.dims(), &vlm.device);
    let added =
        seen.1.into_iter().map(|(layer, t)| (layer, place_rows(nothing(), &prompt.visual, t))).collect();
    let positions = vlm.family.positions(&prompt.tokens, std::slice::from_ref(image));
    Rows { resid: place_rows(resid.clone(), &prompt.visual, seen.0), positions, added }
}

/// Seconds of the same new tokens with every layer's and head's attention read back, and without; and how many of
/// these come out as others without: the two take their sums in different order.
fn decode(vlm: &Vlm, decoding: &mut Decoding<'_>, first: u32) -> Outcome<([f64; 2], usize)> {
    let before = decoding.cache().len();
    let (mut tokens, mut kept) = (vec![first], Vec::new());
    let start = Instant::now();
    for i in 0..NEW {
        tokens.push(step(decoding, vlm.decoder.embed(&[tokens[i]]), &mut kept)?);
    }
    let on = start.elapsed().as_secs_f64();
    if kept.len() != NEW {
        return Err("not every row was kept".into());
    }
    decoding.truncate(before);
    let mut differ = 0;
    let start = Instant::now();
    for pair in tokens.windows(2) {
        let rows = decoding.text(vlm.decoder.embed(&pair[..1]));
        differ += usize::from(argmax(&decoding.logits(rows)?) as u32 != pair[1]);
    }
    Ok(([on, start.elapsed().as_secs_f64()], differ))
}

/// Operations of a prefill, and bytes that a decode step reads: weights, and keys and values.
fn work(vlm: &Vlm, rows: usize, dtype: WeightDtype) -> [f64; 2] {
    let t = &vlm.config.text;
    let attention = (2 * t.n_heads + 2 * t.n_kv_heads) * t.head_dim * t.width;
    let blocks = (t.n_layers * (attention + 3 * t.width * t.intermediate)) as f64;
    let head = (t.vocabulary * t.width) as f64;
    let pairs = (rows * (rows + 1)) as f64 / 2.0 * (t.n_layers * t.n_heads * t.head_dim) as f64;
    let keys = (t.n_layers * 2 * t.n_kv_heads * t.head_dim * (rows + NEW / 2)) as f64;
    let size = if dtype == WeightDtype::F32 { 4.0 } else { 2.0 };
    // Only the last row is read at the end of a prefill.
    [2.0 * (rows as f64 * blocks + head) + 4.0 * pairs, size * (blocks + head + keys)]
}
