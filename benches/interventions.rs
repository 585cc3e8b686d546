//! What an intervention costs that starts from a kept run, beside running again with hooks; and how soon
//! the window's worker answers a cut.
//!
//! ```text
//! cargo bench --bench interventions -- [FOLDER [--python PYTHON --peer SCRIPT]] [--pairs N]
//! ```
//!
//! Without FOLDER: the bundled model only, from [`Request`] to the first [`Event`] with new numbers. FOLDER
//! holds a model of SmolVLM-256M's shape with its tokenizer: one tile, a prompt of 98 tokens, an answer of
//! 32, vision left out. The peer (called as benches/peer.rs says) gives the time of a prefill and of 32 decode
//! steps, its own way to look at an answer under hooks, once in every pair. The peer keeps full squares,
//! Sightline keeps answer rows. Printed are medians, ranges and ratios.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::{open as device, open::DeviceChoice},
    engine::{baseline::Baseline, load::Engine, many, resume, see::Seen},
    progress::Cancel,
    spec::{
        experiment::{Experiment, Intervention},
        picture::ImageSource,
        turn::Turn,
    },
    worker::{
        protocol::{Event, Request},
        thread::Worker,
    },
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Prompt tokens and answer tokens.
const PROMPT: usize = 98;
const NEW: usize = 32;
/// Cuts asked of the worker.
const CUTS: u64 = 40;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let option = |name: &str| {
        let at = args.iter().position(|a| *a == format!("--{name}"))?;
        args.get(at + 1).cloned()
    };
    let pairs = option("pairs").map_or(Ok(5), |n| n.parse())?;
    request_to_event()?;
    match args.first().filter(|a| !a.starts_with("--")) {
        Some(folder) => from_a_kept_run(Path::new(folder), option("python").zip(option("peer")), pairs),
        None => {
            println!("no model folder given: interventions on a larger model are not measured");
            Ok(())
        }
    }
}

/// The bundled model, through the worker: a cut is asked for, the first token of its answer comes back.
fn request_to_event() -> Outcome<()> {
    let worker = Worker::spawn(device::open(DeviceChoice::Cpu)?, WeightDtype::F32, |_| {});
    worker.send(Request::LoadModel(bundled::model()));
    let image = ImageSource::File(bundled::sample_image());
    worker.send(Request::OpenImage(image.clone()));
    let ask = |id: u64, knockouts| {
        let experiment = Experiment::ask(image.clone(), bundled::PROMPT, 64).with_knockouts(knockouts);
        worker.send(Request::Run { id, slot: 0, experiment: Box::new(experiment) });
    };
    let until = |id: u64| -> Outcome<(Duration, Duration)> {
        let start = Instant::now();
        let mut first = None;
        loop {
            match worker.wait().ok_or("the worker is gone")? {
                Event::Scored { id: of, .. } | Event::Token { id: of, .. } if of == id => {
                    first.get_or_insert_with(|| start.elapsed());
                }
                Event::Done { id: of, .. } if of == id => {
                    return Ok((first.ok_or("no token came")?, start.elapsed()));
                }
                Event::Failed { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
    };
    ask(0, Vec::new());
    until(0)?;
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for id in 1..=CUTS {
        ask(id, vec![format!("answer -> visual @ {}-5", id % 6).parse()?]);
        let (a, b) = until(id)?;
        first.push(a.as_secs_f64() * 1e3);
        whole.push(b.as_secs_f64() * 1e3);
    }
    println!("bundled model, {CUTS} cuts through the worker");
    println!("  request to the first new numbers  {}", spread(&mut first, "ms"));
    println!("  request to the whole new answer   {}", spread(&mut whole, "ms"));
    Ok(())
}

/// Teacher-forced answers under cuts, against the peer's prefill and decode.
fn from_a_kept_run(folder: &Path, peer: Option<(String, String)>, pairs: usize) -> Outcome<()> {
    let scratch = env::temp_dir().join(format!("sightline-bench-{}", std::process::id()));
    let done = one_tile(folder, &scratch).and_then(|()| measure(&scratch, folder, peer, pairs));
    fs::remove_dir_all(&scratch)?;
    done
}

fn measure(one_tile: &Path, folder: &Path, peer: Option<(String, String)>, pairs: usize) -> Outcome<()> {
    let cancel = Cancel::default();
    let engine = Engine::load(one_tile, &device::cpu(), WeightDtype::F32, &cancel, &mut |_| {})?;
    let picture = RgbImage::from_fn(512, 512, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let seen = engine.see(&engine.folder.process(&picture)?, &cancel, &mut |_| {})?;
    // The image is handed over as it was seen.
    let image = ImageSource::File(PathBuf::new());
    let experiment = Experiment { top: 10, ..Experiment::ask(image, &prompt(&engine, &seen)?, NEW) };
    let baseline = engine.keep(&experiment, &[&seen], &cancel, &mut |_| {})?;
    let (n_prompt, answer) = (baseline.prompt.len(), baseline.trace.answer.len());
    let (upper, last) = (engine.info.n_layers / 2, engine.info.n_layers - 1);
    println!("{}: {n_prompt} prompt tokens, {answer} answer tokens, {}", engine.info.name, engine.device);
    let cuts = ["answer", "question"].map(|from| format!("{from} -> visual @ {upper}-{last}"));
    let mut ours = [Vec::new(), Vec::new()];
    let mut theirs = Vec::new();
    for _ in 0..pairs {
        for (cut, times) in cuts.iter().zip(&mut ours) {
            times.push(score(&engine, &baseline, &seen, cut)?);
        }
        if let Some((python, script)) = &peer {
            theirs.push(again(python, script, folder)?);
        }
    }
    let peer_ms = if theirs.is_empty() { f64::NAN } else { median(&mut theirs) * 1e3 };
    for (cut, times) in cuts.iter().zip(&mut ours) {
        times.iter_mut().for_each(|t| *t *= 1e3);
        let ours = median(times);
        let ratio = if theirs.is_empty() {
            "no peer given".to_string()
        } else {
            format!(
                "x {:.1} faster than the peer's {peer_ms:.0} ms (it keeps full squares, sightline answer rows)",
                peer_ms / ours
            )
        };
        println!("  {cut:32} {}   {ratio}", spread(times, "ms"));
    }
    let windows = (0..=last).map(|layer| format!("answer -> visual @ {layer}~4"));
    let blocks = (0..64).map(|patch| format!("answer -> visual[{patch}] @ all"));
    for (name, cuts) in [("windows", windows.collect::<Vec<_>>()), ("effect", blocks.collect())] {
        together(&engine, &baseline, &seen, name, &cuts, pairs, peer_ms)?;
    }
    Ok(())
}

/// Many cuts scored together beside the same one by one, in pairs.
fn together(
    engine: &Engine,
    baseline: &Baseline,
    seen: &Seen,
    name: &str,
    cuts: &[String],
    pairs: usize,
    peer_ms: f64,
) -> Outcome<()> {
    let cancel = Cancel::default();
    let cut = |cut: &String| Ok(Intervention { knockouts: vec![cut.parse()?], ablations: Vec::new() });
    let cuts = cuts.iter().map(cut).collect::<Outcome<Vec<Intervention>>>()?;
    let (mut alone, mut all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        let start = Instant::now();
        for cut in &cuts {
            resume::effects(engine, baseline, cut, &[seen], &cancel)?;
        }
        alone.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        many::score(engine, baseline, &cuts, &[seen], &cancel, &mut |_| {})?;
        all.push(start.elapsed().as_secs_f64());
        ratios.push(all[all.len() - 1] / alone[alone.len() - 1]);
    }
    let peer = match peer_ms.is_nan() {
        true => "no peer given".to_string(),
        false => format!(
            "x {:.1} faster than the peer's way",
            peer_ms * cuts.len() as f64 / 1e3 / median(&mut all)
        ),
    };
    println!(
        "  {name}: {} cuts one by one {}, together {}",
        cuts.len(),
        spread(&mut alone, "s"),
        spread(&mut all, "s")
    );
    println!("    together / one by one {}; {peer}", spread(&mut ratios, ""));
    Ok(())
}

/// Seconds of a teacher-forced answer under a cut, attention of all layers and heads recorded.
fn score(engine: &Engine, baseline: &Baseline, seen: &Seen, cut: &str) -> Outcome<f64> {
    let intervention = Intervention { knockouts: vec![cut.parse()?], ablations: Vec::new() };
    let start = Instant::now();
    let scored = resume::score(engine, baseline, &intervention, &[seen], &Cancel::default())?;
    let took = start.elapsed().as_secs_f64();
    assert_eq!(scored.trace.knockouts[0].blocked_mass, 0.0);
    Ok(took)
}

/// Seconds that the peer takes to answer again: a prefill and the decode steps.
fn again(python: &str, script: &str, folder: &Path) -> Outcome<f64> {
    let threads = std::thread::available_parallelism()?.to_string();
    let done = Command::new(python)
        .arg(script)
        .arg(folder)
        .args(["--mode", "text-eager", "--tiles", "1", "--dtype", "float32", "--threads", &threads])
        .args(["--new", &NEW.to_string(), "--reps", "2"])
        .env("OMP_NUM_THREADS", &threads)
        .output()?;
    let text = String::from_utf8(done.stdout)?;
    let line: Value = serde_json::from_str(text.lines().last().ok_or("the peer printed nothing")?)?;
    let number = |key: &str| line[key].as_f64().ok_or_else(|| format!("the peer's line has no `{key}`"));
    Ok(number("text_prefill_s")? + NEW as f64 / number("decode_tok_s")?)
}

/// A question as long as it must be.
fn prompt(engine: &Engine, seen: &Seen) -> Outcome<String> {
    let mut text = "Describe".to_string();
    while engine.prompt(&[Turn::ask(1, text.as_str())], &[seen])?.len() < PROMPT {
        text.push_str(" the");
    }
    Ok(text)
}

/// The folder with its images as one tile.
fn one_tile(folder: &Path, scratch: &PathBuf) -> Outcome<()> {
    fs::create_dir_all(scratch)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().ok_or("a file without a name")?;
        if name == "preprocessor_config.json" {
            let mut settings: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            settings["do_image_splitting"] = json!(false);
            fs::write(scratch.join(name), settings.to_string())?;
        } else if fs::hard_link(&path, scratch.join(name)).is_err() {
            fs::copy(&path, scratch.join(name))?;
        }
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// "median (least to most)".
fn spread(values: &mut [f64], unit: &str) -> String {
    let middle = median(values);
    let ends = (values.first().copied().unwrap_or(f64::NAN), values.last().copied().unwrap_or(f64::NAN));
    format!("{middle:8.2} {unit} ({:.2} to {:.2})", ends.0, ends.1)
}
