//! Interventions that start from a kept run, against the same from scratch; and what they are made of:
//! sets of patches, ablations, recordings, controls, sampling.
//!
//! On the CPU a resumed run equals one from scratch to the last bit: a row comes out the same alone and
//! among others (`model/cpu.rs`). `SIGHTLINE_SPECS=1000` tries that many random interventions instead
//! of a few.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
    thread,
    time::Duration,
};

use burn::tensor::{Tensor, TensorData};
use image::{GrayImage, Luma};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::{
        answer::Baseline,
        decoding::{Decoding, DecodingError, host, log_softmax},
        gradient,
        load::{Engine, RunError, RunEvent, Seen},
        resume::{Effect, Outcome, Start, totals},
    },
    progress::Cancel,
    spec::{
        experiment::{Intervention, ObjectMask, Record, RunSpec, Sampling},
        span::Span,
    },
    studies::session::Experiment,
    trace::run::{AnswerToken, PatternRow, Stop, Trace},
};
use tempfile::TempDir;

mod common;
use common::{fixture, tiled_model};

/// Log probabilities agree within this, in nats, with what is computed in another way: by hand, or with
/// gradients.
const NATS: f32 = 2e-4;
/// A question with a short answer.
const SHORT: &str = "what is the background?";
/// One whose answer must be looked up in the image.
const LEFT: &str = "what is at the left?";

static ENGINE: LazyLock<Engine> = LazyLock::new(|| load(&bundled::model()));
static SEEN: LazyLock<Seen> = LazyLock::new(|| with_object(&ENGINE, 0, 3));

/// An Idefics3 with tiles and shared key heads; its folder lives as long.
static TILED: LazyLock<(TempDir, Engine)> = LazyLock::new(|| {
    let dir = tiled_model(512);
    let engine = load(dir.path());
    (dir, engine)
});

fn load(dir: &Path) -> Engine {
    Engine::load(dir, &device::cpu(), WeightDtype::F32).unwrap()
}

fn scene(n: usize) -> PathBuf {
    bundled::scenes().join(format!("images/{n:06}.png"))
}

fn mask(n: usize, value: u8) -> ObjectMask {
    let file = bundled::scenes().join(format!("masks/{n:06}.png"));
    ObjectMask { file, value: Some(value), share: 0.0 }
}

/// A sample scene with one of its objects marked.
fn with_object(engine: &Engine, n: usize, value: u8) -> Seen {
    engine.look(&scene(n), Some(&mask(n, value)), &Cancel::default(), &mut |_, _| {}).unwrap().1
}

fn see(engine: &Engine, file: &Path) -> Seen {
    engine.look(file, None, &Cancel::default(), &mut |_, _| {}).unwrap().1
}

fn intervention(knockouts: &[&str], ablations: &[&str]) -> Intervention {
    Intervention {
        knockouts: knockouts.iter().map(|k| k.parse().unwrap()).collect(),
        ablations: ablations.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

fn with(spec: &RunSpec, intervention: &Intervention) -> RunSpec {
    RunSpec { intervention: intervention.clone(), ..spec.clone() }
}

fn every(spec: RunSpec, residuals_every: usize) -> RunSpec {
    RunSpec { record: Record { residuals_every, ..spec.record.clone() }, ..spec }
}

fn run(engine: &Engine, seen: &Seen, spec: &RunSpec) -> Result<Trace, RunError> {
    engine.run(spec, &[seen], &Cancel::default(), &mut |_| {})
}

fn keep(engine: &Engine, seen: &Seen, spec: &RunSpec) -> Result<Baseline, RunError> {
    engine.keep(spec, &[seen], &Cancel::default(), &mut |_| {})
}

fn intervene(
    engine: &Engine,
    seen: &Seen,
    baseline: &Baseline,
    intervention: &Intervention,
) -> Result<Outcome, RunError> {
    engine.intervene(baseline, intervention, &[seen], &Cancel::default(), &mut |_| {})
}

fn ids(trace: &Trace) -> Vec<u32> {
    trace.answer.iter().map(|t| t.id).collect()
}

fn visual(trace: &Trace) -> Vec<usize> {
    trace.prompt.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect()
}

fn patterns(trace: &Trace) -> Vec<f32> {
    trace.rows().flat_map(|(_, row)| row.data.to_vec()).collect()
}

fn refused<T>(outcome: Result<T, RunError>) -> String {
    outcome.err().map_or_else(|| "it was accepted".to_string(), |e| e.to_string())
}

// ------------------------------------------------------------------------ resumed against scratch

/// Asserts that two runs are the same one, to the last bit.
fn same(resumed: &Trace, scratch: &Trace, what: &str) {
    assert_eq!(ids(resumed), ids(scratch), "{what}");
    let bits = |t: &AnswerToken| -> Vec<u32> {
        let top = t.top.iter().map(|c| c.logprob);
        top.chain([t.logprob]).map(f32::to_bits).collect()
    };
    for (a, b) in resumed.answer.iter().zip(&scratch.answer) {
        assert_eq!((&a.text, a.position, a.end), (&b.text, b.position, b.end), "{what}");
        assert_eq!(bits(a), bits(b), "{what}: token at {}", a.position);
    }
    let rows: BTreeMap<usize, PatternRow> = resumed.rows().collect();
    assert_eq!(rows.len(), scratch.rows().count(), "{what}");
    for (s, row) in scratch.rows() {
        let other = &rows[&s];
        let shape = |r: &PatternRow| (r.n_layers, r.n_heads, r.n_keys);
        assert_eq!(shape(&row), shape(other), "{what}");
        let bits = |r: &PatternRow| r.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&row) == bits(other), "{what}: attention of answer row {s}");
    }
    assert_eq!(resumed.stop, scratch.stop, "{what}");
    assert_eq!(resumed.kept, scratch.kept, "{what}");
    assert_eq!(resumed.prompt, scratch.prompt, "{what}");
    let proof = |t: &Trace| -> Vec<(String, Vec<u64>, f32)> {
        t.knockouts.iter().map(|k| (k.text.clone(), k.pairs.clone(), k.blocked_mass)).collect()
    };
    assert_eq!(proof(resumed), proof(scratch), "{what}");
    assert!(proof(resumed).iter().all(|(.., left)| *left == 0.0), "{what}");
}

/// Random interventions on one engine and image.
struct Trials<'a> {
    engine: &'a Engine,
    seen: &'a Seen,
    rng: ChaCha8Rng,
    n_visual: usize,
    /// Rows and columns of the grid of patches.
    grid: (usize, usize),
    n_layers: usize,
    donors: Vec<String>,
    baselines: BTreeMap<(usize, usize, bool), Baseline>,
    /// Compared, of these unchanged by the intervention; refused.
    counts: [usize; 3],
}

const PROMPTS: [(&str, usize); 3] = [(bundled::PROMPT, 7), (LEFT, 6), (SHORT, 5)];

impl<'a> Trials<'a> {
    fn new(engine: &'a Engine, seen: &'a Seen, grid: (usize, usize), donors: Vec<String>) -> Self {
        Trials {
            engine,
            seen,
            rng: ChaCha8Rng::seed_from_u64(7),
            n_visual: seen.embeds.dims()[0],
            grid,
            n_layers: engine.info.n_layers,
            donors,
            baselines: BTreeMap::new(),
            counts: [0; 3],
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.rng.random_range(0..from.len())].to_string()
    }

    /// A range within `0..n`, as written.
    fn range(&mut self, n: usize) -> String {
        let a = self.rng.random_range(0..n);
        match self.rng.random_range(0..4) {
            0 => format!("{a}"),
            1 => format!("{a}-"),
            2 => format!("{a}~{}", self.rng.random_range(0..3)),
            _ => format!("{a}-{}", self.rng.random_range(a..n)),
        }
    }

    fn numbers(&mut self, n: usize) -> String {
        let range = self.range(n);
        match self.rng.random_range(0..5) {
            0 => "all".to_string(),
            1 => format!("!{range}"),
            2 => format!("{range},{}", self.range(n)),
            _ => range,
        }
    }

    fn cells(&mut self) -> String {
        let mut one = |n: usize| {
            let a = self.rng.random_range(0..n);
            format!("{a}-{}", self.rng.random_range(a..n))
        };
        let (rows, cols) = self.grid;
        format!("{}:{}", one(rows), one(cols))
    }

    /// Some visual tokens.
    fn patches(&mut self) -> String {
        let n = self.n_visual;
        let term = match self.rng.random_range(0..7) {
            0 => format!("visual[{}]", self.range(n)),
            1 => format!("visual[{}]", self.cells()),
            2 => format!("random[{}]", self.range(n)),
            3 => "object".to_string(),
            4 => "lastrow".to_string(),
            5 => format!("visual[{},{}]", self.range(n), self.cells()),
            _ => "visual".to_string(),
        };
        if self.chance(4) { format!("{term}~{}", self.rng.random_range(1..3)) } else { term }
    }

    fn term(&mut self) -> String {
        match self.rng.random_range(0..10) {
            0..5 => self.patches(),
            5 => self.pick(&["bos", "system", "question", "question[0-1]", "whole", "markers", "register"]),
            6 => self.pick(&["last", "decode", "answer[0-1]", "decode[0]", "answer[1]"]),
            7 => format!("pos[{}]", self.range(self.n_visual + 4)),
            8 => self.pick(&["all - bos", "all - pos[0-1]", "pos[3-] - last", "all"]),
            _ => "answer".to_string(),
        }
    }

    fn set(&mut self) -> String {
        let mut set = self.term();
        while self.chance(4) {
            set += if self.chance(3) { " - " } else { " + " };
            set += &self.term();
        }
        set
    }

    fn intervention(&mut self) -> Intervention {
        let knockout = |t: &mut Self| {
            let query = if t.chance(2) { "answer".to_string() } else { t.set() };
            let (key, layers) = (t.set(), t.numbers(t.n_layers));
            let heads = if t.chance(2) { format!(" # {}", t.numbers(4)) } else { String::new() };
            format!("{query} -> {key} @ {layers}{heads}").parse().unwrap()
        };
        let ablation = |t: &mut Self| {
            let fill = match t.rng.random_range(0..3) {
                0 => "mean".to_string(),
                1 => "zero".to_string(),
                _ => t.donors[t.rng.random_range(0..t.donors.len())].clone(),
            };
            let tokens = t.patches();
            let tokens = if t.chance(4) { format!("{tokens} - lastrow") } else { tokens };
            format!("{tokens} = {fill}").parse().unwrap()
        };
        let (cuts, ablations) = (self.rng.random_range(1..=3), [0, 0, 1, 1, 2][self.rng.random_range(0..5)]);
        Intervention {
            knockouts: (0..cuts).map(|_| knockout(self)).collect(),
            ablations: (0..ablations).map(|_| ablation(self)).collect(),
        }
    }

    fn trial(&mut self) {
        let prompt = self.rng.random_range(0..PROMPTS.len());
        let (every_nth, sampled) = (self.rng.random_range(1..=3), self.chance(2));
        let intervention = self.intervention();
        let (engine, seen) = (self.engine, self.seen);
        let baseline = self.baselines.entry((prompt, every_nth, sampled)).or_insert_with(|| {
            let (text, max_new) = PROMPTS[prompt];
            let sampling = sampled.then_some(Sampling { temperature: 1.5, top_p: 0.95 });
            let spec = RunSpec { sampling, seed: 3, ..RunSpec::ask(text, max_new) };
            keep(engine, seen, &every(spec, every_nth)).unwrap()
        });
        let spec = with(&baseline.spec, &intervention);
        let written = serde_json::to_string(&spec).unwrap();
        let resumed = intervene(engine, seen, baseline, &intervention);
        let scratch = keep(engine, seen, &spec);
        let (resumed, scratch) = match (resumed, scratch) {
            (Ok(resumed), Ok(scratch)) => (resumed, scratch),
            (Err(resumed), Err(scratch)) => {
                assert_eq!(resumed.to_string(), scratch.to_string(), "{written}");
                self.counts[2] += 1;
                return;
            }
            (resumed, scratch) => {
                panic!("{written}: resumed {:?}, scratch {:?}", resumed.err(), scratch.err())
            }
        };
        self.counts[0] += 1;
        self.counts[1] += usize::from(resumed.start.is_none());

        same(&resumed.free, &scratch.trace, &written);
        let forced = RunSpec { forced_answer: Some(baseline.ids()), ..spec };
        let mut forced = match run(engine, seen, &forced) {
            Ok(forced) => forced,
            // Rows past the baseline's answer are there for the model's own answer only.
            Err(e) if e.to_string().contains("does not exist") => return,
            Err(e) => panic!("{written}: {e}"),
        };
        if resumed.start.is_none() {
            // The stored answer itself, which ended by its own will.
            forced.stop = baseline.trace.stop;
        }
        same(&resumed.forced, &forced, &written);
        for (effect, (before, after)) in
            resumed.effects.iter().zip(baseline.trace.answer.iter().zip(&forced.answer))
        {
            assert_eq!(effect.baseline, before.logprob, "{written}");
            assert_eq!(effect.logprob, after.logprob, "{written}");
        }
        assert_eq!(resumed.effects.len(), forced.answer.len(), "{written}");
    }

    fn run(mut self, default: usize) {
        let specs = std::env::var("SIGHTLINE_SPECS").map_or(default, |n| n.parse().unwrap());
        while self.counts[0] < specs {
            self.trial();
        }
        let [compared, unchanged, refused] = self.counts;
        println!(
            "{}: {compared} random interventions, all the same to the last bit ({unchanged} touch nothing), \
             {refused} more refused alike",
            self.engine.info.family,
        );
        assert!(refused < compared, "most of what is tried must be compared, not refused");
        assert!((compared - unchanged) * 2 > compared, "most of it must touch something");
    }
}

/// A folder of two scenes, for the mean of other images.
fn two_scenes() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in [4, 9] {
        std::fs::copy(scene(n), dir.path().join(format!("{n}.png"))).unwrap();
    }
    dir
}

#[test]
fn resuming_gives_what_running_from_scratch_gives() {
    let others = two_scenes();
    let donors = vec![
        format!("image:{}", scene(1).display()),
        format!("mean:{}", others.path().display()),
        format!("image:{}", scene(2).display()),
    ];
    Trials::new(&ENGINE, &SEEN, (12, 12), donors).run(60);
}

/// 2 x 2 tiles, with part of the picture marked.
fn tiled_seen(engine: &Engine) -> Seen {
    let mut seen = see(engine, &fixture("processing/images/gradient_200x120.png"));
    let mask = GrayImage::from_fn(200, 120, |x, y| Luma([u8::from((60..130).contains(&x) && y < 50)]));
    engine.mark(&mut seen, &mask, &ObjectMask { file: "mask".into(), value: None, share: 0.5 }).unwrap();
    assert_eq!(seen.embeds.dims(), [5 * 16, 64]);
    seen
}

#[test]
fn resuming_gives_the_same_with_tiles_and_shared_key_heads() {
    let engine = &TILED.1;
    let seen = tiled_seen(engine);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("processing/images/grey_300x75.png"), folder.path().join("a.png")).unwrap();
    let donors = vec![
        format!("image:{}", fixture("processing/images/scene_640x427.png").display()),
        format!("mean:{}", folder.path().display()),
    ];
    Trials::new(engine, &seen, (8, 8), donors).run(60);
}

#[test]
fn resumed_answers_end_where_and_as_scratch_answers_end() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    // Cuts that make the model stop earlier, later, or say the end token at the last place.
    for (prompt, max_new) in
        [(SHORT, 12), (bundled::PROMPT, 9), ("is there a rabbit?", 2), ("is there a rabbit?", 1)]
    {
        let baseline = keep(engine, seen, &RunSpec::ask(prompt, max_new)).unwrap();
        for cut in [
            "answer -> visual @ all",
            "decode -> visual @ 0-2",
            "last -> question @ all",
            "answer -> all - bos @ 1-",
        ] {
            let cut = intervention(&[cut], &[]);
            let scratch = run(engine, seen, &with(&baseline.spec, &cut)).unwrap();
            let resumed = intervene(engine, seen, &baseline, &cut).unwrap();
            same(&resumed.free, &scratch, &format!("{prompt} {cut:?}"));
        }
    }
}

#[test]
fn an_answer_that_fills_the_context_says_so_however_it_was_made() {
    let dir = tiled_model(120);
    let engine = load(dir.path());
    let seen = see(&engine, &fixture("processing/images/gradient_200x120.png"));
    let baseline = keep(&engine, &seen, &RunSpec::ask("what?", 500)).unwrap();
    let cut = intervention(&["answer -> visual @ all"], &[]);
    let scratch = run(&engine, &seen, &with(&baseline.spec, &cut)).unwrap();
    assert_eq!((baseline.trace.stop, scratch.stop), (Stop::Context, Stop::Context));
    assert_ne!(ids(&baseline.trace), ids(&scratch));
    let resumed = intervene(&engine, &seen, &baseline, &cut).unwrap().free;
    same(&resumed, &scratch, "context");
}

#[test]
fn touching_nothing_returns_the_stored_baseline() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    for sampling in [None, Some(Sampling { temperature: 1.5, top_p: 0.9 })] {
        let spec = RunSpec { sampling, ..RunSpec::ask(bundled::PROMPT, 8) };
        let baseline = keep(engine, seen, &spec).unwrap();
        // Acausal; past the answer's end.
        for cuts in
            [vec![], vec!["bos -> visual @ all", "visual -> answer @ 2", "answer[7] -> decode[7-] @ 1"]]
        {
            let outcome = intervene(engine, seen, &baseline, &intervention(&cuts, &[])).unwrap();
            assert_eq!(outcome.start, None);
            for trace in [&outcome.free, &outcome.forced] {
                assert_eq!(trace.answer, baseline.trace.answer);
                assert_eq!(trace.stop, baseline.trace.stop);
                assert_eq!(patterns(trace), patterns(&baseline.trace));
                assert_eq!(trace.knockouts.len(), cuts.len());
                assert!(trace.knockouts.iter().all(|k| k.total_pairs() == 0 && k.blocked_mass == 0.0));
            }
            for (s, effect) in outcome.effects.iter().enumerate() {
                assert_eq!((effect.delta, effect.kl), (0.0, 0.0));
                assert!(sampling.is_some() || effect.rank == 0, "token {s} was the likeliest");
            }
            assert_eq!(outcome.effects.len(), baseline.trace.answer.len());
            assert!(outcome.common.0.iter().chain(&outcome.common.1).all(|c| *c));
        }
    }
}

#[test]
fn effects_are_what_the_logits_say() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &RunSpec::ask(bundled::PROMPT, 10)).unwrap();
    let cut = intervention(&["answer -> visual @ all"], &[]);
    let effects = engine.score(&baseline, &cut, &[seen], &Cancel::default()).unwrap().effects;
    assert_eq!(effects, intervene(engine, seen, &baseline, &cut).unwrap().effects);
    let spec = RunSpec { forced_answer: Some(baseline.ids()), ..with(&baseline.spec, &cut) };
    let scratch = keep(engine, seen, &spec).unwrap();
    for (s, effect) in effects.iter().enumerate() {
        let wide = |logits: &[f32]| -> Vec<f64> {
            let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            logits.iter().map(|&l| f64::from(l) - sum.ln()).collect()
        };
        let (p, q) = (wide(&baseline.logits[s]), wide(&scratch.logits[s]));
        let id = baseline.ids()[s] as usize;
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() <= f64::from(NATS);
        assert!(close(effect.baseline, p[id]) && close(effect.logprob, q[id]), "{s}");
        assert!(close(effect.delta, q[id] - p[id]), "{s}");
        assert!(close(effect.kl, kl) && effect.kl >= -1e-6, "{s}: {} {kl}", effect.kl);
        let likelier = |by: f64| q.iter().filter(|&&l| l > q[id] + by).count();
        assert!((likelier(1e-3)..=likelier(-1e-3)).contains(&effect.rank), "{s}");
        assert_eq!(p.iter().filter(|&&l| l > p[id]).count(), 0, "greedy");
    }
    let (delta, kl) = totals(&effects);
    assert!(delta < -1.0 && kl > 0.1, "{delta} {kl}");
    let sum: f32 = effects.iter().map(|e| e.delta).sum();
    assert!((delta - sum).abs() < 1e-4);
    assert_eq!(Effect::new(&[0.0, 1.0], &[1.0, 0.0], 1).rank, 1);
}

// ---------------------------------------------------------------------------------------- starting

#[test]
fn an_intervention_starts_at_its_lowest_layer_and_first_row() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = RunSpec::ask(bundled::PROMPT, 6);
    let baselines: Vec<Baseline> =
        (1..=4).map(|n| keep(engine, seen, &every(spec.clone(), n)).unwrap()).collect();
    let (prompt, answer) = (baselines[0].prompt.len(), baselines[0].trace.answer.len());
    assert_eq!(answer, 6);
    let last = prompt - 1;
    let tenth = visual(&baselines[0].trace)[10];
    for (cuts, ablations, layers, row) in [
        (vec!["answer -> visual @ 3-5"], vec![], [3, 2, 3, 0], last),
        (vec!["answer -> visual @ 4"], vec![], [4, 4, 3, 4], last),
        (vec!["decode[1] -> visual @ 5"], vec![], [5, 4, 3, 4], last + 2),
        (vec!["visual[10] -> bos @ 2 # 1"], vec![], [2, 2, 0, 0], tenth),
        (vec![], vec!["visual[10] = mean"], [0; 4], tenth),
        (vec!["last -> visual @ 5", "decode -> bos @ 4"], vec![], [4, 4, 3, 4], last),
        (vec!["bos -> visual @ 0", "last -> bos @ 3"], vec![], [3, 2, 3, 0], last),
        (vec!["last -> bos @ 3"], vec!["visual[10] = zero"], [0; 4], tenth),
        // The first row that sees one of the keys, not the first that the set names.
        (vec!["all -> visual[10] @ 3"], vec![], [3, 2, 3, 0], tenth),
    ] {
        let change = intervention(&cuts, &ablations);
        for (baseline, layer) in baselines.iter().zip(layers) {
            let start = intervene(engine, seen, baseline, &change).unwrap().start;
            let rows = prompt + answer - 1 - row;
            assert_eq!(start, Some(Start { layer, row, rows }), "{cuts:?} {ablations:?}");
        }
    }
}

#[test]
fn without_residuals_or_from_a_cut_or_stopped_run_nothing_is_resumed() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = RunSpec::ask(SHORT, 4);
    let cut = intervention(&["answer -> visual @ 1"], &[]);
    let bare = keep(engine, seen, &every(spec.clone(), 0)).unwrap();
    assert!(refused(intervene(engine, seen, &bare, &cut)).contains("needs residuals"));
    assert!(refused(engine.square(&bare, 0, 0, &Cancel::default())).contains("needs residuals"));

    let from_cut = keep(engine, seen, &with(&spec, &cut)).unwrap();
    assert!(refused(intervene(engine, seen, &from_cut, &cut)).contains("needs an uncut run"));

    let cancel = Cancel::default();
    let stopped = engine.keep(&spec, &[seen], &cancel, &mut |event| {
        if matches!(event, RunEvent::Token { .. }) {
            cancel.cancel();
        }
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.trace.stop, stopped.trace.answer.len()), (Stop::Cancelled, 1));
    assert!(refused(intervene(engine, seen, &stopped, &cut)).contains("cancelled"));
}

// --------------------------------------------------------------------------------------- ablations

/// `[rows][width]` on the host.
fn rows(tensor: &Tensor<2>) -> Vec<Vec<f32>> {
    let width = tensor.dims()[1];
    host(tensor.clone()).unwrap().chunks(width).map(<[f32]>::to_vec).collect()
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let mean = |i: usize| rows.iter().map(|r| f64::from(r[i])).sum::<f64>() / rows.len() as f64;
    (0..rows[0].len()).map(|i| mean(i) as f32).collect()
}

/// `[vocabulary]` logits of the first answer token, with these rows in the visual places.
fn first_logits(engine: &Engine, baseline: &Baseline, visual_rows: &[Vec<f32>]) -> Vec<f32> {
    let mut input = rows(&engine.vlm.decoder.embed(&baseline.prompt.ids()));
    for (position, row) in visual(&baseline.trace).into_iter().zip(visual_rows) {
        input[position].clone_from(row);
    }
    let shape = [input.len(), engine.info.width];
    let input = Tensor::from_data(TensorData::new(input.concat(), shape), &engine.vlm.device);
    let cancel = Cancel::default();
    Decoding::new(&engine.vlm, &[], shape[0], &cancel).unwrap().logits(input).unwrap()
}

fn ablations_follow_their_definition(engine: &Engine, seen: &Seen, other: &Path, folder: &Path) {
    let baseline = keep(engine, seen, &RunSpec::ask(SHORT, 3)).unwrap();
    let own = rows(&seen.embeds);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let all: Vec<Vec<f32>> = files.iter().flat_map(|f| rows(&see(engine, f).embeds)).collect();
    let other_rows = rows(&see(engine, other).embeds);
    let places: Vec<usize> = (3..9).chain([own.len() - 1]).collect();
    let set = format!("visual[3-8,{}]", own.len() - 1);
    let same = |row: Vec<f32>| vec![row; own.len()];
    for (fill, with_rows) in [
        ("zero".to_string(), same(vec![0.0; own[0].len()])),
        ("mean".to_string(), same(mean(&own))),
        (format!("mean:{}", folder.display()), same(mean(&all))),
        (format!("image:{}", other.display()), other_rows),
    ] {
        let mut expected = own.clone();
        places.iter().for_each(|&p| expected[p].clone_from(&with_rows[p]));
        let by_hand = first_logits(engine, &baseline, &expected);
        let change = intervention(&[], &[&format!("{set} = {fill}")]);
        let scratch = keep(engine, seen, &with(&baseline.spec, &change)).unwrap();
        let outcome = intervene(engine, seen, &baseline, &change).unwrap();
        let (by_hand, scratch) = (log_softmax(&by_hand), log_softmax(&scratch.logits[0]));
        let far = by_hand.iter().zip(&scratch).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far <= NATS, "{fill}: {far}");
        let id = baseline.ids()[0] as usize;
        assert!((outcome.effects[0].logprob - by_hand[id]).abs() <= NATS, "{fill}");
        let uncut = log_softmax(&baseline.logits[0]);
        assert!(by_hand.iter().zip(&uncut).any(|(a, b)| (a - b).abs() > 10.0 * NATS), "{fill} does nothing");
    }
}

#[test]
fn ablated_rows_are_zero_a_mean_or_another_image() {
    let others = two_scenes();
    ablations_follow_their_definition(&ENGINE, &SEEN, &scene(5), others.path());
    let engine = &TILED.1;
    let images = fixture("processing/images");
    let folder = tempfile::tempdir().unwrap();
    for name in ["grey_300x75.png", "scene_640x427.png"] {
        std::fs::copy(images.join(name), folder.path().join(name)).unwrap();
    }
    ablations_follow_their_definition(
        engine,
        &tiled_seen(engine),
        &images.join("scene_640x427.png"),
        folder.path(),
    );
}

#[test]
fn ablations_of_several_images_count_over_all_of_them() {
    let (engine, first, second) = (&*ENGINE, &*SEEN, see(&ENGINE, &scene(1)));
    let images = [first, &second];
    let spec = RunSpec::ask("what?", 1);
    let baseline = engine.keep(&spec, &images, &Cancel::default(), &mut |_| {}).unwrap();
    let mut expected = [rows(&first.embeds), rows(&second.embeds)].concat();
    assert_eq!(expected.len(), 288);
    let mean = mean(&expected);
    expected[60..250].fill(mean);
    let by_hand = log_softmax(&first_logits(engine, &baseline, &expected));
    let change = intervention(&[], &["visual[60-249] = mean"]);
    let outcome = engine.intervene(&baseline, &change, &images, &Cancel::default(), &mut |_| {}).unwrap();
    let id = baseline.ids()[0] as usize;
    assert!((outcome.effects[0].logprob - by_hand[id]).abs() <= NATS);
    assert!((outcome.effects[0].delta).abs() > 10.0 * NATS);
    // Each image has a last row; the mask is the first one's.
    let found = |set: &str| {
        let change = intervention(&[&format!("last -> {set} @ 0")], &[]);
        engine.run(&with(&spec, &change), &images, &Cancel::default(), &mut |_| {}).unwrap().knockouts[0]
            .pairs[0]
    };
    assert_eq!(found("lastrow"), 24);
    assert_eq!(found("object"), first.object.iter().flatten().filter(|m| **m).count() as u64);
}

#[test]
fn impossible_ablations_are_refused_and_say_which_part_is_wrong() {
    let (engine, bare) = (&*ENGINE, see(&ENGINE, &scene(0)));
    let empty = tempfile::tempdir().unwrap();
    let baseline = keep(engine, &bare, &RunSpec::ask(SHORT, 3)).unwrap();
    let text = |fill: &str, path: &Path| format!("visual[0] = {fill}:{}", path.display());
    let fifth = visual(&baseline.trace)[5];
    let nowhere = Path::new("/nowhere/a.png");
    for (texts, parts) in [
        (vec!["question = mean".to_string()], vec!["question = mean", "is question: only visual tokens"]),
        (vec!["visual + last = zero".to_string()], vec!["is last: only visual tokens"]),
        (vec!["answer = zero".to_string()], vec!["is answer: only visual tokens"]),
        (vec!["all = zero".to_string()], vec!["position 0 is bos: only visual tokens"]),
        (
            vec!["visual[0-5] = mean".to_string(), "visual[5] = zero".to_string()],
            vec!["visual[5] = zero", &format!("position {fifth} is overwritten by `visual[0-5] = mean`")],
        ),
        (vec!["visual[144] = mean".to_string()], vec!["visual 144 does not exist: valid are 0 to 143"]),
        (vec!["object = mean".to_string()], vec!["object = mean", "no mask of an object was given"]),
        (vec!["visual[3] - visual = mean".to_string()], vec!["visual[3] - visual", "is empty"]),
        (vec![text("image", nowhere)], vec!["/nowhere/a.png"]),
        (vec![text("image", empty.path())], vec![empty.path().to_str().unwrap()]),
        (vec![text("mean", Path::new("/nowhere"))], vec!["/nowhere", "cannot be read"]),
        (vec![text("mean", empty.path())], vec![empty.path().to_str().unwrap(), "holds no image"]),
    ] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let change = intervention(&[], &texts);
        let scratch = refused(run(engine, &bare, &with(&baseline.spec, &change)));
        let resumed = refused(intervene(engine, &bare, &baseline, &change));
        assert_eq!(scratch, resumed);
        parts.iter().for_each(|part| assert!(scratch.contains(part), "{scratch}"));
    }
    // An image of another shape gives another number of tiles.
    let engine = &TILED.1;
    let seen = tiled_seen(engine);
    let baseline = keep(engine, &seen, &RunSpec::ask(SHORT, 3)).unwrap();
    let wide = fixture("processing/images/grey_300x75.png");
    let change = intervention(&[], &[&text("image", &wide)]);
    let error = refused(intervene(engine, &seen, &baseline, &change));
    assert!(error.contains("becomes 48 visual tokens, this prompt has 80"), "{error}");
    // The same path as a folder and as a file are two things.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&wide, folder.path().join("a.png")).unwrap();
    let mean = intervention(&[], &[&text("mean", folder.path())]);
    intervene(engine, &seen, &baseline, &mean).unwrap();
    let error =
        refused(intervene(engine, &seen, &baseline, &intervention(&[], &[&text("image", folder.path())])));
    assert!(!error.contains("becomes 1 visual"), "{error}");
}

// -------------------------------------------------------------------------------------- patch sets

/// The visual tokens in a set, by place: what a cut of the last prompt row blanks in every layer and
/// head. (In one alone, a sharp softmax may leave exactly nothing without a cut.)
fn members(engine: &Engine, seen: &Seen, set: &str, seed: u64) -> Result<Vec<usize>, String> {
    let spec = RunSpec { seed, ..RunSpec::ask(LEFT, 1) };
    let cut = with(&spec, &intervention(&[&format!("last -> {set} @ all")], &[]));
    let trace = run(engine, seen, &cut).map_err(|e| e.to_string())?;
    let members = blank(&trace);
    assert_eq!(trace.knockouts[0].pairs[0], members.len() as u64, "{set}");
    Ok(members)
}

/// The visual tokens, by place, that the first answer row gives nothing anywhere.
fn blank(trace: &Trace) -> Vec<usize> {
    let row = trace.pattern[0].row();
    let nothing =
        |&(_, key): &(usize, usize)| row.data.iter().skip(key).step_by(row.n_keys).all(|&v| v == 0.0);
    visual(trace).into_iter().enumerate().filter(nothing).map(|(i, _)| i).collect()
}

#[test]
fn an_object_is_the_patches_that_its_mask_touches() {
    let engine = &*ENGINE;
    let pixels = image::open(mask(0, 3).file).unwrap().into_luma8();
    let touched = |value: u8| -> Vec<usize> {
        let inside = |i: u32| {
            let corner = (i % 12 * 16, i / 12 * 16);
            (0..256).any(|p| pixels.get_pixel(corner.0 + p % 16, corner.1 + p / 16).0[0] == value)
        };
        (0..144).filter(|&i| inside(i)).map(|i| i as usize).collect()
    };
    for value in [1, 3] {
        let seen = with_object(engine, 0, value);
        assert_eq!(members(engine, &seen, "object", 0).unwrap(), touched(value));
        let rest: Vec<usize> = (0..144).filter(|i| !touched(value).contains(i)).collect();
        assert_eq!(members(engine, &seen, "visual - object", 0).unwrap(), rest);
    }
    assert!(touched(3).len() > 4 && touched(1) != touched(3));
    assert_eq!(members(engine, &SEEN, "whole", 0).unwrap().len(), 144);
    assert_eq!(members(engine, &SEEN, "lastrow", 0).unwrap(), (132..144).collect::<Vec<_>>());

    let mut seen = see(engine, &scene(0));
    let none = members(engine, &seen, "object", 0).unwrap_err();
    assert!(none.contains("`object` names no visual token: no mask"), "{none}");
    let small = engine.mark(&mut seen, &GrayImage::new(10, 12), &mask(0, 3));
    assert!(refused(small).contains("the mask is 10x12 pixels, expected 192x192"));
    let absent = engine.mark(&mut seen, &pixels, &mask(0, 200));
    assert!(refused(absent).contains("pixels of value 200"));
    let file = ObjectMask { file: "/nowhere/m.png".into(), value: None, share: 0.0 };
    let missing = engine.look(&scene(0), Some(&file), &Cancel::default(), &mut |_, _| {});
    assert!(refused(missing).contains("/nowhere/m.png: cannot be read"));
}

#[test]
fn with_tiles_sets_lie_on_one_grid_and_the_whole_view_is_apart() {
    let engine = &TILED.1;
    let seen = tiled_seen(engine);
    assert_eq!(members(engine, &seen, "whole", 0).unwrap(), (64..80).collect::<Vec<_>>());
    assert_eq!(members(engine, &seen, "lastrow", 0).unwrap(), (76..80).collect::<Vec<_>>());
    // Row 3, columns 2 to 5 of the 8 x 8 grid: the bottom of the upper two tiles.
    assert_eq!(members(engine, &seen, "visual[3:2-5]", 0).unwrap(), [14, 15, 28, 29]);
    assert_eq!(members(engine, &seen, "whole[3:2-3]", 0).unwrap(), [78, 79]);
    // A neighbourhood crosses tiles, not views.
    assert_eq!(members(engine, &seen, "visual[3:3]~1", 0).unwrap(), [10, 11, 14, 15, 24, 28, 34, 35, 48]);
    let object = members(engine, &seen, "object", 0).unwrap();
    let (patches, whole) = engine.patches(&seen.processed);
    let share = |[x0, y0, x1, y1]: [f32; 4]| {
        let inside = (x1.min(130.0) - x0.max(60.0)).max(0.0) * (y1.min(50.0) - y0).max(0.0);
        inside / ((x1 - x0) * (y1 - y0))
    };
    // Shares near a half may go either way: pixels are whole.
    for (i, patch) in patches.iter().enumerate().filter(|(_, p)| (share(**p) - 0.5).abs() > 0.1) {
        assert_eq!(object.contains(&i), share(*patch) > 0.5, "patch {i}: {patch:?}");
    }
    assert!(object.iter().any(|&i| whole[i]) && object.iter().any(|&i| !whole[i]));
}

#[test]
fn registers_are_the_unusually_long_embeddings() {
    let engine = &*ENGINE;
    let by_hand = |seen: &Seen| -> Vec<usize> {
        let norms: Vec<f64> = rows(&seen.embeds)
            .iter()
            .map(|row| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt())
            .collect();
        let mean = norms.iter().sum::<f64>() / norms.len() as f64;
        let variance = norms.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / norms.len() as f64;
        (0..norms.len()).filter(|&i| norms[i] > mean + 2.0 * variance.sqrt()).collect()
    };
    let mut with_some = 0;
    for n in 0..3 {
        let seen = see(engine, &scene(n));
        match by_hand(&seen) {
            none if none.is_empty() => {
                let error = members(engine, &seen, "register", 0).unwrap_err();
                assert!(error.contains("`register` names no visual token: no embedding's norm"), "{error}");
            }
            some => {
                with_some += 1;
                assert_eq!(members(engine, &seen, "register", 0).unwrap(), some);
            }
        }
    }
    // Two made long by hand, the second longer: it ranks first.
    let mut seen = see(engine, &scene(0));
    let mut embeds = rows(&seen.embeds);
    embeds[20].iter_mut().for_each(|v| *v *= 20.0);
    embeds[7].iter_mut().for_each(|v| *v *= 30.0);
    seen.embeds = Tensor::from_data(TensorData::new(embeds.concat(), seen.embeds.dims()), &engine.vlm.device);
    assert_eq!(members(engine, &seen, "register", 0).unwrap(), [7, 20]);
    assert_eq!(members(engine, &seen, "register[0]", 0).unwrap(), [7]);
    println!("{with_some} of 3 scenes have registers");
}

#[test]
fn random_patches_follow_the_seed() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let five = |seed| members(engine, seen, "random[0-4]", seed).unwrap();
    assert_eq!(five(1).len(), 5);
    assert_eq!(five(1), five(1));
    assert_ne!(five(1), five(2));
    assert_eq!(members(engine, seen, "random", 1).unwrap().len(), 144);
    let both = members(engine, seen, "random[0-4] + random[5-9]", 1).unwrap();
    assert_eq!(both, members(engine, seen, "random[0-9]", 1).unwrap());
    assert_eq!(both.len(), 10);
}

#[test]
fn sinks_are_what_every_answer_row_looks_at() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let trace = run(engine, seen, &RunSpec::ask(LEFT, 4)).unwrap();
    let visual = visual(&trace);
    let least = |i: usize| {
        let mean = |row: &PatternRow| {
            let all = (0..6).flat_map(|l| (0..4).map(move |h| (l, h)));
            all.map(|(l, h)| f64::from(row.head(l, h)[visual[i]])).sum::<f64>() / 24.0
        };
        trace.rows().map(|(_, row)| mean(&row)).fold(f64::INFINITY, f64::min)
    };
    let least: Vec<f64> = (0..visual.len()).map(least).collect();
    let mean = least.iter().sum::<f64>() / least.len() as f64;
    let sd = (least.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / least.len() as f64).sqrt();
    let sinks: Vec<usize> = (0..least.len()).filter(|&i| least[i] > mean + 2.0 * sd).collect();
    assert!(!sinks.is_empty());
    let cut = intervention(&["last -> sink @ all"], &[]);
    let scratch = run(engine, seen, &with(&RunSpec::ask(LEFT, 4), &cut)).unwrap();
    assert_eq!(blank(&scratch), sinks);
    // From a kept run, its own attention serves; without it there is nothing to go by.
    let baseline = keep(engine, seen, &RunSpec::ask(LEFT, 4)).unwrap();
    assert_eq!(blank(&intervene(engine, seen, &baseline, &cut).unwrap().free), sinks);
    let mut spec = RunSpec::ask(LEFT, 4);
    spec.record.pattern = "answer @ 2".parse().unwrap();
    let partial = keep(engine, seen, &spec).unwrap();
    assert!(refused(intervene(engine, seen, &partial, &cut)).contains("every layer, head and answer row"));
}

// -------------------------------------------------------------------------------------- gradients

/// Prompt embeddings with the image, and where the image is.
fn embeds(engine: &Engine, seen: &Seen, baseline: &Baseline) -> (Tensor<2>, Vec<usize>) {
    let visual = visual(&baseline.trace);
    let embeds = engine.vlm.decoder.embed(&baseline.prompt.ids());
    (sightline::engine::decoding::place_rows(embeds, &visual, seen.embeds.clone()), visual)
}

#[test]
fn attributions_add_up_and_the_largest_are_the_gradient_set() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let (vlm, cancel) = (&engine.vlm, Cancel::default());
    let baseline = keep(engine, seen, &RunSpec::ask(LEFT, 4)).unwrap();
    let answer = baseline.ids();
    let (embeds, visual) = embeds(engine, seen, &baseline);
    let mut steps = Vec::new();
    let mut on_step = |done: usize, total: usize| steps.push((done, total));
    let parts = gradient::attributions(vlm, embeds.clone(), &visual, &answer, &cancel, &mut on_step).unwrap();
    assert!(steps.iter().copied().eq((1..=gradient::STEPS).map(|step| (step, gradient::STEPS))));
    assert_eq!(parts.len(), visual.len());
    let given = vlm.decoder.embed(&answer[..answer.len() - 1]);
    let end = Tensor::cat(vec![embeds, given], 0);
    let at = |input: Tensor<2>| {
        gradient::log_probability(vlm, input, &answer, &cancel).unwrap().into_scalar::<f32>()
    };
    let (start, end) = (at(gradient::at_mean(&end, &visual)), at(end));
    let said: f32 = baseline.trace.answer.iter().map(|t| t.logprob).sum();
    assert!((end - said).abs() <= NATS, "{end} {said}");
    let sum: f32 = parts.iter().sum();
    println!("attributions sum to {sum} nats, the ends of the path differ by {}", end - start);
    assert!((end - start).abs() > 0.5, "the mean image says it too");
    // 1 % with these steps; ends instead of midpoints would make it 1.7 %.
    assert!((sum - (end - start)).abs() <= 0.015 * (end - start).abs(), "{sum} {}", end - start);

    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&a, &b| parts[b].abs().total_cmp(&parts[a].abs()));
    let mut ten = order[..10].to_vec();
    ten.sort_unstable();
    let cut = intervention(&["last -> gradient[0-9] @ all"], &[]);
    let mut steps = 0;
    let mut again = || {
        let mut on = |event: RunEvent<'_>| steps += usize::from(matches!(event, RunEvent::Gradients { .. }));
        blank(&engine.intervene(&baseline, &cut, &[seen], &cancel, &mut on).unwrap().free)
    };
    assert_eq!(again(), ten);
    // They cost many passes: a kept run works them out once.
    assert_eq!(again(), ten);
    assert_eq!(steps, gradient::STEPS);
}

#[test]
fn a_cancelled_gradient_stops_and_so_does_the_run_that_asked_for_it() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &RunSpec::ask(SHORT, 3)).unwrap();
    let (embeds, visual) = embeds(engine, seen, &baseline);
    let cancel = Cancel::default();
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            cancel.cancel();
        });
        gradient::attributions(&engine.vlm, embeds, &visual, &baseline.ids(), &cancel, &mut |_, _| {})
    });
    assert!(matches!(found, Err(DecodingError::Cancelled(_))));
    // The flag stays up: whatever is asked now is stopped before it begins.
    for set in ["gradient[0]", "sink", "visual"] {
        let cut = intervention(&[&format!("answer -> {set} @ all")], &["visual[0] = mean"]);
        let outcome = engine.intervene(&baseline, &cut, &[seen], &cancel, &mut |_| {}).unwrap();
        assert_eq!((outcome.free.stop, outcome.free.answer.len()), (Stop::Cancelled, 0), "{set}");
        let trace = engine.run(&with(&baseline.spec, &cut), &[seen], &cancel, &mut |_| {}).unwrap();
        assert_eq!((trace.stop, trace.answer.len()), (Stop::Cancelled, 0), "{set}");
    }
}

// -------------------------------------------------------------------------------------- recording

fn recorded(spec: &RunSpec, pattern: &str, half: bool) -> RunSpec {
    let record = Record { pattern: pattern.parse().unwrap(), half, ..spec.record.clone() };
    RunSpec { record, ..spec.clone() }
}

#[test]
fn a_partial_recording_is_a_slice_of_the_whole() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = RunSpec::ask(bundled::PROMPT, 6);
    let cut = intervention(&["answer -> visual[0-70] @ 3"], &[]);
    let whole = keep(engine, seen, &spec).unwrap();
    let whole_cut = intervene(engine, seen, &whole, &cut).unwrap();
    for text in ["answer[1-2] @ 2-3 # 1,3", "answer[0,5] @ 0", "answer @ !0-3 # 2", "answer[4-] @ all"] {
        let some = keep(engine, seen, &recorded(&spec, text, false)).unwrap();
        let some_cut = intervene(engine, seen, &some, &cut).unwrap();
        for (some, whole) in [
            (&some.trace, &whole.trace),
            (&some_cut.free, &whole_cut.free),
            (&some_cut.forced, &whole_cut.forced),
        ] {
            assert_eq!(some.answer, whole.answer, "{text}");
            let kept = &some.kept;
            assert_eq!(kept.rows.len(), some.pattern.len(), "{text}");
            assert!(!kept.rows.is_empty(), "{text}");
            for (s, row) in some.rows() {
                let all = whole.pattern[s].row();
                assert_eq!((row.n_layers, row.n_heads), (kept.layers.len(), kept.heads.len()), "{text}");
                for (l, &layer) in kept.layers.iter().enumerate() {
                    for (h, &head) in kept.heads.iter().enumerate() {
                        assert_eq!(row.head(l, h), all.head(layer, head), "{text}: {s} {layer} {head}");
                    }
                }
            }
        }
    }
    let none = keep(engine, seen, &recorded(&spec, "none", false)).unwrap();
    let none_cut = intervene(engine, seen, &none, &cut).unwrap();
    assert!(none.trace.pattern.is_empty() && none.trace.kept.rows.is_empty());
    assert!(none_cut.free.pattern.is_empty() && none_cut.forced.pattern.is_empty());
    assert_eq!(none.trace.answer, whole.trace.answer);
    assert_eq!(none_cut.free.answer, whole_cut.free.answer);
    assert_eq!(none_cut.effects, whole_cut.effects);
    let missing = refused(run(engine, seen, &recorded(&spec, "answer[6] @ 0", false)));
    assert!(missing.contains("answer row 6 does not exist: valid are 0 to 5"), "{missing}");
    assert!(refused(run(engine, seen, &recorded(&spec, "answer @ 6", false))).contains("layer 6"));
}

#[test]
fn half_precision_is_the_nearest_half() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = RunSpec::ask(bundled::PROMPT, 5);
    let full = keep(engine, seen, &spec).unwrap();
    let half = keep(engine, seen, &recorded(&spec, "answer @ all", true)).unwrap();
    assert_eq!(full.trace.answer, half.trace.answer);
    let close = |a: f32, b: f32| (a - b).abs() <= (a.abs() / 2048.0).max(2f32.powi(-25));
    let (a, b) = (patterns(&full.trace), patterns(&half.trace));
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(&b).all(|(&a, &b)| close(a, b)));
    assert!(a != b, "nothing was rounded");
    let cancel = Cancel::default();
    let resid = |b: &Baseline, layer| host(engine.resid_pre(b, layer, &cancel).unwrap()).unwrap();
    for layer in [0, 4, 6] {
        let (a, b) = (resid(&full, layer), resid(&half, layer));
        assert!(a.iter().zip(&b).all(|(&a, &b)| close(a, b)), "layer {layer}");
        assert!(a != b, "layer {layer}");
    }
    // What starts from halves ends near what starts from floats.
    let cut = intervention(&["answer -> visual @ 2-"], &[]);
    let exact = engine.score(&full, &cut, &[seen], &cancel).unwrap().effects;
    let near = engine.score(&half, &cut, &[seen], &cancel).unwrap().effects;
    assert!(exact.iter().zip(&near).all(|(a, b)| (a.logprob - b.logprob).abs() < 0.05));
}

#[test]
fn residuals_between_the_stored_ones_are_computed_again() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let cut = intervention(&["question -> visual @ 1"], &["visual[3] = zero"]);
    let cancel = Cancel::default();
    for change in [Intervention::default(), cut] {
        let spec = with(&RunSpec::ask(SHORT, 3), &change);
        let all = keep(engine, seen, &spec).unwrap();
        let some = keep(engine, seen, &every(spec, 4)).unwrap();
        for layer in 0..=6 {
            let of = |b: &Baseline| host(engine.resid_pre(b, layer, &cancel).unwrap()).unwrap();
            let (a, b) = (of(&all), of(&some));
            let size = a.iter().map(|v| v.abs()).fold(0.0, f32::max);
            let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(a.len(), all.n_rows() * 128);
            assert!(far <= 1e-4 * size, "layer {layer}: {far} of {size}");
        }
    }
}

#[test]
fn memory_is_estimated_exactly_and_refused_before_anything_runs() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let mut spec = recorded(&RunSpec::ask(bundled::PROMPT, 6), "answer[0-3] @ 2-4 # 1,3", false);
    spec.record.residuals_every = 4;
    let baseline = keep(engine, seen, &spec).unwrap();
    let (prompt, answer) = (baseline.prompt.len(), baseline.trace.answer.len());
    assert_eq!(answer, 6);
    let memory = engine.memory(&spec, prompt, true);
    let kept: usize = baseline.trace.rows().map(|(_, row)| row.data.len() * 4).sum();
    // Every row as long as the longest could be.
    let positions = prompt + 6;
    assert_eq!(memory.pattern, (3 * 2 * 4 * positions * 4) as u64);
    let exact: usize = (0..4).map(|s| 3 * 2 * (prompt + s) * 4).sum();
    assert_eq!(kept, exact);
    assert!(kept as u64 <= memory.pattern && memory.pattern - kept as u64 <= 3 * 2 * 4 * 6 * 4);
    assert_eq!(memory.residuals, (2 * positions * 128 * 4) as u64);
    assert_eq!(memory.kv_cache, (2 * 6 * 4 * 32 * positions * 4) as u64);
    assert_eq!(engine.memory(&spec, prompt, false).residuals, 0);
    let half = engine.memory(&recorded(&spec, "answer[0-3] @ 2-4 # 1,3", true), prompt, true);
    assert_eq!((half.pattern * 2, half.residuals * 2), (memory.pattern, memory.residuals));

    spec.record.limit = memory.total();
    assert!(keep(engine, seen, &spec).is_ok());
    spec.record.limit -= 1;
    let mut ran = 0;
    let outcome = engine.keep(&spec, &[seen], &Cancel::default(), &mut |event| {
        ran += usize::from(!matches!(event, RunEvent::Prompt(_)));
    });
    let error = refused(outcome);
    assert!(error.contains(&format!("this run would keep {memory}; the limit is")), "{error}");
    assert_eq!(ran, 0);
}

// ----------------------------------------------------------------------------------------- square

fn squares(
    engine: &Engine,
    seen: &Seen,
    cut: &Intervention,
    blocked: impl Fn(usize, usize, usize, usize) -> bool,
) {
    let cancel = Cancel::default();
    for n in [1, 3] {
        let spec = every(with(&RunSpec::ask(bundled::PROMPT, 4), cut), n);
        let baseline = keep(engine, seen, &spec).unwrap();
        let (rows, prompt) = (baseline.n_rows(), baseline.prompt.len());
        let (mut counts, mut open) = ([0, 0], 0);
        for (layer, head) in [(0, 0), (2, 3), (3, 1)] {
            let square = engine.square(&baseline, layer, head, &cancel).unwrap();
            assert_eq!(square.len(), rows * rows);
            for (r, row) in square.chunks(rows).enumerate() {
                assert!((row.iter().sum::<f32>() - 1.0).abs() <= 1e-5);
                assert!(row[r + 1..].iter().all(|&v| v == 0.0), "row {r} sees what comes after it");
                for (key, &value) in row.iter().enumerate().take(r + 1) {
                    let blocked = blocked(layer, head, r, key);
                    assert!(!blocked || value == 0.0, "layer {layer} head {head}: {r} -> {key}");
                    // Some are 0 by themselves: the model's softmax is sharp.
                    counts[usize::from(blocked)] += 1;
                    open += usize::from(value > 0.0);
                }
            }
            for (s, recorded) in baseline.trace.rows() {
                let row = prompt - 1 + s;
                let recorded = recorded.head(layer, head);
                let found = &square[row * rows..][..row + 1];
                let far = recorded.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(recorded.len() == row + 1 && far == 0.0, "{far}");
            }
        }
        assert_eq!(counts[1] > 0, !cut.is_empty());
        assert!(open * 2 > counts[0], "{open} of {counts:?}");
        let (layers, heads) = (engine.info.n_layers, engine.info.n_heads);
        let error = refused(engine.square(&baseline, layers, 0, &cancel));
        assert!(
            error.contains(&format!("layer {layers} does not exist: valid are 0 to {}", layers - 1)),
            "{error}"
        );
        let error = refused(engine.square(&baseline, 0, heads, &cancel));
        assert!(error.contains(&format!("head {heads} does not exist: valid are 0 to 3")), "{error}");
    }
}

#[test]
fn a_square_is_the_whole_pattern_with_its_cuts() {
    for (engine, seen) in [(&*ENGINE, SEEN.clone()), (&TILED.1, tiled_seen(&TILED.1))] {
        squares(engine, &seen, &Intervention::default(), |_, _, _, _| false);
        let trace = run(engine, &seen, &RunSpec::ask(bundled::PROMPT, 1)).unwrap();
        let spans: Vec<Span> = trace.prompt.iter().map(|t| t.span).collect();
        let cut = intervention(&["question -> visual @ 2-3 # 3", "visual -> bos @ 0"], &[]);
        squares(engine, &seen, &cut, |layer, head, row, key| {
            let is = |at: usize, span: Span| spans.get(at) == Some(&span);
            let first = layer >= 2 && head == 3 && is(row, Span::Question) && is(key, Span::Visual);
            first || (layer == 0 && is(row, Span::Visual) && is(key, Span::Bos))
        });
    }
}

// ---------------------------------------------------------------------------------------- control

#[test]
fn a_control_draws_as_many_random_patches() {
    let (engine, seen, cancel) = (&*ENGINE, &*SEEN, Cancel::default());
    let baseline = keep(engine, seen, &RunSpec::ask(LEFT, 6)).unwrap();
    let control = |baseline: &Baseline, cuts: &[&str], ablations: &[&str], draws| {
        engine.control(baseline, &intervention(cuts, ablations), &[seen], draws, &cancel)
    };
    for (cuts, ablations) in [(vec!["answer -> object @ all"], vec![]), (vec![], vec!["object~1 = mean"])] {
        let found = control(&baseline, &cuts, &ablations, 4).unwrap();
        assert_eq!(found, control(&baseline, &cuts, &ablations, 4).unwrap());
        // More draws begin with the same ones.
        assert_eq!(control(&baseline, &cuts, &ablations, 2).unwrap().kl.draws, found.kl.draws[..2]);
        let effects =
            engine.score(&baseline, &intervention(&cuts, &ablations), &[seen], &cancel).unwrap().effects;
        assert_eq!((found.delta.intervention, found.kl.intervention), totals(&effects));
        for spread in [&found.delta, &found.kl] {
            assert_eq!(spread.draws.len(), 4);
            assert!(spread.draws.windows(2).any(|d| d[0] != d[1]), "{spread:?}");
            let draws: Vec<f64> = spread.draws.iter().map(|&d| f64::from(d)).collect();
            let mean = draws.iter().sum::<f64>() / 4.0;
            let sd = (draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
            assert!((f64::from(spread.mean) - mean).abs() < 1e-5 && (f64::from(spread.sd) - sd).abs() < 1e-5);
        }
        // Another seed draws others.
        let spec = RunSpec { seed: 9, ..baseline.spec.clone() };
        let other = keep(engine, seen, &spec).unwrap();
        let other = control(&other, &cuts, &ablations, 4).unwrap();
        assert_eq!(other.kl.intervention, found.kl.intervention);
        assert_ne!(other.kl.draws, found.kl.draws);
    }
    assert_eq!(control(&baseline, &["answer -> object @ 0"], &[], 1).unwrap().delta.sd, 0.0);
    for cut in ["answer -> visual @ 1-3", "visual -> bos @ all"] {
        let all = control(&baseline, &[cut], &[], 3).unwrap();
        assert_eq!(all.kl.draws, [all.kl.intervention; 3], "{cut}");
        assert_eq!(all.delta.draws, [all.delta.intervention; 3], "{cut}");
        assert!(all.kl.intervention > 0.0, "{cut}");
    }
    for draws in [1, 0] {
        let error = refused(control(&baseline, &["answer -> question @ all"], &[], draws));
        assert!(
            error.contains("control on random patches needs an intervention on visual tokens"),
            "{error}"
        );
    }
}

// --------------------------------------------------------------------------------------- sampling

#[test]
fn sampled_answers_follow_their_seed_and_can_be_resumed() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = |seed| RunSpec {
        sampling: Some(Sampling { temperature: 2.0, top_p: 1.0 }),
        seed,
        ..RunSpec::ask(bundled::PROMPT, 8)
    };
    let answers: Vec<Vec<u32>> = (0..4).map(|seed| ids(&run(engine, seen, &spec(seed)).unwrap())).collect();
    assert_eq!(answers[1], ids(&run(engine, seen, &spec(1)).unwrap()));
    assert!(answers[1..].iter().any(|a| *a != answers[0]));
    for seed in 0..4 {
        let baseline = keep(engine, seen, &spec(seed)).unwrap();
        assert_eq!(baseline.ids(), answers[seed as usize]);
        let cut = intervention(&["answer -> object @ all"], &[]);
        let resumed = intervene(engine, seen, &baseline, &cut).unwrap().free;
        let scratch = keep(engine, seen, &with(&baseline.spec, &cut)).unwrap();
        same(&resumed, &scratch.trace, "sampled");
    }
    for (temperature, top_p, part) in [
        (0.0, 1.0, "temperature is 0"),
        (-1.0, 1.0, "temperature is -1"),
        (f32::NAN, 1.0, "temperature is NaN"),
        (f32::INFINITY, 1.0, "temperature is inf"),
        (1.0, 0.0, "top-p is 0"),
        (1.0, 1.5, "top-p is 1.5"),
        (1.0, f32::NAN, "top-p is NaN"),
    ] {
        let sampling = Some(Sampling { temperature, top_p });
        let error = refused(run(engine, seen, &RunSpec { sampling, ..spec(0) }));
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_forced_baseline_is_scored_and_then_answered_freely() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let free = run(engine, seen, &RunSpec::ask(SHORT, 5)).unwrap();
    assert_eq!(free.stop, Stop::End);
    let mut forced = ids(&free);
    forced.extend([11, 11]);
    let spec = RunSpec { forced_answer: Some(forced.clone()), ..RunSpec::ask(SHORT, 5) };
    let baseline = keep(engine, seen, &spec).unwrap();
    // Too little to change a word; the words after the end token were the caller's, not the model's.
    let outcome =
        intervene(engine, seen, &baseline, &intervention(&["answer -> visual[0] @ 5 # 0"], &[])).unwrap();
    assert_eq!(ids(&outcome.forced), forced);
    assert_eq!(outcome.effects.len(), forced.len());
    assert_eq!((ids(&outcome.free), outcome.free.stop), (ids(&free), Stop::End));
}

// ----------------------------------------------------------------------------------------- cancel

#[test]
fn a_cancelled_intervention_stops_within_a_token() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &RunSpec::ask(bundled::PROMPT, 12)).unwrap();
    assert_eq!(baseline.trace.answer.len(), 12);
    let cuts = (0..6).flat_map(|layer| {
        ["visual", "object", "visual[0-71]", "visual[72-143]"]
            .map(|key| format!("question + answer -> {key} @ {layer}-"))
    });
    let another = cuts.into_iter().find(|cut| {
        let free = intervene(engine, seen, &baseline, &intervention(&[cut], &[])).unwrap().free;
        free.answer.len() > 4 && ids(&free)[..2] != baseline.ids()[..2]
    });
    // The first leaves the answer as it is, the second changes one of its first two words.
    for cut in ["decode[9] -> visual[0] @ 5 # 0", &another.unwrap()] {
        let cut = intervention(&[cut], &[]);
        let whole = intervene(engine, seen, &baseline, &cut).unwrap().free;
        for at in 1..4 {
            let (cancel, mut tokens) = (Cancel::default(), 0);
            let outcome = engine.intervene(&baseline, &cut, &[seen], &cancel, &mut |event| {
                if matches!(event, RunEvent::Token { .. }) {
                    tokens += 1;
                    if tokens == at {
                        cancel.cancel();
                    }
                }
            });
            let outcome = outcome.unwrap();
            assert_eq!((outcome.free.stop, outcome.free.answer.len(), tokens), (Stop::Cancelled, at, at));
            assert_eq!(outcome.free.answer, whole.answer[..at]);
            assert_eq!(outcome.free.pattern.len(), at);
            let same =
                engine.run(&with(&baseline.spec, &cut), &[seen], &Cancel::default(), &mut |_| {}).unwrap();
            assert!(outcome.free.knockouts[0].total_pairs() <= same.knockouts[0].total_pairs());
            assert_eq!(outcome.effects.len(), 12);
        }
        let cancel = Cancel::default();
        cancel.cancel();
        let outcome = engine.intervene(&baseline, &cut, &[seen], &cancel, &mut |event| {
            assert!(matches!(event, RunEvent::Prompt(_)), "{event:?}");
        });
        let outcome = outcome.unwrap();
        assert_eq!((outcome.free.stop, outcome.free.answer.len()), (Stop::Cancelled, 0));
        assert!(outcome.effects.is_empty());
        let scored = engine.score(&baseline, &cut, &[seen], &cancel);
        assert!(matches!(scored, Err(RunError::Decoding(DecodingError::Cancelled(_)))));
        let control = engine.control(&baseline, &cut, &[seen], 3, &cancel);
        assert!(matches!(control, Err(RunError::Decoding(DecodingError::Cancelled(_)))));
    }
}

// ---------------------------------------------------------------------------------- contradictions

#[test]
fn the_same_cut_twice_is_refused_by_name() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &RunSpec::ask(SHORT, 3)).unwrap();
    for (first, second) in [
        ("answer -> visual @ 1", "answer -> visual @ 1"),
        ("last -> visual[0-143] @ 1-2", "last -> visual @ 1,2 # all"),
        ("answer -> visual @ !0", "last + decode -> random @ 1-"),
    ] {
        let cut = intervention(&["bos -> visual @ 0", first, second], &[]);
        let scratch = refused(run(engine, seen, &with(&baseline.spec, &cut)));
        assert!(scratch.contains(&format!("the very pairs that `{first}` cuts")), "{scratch}");
        assert_eq!(scratch, refused(intervene(engine, seen, &baseline, &cut)));
    }
    // Not the same: another head, another layer.
    for second in ["answer -> visual @ 1 # 0", "answer -> visual @ 2"] {
        intervene(engine, seen, &baseline, &intervention(&["answer -> visual @ 1", second], &[])).unwrap();
    }
}

#[test]
fn a_cut_that_leaves_a_row_nothing_is_refused_by_every_door() {
    let (engine, seen, cancel) = (&*ENGINE, &*SEEN, Cancel::default());
    let baseline = keep(engine, seen, &RunSpec::ask(SHORT, 3)).unwrap();
    let texts = ["answer -> visual @ 2", "last -> all - visual @ 1-2"];
    let cut = intervention(&texts, &[]);
    let scratch = refused(run(engine, seen, &with(&baseline.spec, &cut)));
    assert!(scratch.starts_with(&format!("`{}`: the knockouts leave", texts.join("; "))), "{scratch}");
    assert!(scratch.contains("nothing to look at in layer 2, head 0"), "{scratch}");
    assert_eq!(scratch, refused(intervene(engine, seen, &baseline, &cut)));
    assert_eq!(scratch, refused(engine.score(&baseline, &cut, &[seen], &cancel)));
}

#[test]
fn questions_without_an_image_are_resumed_too() {
    let engine = &*ENGINE;
    let cancel = Cancel::default();
    let baseline = engine.keep(&RunSpec::ask("is there a duck?", 4), &[], &cancel, &mut |_| {}).unwrap();
    let cut = intervention(&["answer -> question[0-2] @ 1-"], &[]);
    let scratch = engine.run(&with(&baseline.spec, &cut), &[], &cancel, &mut |_| {}).unwrap();
    let resumed = engine.intervene(&baseline, &cut, &[], &cancel, &mut |_| {}).unwrap();
    same(&resumed.free, &scratch, "no image");
    for (cuts, ablations) in [
        (vec!["answer -> visual @ 1"], vec![]),
        (vec!["answer -> random[0] @ 1"], vec![]),
        (vec!["answer -> register + sink + gradient @ 1"], vec![]),
        (vec![], vec!["visual = mean"]),
        (vec![], vec!["object = zero"]),
    ] {
        let change = intervention(&cuts, &ablations);
        let error = refused(engine.intervene(&baseline, &change, &[], &cancel, &mut |_| {}));
        assert!(
            ["is empty", "there are none", "names no visual token"].iter().any(|p| error.contains(p)),
            "{error}"
        );
    }
}

#[test]
fn half_precision_weights_resume_as_they_run() {
    let dir = &TILED.0;
    let engine = Engine::load(dir.path(), &device::cpu(), WeightDtype::F16).unwrap();
    let seen = tiled_seen(&engine);
    let baseline = keep(&engine, &seen, &RunSpec::ask(bundled::PROMPT, 5)).unwrap();
    let memory = engine.memory(&baseline.spec, baseline.prompt.len(), true);
    assert_eq!(memory.kv_cache, (2 * 4 * 2 * 16 * (baseline.prompt.len() + 5) * 2) as u64);
    let cut = intervention(&["answer -> object @ 1-", "question -> visual @ 2 # 1"], &["object = mean"]);
    let spec = RunSpec { forced_answer: Some(baseline.ids()), ..with(&baseline.spec, &cut) };
    let scratch = run(&engine, &seen, &spec).unwrap();
    let resumed = intervene(&engine, &seen, &baseline, &cut).unwrap();
    let pairs = |a: &Trace, b: &Trace| -> f32 {
        a.answer.iter().zip(&b.answer).map(|(a, b)| (a.logprob - b.logprob).abs()).fold(0.0, f32::max)
    };
    let moved = pairs(&baseline.trace, &scratch);
    assert!(moved > 0.1, "{moved}");
    same(&resumed.forced, &scratch, "float16");
    assert!(resumed.forced.knockouts.iter().all(|k| k.total_pairs() > 0));
}

// ------------------------------------------------------------------------------------- experiments

#[test]
fn an_experiment_repeats_its_numbers_and_survives_being_stopped() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let cut = intervention(&["answer -> object @ all"], &["object = mean"]);
    let experiment = Experiment { object: None, spec: with(&RunSpec::ask(LEFT, 4), &cut), control: 2 };
    let run = |cancel: &Cancel, stop: bool| {
        engine.experiment(&experiment, seen, cancel, &mut |event| {
            if stop && matches!(event, RunEvent::Token { .. }) {
                cancel.cancel();
            }
        })
    };
    let report = run(&Cancel::default(), false).unwrap();
    let again = run(&Cancel::default(), false).unwrap();
    assert_eq!(report.numbers().difference(&again.numbers()), 0.0);
    let outcome = report.outcome.as_ref().unwrap();
    assert_eq!(ids(report.trace()), ids(&outcome.free));
    let numbers = report.numbers();
    assert_eq!(numbers.effects.unwrap().len(), report.baseline.trace.answer.len());
    assert_eq!(numbers.control, report.control.map(|c| [c.delta.mean, c.kl.mean]));

    let uncut = Experiment { spec: RunSpec::ask(LEFT, 4), ..experiment.clone() };
    let uncut = engine.experiment(&uncut, seen, &Cancel::default(), &mut |_| {}).unwrap();
    assert!(uncut.outcome.is_none() && uncut.control.is_none());
    assert_eq!(ids(uncut.trace()), ids(&report.baseline.trace));

    let stopped = run(&Cancel::default(), true).unwrap();
    assert_eq!((stopped.trace().stop, stopped.trace().answer.len()), (Stop::Cancelled, 1));
    assert!(stopped.outcome.is_some() && stopped.control.is_none());
    // Stopped in the uncut run there is nothing to compare with.
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = run(&cancel, false).unwrap();
    assert_eq!((stopped.trace().stop, stopped.outcome.is_none()), (Stop::Cancelled, true));
}
