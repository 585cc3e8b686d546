//! `sightline run`: the window's job without a window.

use std::{
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum as _;
use sightline::{
    engine::load::{Engine, RunEvent},
    export::{picture, trace as data},
    progress::Cancel,
    spec::span::Span,
    studies::{
        compression::{Compression, Keep},
        session::{Entry, FORMAT, Report, Session},
    },
    trace::{
        run::{PatternRow, Trace},
        words::{self, Word},
    },
};

use super::subject::{Opened, SubjectArgs};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Compare the intervention with the same on as many random visual tokens, so many times.
    #[arg(long, value_name = "DRAWS", default_value_t = 0)]
    control: usize,
    /// Also run the intervention from scratch, and report the largest difference.
    #[arg(long)]
    check: bool,
    /// Also write the whole [query, key] attention of a layer and head, of the uncut run. Repeatable.
    #[arg(long, value_name = "LAYER:HEAD", value_parser = layer_and_head)]
    square: Vec<(usize, usize)>,
    /// Also write the vision encoder's attention of this layer, of every tile. Repeatable.
    #[arg(long, value_name = "LAYER")]
    vision_attention: Vec<usize>,
    /// List where a word or phrase stands in prompt and answer. Repeatable.
    #[arg(long, value_name = "PHRASE")]
    find: Vec<String>,
    /// Keep the text and this percentage of the visual tokens, and ask the --ask questions against that.
    /// Repeatable.
    #[arg(long, value_name = "PERCENT", requires = "ask")]
    compress: Vec<f32>,
    /// A question for the compressed context. Repeatable.
    #[arg(long, value_name = "TEXT", requires = "compress")]
    ask: Vec<String>,
    /// Keep the first answer in the compressed context too.
    #[arg(long, requires = "compress")]
    keep_answer: bool,
    /// Also write a heatmap PNG for every answer token, and the flow chart as SVG.
    #[arg(long)]
    pictures: bool,
    /// Folder for trace.json, trace.safetensors and session.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn layer_and_head(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(':').and_then(|(l, h)| Some((l.parse().ok()?, h.parse().ok()?)));
    parts.ok_or_else(|| format!("`{text}` is not LAYER:HEAD, for example 3:0"))
}

impl Args {
    /// The window's job where there is no display: an uncut question, with pictures.
    pub fn plain(subject: SubjectArgs, out: &Path) -> Self {
        Args {
            subject,
            control: 0,
            check: false,
            square: Vec::new(),
            vision_attention: Vec::new(),
            find: Vec::new(),
            compress: Vec::new(),
            ask: Vec::new(),
            keep_answer: false,
            pictures: true,
            out: out.to_path_buf(),
        }
    }
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let cancel = Cancel::default();
    let opened = args.subject.open(&cancel)?;
    let engine = &opened.engine;
    let experiment = args.subject.experiment(engine, args.control)?;
    let gradients = super::bar(0, "gradients");
    let report = engine.experiment(&experiment, &opened.seen, &cancel, &mut |event| match event {
        RunEvent::Prompt(prompt) => {
            eprintln!("prompt: {} tokens", prompt.len());
            let memory = engine.memory(&experiment.spec, prompt.len(), true);
            let runs = if experiment.spec.intervention.is_empty() {
                ""
            } else {
                " (attention three times: uncut, scored, new)"
            };
            eprintln!("keeps at most: {memory}{runs}");
        }
        RunEvent::Gradients { done, total } => {
            gradients.set_length(total as u64);
            gradients.set_position(done as u64);
            if done == total {
                gradients.finish_and_clear();
            }
        }
        RunEvent::Prefilled(_) => {}
        RunEvent::Token { token, .. } => {
            eprint!("{}", token.text);
            // A progress display: nothing is lost if stderr is closed.
            let _ = std::io::stderr().flush();
        }
    })?;
    eprintln!();
    let scratch = match args.check && report.outcome.is_some() {
        true => Some(engine.run(&experiment.spec, &[&opened.seen], &cancel, &mut |_| {})?),
        false => None,
    };
    let difference = scratch.as_ref().map(|scratch| data::difference(report.trace(), scratch));
    let mut extra = data::Extra::default();
    for &(layer, head) in &args.square {
        extra.square(layer, head, engine.square(&report.baseline, layer, head, &cancel)?);
    }
    for &layer in &args.vision_attention {
        for (tile, part) in opened.seen.processed.tiles.iter().enumerate() {
            let (shape, values) = engine.vision_attention(&part.pixels, layer, &cancel)?;
            extra.tensor(format!("vision.attn.{layer}.tile.{tile}"), shape.to_vec(), values);
        }
    }
    extra.found = args.find.iter().map(|phrase| (phrase.clone(), find(report.trace(), phrase))).collect();
    for &percent in &args.compress {
        let keep = Keep { percent, answer: args.keep_answer };
        let max_new = experiment.spec.max_new;
        let images = [&opened.seen];
        let found = engine.ask_compressed(&report.baseline, keep, &args.ask, &images, max_new, &cancel)?;
        extra.compression.push(found);
    }
    data::write(&report, difference, &extra, &args.out)?;
    write_session(&args, engine, &experiment, &report)?;
    if args.pictures {
        write_pictures(report.trace(), &extra.found, &opened, &args.out)?;
    }
    print_summary(&report, difference, &opened, &args.out);
    print_extra(&extra);
    Ok(ExitCode::SUCCESS)
}

fn find(trace: &Trace, phrase: &str) -> Vec<Word> {
    let mut found = words::find(&words::prompt(trace), phrase);
    found.extend(words::find(&words::answer(trace), phrase));
    found
}

fn write_session(
    args: &Args,
    engine: &Engine,
    experiment: &sightline::studies::session::Experiment,
    report: &Report,
) -> Result<(), Box<dyn Error>> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut experiment = experiment.clone();
    if let Some(object) = &mut experiment.object {
        object.file = absolute(&object.file);
    }
    let dtype = args.subject.model.dtype.to_possible_value();
    let session = Session {
        format: FORMAT.to_string(),
        model: absolute(&args.subject.model.folder()),
        sha256: engine.info.sha256.clone(),
        dtype: dtype.map_or(String::new(), |v| v.get_name().to_string()),
        entries: vec![Entry {
            image: absolute(&args.subject.image),
            experiment,
            numbers: Some(report.numbers()),
        }],
    };
    Ok(session.write(&args.out.join("session.json"))?)
}

/// One heatmap a token and a found phrase, from the layer whose head mean looks at the image most, all on
/// one range.
fn write_pictures(
    trace: &Trace,
    found: &[(String, Vec<Word>)],
    opened: &Opened,
    out: &Path,
) -> Result<(), Box<dyn Error>> {
    let (patches, _) = opened.engine.patches(&opened.seen.processed);
    let visual: Vec<usize> =
        trace.prompt.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect();
    let rows: Vec<(usize, PatternRow)> = trace.rows().collect();
    // Mean over some rows and all heads, by layer, at the visual tokens.
    let map = |rows: &[&PatternRow]| {
        let layers = rows.first().map_or(0, |row| row.n_layers);
        let mean = |layer: usize| -> Vec<f32> {
            let means: Vec<Vec<f32>> = rows.iter().map(|row| row.head_mean(layer)).collect();
            let of = |&key: &usize| means.iter().map(|m| m[key]).sum::<f32>() / means.len() as f32;
            visual.iter().map(of).collect()
        };
        let maps: Vec<Vec<f32>> = (0..layers).map(mean).collect();
        let share = |l: &usize| maps[*l].iter().sum::<f32>();
        let layer = (0..layers).max_by(|a, b| share(a).total_cmp(&share(b)))?;
        Some((trace.kept.layers[layer], maps[layer].clone()))
    };
    let mut maps: Vec<(String, usize, Vec<f32>)> = Vec::new();
    for (s, row) in &rows {
        let word: String = trace.answer[*s].text.chars().filter(|c| c.is_alphanumeric()).collect();
        maps.extend(map(&[row]).map(|(layer, map)| (format!("token_{s:02}_{word}"), layer, map)));
    }
    for word in found.iter().flat_map(|(_, words)| words) {
        // The row that predicted a token is kept under the token's place in the answer.
        let place = |p: &usize| p.checked_sub(trace.prompt.len());
        let places: Vec<usize> = word.positions.iter().filter_map(place).collect();
        let here: Vec<&PatternRow> =
            rows.iter().filter(|(s, _)| places.contains(s)).map(|(_, row)| row).collect();
        if let (Some(first), Some((layer, map))) = (places.first(), map(&here)) {
            let name: String = word.text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
            maps.push((format!("phrase_{first:02}_{name}"), layer, map));
        }
    }
    let max = maps.iter().flat_map(|(_, _, m)| m.iter().copied()).fold(0.0, f32::max);
    for (name, layer, map) in &maps {
        let picture = picture::heatmap(&opened.image, &patches, map, max);
        picture::save_png(&picture, &out.join(format!("{name}_layer_{layer}.png")))?;
    }
    picture::save_flow_svg(trace, &out.join("flow.svg"))?;
    println!("heatmaps: token_*.png, colours from 0 to {max:.4}; flow chart: flow.svg");
    Ok(())
}

fn print_summary(report: &Report, difference: Option<data::Difference>, opened: &Opened, out: &Path) {
    let trace = report.trace();
    let t = &trace.timing;
    println!("model: {} ({} parameters, {})", trace.model.name, trace.model.parameters, trace.dtype);
    println!("device: {}", trace.device);
    println!("image: {}", opened.seen.processed.describe());
    println!("prompt: {} tokens", trace.prompt.len());
    for span in Span::ALL {
        let n = trace.prompt.iter().filter(|t| t.span == span).count();
        if n > 0 {
            println!("  {}: {n}", span.name());
        }
    }
    println!("answer: {}", trace.answer_text());
    for k in &trace.knockouts {
        let (pairs, mass) = (k.total_pairs(), k.blocked_mass);
        println!("knockout: {}: {pairs} pairs blocked, largest attention left on them {mass}", k.text);
    }
    if let Some(outcome) = &report.outcome {
        print_outcome(report, outcome);
    }
    if let Some(d) = difference {
        println!(
            "from scratch: {}; largest difference of a log probability {:.1e}, of attention {:.1e}",
            if d.same_tokens { "the same tokens" } else { "OTHER TOKENS" },
            d.logprob,
            d.attention
        );
    }
    let speed = t.tokens_per_second().map(|s| format!(", decode {s:.1} tokens/s")).unwrap_or_default();
    println!(
        "time: load {:.2} s, encode {:.2} s, prefill {:.2} s{speed}",
        t.load.as_secs_f64(),
        t.encode.as_secs_f64(),
        t.prefill.as_secs_f64()
    );
    println!("written: {}", std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf()).display());
}

fn print_outcome(report: &Report, outcome: &sightline::engine::resume::Outcome) {
    println!("uncut answer: {}", report.baseline.trace.answer_text());
    match outcome.start {
        Some(s) => println!("started at layer {}, row {}: {} rows in one pass", s.layer, s.row, s.rows),
        None => println!("touches nothing: the uncut run stands"),
    }
    println!("the uncut answer under the intervention, token by token:");
    println!("  {:<16} {:>9} {:>9} {:>9} {:>6} {:>9}", "token", "before", "now", "change", "rank", "KL");
    for (token, e) in report.baseline.trace.answer.iter().zip(&outcome.effects) {
        println!(
            "  {:<16} {:>9.4} {:>9.4} {:>9.4} {:>6} {:>9.4}",
            token.text, e.baseline, e.logprob, e.delta, e.rank, e.kl
        );
    }
    if let Some(control) = &report.control {
        let (d, k) = (&control.delta, &control.kl);
        println!(
            "control, {} draws of as many random patches: change in log probability {:.4} +- {:.4} (intervention {:.4}), KL {:.4} +- {:.4} (intervention {:.4})",
            d.draws.len(),
            d.mean,
            d.sd,
            d.intervention,
            k.mean,
            k.sd,
            k.intervention
        );
    }
}

fn print_extra(extra: &data::Extra) {
    for (phrase, words) in &extra.found {
        let places: Vec<String> = words.iter().map(|w| format!("{:?}", w.positions)).collect();
        let places = if places.is_empty() { "nowhere".to_string() } else { places.join(", ") };
        println!("`{phrase}`: positions {places}");
    }
    for Compression { percent, tokens, visual, full_tokens, questions, same, agreement } in &extra.compression
    {
        println!(
            "context with {percent} % of the visual tokens: {tokens} of {full_tokens} tokens a layer ({visual} visual); {:.0} % of {} answers the same, token agreement {agreement:.3}",
            same * 100.0,
            questions.len()
        );
        for q in questions {
            println!("  {}: {} | whole context: {}", q.question, q.compressed, q.full);
        }
    }
}
