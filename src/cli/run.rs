//! `sightline run`: the window's job without a window.

use std::{
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    slice::from_ref,
};

use sightline::{
    engine::{
        baseline::Baseline,
        check::Foreseen,
        event::RunEvent,
        inside::{check_square, square},
    },
    export::{
        folder::{self, SESSION},
        trace as data,
    },
    files::output::Output,
    progress::Cancel,
    spec::{
        experiment::Experiment,
        record::{Held, gigabytes},
    },
    studies::{
        compression::{self, Keep, ask_compressed},
        session::Session,
    },
    trace::{
        report::Report,
        run::Trace,
        words::{self, Word},
    },
};

use crate::cli::{
    bar::Bars,
    effects::EffectArgs,
    numbers,
    pictures::write_pictures,
    subject::{Opened, Plan, SubjectArgs, warn_of_unknown_words},
    summary::{print_extra, print_summary},
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Compare the intervention with the same on as many random visual tokens, so many times.
    #[arg(long, value_name = "DRAWS", value_parser = numbers::count)]
    control: Option<usize>,
    /// Also run the intervention from scratch, and report the largest difference; exit code 1 if that is too large.
    #[arg(long)]
    check: bool,
    /// Also write the whole [query, key] attention of a layer and head, of the uncut run. Repeatable.
    #[arg(long, value_name = "LAYER:HEAD", value_parser = numbers::layer_and_head)]
    square: Vec<(usize, usize)>,
    /// Also write the vision encoder's attention of this layer, of every tile. Repeatable.
    #[arg(long, value_name = "LAYER")]
    vision_attention: Vec<usize>,
    /// List where a word or phrase stands in prompt and answer. Repeatable.
    #[arg(long, value_name = "PHRASE")]
    find: Vec<String>,
    /// Keep the text and this percentage of the visual tokens, and ask the --ask questions against that.
    /// Repeatable.
    #[arg(long, value_name = "PERCENT", requires = "ask", value_parser = numbers::percent)]
    compress: Vec<f32>,
    /// A question for the compressed context. Repeatable.
    #[arg(long, value_name = "TEXT", requires = "compress")]
    ask: Vec<String>,
    /// Keep the first answer in the compressed context too.
    #[arg(long, requires = "compress")]
    keep_answer: bool,
    #[command(flatten)]
    effects: EffectArgs,
    /// Also write a heatmap PNG for every answer token, and the flow chart as SVG.
    #[arg(long)]
    pictures: bool,
    /// Colours of the heatmaps run from 0 to this attention, so that those of several runs can be compared; to the
    /// largest of the run if left out.
    #[arg(long, value_name = "MAX", requires = "pictures", value_parser = numbers::attention)]
    range: Option<f32>,
    /// Folder for trace.json, trace.safetensors and session.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Args {
    /// The window's job where there is no display: an uncut question, with pictures.
    pub fn plain(subject: SubjectArgs, out: &Path) -> Self {
        Args {
            subject,
            control: None,
            check: false,
            square: Vec::new(),
            vision_attention: Vec::new(),
            find: Vec::new(),
            compress: Vec::new(),
            ask: Vec::new(),
            keep_answer: false,
            effects: EffectArgs::default(),
            pictures: true,
            range: None,
            out: out.to_path_buf(),
        }
    }

    /// Refuses options that would change nothing, and numbers that no model has.
    fn check(&self) -> Result<(), Box<dyn Error>> {
        let subject = &self.subject;
        for (option, given) in [("--control", self.control.is_some()), ("--check", self.check)] {
            if given && !subject.intervenes() {
                return Err(format!(
                    "{option} has no effect without an intervention: add --knockout or --ablate, or leave it out"
                )
                .into());
            }
        }
        subject.check(self.control.is_some(), !self.compress.is_empty())?;
        self.effects.check()?;
        let records_nothing = subject.record.as_ref().is_some_and(|record| record.none);
        if self.pictures && records_nothing {
            return Err("--pictures has nothing to draw with --record none: leave one out".into());
        }
        if let Some(phrase) = self.find.iter().find(|phrase| phrase.trim().is_empty()) {
            return Err(format!("--find `{phrase}` has no word to look for").into());
        }
        once("--square", &self.square)?;
        once("--vision-attention", &self.vision_attention)?;
        once("--find", &self.find)?;
        once("--compress", &self.compress)?;
        once("--ask", &self.ask)?;
        Ok(())
    }

    /// What is held of the run at a time.
    fn held(&self, experiment: &Experiment) -> Held {
        if self.check { Held::Checked } else { experiment.held() }
    }

    /// Reads all but the weights, and refuses what they cannot be run for.
    fn plan(&self) -> Result<Planned, Box<dyn Error>> {
        let out = folder::open(&self.out)?;
        let plan = self.subject.plan(self.control.unwrap_or(0), false)?;
        let (folder, dtype) = (&plan.folder, self.subject.model.dtype);
        for &(layer, head) in &self.square {
            check_square(folder, layer, head)?;
        }
        for &layer in &self.vision_attention {
            folder.check_vision_layer(layer)?;
        }
        let images: Vec<_> = plan.framed.iter().collect();
        let foreseen = Foreseen::new(folder, dtype, &plan.experiment, &images)?;
        foreseen.allow(dtype, self.held(&plan.experiment))?;
        self.effects.foresee(folder, foreseen.max_new)?;
        if !self.compress.is_empty() {
            compression::check(&foreseen, &self.ask)?;
            warn_of_unknown_words(folder, &self.ask);
        }
        let rows = (foreseen.prompt.len() + foreseen.max_new - 1) as u64;
        let squares = self.square.len() as u64 * 4 * rows * rows;
        let limit = plan.experiment.record.limit;
        if squares > limit {
            return Err(format!(
                "--square: {} maps of {rows} x {rows} would take {}; the limit is {}: ask for fewer, or for a shorter answer, or raise --memory-limit",
                self.square.len(),
                gigabytes(squares),
                gigabytes(limit)
            )
            .into());
        }
        let session = Session::begin(&plan.folder.dir, dtype, from_ref(&plan.experiment))?;
        Ok(Planned { plan, session, out })
    }
}

/// What is known and held before the weights are read.
struct Planned {
    plan: Plan,
    session: Session,
    out: Output,
}

/// Refuses a repeatable option that says the same twice.
fn once<T: PartialEq + std::fmt::Debug>(option: &str, given: &[T]) -> Result<(), String> {
    let again = |(n, value): &(usize, &T)| given[..*n].contains(value);
    match given.iter().enumerate().find(again) {
        Some((_, value)) => Err(format!("{option} {value:?} is given twice: leave one out")),
        None => Ok(()),
    }
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    args.check()?;
    let Planned { plan, mut session, out } = args.plan()?;
    let cancel = Cancel::default();
    let (opened, experiment) = plan.open(&args.subject, &cancel)?;
    let engine = &opened.engine;
    let (baseline, report) = answer(&opened, &experiment, args.held(&experiment), &cancel)?;
    let scratch = match args.check && report.outcome.is_some() {
        true => Some(engine.scratch(&experiment, &opened.seen(), &cancel, &mut |_| {})?),
        false => None,
    };
    let difference = scratch.as_ref().map(|scratch| data::difference(&report.answer, scratch));
    let extra = extra(&args, &opened, &baseline, &report, &cancel)?;
    data::write(&report, difference, &extra, &out)?;
    let pictures = match args.pictures {
        true => Some(write_pictures(&report.answer, &extra.found, &opened, args.range, &out)?),
        false => None,
    };
    session.sha256.clone_from(&engine.info.sha256);
    session.sources.clone_from(&engine.info.sources);
    session.dtype = engine.vlm.dtype.typed().to_string();
    session.entries.iter_mut().for_each(|entry| entry.numbers = Some(report.numbers()));
    out.write(SESSION, session.text()?.as_bytes())?;
    out.commit()?;
    if let Some(said) = pictures {
        println!("{said}");
    }
    let half = args.subject.stores_half(engine);
    let checked = difference.map(|difference| (difference, difference.holds(half)));
    print_summary(&report, checked, &opened, &args.out);
    print_extra(&extra);
    // All is written, for whoever wants to see why.
    Ok(ExitCode::from(u8::from(checked.is_some_and(|(_, held)| !held))))
}

/// Runs the experiment, telling on stderr what goes on.
fn answer(
    opened: &Opened,
    experiment: &Experiment,
    held: Held,
    cancel: &Cancel,
) -> Result<(Baseline, Report), Box<dyn Error>> {
    let (engine, images) = (&opened.engine, opened.seen());
    engine.allow(experiment, &images, engine.prompt(&experiment.turns, &images)?.len(), held)?;
    let mut bars = Bars::default();
    let ran = engine.run(experiment, &images, cancel, &mut |event| match event {
        RunEvent::Prompt(prompt) => {
            eprintln!("prompt: {} tokens", prompt.len());
            let memory = engine.memory(experiment, &images, prompt.len(), held);
            let runs = match held {
                Held::Answer | Held::Baseline => "",
                Held::Intervention => " (attention of three answers: uncut, scored, new)",
                Held::Checked => " (attention of four answers: uncut, scored, new, new from scratch)",
            };
            eprintln!("keeps at most: {memory}{runs}");
        }
        RunEvent::Progress(progress) => bars.tell(progress),
        RunEvent::Start(_) | RunEvent::Scored { .. } => {}
        RunEvent::Token { token, .. } => {
            eprint!("{}", token.text);
            // A progress display: nothing is lost if stderr is closed.
            let _ = std::io::stderr().flush();
        }
    })?;
    eprintln!();
    Ok(ran)
}

/// What was asked for beside the answer.
fn extra(
    args: &Args,
    opened: &Opened,
    baseline: &Baseline,
    report: &Report,
    cancel: &Cancel,
) -> Result<data::Extra, Box<dyn Error>> {
    let engine = &opened.engine;
    let mut extra = data::Extra::default();
    for &(layer, head) in &args.square {
        extra.square(layer, head, square(engine, baseline, layer, head, cancel)?);
    }
    if !args.vision_attention.is_empty() {
        // The views of all images are numbered through.
        let mut number = 0;
        for image in &opened.images {
            let processed = engine.folder.process(image)?;
            for view in 0..processed.inputs.len() {
                for &layer in &args.vision_attention {
                    let (shape, values) = engine.vision_attention(&processed, view, layer, cancel)?;
                    extra.tensor(format!("vision.attn.{layer}.tile.{number}"), shape.to_vec(), values);
                }
                number += 1;
            }
        }
    }
    extra.found = args.find.iter().map(|phrase| (phrase.clone(), find(&report.answer, phrase))).collect();
    for &percent in &args.compress {
        let keep = Keep { percent, answer: args.keep_answer };
        let max_new = report.experiment.max_new;
        let images = opened.seen();
        extra.compression.push(ask_compressed(engine, baseline, keep, &args.ask, &images, max_new, cancel)?);
    }
    args.effects.find(opened, baseline, cancel, &mut extra)?;
    Ok(extra)
}

fn find(trace: &Trace, phrase: &str) -> Vec<Word> {
    let mut found = words::find(&words::prompt(trace), phrase);
    found.extend(words::find(&words::answer(trace), phrase));
    found
}
