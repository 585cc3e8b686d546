//! `sightline replay`: runs a session's experiments again, over their own image or over others.

use std::{error::Error, path::PathBuf, process::ExitCode};

use serde_json::json;
use sightline::{
    checkpoint::weights::WeightDtype,
    device::open::DeviceChoice,
    engine::load::Engine,
    progress::Cancel,
    studies::{
        images::images_of,
        replay::{Replayed, check, replay},
        session::{Session, TOLERANCE},
    },
    trace::report::{Report, totals},
};

use crate::cli::{
    bar::bar,
    model::{ModelArgs, device},
};

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
    /// Model folder or org/name[@revision] of the hub, where it is not the one that the session names.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Where to run: auto takes a real GPU if there is one.
    #[arg(long, value_name = "DEVICE", value_parser = device(), default_value = "auto")]
    device: DeviceChoice,
    /// Print one JSON line a run instead of the table.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let session = Session::read(&args.session)?;
    let others = args.image_dir.as_deref().map(images_of).transpose()?;
    let engine = load(&args, &session, others.as_deref())?;
    let total = session.entries.len() * others.as_ref().map_or(1, Vec::len);
    let progress = bar(total as u64, "replaying");
    let tally = replay(&engine, &session, others.as_deref(), &Cancel::default(), &mut |replayed| {
        progress.inc(1);
        progress.suspend(|| tell(&replayed, args.json));
    });
    progress.finish_and_clear();
    if tally.differ > 0 {
        eprintln!(
            "{} of {} differ by more than {TOLERANCE} nats from the session's numbers",
            tally.differ, tally.total
        );
    }
    if tally.failed > 0 {
        eprintln!("{} of {} could not be run", tally.failed, tally.total);
    }
    Ok(ExitCode::from(u8::from(tally.differ + tally.failed > 0)))
}

/// The model that the session was made with.
fn load(args: &Args, session: &Session, others: Option<&[PathBuf]>) -> Result<Engine, Box<dyn Error>> {
    let file = args.session.display();
    let dtype = WeightDtype::ALL.iter().find(|(name, _)| *name == session.dtype).map(|(_, dtype)| *dtype);
    let dtype = dtype
        .ok_or_else(|| format!("{file}: `dtype` is `{}`, expected auto, f32, f16 or bf16", session.dtype))?;
    let folder = args.model.clone().unwrap_or_else(|| session.model.clone());
    let model = ModelArgs { model: Some(folder), device: args.device, dtype };
    let folder = model.open()?;
    check(&folder, dtype, session, others)?;
    let engine = model.load(folder)?;
    // One that was written before the weights were read does not know them.
    if !session.sha256.is_empty() && engine.info.sha256 != session.sha256 {
        return Err(format!(
            "{file}: was made with weights of sha256 {}, {} has {}: give the right folder with --model",
            session.sha256, engine.info.name, engine.info.sha256
        )
        .into());
    }
    Ok(engine)
}

fn tell(replayed: &Replayed, as_json: bool) {
    match &replayed.outcome {
        Ok(report) => print(replayed, report, as_json),
        Err(e) => eprintln!("error: {}: {e}", replayed.image.display()),
    }
}

fn print(replayed: &Replayed, report: &Report, as_json: bool) {
    let Replayed { entry: n, image, difference, .. } = replayed;
    let effects = report.outcome.as_ref().map(|o| totals(&o.effects));
    let (uncut, answer) = (report.baseline().answer_text(), report.answer.answer_text());
    if as_json {
        let line = json!({
            "entry": n,
            "image": image.display().to_string(),
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
        Some(d) if *d <= TOLERANCE => println!("  the same numbers (largest difference {d:.1e})"),
        Some(d) => println!("  OTHER numbers (largest difference {d:.1e})"),
        None => {}
    }
}
