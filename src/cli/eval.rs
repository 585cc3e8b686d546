//! `sightline eval`.

use std::{error::Error, path::PathBuf, process::ExitCode};

use sightline::{
    bundled,
    engine::load::Engine,
    export::lines::Lines,
    progress::Cancel,
    scenes,
    spec::{knockout::Knockout, sets::PatchSet},
    studies::eval::{
        evaluate::{EvalOptions, Told, check, evaluate},
        folder::{Folder, FolderOptions, POLL},
        localise::{Localisation, check_masks, localise},
        report::{Images, Report},
    },
};

use crate::cli::{bar::bar, model::ModelArgs, numbers};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder that `sightline scenes` wrote, or any in COCO's format; the bundled scenes if left out.
    #[arg(long, value_name = "DIR")]
    scenes: Option<PathBuf>,
    /// COCO annotations to ask about, instead of the folder's own scenes.jsonl or annotations.json.
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
    /// Only the first N images.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Control: a mid grey picture instead of every image.
    #[arg(long, conflicts_with = "shuffle")]
    blank: bool,
    /// Control: every image with the questions of the one before it.
    #[arg(long)]
    shuffle: bool,
    /// What asks for a description; "" asks for none.
    #[arg(long, value_name = "TEXT", default_value = bundled::PROMPT)]
    describe: String,
    /// What asks for a class where a folder has no questions of its own, {class} standing for it.
    #[arg(long, value_name = "TEXT")]
    poll: Option<String>,
    /// Longest description, in tokens; 128 if left out.
    #[arg(long, value_name = "N", value_parser = numbers::length)]
    max_new: Option<usize>,
    /// Paths to cut while answering, as for `run`. Repeatable.
    #[arg(long, value_name = "SPEC")]
    knockout: Vec<Knockout>,
    /// Also measure, layer by layer, whether the words of the descriptions look at the objects they
    /// name. Needs masks/ beside images/.
    #[arg(long)]
    localise: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Also write every answer into this file, one JSON object a line, image by image as they come.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

impl Args {
    /// Refuses options that would change nothing.
    fn check(&self) -> Result<(), String> {
        let idle = |option: &str, with: &str, instead: &str| {
            Err(format!("{option} has no effect with {with}: {instead}"))
        };
        let describes = !self.describe.is_empty();
        if self.localise {
            let own = "localising describes every image as it is; leave one of them out";
            let others = [
                ("--knockout", !self.knockout.is_empty()),
                ("--blank", self.blank),
                ("--shuffle", self.shuffle),
            ];
            if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
                return idle(other, "--localise", own);
            }
            if !describes {
                return idle("--localise", "--describe \"\"", "it measures descriptions; ask for some");
            }
        }
        if self.max_new.is_some() && !describes {
            return idle("--max-new", "--describe \"\"", "it limits descriptions; leave one of them out");
        }
        for knockout in &self.knockout {
            let named = |set: PatchSet| {
                knockout.query.patch_sets().chain(knockout.key.patch_sets()).any(|named| named == set)
            };
            let missing = [
                (PatchSet::Object, "no object is marked"),
                (PatchSet::Sink, "no uncut answer is run that it could be computed from"),
                (PatchSet::Gradient, "no uncut answer is run that it could be computed from"),
            ];
            if let Some((set, why)) = missing.into_iter().find(|(set, _)| named(*set)) {
                let set = set.word();
                return Err(format!(
                    "--knockout `{knockout}`: `eval` has no set `{set}`, for {why}: use `run`, or another set"
                ));
            }
        }
        Ok(())
    }

    fn folder(&self) -> Result<Folder, Box<dyn Error>> {
        let dir = self.scenes.clone().unwrap_or_else(bundled::scenes);
        let folder = Folder::open(
            &dir,
            &FolderOptions {
                annotations: self.annotations.clone(),
                poll: self.poll.clone().unwrap_or_else(|| POLL.to_string()),
                classes: scenes::classes().map(String::from).collect(),
                limit: self.limit,
            },
        )?;
        if self.poll.is_some() && !folder.polled {
            return Err(format!(
                "--poll has no effect: {} has questions of its own; leave it out, or give --annotations FILE to ask about that instead",
                dir.display()
            )
            .into());
        }
        if self.localise {
            check_masks(&folder)?;
        }
        Ok(folder)
    }

    fn options(&self) -> EvalOptions {
        let usual = EvalOptions::default();
        EvalOptions {
            images: match (self.blank, self.shuffle) {
                (true, _) => Images::Blank,
                (_, true) => Images::Shuffled,
                _ => Images::Own,
            },
            describe: self.describe.clone(),
            max_description: self.max_new.unwrap_or(usual.max_description),
            knockouts: self.knockout.clone(),
            ..usual
        }
    }
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    args.check()?;
    let (folder, options) = (args.folder()?, args.options());
    let answers = args.answers.as_deref().map(Lines::create).transpose()?;
    let model = args.model.open()?;
    check(&model, args.model.dtype, &folder, &options)?;
    let engine = args.model.load(model)?;
    let report = ask(&engine, &folder, &options, answers)?;
    let localisation = match args.localise {
        true => Some(measure(&engine, &folder, &options)?),
        false => None,
    };
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        if let Some(localisation) = &localisation {
            json["localisation"] = serde_json::to_value(localisation)?;
        }
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        println!("{report}");
        if let Some(localisation) = &localisation {
            println!("\n{localisation}");
        }
    }
    let whole = report.passed_over.is_empty() && localisation.is_none_or(|l| l.passed_over.is_empty());
    Ok(ExitCode::from(u8::from(!whole)))
}

/// Asks everything. Answers are on disk as soon as an image's are whole.
fn ask(
    engine: &Engine,
    folder: &Folder,
    options: &EvalOptions,
    mut lines: Option<Lines>,
) -> Result<Report, Box<dyn Error>> {
    let descriptions = if options.describe.is_empty() { 0 } else { folder.items.len() };
    let asking = bar((folder.n_questions() + descriptions) as u64, "asking");
    let (cancel, mut failed) = (Cancel::default(), None);
    let report = evaluate(engine, folder, options, &cancel, &mut |told| match told {
        Told::Reply => asking.inc(1),
        Told::PassedOver(image) => asking.suspend(|| eprintln!("{image}")),
        Told::Answers(rows) => {
            if let Some(Err(e)) = lines.as_mut().map(|lines| lines.write(rows)) {
                failed.get_or_insert(e);
                cancel.cancel();
            }
        }
    });
    asking.finish_and_clear();
    // Stopped because the answers cannot be kept: that is the error.
    match failed {
        Some(e) => Err(e.into()),
        None => Ok(report?),
    }
}

fn measure(engine: &Engine, folder: &Folder, options: &EvalOptions) -> Result<Localisation, Box<dyn Error>> {
    let bar = bar(folder.items.len() as u64, "localising");
    let (cancel, longest) = (Cancel::default(), options.max_description);
    let found = localise(engine, folder, &options.describe, longest, &cancel, &mut || bar.inc(1));
    bar.finish_and_clear();
    Ok(found?)
}
