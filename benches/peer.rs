//! Speed and memory beside another program that runs the same model and also keeps its attention.
//!
//! ```text
//! cargo bench --bench peer -- FOLDER [--python PYTHON --peer SCRIPT] [--precision SCRIPT] [--pairs N]
//! cargo bench --bench peer -- --device gpu|cpu [--shape SHAPE] [--dtype f16] [--python PYTHON] [--pairs N] [--models DIR]
//! ```
//!
//! The second is for a graphics card, or any other device, and needs no model: `device/` has it. SHAPE is `all`,
//! `smolvlm-256m`, `qwen2.5-vl-3b`, `llava-7b`, or `tiny`, small enough for a software adapter. Models are written to DIR
//! (`target/bench-models`; 22 GB for all). The rest of this page is about the first, on the CPU.
//!
//! FOLDER holds a model of SmolVLM-256M's shape. The peer is called as `PYTHON SCRIPT FOLDER --mode
//! text-eager --tiles N --dtype D --threads T --new N --reps 2`, once per measurement, and must print one
//! JSON line with `load_s`, `vision_s`, `text_prefill_s`, `decode_tok_s` and `peak_rss_mb`. `--precision
//! scripts/half_precision.py` compares what half precision costs in both programs. Comparisons for which
//! something is not given are left out, with a word about it. Options may also be given as the
//! environment variables SIGHTLINE_MODEL, SIGHTLINE_PYTHON, SIGHTLINE_PEER and SIGHTLINE_PRECISION.
//!
//! Every number of ours comes from a child process of its own, so that its peak memory is its own, and
//! each is one half of a pair: ours, peer, ours, peer. Printed are medians, the range over the pairs,
//! and the ratio of the medians; beside them what the machine could do at most, measured in the same
//! run: a streaming read of memory, and a product of two large matrices.

mod device;

use std::{
    env,
    error::Error,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use burn::tensor::{Distribution, Tensor};
use image::RgbImage;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sightline::{
    checkpoint::{json::Section, weights::WeightDtype},
    device::open as open_device,
    engine::{
        decoding::{Decoding, host, place_rows},
        logits::{argmax, log_softmax},
    },
    image::{plan::Levels, resample::Filter, settings::Settings},
    model::{
        encoder::Pixels,
        families::registry,
        hooks::Watch,
        nn::{Linear, Matrix},
        vlm::Vlm,
    },
    progress::Cancel,
    trace::geometry::Grid,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Stands beside every comparison with the peer.
const CAVEAT: &str = "the peer keeps full squares, sightline keeps answer rows";
/// Answer tokens of a measurement.
const NEW: usize = 32;
/// Times each program repeats its measurement in one process; the best counts.
const REPEATS: usize = 2;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let option = |name: &str| {
        let at = args.iter().position(|a| *a == format!("--{name}"))?;
        args.get(at + 1).cloned()
    };
    if option("device").is_some() {
        let options = device::Options(&option);
        return match option("child").zip(args.first()) {
            Some((what, folder)) => {
                println!("{}", device::child(Path::new(folder), &what, &options)?);
                Ok(())
            }
            None => device::main(&options),
        };
    }
    let setting =
        |name: &str| option(name).or_else(|| env::var(format!("SIGHTLINE_{}", name.to_uppercase())).ok());
    let folder = args.first().filter(|a| !a.starts_with("--")).cloned().or_else(|| setting("model"));
    let Some(folder) = folder.map(PathBuf::from) else {
        println!("peer: no model folder given, nothing measured; see the first lines of benches/peer.rs");
        return Ok(());
    };
    let number = |name: &str, default: usize| option(name).map_or(Ok(default), |n| n.parse());
    if let Some(what) = option("child") {
        let dtype =
            if option("dtype").as_deref() == Some("f16") { WeightDtype::F16 } else { WeightDtype::F32 };
        let tiles = number("tiles", 1)?;
        let result = match what.as_str() {
            "run" => run(&folder, tiles, dtype)?,
            "recording" => recording(&folder, tiles, dtype)?,
            _ => divergence(&folder, Path::new(&option("inputs").ok_or("--inputs is missing")?))?,
        };
        println!("{result}");
        return Ok(());
    }
    let report =
        Report { folder, python: setting("python"), peer: setting("peer"), pairs: number("pairs", 3)? };
    report.machine()?;
    report.comparisons()?;
    report.recording()?;
    match setting("precision") {
        Some(script) => report.precision(&script)?,
        None => println!("\nhalf precision: not compared, --precision is not given"),
    }
    Ok(())
}

// The parent: starts the measurements and prints what came out.

struct Report {
    folder: PathBuf,
    python: Option<String>,
    peer: Option<String>,
    pairs: usize,
}

impl Report {
    /// The machine, its limits, and what the model asks of it.
    fn machine(&self) -> Outcome<()> {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map(|(_, n)| n);
        println!("{}, {} threads, load {}", cpu.unwrap_or("unknown CPU"), threads(), load());
        let (bytes, [burn, own]) = limits();
        let fused = fused();
        let told = fused
            .map_or("are no instruction here".to_string(), |fused| format!("{:.0} GFLOP/s", fused / 1e9));
        println!(
            "streaming read {:.1} GB/s, fused products alone {told}, matrix product {:.0} GFLOP/s, burn's own {:.0}",
            bytes / 1e9,
            own / 1e9,
            burn / 1e9
        );
        let flops = fused.unwrap_or(own);
        println!("its weight files, read and nothing else: {:.2} s", reading(&self.folder)?);
        let family = registry::open(&self.folder)?;
        let (t, v) = (&family.config().text, &family.config().vision);
        let attention = (2 * t.n_heads + 2 * t.n_kv_heads) * t.head_dim * t.width;
        let blocks = (t.n_layers * (attention + 3 * t.width * t.intermediate)) as f64;
        let head = (t.vocabulary * t.width) as f64;
        let keys = (t.n_layers * 2 * t.n_kv_heads * t.head_dim) as f64;
        println!("\nat the machine's limits");
        for (rows, name) in [(98.0, "1 tile"), (894.0, "13 tiles")] {
            for size in [4.0, 2.0] {
                let read = size * (blocks + head + keys * rows);
                let speed = bytes / read;
                println!(
                    "  decode, {name:8} {size} bytes a weight  {:6.0} MB a token   {speed:6.1} tokens/s",
                    read / 1e6
                );
            }
            let pairs = rows * (rows + 1.0) / 2.0 * (t.n_layers * t.n_heads * t.head_dim) as f64;
            let work = 2.0 * (blocks * rows + head) + 4.0 * pairs;
            println!("  prefill, {name:8} {:24.1} GFLOP {:15.3} s", work / 1e9, work / flops);
        }
        let tokens = (v.grid() * v.grid()) as f64;
        let layer = (4 * v.width * v.width + 2 * v.width * v.intermediate) as f64;
        let patch = (v.channels * v.patch_size * v.patch_size * v.width) as f64;
        let layers = v.n_layers as f64;
        let work = tokens * (2.0 * (layers * layer + patch) + 4.0 * layers * tokens * v.width as f64);
        println!("  vision, a tile {:28.1} GFLOP {:15.3} s", work / 1e9, work / flops);
        Ok(())
    }

    fn comparisons(&self) -> Outcome<()> {
        for (dtype, peer_dtype) in [("f32", "float32"), ("f16", "bfloat16")] {
            for tiles in [1, 13] {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                for _ in 0..self.pairs {
                    ours.push(self.child("run", &["--tiles", &tiles.to_string(), "--dtype", dtype])?);
                    theirs.extend(self.peer(tiles, peer_dtype)?);
                }
                println!("\n{tiles} tiles, ours {dtype}, peer {peer_dtype}, load {} ({CAVEAT})", load());
                for (name, key, higher) in [
                    ("load, s", "load_s", false),
                    ("vision, s", "vision_s", false),
                    ("text prefill, s", "text_prefill_s", false),
                    ("decode, tokens/s", "decode_tok_s", true),
                    ("peak memory, MB", "peak_rss_mb", false),
                ] {
                    print!("  {name:18} {}", spread(&ours, key));
                    match theirs.as_slice() {
                        [] => println!("   peer not measured: --python and --peer are not given"),
                        _ => {
                            let ratio = median(&ours, key) / median(&theirs, key);
                            let ratio = if higher || key.starts_with("peak") { ratio } else { 1.0 / ratio };
                            let word = if key.starts_with("peak") {
                                "of the peer's"
                            } else {
                                "times the peer's speed"
                            };
                            println!("   peer {}   {ratio:.2} {word}", spread(&theirs, key));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn recording(&self) -> Outcome<()> {
        println!("\nrecording every layer and head, against recording nothing, token by token in turn");
        for dtype in ["f32", "f16"] {
            for tiles in ["1", "13"] {
                let mut results = Vec::new();
                for _ in 0..self.pairs {
                    let mut result = self.child("recording", &["--tiles", tiles, "--dtype", dtype])?;
                    let of = |key: &str| result[key].as_f64().unwrap_or(f64::NAN);
                    result["slower"] = json!(100.0 * (of("on_ms") / of("off_ms") - 1.0));
                    results.push(result);
                }
                println!(
                    "  {tiles:>2} tiles, {dtype}: {} ms on, {} ms off, {} % slower",
                    spread(&results, "on_ms"),
                    spread(&results, "off_ms"),
                    spread(&results, "slower")
                );
            }
        }
        Ok(())
    }

    fn precision(&self, script: &str) -> Outcome<()> {
        let Some(python) = &self.python else {
            println!("\nhalf precision: not compared, --python is not given");
            return Ok(());
        };
        let inputs = env::temp_dir().join(format!("sightline-precision-{}.safetensors", std::process::id()));
        let theirs = json_line(Command::new(python).arg(script).arg(&self.folder).arg(&inputs))?;
        let ours = self.child("divergence", &["--inputs", &inputs.to_string_lossy()])?;
        fs::remove_file(&inputs)?;
        println!("\nhalf precision, KL(float32 || half) over the text after the image: mean, largest");
        for (name, result) in [("ours, float16 weights", &ours), ("peer, bfloat16", &theirs)] {
            let of = |key: &str| result[key].as_f64().unwrap_or(f64::NAN);
            println!("  {name:22} {:.3e}  {:.3e}", of("mean"), of("largest"));
        }
        Ok(())
    }

    fn child(&self, what: &str, options: &[&str]) -> Outcome<Value> {
        let mut command = Command::new(env::current_exe()?);
        json_line(command.arg(&self.folder).args(["--child", what]).args(options))
    }

    fn peer(&self, tiles: usize, dtype: &str) -> Outcome<Option<Value>> {
        let (Some(python), Some(script)) = (&self.python, &self.peer) else { return Ok(None) };
        let mut command = Command::new(python);
        command.arg(script).arg(&self.folder).args(["--mode", "text-eager", "--dtype", dtype]);
        for (option, value) in [("tiles", tiles), ("threads", threads()), ("new", NEW), ("reps", REPEATS)] {
            command.arg(format!("--{option}")).arg(value.to_string());
        }
        command.env("OMP_NUM_THREADS", threads().to_string());
        json_line(&mut command).map(Some)
    }
}

/// The last line that a program prints, which must be JSON.
fn json_line(command: &mut Command) -> Outcome<Value> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().filter(|_| output.status.success());
    let fail = || format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(line.ok_or_else(fail)?)?)
}

fn numbers(results: &[Value], key: &str) -> Vec<f64> {
    let mut numbers: Vec<f64> = results.iter().filter_map(|r| r[key].as_f64()).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

fn median(results: &[Value], key: &str) -> f64 {
    let numbers = numbers(results, key);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(results: &[Value], key: &str) -> String {
    let (numbers, median) = (numbers(results, key), median(results, key));
    let digits = if median >= 100.0 { 0 } else { 3 };
    match (numbers.first(), numbers.last()) {
        (Some(low), Some(high)) => format!("{median:8.digits$} [{low:.digits$}, {high:.digits$}]"),
        _ => "missing".to_string(),
    }
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_string()
}

fn threads() -> usize {
    rayon::current_num_threads()
}

/// Bytes a second of a streaming read, and floating-point operations a second of a matrix product, by
/// burn and by our own kernel.
fn limits() -> (f64, [f64; 2]) {
    use rayon::prelude::*;
    let memory = vec![1.0f32; 1 << 28];
    let best = |work: &mut dyn FnMut()| {
        let mut clock = || {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        };
        (0..5).map(|_| clock()).fold(f64::INFINITY, f64::min)
    };
    let read = best(&mut || {
        let lanes = |part: &[f32]| {
            let mut sums = [0.0f32; 64];
            part.as_chunks::<64>().0.iter().for_each(|c| (0..64).for_each(|i| sums[i] += c[i]));
            sums.iter().sum::<f32>()
        };
        std::hint::black_box(memory.par_chunks(1 << 18).map(lanes).sum::<f32>());
    });
    let device = open_device::cpu().device;
    let side = 1536;
    let matrix = || Tensor::<2>::random([side, side], Distribution::Default, &device);
    let (a, b) = (matrix(), matrix());
    let burn = best(&mut || {
        std::hint::black_box(a.clone().matmul(b.clone()));
    });
    // Onto what is there, so that no new memory is asked for.
    let layer = Linear { weight: Matrix::new(b), bias: None };
    let mut sum = Some(matrix());
    let own = best(&mut || {
        let base = sum.take().unwrap_or_else(matrix);
        sum = Some(layer.forward_onto(base, a.clone()));
    });
    ((memory.len() * 4) as f64 / read, [burn, own].map(|time| 2.0 * (side as f64).powi(3) / time))
}

/// Seconds that the weight files of a folder take to be read, the second time: as children that load them find them.
fn reading(folder: &Path) -> Outcome<f64> {
    let mut start = Instant::now();
    for _ in 0..2 {
        start = Instant::now();
        read_weights(folder)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn read_weights(folder: &Path) -> Outcome<()> {
    let mut room = vec![0; 1 << 20];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let mut file = fs::File::open(path)?;
            while file.read(&mut room)? > 0 {}
        }
    }
    Ok(())
}

/// Operations a second of fused products in registers on all threads, with the widest instructions there are: what no
/// product of matrices exceeds. The best of several rounds; `None` where they are no instruction.
fn fused() -> Option<f64> {
    const CHAINS: usize = 12;
    const STEPS: usize = 1 << 20;
    #[inline(always)]
    fn chains<const N: usize>() -> f32 {
        // Chains that a compiler cannot tell from each other.
        let start = std::hint::black_box([[0.5f32; N]; CHAINS]);
        let [factor, more] = std::hint::black_box([[0.999f32; N], [0.001; N]]);
        let mut sums = start;
        for _ in 0..STEPS {
            for sum in &mut sums {
                for i in 0..N {
                    sum[i] = sum[i].mul_add(factor[i], more[i]);
                }
            }
        }
        sums.as_flattened().iter().sum()
    }
    fn widest() -> Option<(f32, usize)> {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f")]
            fn avx512() -> f32 {
                chains::<16>()
            }
            #[target_feature(enable = "avx2,fma")]
            fn avx2() -> f32 {
                chains::<8>()
            }
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: just detected.
                #[allow(unsafe_code)]
                return Some((unsafe { avx512() }, 16));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: just detected.
                #[allow(unsafe_code)]
                return Some((unsafe { avx2() }, 8));
            }
        }
        cfg!(target_arch = "aarch64").then(|| (chains::<4>(), 4))
    }
    let round = || {
        let start = Instant::now();
        let (_, width) = std::hint::black_box(rayon::broadcast(|_| widest()))[0]?;
        Some((2 * STEPS * CHAINS * width * threads()) as f64 / start.elapsed().as_secs_f64())
    };
    (0..20).filter_map(|_| round()).max_by(f64::total_cmp)
}

// The children: one measurement each.

/// A prompt of the peer's shape: 64 visual tokens a tile, and words.
struct Prompt {
    ids: Vec<u32>,
    visual: Vec<usize>,
    /// Of a tile.
    grid: Grid,
    /// Per tile.
    pixels: Vec<Vec<f32>>,
}

/// Visual tokens of one tile.
fn grid(vlm: &Vlm) -> Outcome<Grid> {
    let settings = json!({"image_processor_type": "Idefics3ImageProcessor", "do_image_splitting": false});
    let settings = Settings(Section::root(&settings, Path::new("the bench's settings"))?);
    let levels = Levels { filter: Filter::Lanczos, resize: true, rescale: None, normalise: None };
    let processed = vlm.family.pixels(&settings)?.plan.process(&RgbImage::new(8, 8), &levels)?;
    Ok(processed.geometry.views[0].grid)
}

fn prompt(vlm: &Vlm, tiles: usize) -> Outcome<Prompt> {
    const COLUMNS: usize = 4;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let grid = grid(vlm)?;
    let per_tile = grid.len();
    let side = vlm.config.vision.image_size.unwrap_or(0);
    let mut word = || 100 + random.next_u32() % 48_900;
    let mut ids: Vec<u32> = (0..4).map(|_| word()).collect();
    let mut visual = Vec::new();
    let mut place = |ids: &mut Vec<u32>| {
        visual.extend(ids.len()..ids.len() + per_tile);
        ids.extend(vec![vlm.config.image_token_id; per_tile]);
    };
    for tile in 1..tiles {
        ids.extend([word(), word()]);
        place(&mut ids);
        ids.extend((tile % COLUMNS == 0).then(&mut word));
    }
    ids.extend((tiles > 1).then(&mut word));
    ids.extend([word(), word()]);
    place(&mut ids);
    ids.extend((0..28).map(|_| word()));
    let mut pixel = || random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let pixels = (0..tiles).map(|_| (0..3 * side * side).map(|_| pixel()).collect()).collect();
    Ok(Prompt { ids, visual, grid, pixels })
}

fn see(vlm: &Vlm, prompt: &Prompt) -> Outcome<Tensor<2>> {
    let (cancel, side) = (Cancel::default(), vlm.config.vision.image_size.unwrap_or(0) as u32);
    let tiles = prompt.pixels.iter().map(|values| {
        let view = Pixels { values, size: (side, side), grid: prompt.grid };
        vlm.encoder.encode(view, Watch::Nothing, &cancel).map(|encoded| encoded.tokens)
    });
    let tokens = Tensor::cat(tiles.collect::<Result<_, _>>()?, 0);
    Ok(place_rows(vlm.decoder.embed(&prompt.ids), &prompt.visual, tokens))
}

fn run(folder: &Path, tiles: usize, dtype: WeightDtype) -> Outcome<Value> {
    let start = Instant::now();
    let vlm = Vlm::load(folder, &open_device::cpu().device, dtype)?;
    let load = start.elapsed().as_secs_f64();
    let loaded = peak_mb();
    let prompt = prompt(&vlm, tiles)?;
    let cancel = Cancel::default();
    let (mut vision, mut prefill, mut decode) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..REPEATS {
        let start = Instant::now();
        let embeds = see(&vlm, &prompt)?;
        vision = vision.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let mut decoding = Decoding::new(&vlm, &[], prompt.ids.len() + NEW, &cancel)?;
        let mut kept = Vec::new();
        let mut next = step(&mut decoding, embeds, &mut kept)?;
        prefill = prefill.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..NEW {
            next = step(&mut decoding, vlm.decoder.embed(&[next]), &mut kept)?;
        }
        decode = decode.min(start.elapsed().as_secs_f64());
    }
    Ok(json!({
        "load_s": load, "rss_after_load_mb": loaded, "vision_s": vision, "text_prefill_s": prefill,
        "decode_tok_s": NEW as f64 / decode, "peak_rss_mb": peak_mb(),
    }))
}

/// Runs rows, keeps the last one's attention as numbers, and gives the likeliest token.
fn step(decoding: &mut Decoding<'_>, rows: Tensor<2>, kept: &mut Vec<Vec<f32>>) -> Outcome<u32> {
    let row = decoding.rows(decoding.text(rows), 1)?.remove(0);
    kept.push(host(row.pattern.ok_or("no pattern was kept")?)?);
    Ok(argmax(&row.logits) as u32)
}

fn recording(folder: &Path, tiles: usize, dtype: WeightDtype) -> Outcome<Value> {
    let vlm = Vlm::load(folder, &open_device::cpu().device, dtype)?;
    let prompt = prompt(&vlm, tiles)?;
    let cancel = Cancel::default();
    // What the image shows makes no difference here: noise in place of a long look at it.
    let shape = [prompt.visual.len(), vlm.config.text.width];
    let noise = Tensor::random(shape, Distribution::Default, &vlm.device);
    let embeds = place_rows(vlm.decoder.embed(&prompt.ids), &prompt.visual, noise);
    let mut decoding = Decoding::new(&vlm, &[], prompt.ids.len() + 4 * NEW, &cancel)?;
    let mut kept = Vec::new();
    let mut next = step(&mut decoding, embeds, &mut kept)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for n in 0..4 * NEW - 1 {
        let (embeds, before) = (vlm.decoder.embed(&[next]), decoding.cache().len());
        let mut ids = Vec::new();
        // Both on the same cache: where a copy of it happens to lie makes more of a difference.
        for recording in [n % 2 == 0, n % 2 == 1] {
            decoding.truncate(before);
            let start = Instant::now();
            let (likeliest, times) = if recording {
                (step(&mut decoding, embeds.clone(), &mut kept)?, &mut with)
            } else {
                (argmax(&decoding.logits(decoding.text(embeds.clone()))?) as u32, &mut without)
            };
            times.push(json!({"ms": start.elapsed().as_secs_f64() * 1e3}));
            ids.push(likeliest);
        }
        if ids[0] != ids[1] {
            return Err("recording changed the answer".into());
        }
        next = ids[0];
    }
    Ok(json!({"on_ms": median(&with, "ms"), "off_ms": median(&without, "ms")}))
}

/// KL divergence of our half precision from our float32, on the inputs that the peer's helper left.
fn divergence(folder: &Path, inputs: &Path) -> Outcome<Value> {
    let bytes = fs::read(inputs)?;
    let inputs = SafeTensors::deserialize(&bytes)?;
    let ids: Vec<u32> = inputs
        .tensor("ids")?
        .data()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&b| i64::from_le_bytes(b) as u32)
        .collect();
    let pixels: Vec<f32> =
        inputs.tensor("pixels")?.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let logits = |dtype| -> Outcome<Vec<Vec<f32>>> {
        let vlm = Vlm::load(folder, &open_device::cpu().device, dtype)?;
        let side = vlm.config.vision.image_size.unwrap_or(0);
        let visual: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] == vlm.config.image_token_id).collect();
        let after = ids.len() - 1 - visual.last().ok_or("no visual token")?;
        let pixels = pixels.chunks(3 * side * side).map(<[f32]>::to_vec).collect();
        let embeds = see(&vlm, &Prompt { ids: ids.clone(), visual, grid: grid(&vlm)?, pixels })?;
        let cancel = Cancel::default();
        let mut decoding = Decoding::new(&vlm, &[], ids.len(), &cancel)?;
        let rows = decoding.rows(decoding.text(embeds), after)?;
        Ok(rows.into_iter().map(|row| log_softmax(&row.logits)).collect())
    };
    let (full, half) = (logits(WeightDtype::F32)?, logits(WeightDtype::F16)?);
    let kl = |(p, q): (&Vec<f32>, &Vec<f32>)| -> f64 {
        p.iter().zip(q).map(|(&p, &q)| (p as f64).exp() * (p as f64 - q as f64)).sum()
    };
    let rows: Vec<f64> = full.iter().zip(&half).map(kl).collect();
    if rows.iter().any(|kl| !kl.is_finite()) {
        return Err("a divergence is not finite".into());
    }
    let mean = rows.iter().sum::<f64>() / rows.len() as f64;
    Ok(json!({"mean": mean, "largest": rows.iter().copied().fold(0.0, f64::max)}))
}

/// Most memory that this process ever held, mapped file pages included.
fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}
