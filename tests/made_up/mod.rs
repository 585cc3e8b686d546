//! A made-up model and made-up runs: every number follows from its place, so pictures repeat.
//!
//! Plays what a worker tells; knows nothing of windows.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{sync::Arc, time::Duration};

use image::{Rgb, RgbImage};
use sightline::{
    checkpoint::weights::WeightDtype,
    spec::{
        experiment::Experiment,
        knockout::Cut,
        picture::ImageSource,
        resolve::{Patches, Scope},
        span::Span,
    },
    trace::{
        diff,
        flow::{RowFlow, Shares, SpanFlow, of_row},
        geometry::{Geometry, Grid, Place, View},
        pattern::PatternRow,
        report::{Effect, End},
        run::{KnockoutReport, ModelInfo, Sources, Stop, Timing},
        tokens::{AnswerToken, Candidate, Cell, PromptToken, VisualRef},
    },
    worker::protocol::{Event, ImageView, ModelView, Row, RunId, ToldRow},
};

/// Side of the token grid.
pub const GRID: usize = 12;
/// Decoder layers.
pub const LAYERS: usize = 8;
/// Heads a layer.
pub const HEADS: usize = 4;

/// The made-up model.
pub fn model() -> ModelView {
    let info = ModelInfo {
        name: "made-up".into(),
        sha256: "0".repeat(64),
        family: "llava".into(),
        n_layers: LAYERS,
        n_heads: HEADS,
        n_kv_heads: HEADS,
        width: 128,
        vocabulary: 130,
        context: 1024,
        parameters: 2_412_345,
        deepstack: 0,
        sources: Sources {
            template: "chat_template.jinja".into(),
            weights: "model.safetensors".into(),
            tokenizer: "tokenizer.json".into(),
            end_tokens: "generation_config.json".into(),
            image_processor: "preprocessor_config.json".into(),
        },
    };
    ModelView {
        info,
        device: "CPU (burn-flex)".into(),
        dtype: WeightDtype::F32,
        formats: "float32 weights and KV cache".into(),
        unused: Vec::new(),
        folder: "model".into(),
        bundled: false,
    }
}

/// Where the made-up image comes from.
pub fn source() -> ImageSource {
    ImageSource::File("two discs.png".into())
}

/// A picture with a red disc at the top left, a blue one at the right, and sand around them.
pub fn image(source: ImageSource) -> ImageView {
    let pixels = RgbImage::from_fn(192, 192, |x, y| {
        let disc = |cx: i32, cy: i32, r: i32| (x as i32 - cx).pow(2) + (y as i32 - cy).pow(2) < r * r;
        match (disc(56, 56, 26), disc(140, 104, 30)) {
            (true, _) => Rgb([200, 40, 40]),
            (_, true) => Rgb([50, 80, 200]),
            _ => Rgb([210, 190, 140]),
        }
    });
    let grid = Grid { rows: GRID, cols: GRID };
    let view = View { place: Place::Whole, rect: [0.0, 0.0, 192.0, 192.0], grid, lead: 0 };
    ImageView {
        source,
        views: vec![Arc::new(pixels.clone())],
        picture: Arc::new(pixels),
        geometry: Geometry { source: (192, 192), rows: 0, cols: 0, views: vec![view] },
        description: "192x192, 12x12 patches of 16".into(),
        objects: None,
    }
}

/// The prompt of a question: bos, template, image, question, template, last.
pub fn prompt(question: &str) -> Vec<PromptToken> {
    let mut prompt = Vec::new();
    let mut push = |text: &str, span, visual| {
        let position = prompt.len();
        let id = text.bytes().fold(7, |id: u32, b| (id * 31 + b as u32) % 130);
        prompt.push(PromptToken { position, id, text: text.to_string(), span, visual, partial: false });
    };
    push("<s>", Span::Bos, None);
    push("user", Span::System, None);
    push(":", Span::System, None);
    for i in 0..GRID * GRID {
        let cell = Some(Cell { row: i / GRID, col: i % GRID });
        push("<image>", Span::Visual, Some(VisualRef { image: 0, view: 0, cell }));
    }
    question.split_whitespace().for_each(|word| push(word, Span::Question, None));
    push("assistant", Span::System, None);
    push(":", Span::Last, None);
    prompt
}

/// The answer: another one once the middle layers are cut.
fn words(cut_layers: usize) -> &'static [&'static str] {
    match cut_layers {
        0 => &["a", "red", "ball", "at", "the", "top", "left", "and", "a", "blue", "ball", "on", "sand", "."],
        1..=2 => {
            &["a", "red", "ball", "at", "the", "top", "left", "and", "a", "red", "ball", "on", "sand", "."]
        }
        _ => &["a", "duck", "at", "the", "top", "on", "sand", "."],
    }
}

/// What an experiment cuts, resolved.
pub fn cuts(experiment: &Experiment, prompt: &[PromptToken]) -> Vec<Cut> {
    let spans: Vec<Span> = prompt.iter().map(|t| t.span).collect();
    let scope = Scope {
        spans: &spans,
        patches: &Patches::default(),
        max_new: experiment.max_new,
        n_layers: LAYERS,
        n_heads: HEADS,
    };
    let knockouts = &experiment.intervention.knockouts;
    knockouts.iter().map(|k| k.resolve(&scope).expect("a valid knockout")).collect()
}

/// Token and row number `s` of an answer.
pub fn step(prompt: &[PromptToken], cuts: &[Cut], s: usize) -> Option<(AnswerToken, PatternRow)> {
    let cut_layers = (0..LAYERS).filter(|&l| cuts.iter().any(|c| c.layers[l])).count();
    let words = words(cut_layers);
    let (text, end) = match s.cmp(&words.len()) {
        std::cmp::Ordering::Less => (format!(" {}", words[s]), false),
        std::cmp::Ordering::Equal => ("</s>".to_string(), true),
        std::cmp::Ordering::Greater => return None,
    };
    let n_keys = prompt.len() + s;
    let row = prompt.len() - 1 + s;
    let mut data = Vec::with_capacity(LAYERS * HEADS * n_keys);
    for layer in 0..LAYERS {
        for head in 0..HEADS {
            let mut keys: Vec<f32> = (0..n_keys).map(|key| weight(prompt, s, layer, head, key)).collect();
            for (key, value) in keys.iter_mut().enumerate() {
                if cuts.iter().any(|c| c.layers[layer] && c.heads[head] && c.blocks(row, key)) {
                    *value = 0.0;
                }
            }
            let sum: f32 = keys.iter().sum();
            data.extend(keys.iter().map(|v| v / sum));
        }
    }
    let id = text.bytes().fold(3, |id: u32, b| (id * 31 + b as u32) % 130);
    let token = AnswerToken {
        position: prompt.len() + s,
        id,
        text: text.clone(),
        span: Span::Answer,
        entropy: Some(0.1 * (s % 7) as f32),
        logprob: -0.05 - 0.1 * (s % 3) as f32,
        top: vec![
            Candidate { id, text, logprob: -0.05 - 0.1 * (s % 3) as f32 },
            Candidate { id: 9, text: " duck".into(), logprob: -3.5 },
            Candidate { id: 11, text: " bus".into(), logprob: -4.5 },
        ],
        end,
        partial: false,
    };
    Some((token, PatternRow { n_layers: LAYERS, n_heads: HEADS, n_keys, data: Arc::new(data) }))
}

/// Unnormalised attention: early layers look at everything, middle ones at a disc, late ones at
/// text.
fn weight(prompt: &[PromptToken], s: usize, layer: usize, head: usize, key: usize) -> f32 {
    let Some(token) = prompt.get(key) else { return 2.0 + layer as f32 };
    match token.visual {
        Some(VisualRef { cell: Some(Cell { row, col }), .. }) => {
            let (cy, cx) = if s < 8 { (3.0, 3.0) } else { (6.0, 8.2) };
            let shift = head as f32 * 0.6 - 0.9;
            let d2 = (row as f32 - cy - shift).powi(2) + (col as f32 - cx + shift).powi(2);
            let focus = 1.0 - ((layer as f32 - 3.5) / 3.5).powi(2);
            0.08 + 1.5 * focus * (-d2 / 4.0).exp()
        }
        _ if token.span == Span::Bos => 6.0 + 2.0 * head as f32,
        _ => 1.0 + layer as f32 * 0.5,
    }
}

/// All tokens and rows of an answer.
pub fn steps(experiment: &Experiment) -> Vec<(AnswerToken, PatternRow)> {
    let prompt = prompt(&experiment.question());
    let cuts = cuts(experiment, &prompt);
    (0..experiment.max_new).map_while(|s| step(&prompt, &cuts, s)).collect()
}

/// A run begins.
pub fn started(id: RunId, experiment: &Experiment) -> Event {
    Event::Started { id, prompt: prompt(&experiment.question()), unknown_words: Vec::new() }
}

/// Answer token number `s` comes.
pub fn token(id: RunId, experiment: &Experiment, s: usize) -> Event {
    let (token, row) = steps(experiment).swap_remove(s);
    Event::Token { id, token, row: ToldRow::New(Row { pattern: row, resident: None }) }
}

/// Token number `s` of the uncut answer, as the cut scores it.
pub fn scored(id: RunId, experiment: &Experiment, s: usize) -> Event {
    let (token, _) = steps(&experiment.uncut()).swap_remove(s);
    let prompt = prompt(&experiment.question());
    let (_, row) = step(&prompt, &cuts(experiment, &prompt), s).expect("a row");
    let effect = Effect { baseline: -0.1, logprob: -0.3, delta: -0.2, rank: 0, kl: 0.01 };
    Event::Scored { id, token, effect, row: Some(Row { pattern: row, resident: None }) }
}

/// A run ends by itself.
pub fn done(id: RunId, experiment: &Experiment) -> Event {
    let stop = if steps(experiment).last().is_some_and(|(t, _)| t.end) { Stop::End } else { Stop::MaxNew };
    Event::Done { id, end: Box::new(end(experiment, stop)) }
}

/// Everything that is told of a run.
pub fn whole(id: RunId, experiment: &Experiment) -> Vec<Event> {
    let tokens = (0..steps(experiment).len()).map(|s| token(id, experiment, s));
    std::iter::once(started(id, experiment)).chain(tokens).chain([done(id, experiment)]).collect()
}

/// What is known of a run at its end.
pub fn end(experiment: &Experiment, stop: Stop) -> End {
    let ids = |e: &Experiment| steps(e).iter().map(|(t, _)| t.id).collect::<Vec<_>>();
    let cut = !experiment.intervention.is_empty();
    End {
        stop,
        knockouts: reports(experiment),
        timing: Timing {
            load: Duration::from_millis(120),
            encode: Duration::from_millis(60),
            prefill: Duration::from_millis(45),
            decode: Duration::from_millis(210),
            decode_steps: steps(experiment).len().saturating_sub(1),
        },
        dtype: "f32 throughout".into(),
        flow: Some(Arc::new(flow(experiment))),
        sinks: None,
        common: cut.then(|| diff::common(&ids(&experiment.uncut()), &ids(experiment))),
        control: None,
    }
}

/// What every span reads from every other: an answer's rows as their patterns say, the prompt's evenly what they see,
/// text the more the higher the layer.
pub fn flow(experiment: &Experiment) -> SpanFlow {
    let prompt = prompt(&experiment.question());
    let cuts = cuts(experiment, &prompt);
    let span = |position: usize| prompt.get(position).map_or(Span::Answer, |token| token.span);
    let even = |row: usize, layer: usize| -> Shares {
        let mut shares = [0.0; Span::COUNT];
        let seen = |key: &usize| !cuts.iter().any(|c| c.layers[layer] && c.blocks(row, *key));
        for key in (0..=row).filter(seen) {
            let text = if span(key) == Span::Visual { 0.0 } else { layer as f32 };
            shares[span(key).index()] += 1.0 + text;
        }
        let sum: f32 = shares.iter().sum();
        shares.map(|share| share / sum)
    };
    let before = (0..prompt.len() - 1).map(|row| (0..LAYERS).map(|layer| even(row, layer)).collect());
    let answer = steps(experiment).into_iter().map(|(_, row)| of_row(&row, span));
    let rows: Vec<Vec<Shares>> = before.chain(answer).collect();
    let data = (0..LAYERS).flat_map(|layer| rows.iter().flat_map(move |row| row[layer])).collect();
    SpanFlow::of(&RowFlow { n_layers: LAYERS, spans: (0..rows.len()).map(span).collect(), data })
}

fn reports(experiment: &Experiment) -> Vec<KnockoutReport> {
    let prompt = prompt(&experiment.question());
    let n = steps(experiment).len();
    let blocked = |cut: &Cut, s: usize| {
        (0..prompt.len() + s).filter(|&k| cut.blocks(prompt.len() - 1 + s, k)).count() as u64
    };
    let pairs = |cut: &Cut, layer: usize| match cut.layers[layer] {
        true => (0..n).map(|s| blocked(cut, s)).sum(),
        false => 0,
    };
    let cuts = cuts(experiment, &prompt);
    let knockouts = &experiment.intervention.knockouts;
    let report = |(knockout, cut): (&_, &Cut)| KnockoutReport {
        text: ToString::to_string(knockout as &sightline::spec::knockout::Knockout),
        pairs: (0..LAYERS).map(|layer| pairs(cut, layer)).collect(),
        blocked_mass: 0.0,
    };
    knockouts.iter().zip(&cuts).map(report).collect()
}
