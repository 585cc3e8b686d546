//! `sightline replay`: runs a session's experiments again, over their own image or over others.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum as _;
use serde_json::json;
use sightline::{
    checkpoint::weights::WeightDtype,
    device::open::DeviceChoice,
    engine::{
        load::{Engine, RunError},
        resolve::image_files,
        resume::totals,
    },
    progress::Cancel,
    studies::session::{Entry, Report, Session, TOLERANCE},
};

use super::{ModelArgs, bar};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// A session.json that `sightline run` wrote.
    #[arg(value_name = "SESSION")]
    session: PathBuf,
    /// Run every experiment on each image of this folder, instead of on its own image. Where an object is
    /// marked, the mask of an image is the file of the same name beside the session's mask.
    #[arg(long, value_name = "DIR")]
    image_dir: Option<PathBuf>,
    /// Model folder, where it is not the one that the session names.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where to run: auto takes a real GPU if there is one.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
    /// Print one JSON line a run instead of the table.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let session = Session::read(&args.session)?;
    let dtype = WeightDtype::from_str(&session.dtype, true)
        .map_err(|why| format!("{}: `dtype`: {why}", args.session.display()))?;
    let folder = args.model.clone().unwrap_or_else(|| session.model.clone());
    let engine = ModelArgs { model: Some(folder), device: args.device, dtype }.load()?;
    if engine.info.sha256 != session.sha256 {
        return Err(format!(
            "{}: was made with weights of sha256 {}, {} has {}: give the right folder with --model",
            args.session.display(),
            session.sha256,
            engine.info.name,
            engine.info.sha256
        )
        .into());
    }
    let others = match &args.image_dir {
        Some(dir) => {
            let files = image_files(dir).map_err(|e| format!("{}: cannot be read ({e})", dir.display()))?;
            if files.is_empty() {
                return Err(format!("{}: holds no image", dir.display()).into());
            }
            Some(files)
        }
        None => None,
    };
    let total = session.entries.len() * others.as_ref().map_or(1, Vec::len);
    let progress = bar(total as u64, "replaying");
    let mut differ = 0;
    let mut failed = 0;
    for (n, entry) in session.entries.iter().enumerate() {
        let own = [entry.image.clone()];
        for image in others.as_deref().unwrap_or(&own) {
            progress.inc(1);
            let report = match again(&engine, entry, image) {
                Ok(report) => report,
                // One bad image among many loses nothing of the others.
                Err(e) => {
                    progress.suspend(|| eprintln!("error: {}: {e}", image.display()));
                    failed += 1;
                    continue;
                }
            };
            let stored = entry.numbers.as_ref().filter(|_| *image == entry.image);
            let difference = stored.map(|stored| stored.difference(&report.numbers()));
            // No number is no agreement either.
            differ += usize::from(difference.is_some_and(|d| d.is_nan() || d > TOLERANCE));
            progress.suspend(|| tell(n, image, &report, difference, args.json));
        }
    }
    progress.finish_and_clear();
    if differ > 0 {
        eprintln!("{differ} of {total} differ by more than {TOLERANCE} nats from the session's numbers");
    }
    if failed > 0 {
        eprintln!("{failed} of {total} could not be run");
    }
    Ok(ExitCode::from(u8::from(differ + failed > 0)))
}

fn again(engine: &Engine, entry: &Entry, image: &Path) -> Result<Report, RunError> {
    let cancel = Cancel::default();
    let mut object = entry.experiment.object.clone();
    if let (Some(object), Some(name)) = (&mut object, image.file_name())
        && image != entry.image
    {
        // A mask belongs to one image: another's lies beside it, under the image's name.
        object.file.set_file_name(name);
    }
    let (_, seen) = engine.look(image, object.as_ref(), &cancel, &mut |_, _| {})?;
    engine.experiment(&entry.experiment, &seen, &cancel, &mut |_| {})
}

fn tell(n: usize, image: &Path, report: &Report, difference: Option<f32>, as_json: bool) {
    let effects = report.outcome.as_ref().map(|o| totals(&o.effects));
    let (uncut, answer) = (report.baseline.trace.answer_text(), report.trace().answer_text());
    if as_json {
        let line = json!({
            "entry": n,
            "image": image,
            "uncut": uncut,
            "answer": answer,
            "delta": effects.map(|e| e.0),
            "kl": effects.map(|e| e.1),
            "difference": difference,
            "numbers": report.numbers(),
        });
        println!("{line}");
        return;
    }
    println!("entry {n}, {}", image.display());
    println!("  uncut:  {uncut}");
    if let Some((delta, kl)) = effects {
        println!("  answer: {answer}");
        println!("  uncut answer under it: change in log probability {delta:.4}, mean KL {kl:.4}");
    }
    match difference {
        Some(d) if d <= TOLERANCE => println!("  the same numbers (largest difference {d:.1e})"),
        Some(d) => println!("  OTHER numbers (largest difference {d:.1e})"),
        None => {}
    }
}
