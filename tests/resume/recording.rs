//! What is kept of a run: parts of its attention, halves, and what that takes.

use super::*;

fn recorded(spec: &Experiment, pattern: &str, half: bool) -> Experiment {
    let record = Record { pattern: pattern.parse().unwrap(), half, ..spec.record.clone() };
    Experiment { record, ..spec.clone() }
}

#[test]
fn a_partial_recording_is_a_slice_of_the_whole() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = ask(bundled::PROMPT, 6);
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
    let spec = ask(bundled::PROMPT, 5);
    let full = keep(engine, seen, &spec).unwrap();
    let half = keep(engine, seen, &recorded(&spec, "answer @ all", true)).unwrap();
    assert_eq!(full.trace.answer, half.trace.answer);
    let close = |a: f32, b: f32| (a - b).abs() <= (a.abs() / 2048.0).max(2f32.powi(-25));
    let (a, b) = (patterns(&full.trace), patterns(&half.trace));
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(&b).all(|(&a, &b)| close(a, b)));
    assert!(a != b, "nothing was rounded");
    let cancel = Cancel::default();
    let resid = |b: &Baseline, layer| host(resid_pre(engine, b, layer, &cancel).unwrap()).unwrap();
    for layer in [0, 4, 6] {
        let (a, b) = (resid(&full, layer), resid(&half, layer));
        assert!(a.iter().zip(&b).all(|(&a, &b)| close(a, b)), "layer {layer}");
        assert!(a != b, "layer {layer}");
    }
    // What starts from halves ends near what starts from floats.
    let cut = intervention(&["answer -> visual @ 2-"], &[]);
    let exact = score(engine, &full, &cut, &[seen], &cancel).unwrap().effects;
    let near = score(engine, &half, &cut, &[seen], &cancel).unwrap().effects;
    assert!(exact.iter().zip(&near).all(|(a, b)| (a.logprob - b.logprob).abs() < 0.05));
}

#[test]
fn memory_is_estimated_exactly_and_refused_before_anything_runs() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let mut spec = recorded(&ask(bundled::PROMPT, 6), "answer[0-3] @ 2-4 # 1,3", false);
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
