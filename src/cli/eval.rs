//! `sightline eval`.

use std::{error::Error, path::PathBuf, process::ExitCode};

use sightline::{
    bundled,
    export::lines,
    progress::Cancel,
    scenes,
    spec::knockout::Knockout,
    studies::eval::{
        evaluate::{EvalOptions, evaluate},
        folder::{Folder, FolderOptions, POLL},
        localise::localise,
        report::Images,
    },
};

use crate::cli::{bar::bar, model::ModelArgs};

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
    /// What asks for a class where a folder has no questions of its own.
    #[arg(long, value_name = "TEXT", default_value = POLL)]
    poll: String,
    /// Longest description, in tokens.
    #[arg(long, value_name = "N", default_value_t = EvalOptions::default().max_description)]
    max_new: usize,
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
    /// Also write every answer into this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let dir = args.scenes.unwrap_or_else(bundled::scenes);
    let classes = scenes::classes().map(String::from).collect();
    let options =
        FolderOptions { annotations: args.annotations, poll: args.poll, classes, limit: args.limit };
    // The folder first: a mistake there should not wait for a model to load.
    let folder = Folder::open(&dir, &options)?;
    let options = EvalOptions {
        images: match (args.blank, args.shuffle) {
            (true, _) => Images::Blank,
            (_, true) => Images::Shuffled,
            _ => Images::Own,
        },
        describe: args.describe,
        max_description: args.max_new,
        knockouts: args.knockout,
        ..EvalOptions::default()
    };
    let engine = args.model.load()?;
    let descriptions = if options.describe.is_empty() { 0 } else { folder.items.len() };
    let asking = bar((folder.n_questions() + descriptions) as u64, "asking");
    let report = evaluate(&engine, &folder, &options, &Cancel::default(), &mut || asking.inc(1))?;
    asking.finish_and_clear();
    let localisation = if args.localise {
        let bar = bar(folder.items.len() as u64, "localising");
        let cancel = Cancel::default();
        let found = localise(&engine, &folder, &options.describe, args.max_new, &cancel, &mut || bar.inc(1))?;
        bar.finish_and_clear();
        Some(found)
    } else {
        None
    };
    if let Some(file) = &args.answers {
        lines::write(&report.answers, file)?;
    }
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
    Ok(ExitCode::SUCCESS)
}
