//! Interventions that start from a kept run, against the same from scratch; and what they are made of:
//! sets of patches, ablations, recordings, controls, sampling.
//!
//! On the CPU a resumed run equals one from scratch to the last bit: a row comes out the same alone and
//! among others (`model/cpu.rs`). `SIGHTLINE_SPECS=1000` tries that many random interventions instead
//! of a few.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    ops::Deref,
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
        baseline::Baseline,
        control,
        decoding::{Decoding, DecodingError, Rows, TOGETHER, host, place_rows},
        error::RunError,
        event::RunEvent,
        gradient,
        inside::{resid_pre, square},
        load::Engine,
        logits::log_softmax,
        many,
        resume::{self, score},
        see::Seen,
    },
    model::rotary::consecutive,
    progress::{Cancel, Progress, Stage},
    spec::{
        experiment::{Experiment, Intervention, Sampling},
        picture::{ImageSource, ObjectMask, Picture},
        record::{Held, Record},
        span::Span,
    },
    trace::{
        geometry::Geometry,
        pattern::PatternRow,
        report::{Effect, Outcome, Start, totals},
        run::{Stop, Trace},
        tokens::AnswerToken,
    },
};
use tempfile::TempDir;

#[path = "../common/mod.rs"]
mod common;

mod ablations;
mod answers;
mod contradictions;
mod controls;
mod conversations;
mod gradients;
mod inside;
mod kinds;
mod patch_sets;
mod qwen;
mod recording;
mod scratch;
mod starting;
mod trials;

use common::{ask, ask_about, families::spread, fixture, load, load_as, models::every_family, tiled_model};

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

fn scene(n: usize) -> PathBuf {
    bundled::scenes().join(format!("images/{n:06}.png"))
}

fn mask(n: usize, value: u16) -> ObjectMask {
    let file = bundled::scenes().join(format!("masks/{n:06}.png"));
    ObjectMask { file, value: Some(value), share: 0.0 }
}

/// A sample scene with one of its objects marked.
fn with_object(engine: &Engine, n: usize, value: u16) -> Seen {
    let picture = Picture { image: ImageSource::File(scene(n)), object: Some(mask(n, value)) };
    engine.look(&picture, &Cancel::default(), &mut |_| {}).unwrap().1
}

fn see(engine: &Engine, file: &Path) -> Seen {
    engine.look_at(file, &Cancel::default()).unwrap()
}

fn intervention(knockouts: &[&str], ablations: &[&str]) -> Intervention {
    Intervention {
        knockouts: knockouts.iter().map(|k| k.parse().unwrap()).collect(),
        ablations: ablations.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

fn with(spec: &Experiment, intervention: &Intervention) -> Experiment {
    Experiment { intervention: intervention.clone(), ..spec.clone() }
}

fn every(spec: Experiment, residuals_every: usize) -> Experiment {
    Experiment { record: Record { residuals_every, ..spec.record.clone() }, ..spec }
}

fn run(engine: &Engine, seen: &Seen, spec: &Experiment) -> Result<Trace, RunError> {
    engine.scratch(spec, &[seen], &Cancel::default(), &mut |_| {})
}

fn keep(engine: &Engine, seen: &Seen, spec: &Experiment) -> Result<Baseline, RunError> {
    engine.keep(spec, &[seen], &Cancel::default(), &mut |_| {})
}

/// What an intervention gave that came to its end.
struct Intervened {
    /// The new answer.
    free: Trace,
    outcome: Outcome,
}

impl Deref for Intervened {
    type Target = Outcome;

    fn deref(&self) -> &Outcome {
        &self.outcome
    }
}

fn intervene(
    engine: &Engine,
    seen: &Seen,
    baseline: &Baseline,
    intervention: &Intervention,
) -> Result<Intervened, RunError> {
    intervene_on(engine, &[seen], baseline, intervention)
}

fn intervene_on(
    engine: &Engine,
    images: &[&Seen],
    baseline: &Baseline,
    intervention: &Intervention,
) -> Result<Intervened, RunError> {
    let (free, outcome) =
        resume::intervene(engine, baseline, intervention, images, &Cancel::default(), &mut |_| {})?;
    Ok(Intervened { free, outcome: outcome.unwrap() })
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

/// `[rows][width]` on the host.
fn rows(tensor: &Tensor<2>) -> Vec<Vec<f32>> {
    let width = tensor.dims()[1];
    host(tensor.clone()).unwrap().chunks(width).map(<[f32]>::to_vec).collect()
}

/// The visual tokens, by place, that the first answer row gives nothing anywhere.
fn blank(trace: &Trace) -> Vec<usize> {
    let row = trace.pattern[0].row();
    let nothing =
        |&(_, key): &(usize, usize)| row.data.iter().skip(key).step_by(row.n_keys).all(|&v| v == 0.0);
    visual(trace).into_iter().enumerate().filter(nothing).map(|(i, _)| i).collect()
}

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
    let flow =
        |t: &Trace| t.flow.as_ref().map(|f| (f.rows, f.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>()));
    assert!(flow(resumed).is_some() && flow(resumed) == flow(scratch), "{what}: flow between spans");
    assert_eq!(resumed.stop, scratch.stop, "{what}");
    assert_eq!(resumed.kept, scratch.kept, "{what}");
    assert_eq!(resumed.prompt, scratch.prompt, "{what}");
    let proof = |t: &Trace| -> Vec<(String, Vec<u64>, f32)> {
        t.knockouts.iter().map(|k| (k.text.clone(), k.pairs.clone(), k.blocked_mass)).collect()
    };
    assert_eq!(proof(resumed), proof(scratch), "{what}");
    assert!(proof(resumed).iter().all(|(.., left)| *left == 0.0), "{what}");
}

/// A folder of two scenes, for the mean of other images.
fn two_scenes() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in [4, 9] {
        std::fs::copy(scene(n), dir.path().join(format!("{n}.png"))).unwrap();
    }
    dir
}

/// 2 x 2 tiles, with part of the picture marked.
fn tiled_seen(engine: &Engine) -> Seen {
    let mut seen = see(engine, &fixture("processing/images/gradient_200x120.png"));
    let mask = GrayImage::from_fn(200, 120, |x, y| Luma([u8::from((60..130).contains(&x) && y < 50)]));
    seen.mark(&mask.into(), &ObjectMask { file: "mask".into(), value: None, share: 0.5 }).unwrap();
    assert_eq!(seen.embeds.dims(), [5 * 16, 64]);
    seen
}

/// Positions with three axes, and features that are added after two layers: what other families have.
fn spread_engine() -> (TempDir, Engine, Seen) {
    let dir = tiled_model(512);
    let engine = spread(load(dir.path()), dir.path());
    let mut seen = tiled_seen(&engine);
    let [n, width] = seen.embeds.dims();
    let features = |seed: f32| {
        let values: Vec<f32> = (0..n * width).map(|i| (i as f32 * 0.37 + seed).sin() * 0.5).collect();
        Tensor::from_data(TensorData::new(values, [n, width]), &engine.vlm.device)
    };
    seen.added = vec![(0, features(0.0)), (2, features(1.0))];
    (dir, engine, seen)
}
