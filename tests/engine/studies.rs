//! Studies of one answer: every step is an intervention that could be typed, and its finding is what that does.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use serde_json::Value;
use sightline::{
    bundled,
    engine::{baseline::Baseline, error::RunError, load::Engine, resume::score, see::Seen},
    progress::Cancel,
    spec::{
        experiment::{Experiment, Intervention},
        sets::Numbers,
        span::Span,
        study::{Compress, EdgeEffect, HeadEffect, LensAt, PatchEffect, Study, Taking},
    },
    studies::{
        compression::{Keep, ask_compressed},
        steps::Steps,
    },
    trace::finding::{Agreement, Block, EdgeFound, Finding, HeadFound, LensPage},
};

use crate::common::{
    ask, fixture, load,
    models::every_family,
    program::{sightline, text},
    tiled_model,
};

const LEFT: &str = "what is at the left?";

/// A model, and a run of it that is kept.
struct Kept {
    engine: Engine,
    seen: Seen,
    baseline: Baseline,
}

/// The sample scene on the bundled model.
static SCENE: LazyLock<Kept> =
    LazyLock::new(|| Kept::new(load(&bundled::model()), &bundled::sample_image(), &ask(LEFT, 6)));

impl Kept {
    fn new(engine: Engine, image: &Path, experiment: &Experiment) -> Kept {
        let cancel = Cancel::default();
        let seen = engine.look_at(image, &cancel).unwrap();
        let baseline = engine.keep(experiment, &[&seen], &cancel, &mut |_| {}).unwrap();
        Kept { engine, seen, baseline }
    }

    fn steps(&self, study: &Study) -> Result<Steps, RunError> {
        Steps::new(&self.engine, &self.baseline, &[&self.seen], study)
    }

    fn step(&self, steps: &mut Steps, cancel: &Cancel) -> Result<Option<Finding>, RunError> {
        steps.step(&self.engine, &self.baseline, &[&self.seen], cancel)
    }

    /// All findings, every step counted.
    fn findings(&self, study: &Study) -> Vec<Finding> {
        let mut steps = self.steps(study).unwrap();
        let (_, all) = steps.steps();
        let mut found = Vec::new();
        while let Some(finding) = self.step(&mut steps, &Cancel::default()).unwrap() {
            found.push(finding);
            assert_eq!(steps.steps(), (found.len(), all));
        }
        assert_eq!(found.len(), all);
        found
    }

    fn refusal(&self, study: &Study) -> String {
        self.steps(study).unwrap_err().to_string()
    }

    /// What a typed intervention does to some tokens, or to all.
    fn typed(&self, cut: &str, tokens: &[usize]) -> f32 {
        let intervention = match cut.contains("->") {
            true => Intervention { knockouts: vec![cut.parse().unwrap()], ablations: vec![] },
            false => Intervention { knockouts: vec![], ablations: vec![cut.parse().unwrap()] },
        };
        let cancel = Cancel::default();
        let scored = score(&self.engine, &self.baseline, &intervention, &[&self.seen], &cancel).unwrap();
        let counts = |s: &usize| tokens.is_empty() || tokens.contains(s);
        scored.effects.iter().enumerate().filter(|(s, _)| counts(s)).map(|(_, effect)| effect.delta).sum()
    }
}

#[track_caller]
fn same(found: f32, typed: f32) {
    assert!((found - typed).abs() < 1e-5, "found {found}, typed {typed}");
}

fn blocks(findings: &[Finding], side: usize) -> Vec<&Block> {
    let of = findings.iter().filter_map(|finding| match finding {
        Finding::Block(block) if block.side == side => Some(block),
        _ => None,
    });
    of.collect()
}

fn agreements(findings: &[Finding]) -> Vec<&Agreement> {
    let of = findings.iter().filter_map(|finding| match finding {
        Finding::Agreement(agreement) => Some(agreement),
        _ => None,
    });
    of.collect()
}

fn edges(findings: &[Finding]) -> Vec<EdgeFound> {
    let of = findings.iter().filter_map(|finding| match finding {
        Finding::Edge(edge) => Some(*edge),
        _ => None,
    });
    of.collect()
}

fn heads(findings: &[Finding]) -> Vec<HeadFound> {
    let of = findings.iter().filter_map(|finding| match finding {
        Finding::Head(head) => Some(*head),
        _ => None,
    });
    of.collect()
}

/// Spearman's rank correlation, by definition.
fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let ranks = |of: &[f32]| -> Vec<f64> {
        let rank = |v: &f32| {
            let less = of.iter().filter(|other| *other < v).count() as f64;
            less + (of.iter().filter(|other| *other == v).count() - 1) as f64 / 2.0
        };
        of.iter().map(rank).collect()
    };
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let mean = (n - 1.0) / 2.0;
    let covariance: f64 = a.iter().zip(&b).map(|(a, b)| (a - mean) * (b - mean)).sum();
    let variance = |of: &[f64]| of.iter().map(|r| (r - mean).powi(2)).sum::<f64>();
    covariance / (variance(&a) * variance(&b)).sqrt()
}

/// Every visual token is in one block, and in one only.
fn cover(blocks: &[&Block], visual: usize) {
    let patches: Vec<usize> = blocks.iter().flat_map(|block| block.patches.clone()).collect();
    assert_eq!(patches.len(), visual);
    assert_eq!(patches.iter().copied().collect::<BTreeSet<usize>>(), (0..visual).collect());
    assert!(blocks.iter().all(|block| block.patches.is_sorted()));
}

#[test]
fn blocks_of_patches_are_cut_coarse_ones_first_and_held_against_attention() {
    let kept = &*SCENE;
    let study =
        PatchEffect { tokens: vec![0, 1], how: Taking::Cut, layers: Numbers::range(2, 5), coarsest: 5 };
    let found = kept.findings(&Study::Patches(study));
    let sizes: Vec<usize> = agreements(&found).iter().map(|agreement| agreement.side).collect();
    assert_eq!(sizes, [5, 2, 1]);
    for (side, n) in [(5, 9), (2, 36), (1, 144)] {
        assert_eq!(blocks(&found, side).len(), n);
        cover(&blocks(&found, side), 144);
    }
    // In reading order; smaller at the border.
    let of_five = blocks(&found, 5);
    assert_eq!(of_five[2].patches, [10, 11, 22, 23, 34, 35, 46, 47, 58, 59]);
    for (side, at, cells) in [(5, 2, "0-4:10-11"), (2, 6 * 2 + 3, "4-5:6-7"), (1, 12 * 7 + 9, "7:9")] {
        let cut = format!("all - visual[{cells}] -> visual[{cells}] @ 2-5");
        same(blocks(&found, side)[at].delta, kept.typed(&cut, &[0, 1]));
    }
    assert!(of_five.iter().any(|block| block.delta < -0.001), "some of the image matters: {of_five:?}");

    let trace = &kept.baseline.trace;
    let first = trace.prompt.iter().position(|token| token.span == Span::Visual).unwrap();
    for agreement in agreements(&found) {
        assert_eq!((agreement.heads.len(), agreement.mean.len()), (6 * 4, 6));
        let mut all = agreement.heads.iter().chain(&agreement.mean);
        assert!(all.all(|rank| (-1.0..=1.0).contains(rank)), "{agreement:?}");
        let blocks = blocks(&found, agreement.side);
        let per_patch = |of: &dyn Fn(&Block) -> f32| -> Vec<f32> {
            blocks.iter().map(|block| of(block) / block.patches.len() as f32).collect()
        };
        let falls = per_patch(&|block: &Block| -block.delta);
        let rows = [trace.pattern[0].row(), trace.pattern[1].row()];
        let paid = |block: &Block, keys: &dyn Fn(usize) -> f32| -> f32 {
            block.patches.iter().map(|patch| keys(first + patch)).sum()
        };
        for (layer, head) in [(0, 0), (3, 1), (5, 3)] {
            let mean = |key: usize| rows.iter().map(|row| row.head(layer, head)[key]).sum::<f32>() / 2.0;
            let attention = per_patch(&|block: &Block| paid(block, &mean));
            let expected = spearman(&attention, &falls);
            // Values that are nearly alike may change places by rounding.
            let found = f64::from(agreement.heads[layer * 4 + head]);
            assert!((found - expected).abs() < 1e-3, "layer {layer}: {found}, expected {expected}");
        }
        let mean = |key: usize| rows.iter().map(|row| row.head_mean(4)[key]).sum::<f32>();
        let expected = spearman(&per_patch(&|block: &Block| paid(block, &mean)), &falls);
        assert!((f64::from(agreement.mean[4]) - expected).abs() < 1e-3);
    }
}

#[test]
fn blocks_run_across_tiles_and_the_whole_view_has_its_own() {
    let dir = tiled_model(512);
    let image = fixture("processing/images/gradient_200x120.png");
    let mut experiment = ask(LEFT, 3);
    experiment.record.pattern = "answer @ 1".parse().unwrap();
    let kept = Kept::new(load(dir.path()), &image, &experiment);
    let study = PatchEffect { tokens: vec![], how: Taking::Mean, layers: Numbers::All, coarsest: 3 };
    let found = kept.findings(&Study::Patches(study));
    // 8 x 8 visual tokens in four tiles, and 4 x 4 of the whole.
    for (side, n) in [(3, 9 + 4), (1, 80)] {
        assert_eq!(blocks(&found, side).len(), n);
        cover(&blocks(&found, side), 80);
    }
    for (at, tokens) in [(1, "visual[0-2:3-5]"), (8, "visual[6-7:6-7]"), (9, "whole[0-2:0-2]")] {
        same(blocks(&found, 3)[at].delta, kept.typed(&format!("{tokens} = mean"), &[]));
    }
    let agreement = agreements(&found);
    assert!(agreement.iter().all(|of| of.heads.is_empty() && of.mean.is_empty()), "not all is recorded");
}

/// Grids that are not square, tiles, and views of the whole as other families have them: the first, a middle and the
/// last block of every size.
#[test]
fn blocks_are_what_is_typed_on_every_family() {
    for dir in every_family() {
        let image = fixture("processing/images/gradient_200x120.png");
        let kept = Kept::new(load(dir.path()), &image, &ask("what is it?", 2));
        let study = |how| PatchEffect { tokens: vec![], how, layers: Numbers::range(1, 2), coarsest: 2 };
        for how in [Taking::Cut, Taking::Mean] {
            let found = kept.findings(&Study::Patches(study(how)));
            for side in [2, 1] {
                let blocks = blocks(&found, side);
                cover(&blocks, kept.seen.geometry.n_tokens());
                for block in [blocks[0], blocks[blocks.len() / 2], blocks[blocks.len() - 1]] {
                    let patches: Vec<String> = block.patches.iter().map(usize::to_string).collect();
                    let set = format!("visual[{}]", patches.join(","));
                    let typed = match how {
                        Taking::Cut => format!("all - {set} -> {set} @ 1-2"),
                        _ => format!("{set} = mean"),
                    };
                    same(block.delta, kept.typed(&typed, &[]));
                }
            }
        }
    }
}

#[test]
fn every_edge_is_cut_in_a_window_around_every_layer() {
    let kept = &*SCENE;
    let found = edges(&kept.findings(&Study::Edges(EdgeEffect { tokens: vec![], width: 3 })));
    // The template's words stand before the image and behind the question: 4 + 3 + 4 + 5 + 6 edges of system, image,
    // question, last row and answer. Bos has none.
    assert_eq!(found.len(), 22 * 6);
    let (first, last) = (found[0], found[5]);
    assert_eq!((first.query, first.key, first.layer), (Span::System, Span::Visual, 0));
    assert_eq!((last.query, last.key, last.layer), (Span::System, Span::Visual, 5));
    assert!(found[..5 * 6].iter().all(|edge| edge.key == Span::Visual));
    assert!(found[5 * 6..].iter().all(|edge| edge.key != Span::Visual));
    let delta = |query, key, layer| {
        let is = |edge: &&EdgeFound| (edge.query, edge.key, edge.layer) == (query, key, layer);
        found.iter().find(is).unwrap().delta
    };
    for (query, key, layer, cut) in [
        (Span::Last, Span::Visual, 4, "last -> visual @ 3-5"),
        (Span::Answer, Span::Visual, 4, "decode -> visual @ 3-5"),
        (Span::Question, Span::Visual, 0, "question -> visual @ 0-1"),
        (Span::Visual, Span::Bos, 2, "visual -> bos @ 1-3"),
        (Span::Answer, Span::Answer, 5, "decode -> answer @ 4-5"),
        (Span::Answer, Span::Last, 1, "decode -> last @ 0-2"),
    ] {
        same(delta(query, key, layer), kept.typed(cut, &[]));
    }
    // What is said first was predicted by the last prompt row: no row of the answer has a part in it.
    let first = edges(&kept.findings(&Study::Edges(EdgeEffect { tokens: vec![0], width: 1 })));
    let of_answer: Vec<&EdgeFound> = first.iter().filter(|edge| edge.query == Span::Answer).collect();
    assert_eq!(of_answer.len(), 6 * 6);
    assert!(of_answer.iter().all(|edge| edge.delta == 0.0), "{of_answer:?}");
}

/// Spans, markers and tiles as other families have them: all edges of one layer.
#[test]
fn edges_are_what_is_typed_on_every_family() {
    for dir in every_family() {
        let kept = Kept::new(load(dir.path()), &bundled::sample_image(), &ask("what is it?", 3));
        let found = edges(&kept.findings(&Study::Edges(EdgeEffect { tokens: vec![], width: 1 })));
        let of_one: Vec<&EdgeFound> = found.iter().filter(|edge| edge.layer == 1).collect();
        assert!(of_one.len() >= 9, "{of_one:?}");
        for edge in of_one {
            let query = if edge.query == Span::Answer { "decode" } else { edge.query.name() };
            same(edge.delta, kept.typed(&format!("{query} -> {} @ 1", edge.key.name()), &[]));
        }
    }
}

#[test]
fn every_heads_view_of_the_image_is_cut_by_itself() {
    let kept = &*SCENE;
    let found = heads(&kept.findings(&Study::Heads(HeadEffect { tokens: vec![1] })));
    assert_eq!(found.len(), 6 * 4);
    for (at, head) in found.iter().enumerate() {
        assert_eq!((head.layer, head.head), (at / 4, at % 4));
    }
    for (layer, head) in [(0, 0), (3, 2), (5, 3)] {
        same(
            found[layer * 4 + head].delta,
            kept.typed(&format!("answer -> visual @ {layer} # {head}"), &[1]),
        );
    }
}

/// The pages of each layer put together.
fn pages(findings: Vec<Finding>) -> Vec<LensPage> {
    let mut pages: Vec<LensPage> = Vec::new();
    for finding in findings {
        let Finding::Lens(part) = finding else { panic!("{finding:?}") };
        match pages.last_mut() {
            Some(page) if page.layer == part.layer => page.readings.extend(part.readings),
            _ => pages.push(part),
        }
    }
    pages
}

#[test]
fn the_lens_reads_what_the_command_line_reads() {
    let kept = &*SCENE;
    let study = Study::Lens(LensAt {
        positions: (40..150).collect(),
        layers: Numbers::range(1, 2),
        top: 3,
        word: Some("house".to_string()),
    });
    let findings = kept.findings(&study);
    assert_eq!(findings.len(), 2 * 2, "more positions than one step reads");
    let pages = pages(findings);
    let image = bundled::sample_image();
    let args = ["lens", "--device", "cpu", "--image", text(&image), "--prompt", LEFT, "--max-new", "6"];
    let more = ["--at", "pos[40-149]", "--layers", "1-2", "--word", "house", "--top", "3", "--json", "-"];
    let lines = sightline(args.iter().chain(&more)).succeeds().out;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), pages.len());
    let near = |found: f32, printed: &Value| (f64::from(found) - printed.as_f64().unwrap()).abs() < 1e-5;
    for (page, line) in pages.iter().zip(&lines) {
        assert_eq!(page.layer, line["layer"]);
        assert_eq!((page.readings.len(), line["readings"].as_array().unwrap().len()), (110, 110));
        for (reading, printed) in page.readings.iter().zip(line["readings"].as_array().unwrap()) {
            assert_eq!(reading.position, printed["position"]);
            let (rank, probability) = reading.chosen.unwrap();
            assert_eq!(rank, printed["word"]["rank"]);
            assert!(near(probability, &printed["word"]["probability"]));
            for (candidate, printed) in reading.top.iter().zip(printed["top"].as_array().unwrap()) {
                assert_eq!(candidate.id, printed["id"]);
                assert_eq!(candidate.text, printed["text"].as_str().unwrap());
                assert!(near(candidate.logprob.exp(), &printed["probability"]));
            }
        }
    }
}

#[test]
fn a_context_is_shortened_share_by_share() {
    let kept = &*SCENE;
    let questions = vec!["what is the background?".to_string()];
    let study = Compress { percents: vec![100.0, 5.0], questions: questions.clone(), keep_answer: true };
    let found = kept.findings(&Study::Compress(study));
    for (finding, percent) in found.iter().zip([100.0, 5.0]) {
        let (keep, cancel) = (Keep { percent, answer: true }, Cancel::default());
        let images = [&kept.seen];
        let expected =
            ask_compressed(&kept.engine, &kept.baseline, keep, &questions, &images, 6, &cancel).unwrap();
        assert_eq!(*finding, Finding::Compressed(expected));
    }
}

#[test]
fn a_cancelled_step_is_taken_again() {
    let kept = &*SCENE;
    let lens = LensAt { positions: vec![3], layers: Numbers::All, top: 1, word: None };
    for study in [Study::Heads(HeadEffect { tokens: vec![] }), Study::Lens(lens)] {
        let (mut steps, mut others) = (kept.steps(&study).unwrap(), kept.steps(&study).unwrap());
        let stop = Cancel::default();
        stop.cancel();
        for _ in 0..3 {
            let before = steps.steps();
            assert!(kept.step(&mut steps, &stop).unwrap_err().is_cancelled());
            assert_eq!(steps.steps(), before);
            let [found, expected] =
                [&mut steps, &mut others].map(|of| kept.step(of, &Cancel::default()).unwrap());
            assert!(found.is_some() && found == expected);
        }
    }
}

#[test]
fn what_there_is_not_is_refused_before_the_first_step() {
    let kept = &*SCENE;
    let map = PatchEffect { tokens: vec![], how: Taking::Cut, layers: Numbers::All, coarsest: 4 };
    let lens = LensAt { positions: vec![0], layers: Numbers::All, top: 1, word: None };
    let compress = Compress { percents: vec![5.0], questions: vec!["what?".into()], keep_answer: false };
    for (study, part) in [
        (Study::Patches(PatchEffect { tokens: vec![99], ..map.clone() }), "answer token 99 does not exist"),
        (
            Study::Patches(PatchEffect { layers: Numbers::range(6, 6), ..map.clone() }),
            "layer 6 does not exist",
        ),
        (Study::Patches(PatchEffect { coarsest: 0, ..map.clone() }), "expected a patch at least"),
        (Study::Edges(EdgeEffect { tokens: vec![], width: 2 }), "odd number of layers"),
        (Study::Edges(EdgeEffect { tokens: vec![], width: 0 }), "odd number of layers"),
        (Study::Heads(HeadEffect { tokens: vec![0, 7] }), "answer token 7 does not exist"),
        (Study::Lens(LensAt { positions: vec![], ..lens.clone() }), "a position to read at"),
        (Study::Lens(LensAt { positions: vec![0, 999], ..lens.clone() }), "a position is 999"),
        (Study::Lens(LensAt { layers: Numbers::range(9, 9), ..lens.clone() }), "layer 9 does not exist"),
        (Study::Lens(LensAt { word: Some("zeppelin".into()), ..lens.clone() }), "no token for `zeppelin`"),
        (Study::Compress(Compress { percents: vec![5.0, 101.0], ..compress.clone() }), "0 to 100 %"),
        (Study::Compress(Compress { questions: vec![], ..compress.clone() }), "a question"),
    ] {
        let error = kept.refusal(&study);
        assert!(error.contains(part), "{study:?}: {error}");
    }
    // Of a run that something was done to, only the lens has something to say.
    let cut = ask(LEFT, 6).with_knockouts(vec!["answer -> visual @ 2-5".parse().unwrap()]);
    let cancel = Cancel::default();
    let baseline = kept.engine.keep(&cut, &[&kept.seen], &cancel, &mut |_| {}).unwrap();
    let steps = |study: &Study| Steps::new(&kept.engine, &baseline, &[&kept.seen], study);
    for study in [Study::Patches(map), Study::Compress(compress)] {
        let error = steps(&study).unwrap_err().to_string();
        assert!(error.contains("an uncut answer") && error.contains(study.kind().name()), "{error}");
    }
    assert!(steps(&Study::Lens(lens)).is_ok());
}
