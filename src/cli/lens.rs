//! `sightline lens`: what every layer would say at chosen positions.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use sightline::{
    engine::{check::Foreseen, error::RunError, folder::ModelFolder, inside::positions},
    export::lines::Lines,
    progress::Cancel,
    spec::{
        parse::{parse_numbers, parse_set},
        sets::{Numbers, PatchSet, Set},
    },
    studies::lens::{Followed, Lens, followed, lens},
    trace::finding::{LensPage, LensReading},
};

use crate::{
    cli::subject::{Plan, SubjectArgs},
    print,
};

/// Candidates printed for every position where nothing is said.
const PRINTED: usize = 5;

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

/// What is known before the weights are read.
struct Asked {
    plan: Plan,
    at: Set,
    layers: Vec<bool>,
    word: Option<u32>,
    /// The file that lines go to.
    lines: Option<Lines>,
}

impl Args {
    /// Reads all but the weights, and refuses what they cannot be read for.
    fn plan(&self) -> Result<Asked, Box<dyn Error>> {
        let at = parse_set(&self.at.to_lowercase()).map_err(|why| format!("--at `{}`: {why}", self.at))?;
        let layers = parse_numbers(&self.layers.to_lowercase())
            .map_err(|why| format!("--layers `{}`: {why}", self.layers))?;
        let named = |set: PatchSet| at.patch_sets().any(|named| named == set);
        self.subject.check(named(PatchSet::Random), false)?;
        if self.subject.record.is_some() {
            return Err(
                "--record has no effect: `lens` reads residuals, and leaves no attention: leave it out"
                    .into(),
            );
        }
        let lines = self.file().map(Lines::create).transpose()?;
        let mut plan = self.subject.plan(0, named(PatchSet::Object))?;
        // Only sinks are computed from attention.
        plan.experiment.record.pattern.none = !named(PatchSet::Sink) && !self.subject.names(PatchSet::Sink);
        let layers = resolve_layers(&layers, &plan.folder)?;
        let word = self.word.as_deref().map(|word| token(&plan.folder, word)).transpose()?;
        let images: Vec<_> = plan.framed.iter().collect();
        Foreseen::new(&plan.folder, self.subject.model.dtype, &plan.experiment, &images)?.positions(&at)?;
        Ok(Asked { plan, at, layers, word, lines })
    }

    /// The file that lines go to.
    fn file(&self) -> Option<&Path> {
        self.json.as_deref().filter(|file| file.as_os_str() != "-")
    }
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let Asked { plan, at, layers, word, mut lines } = args.plan()?;
    let cancel = Cancel::default();
    let (opened, experiment) = plan.open(&args.subject, &cancel)?;
    let engine = &opened.engine;
    let images = opened.seen();
    let baseline = engine.keep(&experiment, &images, &cancel, &mut |_| {})?;
    let positions = positions(engine, &baseline, &at, &images, &cancel)?;
    let what = Lens { positions, layers, top: experiment.top, chosen: word };
    let printed = args.subject.top.unwrap_or(PRINTED);
    eprintln!("answer: {}", baseline.trace.answer_text());
    let mut failed = None;
    let mut on_layer = |page: LensPage| {
        let is_read = match &mut lines {
            Some(lines) => lines.write(&[line(&page)]).map_err(|e| failed = Some(e)).is_ok(),
            None if args.json.is_some() => print::line(format_args!("{}", line(&page))),
            None => print::line(format_args!("{}", table(&page, printed))),
        };
        if !is_read {
            cancel.cancel();
        }
    };
    lens(engine, &baseline, &what, &cancel, &mut on_layer)
        // Stopped because nobody reads on, or because nothing can be written: only that is an error.
        .or_else(|e| if cancel.is_cancelled() { Ok(()) } else { Err(e) })?;
    failed.map_or(Ok(ExitCode::SUCCESS), |e| Err(e.into()))
}

fn resolve_layers(layers: &Numbers, folder: &ModelFolder) -> Result<Vec<bool>, RunError> {
    layers
        .resolve("layer", folder.text().n_layers)
        .map_err(|source| RunError::Choice { what: format!("--layers {layers}"), source })
}

/// The token that stands for a word.
fn token(folder: &ModelFolder, word: &str) -> Result<u32, String> {
    let Followed { id, whole } = followed(folder, word).map_err(|e| format!("--word: {e}"))?;
    if !whole {
        let first = folder.prompts.token_text(id);
        eprintln!("`{word}` takes several tokens: its first, `{first}`, is followed");
    }
    Ok(id)
}

fn line(page: &LensPage) -> serde_json::Value {
    let readings = page.readings.iter().map(|r| {
        let top = r.top.iter().map(|c| json!({ "id": c.id, "text": c.text, "probability": c.logprob.exp() }));
        let chosen = r.chosen.map(|(rank, p)| json!({ "rank": rank, "probability": p }));
        json!({ "position": r.position, "top": top.collect::<Vec<_>>(), "word": chosen })
    });
    json!({ "layer": page.layer, "readings": readings.collect::<Vec<_>>() })
}

/// A layer as text, a line a position.
fn table(page: &LensPage, printed: usize) -> String {
    let line = |r: &LensReading| {
        let top = r.top.iter().take(printed);
        let top = top.map(|c| format!("{} {:.3}", c.text.trim(), c.logprob.exp()));
        let chosen = r.chosen.map(|(rank, p)| format!("   word: rank {rank}, {p:.4}")).unwrap_or_default();
        format!("\n  {:>5}  {}{chosen}", r.position, top.collect::<Vec<_>>().join(", "))
    };
    format!("layer {}{}", page.layer, page.readings.iter().map(line).collect::<String>())
}
