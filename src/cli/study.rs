//! `sightline study`: a study over many images, the list of them, and shards put together.
//!
//! Which options a study reads is its own word (`Kind::settings`); any other is refused.

use std::{
    collections::BTreeSet,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use sightline::{
    engine::load::Engine,
    export::study as files,
    files::output::Output,
    progress::Cancel,
    scenes,
    studies::survey::{
        bench::LeftOut,
        course::{self, Course, Told},
        error::SurveyError,
        kind::Kind,
        kinds,
        record::{self, Header, Measured, Record},
        settings::{Flow, Settings},
        subjects::{SubjectOptions, Subjects},
    },
};

use crate::cli::{bar::long_bar, model::ModelArgs, numbers};

/// So much of what is left out is told as it comes.
const TOLD: usize = 5;

/// Settings of studies, and the options that are them.
const OPTIONS: [(&str, &str); 10] = [
    ("flows", "--flow"),
    ("halves", "--half"),
    ("rings", "--rings"),
    ("top", "--top"),
    ("counts", "--count"),
    ("fills", "--fill"),
    ("gradients", "--gradients"),
    ("percents", "--percent"),
    ("fastv", "--fastv"),
    ("from", "--from"),
];

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Which study.
    #[arg(value_name = "NAME", required = true, value_parser = studies())]
    kind: Option<&'static Kind>,
    /// Folder of images: one that `sightline scenes` wrote, one in COCO's format, or images alone. They are measured in
    /// the order of their names.
    #[arg(long, value_name = "DIR", required = true)]
    images: Option<PathBuf>,
    /// Folder for study.json, rows.csv, figure.svg and figure.png, and for the record that a study goes on from when
    /// it is started again.
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Asked of every image, instead of everything else.
    #[arg(long, value_name = "TEXT", conflicts_with = "questions")]
    prompt: Option<String>,
    /// JSON lines of `image` (a file's name), `question`, and perhaps `answer` and `type`: asked instead of the
    /// folder's own questions.
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// COCO annotations, instead of the folder's own scenes.jsonl or annotations.json.
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
    /// Only the first N images.
    #[arg(long, value_name = "N", value_parser = numbers::count)]
    limit: Option<usize>,
    /// Only every Nth image, from the Ith on: one part of N of a study that `merge` puts together.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<[usize; 2]>,
    /// End with the first image that cannot be measured, instead of leaving it out.
    #[arg(long)]
    stop_on_error: bool,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Instead {
    /// List the studies: what each measures, where it comes from, what it costs and what it reads.
    List,
    /// Put the shards of one study together.
    Merge {
        /// Folders of all shards.
        #[arg(value_name = "DIR", required = true)]
        dirs: Vec<PathBuf>,
        /// Folder for the whole study.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
struct SettingArgs {
    /// Longest answer, in tokens; 128 if left out.
    #[arg(long, value_name = "N", value_parser = numbers::length)]
    length: Option<usize>,
    /// Path to cut, without layers: "answer -> visual". Repeatable.
    #[arg(long, value_name = "SPEC")]
    flow: Vec<Flow>,
    /// Layers on either side of a window's centre. Repeatable.
    #[arg(long, value_name = "K")]
    half: Vec<usize>,
    /// Rings of neighbours that are cut with a patch.
    #[arg(long, value_name = "R")]
    rings: Option<usize>,
    /// How many of the likeliest tokens count as named.
    #[arg(long, value_name = "K", value_parser = numbers::count)]
    top: Option<usize>,
    /// Number of visual tokens that are overwritten. Repeatable.
    #[arg(long, value_name = "N", value_parser = numbers::count)]
    count: Vec<usize>,
    /// What they are overwritten with. Repeatable.
    #[arg(long, value_name = "NAME", value_parser = ["mean", "zero", "noise"])]
    fill: Vec<String>,
    /// Rank visual tokens by gradient for every question, and not for descriptions alone: 50 passes forth and back each.
    #[arg(long)]
    gradients: bool,
    /// Percentage of the visual tokens that stays. Repeatable.
    #[arg(long, value_name = "P", value_parser = numbers::percent)]
    percent: Vec<f32>,
    /// First layer that keeps few visual tokens, where they are ranked as FastV does.
    #[arg(long, value_name = "L", value_parser = numbers::count)]
    fastv: Option<usize>,
    /// Layer from which on a path is cut. Repeatable.
    #[arg(long, value_name = "L")]
    from: Vec<usize>,
    /// Decides what is drawn at random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Reads a study by its name.
fn studies() -> impl TypedValueParser<Value = &'static Kind> {
    let all = kinds::ALL.iter().map(|kind| PossibleValue::new(kind.name).help(kind.about));
    PossibleValuesParser::new(all).try_map(|name| known(&name))
}

fn known(name: &str) -> Result<&'static Kind, String> {
    kinds::of(name).ok_or_else(|| format!("there is no study `{name}`"))
}

/// Reads `I/N`.
fn shard(text: &str) -> Result<[usize; 2], String> {
    let parts =
        text.split_once('/').and_then(|(i, n)| Some([i.trim().parse().ok()?, n.trim().parse().ok()?]));
    match parts {
        Some([number, of]) if (1..=of).contains(&number) => Ok([number, of]),
        _ => Err("expected I/N, I from 1 to N, for example 2/8".to_string()),
    }
}

/// The options that a study reads.
fn options_of(kind: &Kind) -> Vec<&'static str> {
    OPTIONS.iter().filter(|(name, _)| kind.settings.contains(name)).map(|(_, option)| *option).collect()
}

impl SettingArgs {
    /// Refuses options that would change nothing.
    fn check(&self, kind: &Kind) -> Result<(), String> {
        let given = [
            ("flows", !self.flow.is_empty()),
            ("halves", !self.half.is_empty()),
            ("rings", self.rings.is_some()),
            ("top", self.top.is_some()),
            ("counts", !self.count.is_empty()),
            ("fills", !self.fill.is_empty()),
            ("gradients", self.gradients),
            ("percents", !self.percent.is_empty()),
            ("fastv", self.fastv.is_some()),
            ("from", !self.from.is_empty()),
        ];
        let is_given = |name: &str| given.iter().any(|(other, given)| *other == name && *given);
        let reads = options_of(kind);
        match OPTIONS.iter().find(|(name, option)| is_given(name) && !reads.contains(option)) {
            None => Ok(()),
            Some((_, option)) => {
                let reads = if reads.is_empty() { "none of these".to_string() } else { reads.join(", ") };
                Err(format!("{option} has no effect on `{}`, which reads {reads}: leave it out", kind.name))
            }
        }
    }
}

impl Args {
    fn settings(&self) -> Settings {
        let SettingArgs {
            length,
            flow,
            half,
            rings,
            top,
            count,
            fill,
            gradients,
            percent,
            fastv,
            from,
            seed,
        } = &self.settings;
        Settings {
            prompt: self.prompt.clone(),
            length: *length,
            flows: flow.clone(),
            halves: half.clone(),
            rings: *rings,
            top: *top,
            counts: count.clone(),
            fills: fill.clone(),
            gradients: *gradients,
            percents: percent.clone(),
            fastv: *fastv,
            from: from.clone(),
            seed: *seed,
        }
    }

    /// What is to be done, as far as files and options say it.
    fn course(&self, kind: &'static Kind, images: &Path) -> Result<Course, Box<dyn Error>> {
        self.settings.check(kind)?;
        let options = SubjectOptions {
            annotations: self.annotations.clone(),
            questions: self.questions.clone(),
            classes: scenes::classes().map(String::from).collect(),
            limit: self.limit,
        };
        let subjects = Subjects::open(images, &options)?;
        if !kind.plain && !subjects.shows_objects() {
            return Err(format!(
                "{}: `{}` needs objects whose pixels are known: give a folder of scenes with masks/, or one in COCO's format with segmentations",
                images.display(),
                kind.name
            )
            .into());
        }
        let (settings, shard) = (self.settings(), self.shard.unwrap_or([1, 1]));
        Ok(Course { kind, settings, subjects, shard, stop_on_error: self.stop_on_error })
    }
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    match (&args.instead, args.kind, &args.images, &args.out) {
        (Some(Instead::List), ..) => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        (Some(Instead::Merge { dirs, out }), ..) => merge(dirs, out),
        (None, Some(kind), Some(images), Some(out)) => study(&args, kind, images, out),
        (None, ..) => Err("name a study, the folder of --images, and --out".into()),
    }
}

fn study(args: &Args, kind: &'static Kind, images: &Path, out: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let course = args.course(kind, images)?;
    let output = files::open(out)?;
    foresee(&course, out)?;
    let engine = args.model.load(args.model.open()?)?;
    let (header, measured) = measure(&course, &engine, out)?;
    finish(output, out, &header, &measured)
}

/// Refuses a folder whose record is of another study, as far as that is seen without a model.
fn foresee(course: &Course, out: &Path) -> Result<(), SurveyError> {
    let Ok((found, _)) = record::read(out) else { return Ok(()) };
    let expected = Header {
        study: course.kind.name.to_string(),
        settings: course.settings.clone(),
        n_images: course.subjects.all.len(),
        shard: course.shard,
        ..found
    };
    Record::open(out, &expected).map(|_| ())
}

/// Measures what is not measured yet. Every image is on disk as soon as it is.
fn measure(course: &Course, engine: &Engine, out: &Path) -> Result<(Header, Vec<Measured>), SurveyError> {
    let total = course.numbers().count();
    let progress = long_bar(total as u64, course.kind.name);
    let mut left_out = 0;
    let done = course.run(engine, out, &Cancel::default(), &mut |told| match told {
        Told::GoesOn(n) => {
            progress.set_position(n as u64);
            progress.reset_eta();
            progress.suspend(|| match n < total {
                true => eprintln!("goes on with image {} of {total}", n + 1),
                false => eprintln!("all {total} images are measured already"),
            });
        }
        Told::Image(one) => {
            for what in &one.left_out {
                left_out += 1;
                if left_out <= TOLD {
                    progress.suspend(|| eprintln!("left out: {}", omission(&one.image, what)));
                }
            }
            progress.inc(1);
        }
    });
    progress.finish_and_clear();
    if left_out > TOLD {
        eprintln!("left out: {} more", left_out - TOLD);
    }
    done
}

fn omission(image: &str, LeftOut { what, why }: &LeftOut) -> String {
    if what.is_empty() { format!("{image}: {why}") } else { format!("{image}, {what}: {why}") }
}

fn merge(dirs: &[PathBuf], out: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let (header, measured) = course::merge(dirs)?;
    known(&header.study)?;
    let output = files::open(out)?;
    // The whole has a record too, as if it had been measured in one piece.
    let (mut record, held) = Record::open(out, &header)?;
    let held: BTreeSet<usize> = held.iter().map(|one| one.number).collect();
    for one in measured.iter().filter(|one| !held.contains(&one.number)) {
        record.add(one)?;
    }
    finish(output, out, &header, &measured)
}

/// Writes what was found, and says in short what that is.
fn finish(
    output: Output,
    out: &Path,
    header: &Header,
    measured: &[Measured],
) -> Result<ExitCode, Box<dyn Error>> {
    let study = course::study(header, measured)?;
    let rows = course::table(known(&header.study)?, measured);
    files::write(output, &study, &rows)?;
    println!("{} of {}: {}", study.study, study.model.name, study.about);
    let [number, of] = header.shard;
    if of > 1 {
        println!("shard {number} of {of}: `sightline study merge` puts all {of} together");
    }
    println!("{} of {} images measured, {} rows", study.n_measured, study.n_images, rows.rows.len());
    if !study.left_out.is_empty() {
        println!("{} left out: {} says what and why", study.left_out.len(), files::STUDY);
    }
    for file in files::FILES {
        println!("{}", out.join(file).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of studies.
fn list() {
    for (n, kind) in kinds::ALL.iter().enumerate() {
        let gap = if n > 0 { "\n" } else { "" };
        println!("{gap}{:<10}{}", kind.name, kind.about);
        let mut more = vec![("from", kind.source.to_string()), ("costs", kind.cost.to_string())];
        let options = options_of(kind);
        if !options.is_empty() {
            more.push(("reads", options.join(", ")));
        }
        if !kind.plain {
            more.push(("needs", "objects whose pixels are known".to_string()));
        }
        for (what, text) in more {
            println!("{:<10}{what:<7}{text}", "");
        }
    }
    println!("\nAll read --prompt, --length and --seed. docs/studies.md has methods and columns.");
}
