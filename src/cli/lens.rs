//! `sightline lens`: what every layer would say at chosen positions.

use std::{error::Error, io::Write as _, path::PathBuf, process::ExitCode};

use serde_json::json;
use sightline::{
    engine::{error::RunError, inside::positions, load::Engine},
    progress::Cancel,
    spec::{
        parse::{parse_numbers, parse_set},
        sets::Numbers,
    },
    studies::lens::{Lens, LensLayer, lens},
};

use crate::cli::subject::SubjectArgs;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Positions to read: a set, e.g. "visual[3:4]", "object~1", "last + answer".
    #[arg(long, value_name = "SET", default_value = "last")]
    at: String,
    /// Layers whose output is read.
    #[arg(long, value_name = "LAYERS", default_value = "all")]
    layers: String,
    /// A word whose rank and probability are wanted at every place.
    #[arg(long, value_name = "WORD")]
    word: Option<String>,
    /// Write one JSON line a layer to this file, as soon as it is read; "-" for stdout.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let set = parse_set(&args.at.to_lowercase()).map_err(|why| format!("--at `{}`: {why}", args.at))?;
    let layers = parse_numbers(&args.layers.to_lowercase())
        .map_err(|why| format!("--layers `{}`: {why}", args.layers))?;
    let cancel = Cancel::default();
    let opened = args.subject.open(&cancel)?;
    let engine = &opened.engine;
    let experiment = args.subject.experiment(engine, 0)?;
    let chosen = args.word.as_deref().map(|word| token(engine, word)).transpose()?;
    let layers = resolve_layers(&layers, engine)?;
    let images = [&opened.seen];
    let baseline = engine.keep(&experiment, &images, &cancel, &mut |_| {})?;
    let positions = positions(engine, &baseline, &set, &images, &cancel)?;
    let what = Lens { positions, layers, top: args.subject.top, chosen };
    let mut lines: Option<Box<dyn std::io::Write>> = match &args.json {
        None => None,
        Some(path) if path.as_os_str() == "-" => Some(Box::new(std::io::stdout())),
        Some(path) => Some(Box::new(
            std::fs::File::create(path)
                .map_err(|e| format!("{}: cannot be written ({e})", path.display()))?,
        )),
    };
    eprintln!("answer: {}", baseline.trace.answer_text());
    let mut failed = None;
    let mut on_layer = |layer: LensLayer| {
        let written = match &mut lines {
            Some(out) => writeln!(out, "{}", line(engine, &layer)).and_then(|()| out.flush()),
            None => print(engine, &layer),
        };
        if let Err(e) = written {
            failed.get_or_insert(e);
            cancel.cancel();
        }
    };
    lens(engine, &baseline, &what, &cancel, &mut on_layer)
        // Stopped because nobody can be told: that is the error.
        .or_else(|e| if cancel.is_cancelled() { Ok(()) } else { Err(e) })?;
    failed.map_or(Ok(ExitCode::SUCCESS), |e| Err(e.into()))
}

fn resolve_layers(layers: &Numbers, engine: &Engine) -> Result<Vec<bool>, RunError> {
    layers
        .resolve("layer", engine.info.n_layers)
        .map_err(|source| RunError::Choice { what: format!("--layers {layers}"), source })
}

/// The token that stands for a word.
fn token(engine: &Engine, word: &str) -> Result<u32, String> {
    match engine.prompts.word_ids(word)[..] {
        [] => Err(format!("--word `{word}`: the model's vocabulary has no token for it")),
        [id] => Ok(id),
        [id, ..] => {
            eprintln!(
                "`{word}` takes several tokens: its first, `{}`, is followed",
                engine.prompts.token_text(id)
            );
            Ok(id)
        }
    }
}

fn line(engine: &Engine, layer: &LensLayer) -> serde_json::Value {
    let readings = layer.readings.iter().map(|r| {
        let top = r
            .top
            .iter()
            .map(|(id, p)| json!({ "id": id, "text": engine.prompts.token_text(*id), "probability": p }));
        let chosen = r.chosen.map(|(rank, p)| json!({ "rank": rank, "probability": p }));
        json!({ "position": r.position, "top": top.collect::<Vec<_>>(), "word": chosen })
    });
    json!({ "layer": layer.layer, "readings": readings.collect::<Vec<_>>() })
}

fn print(engine: &Engine, layer: &LensLayer) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "layer {}", layer.layer)?;
    for r in &layer.readings {
        let top =
            r.top.iter().take(5).map(|(id, p)| format!("{} {p:.3}", engine.prompts.token_text(*id).trim()));
        let chosen = r.chosen.map(|(rank, p)| format!("   word: rank {rank}, {p:.4}")).unwrap_or_default();
        writeln!(out, "  {:>5}  {}{chosen}", r.position, top.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}
