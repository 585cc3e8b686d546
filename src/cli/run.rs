//! `sightline run`: the window's job without a window.

use std::{
    error::Error,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use image::RgbImage;
use sightline::{
    device,
    export::{data, picture},
    interp::flow,
    knockout::Knockout,
    model::{Cancel, image as model_image},
    run::{Engine, RunEvent, RunSpec, Seen},
    span::Span,
    trace::Trace,
};

use super::{ModelArgs, bar, note, print};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Image file: PNG, JPEG, WebP, GIF, BMP, TIFF or PNM.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// What to ask.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Paths to cut: "QUERY -> KEY @ LAYERS [# HEADS]", e.g. "answer -> visual @ 2-5". Repeatable.
    #[arg(long, value_name = "SPEC")]
    knockout: Vec<Knockout>,
    /// Longest answer, in tokens.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_new: usize,
    /// Also write a heatmap PNG for every answer token, and the flow chart as SVG.
    #[arg(long)]
    pictures: bool,
    /// Folder for trace.json and trace.safetensors.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let spec = RunSpec { knockouts: args.knockout, ..RunSpec::ask(&args.prompt, args.max_new) };
    headless(&args.model, &args.image, &spec, args.pictures, &args.out)
}

/// Loads, encodes, answers, writes the files and prints the summary.
pub fn headless(
    model: &ModelArgs,
    image_file: &Path,
    spec: &RunSpec,
    pictures: bool,
    out: &Path,
) -> Result<ExitCode, Box<dyn Error>> {
    let compute = device::open(model.device)?;
    note(format_args!("loading {} on {}", model.folder().display(), compute.description));
    let engine = Engine::load(&model.folder(), &compute, model.dtype)?;
    for key in &engine.vlm.unused {
        log::debug!("unused weight: {key}");
    }
    let image = model_image::open(image_file)?;
    let cancel = Cancel::default();
    let tiles = bar(0, "encoding image");
    let seen = engine.see(engine.process(&image)?, &cancel, &mut |done, total| {
        tiles.set_length(total as u64);
        tiles.set_position(done as u64);
    })?;
    tiles.finish_and_clear();
    for word in engine.prompts.unknown_words(&spec.prompt) {
        note(format_args!(
            "warning: `{word}` is not in the model's vocabulary; it reads it as an unknown word"
        ));
    }
    let trace = engine.run(spec, &[&seen], &cancel, &mut |event| match event {
        RunEvent::Prompt(prompt) => note(format_args!("prompt: {} tokens", prompt.tokens.len())),
        RunEvent::Prefilled(_) => {}
        RunEvent::Token(token, ..) => {
            // A progress display: nothing is lost if stderr is closed.
            let _ = write!(io::stderr(), "{}", token.text);
            let _ = io::stderr().flush();
        }
    })?;
    note("");
    data::write(&trace, out)?;
    if pictures {
        write_pictures(&trace, &image, &seen, &engine, out)?;
    }
    print_summary(&trace, &seen, out)?;
    Ok(ExitCode::SUCCESS)
}

/// One heatmap a token, from the layer whose head mean looks at the image most, all on one range.
fn write_pictures(
    trace: &Trace,
    image: &RgbImage,
    seen: &Seen,
    engine: &Engine,
    out: &Path,
) -> Result<(), Box<dyn Error>> {
    let (patches, _) = engine.patches(&seen.processed);
    let visual: Vec<usize> =
        trace.prompt.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect();
    let of_row = |row: &sightline::trace::PatternRow| {
        let shares = flow::of_row(row, |key| trace.span(key));
        let visual_share = |l: &usize| shares[*l][Span::Visual.index()];
        let layer = (0..row.n_layers).max_by(|a, b| visual_share(a).total_cmp(&visual_share(b))).unwrap_or(0);
        let mean = row.head_mean(layer);
        (layer, visual.iter().map(|&p| mean[p]).collect::<Vec<f32>>())
    };
    let maps: Vec<(usize, Vec<f32>)> = trace.pattern.iter().map(of_row).collect();
    let max = maps.iter().flat_map(|(_, m)| m.iter().copied()).fold(0.0, f32::max);
    for ((token, (layer, map)), s) in trace.answer.iter().zip(&maps).zip(0..) {
        let word: String = token.text.chars().filter(|c| c.is_alphanumeric()).collect();
        let picture = picture::heatmap(image, &patches, map, max);
        picture::save_png(&picture, &out.join(format!("token_{s:02}_{word}_layer_{layer}.png")))?;
    }
    picture::save_flow_svg(trace, &out.join("flow.svg"))?;
    print(format_args!("heatmaps: token_*.png, colours from 0 to {max:.4}; flow chart: flow.svg"))?;
    Ok(())
}

fn print_summary(trace: &Trace, seen: &Seen, out: &Path) -> io::Result<()> {
    let t = &trace.timing;
    let m = &trace.model;
    print(format_args!("model: {} ({} parameters, {})", m.name, m.parameters, trace.dtype))?;
    print(format_args!("device: {}", trace.device))?;
    print(format_args!("image: {}", seen.processed.describe()))?;
    print(format_args!("prompt: {} tokens", trace.prompt.len()))?;
    for span in Span::ALL {
        let n = trace.prompt.iter().filter(|t| t.span == span).count();
        if n > 0 {
            print(format_args!("  {}: {n}", span.name()))?;
        }
    }
    print(format_args!("answer: {}", trace.answer_text()))?;
    for k in &trace.knockouts {
        let (text, pairs, mass) = (&k.text, k.total_pairs(), k.blocked_mass);
        print(format_args!(
            "knockout: {text}: {pairs} pairs blocked, largest attention left on them {mass}"
        ))?;
    }
    let speed = t.tokens_per_second().map(|s| format!(", decode {s:.1} tokens/s")).unwrap_or_default();
    print(format_args!(
        "time: load {:.2} s, encode {:.2} s, prefill {:.2} s{speed}",
        t.load.as_secs_f64(),
        t.encode.as_secs_f64(),
        t.prefill.as_secs_f64()
    ))?;
    let out = std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf());
    print(format_args!("written: {}", out.display()))
}
