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
    // What spans read is of all rows, layers and heads, whatever is recorded.
    assert_eq!(none.trace.flow, whole.trace.flow);
    assert_eq!(none_cut.free.flow, whole_cut.free.flow);
    assert_eq!(none_cut.forced.flow, whole_cut.forced.flow);
    assert_ne!(none_cut.forced.flow, none.trace.flow);
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
    let memory = engine.memory(&spec, &[seen], prompt, Held::Baseline);
    let kept: usize = baseline.trace.rows().map(|(_, row)| row.data.len() * 4).sum();
    let positions = prompt + 6;
    let exact: usize = (0..4).map(|s| 3 * 2 * (prompt + s) * 4).sum();
    assert_eq!(kept, exact);
    assert_eq!(memory.pattern, exact as u64);
    assert_eq!(memory.residuals, (2 * positions * 128 * 4) as u64);
    // Keys and values, with room for half as many rows again.
    assert_eq!(memory.kv_cache, (3 * 6 * 4 * 32 * positions * 4) as u64);
    assert_eq!(engine.memory(&spec, &[seen], prompt, Held::Answer).residuals, 0);
    let half = recorded(&spec, "answer[0-3] @ 2-4 # 1,3", true);
    let half = engine.memory(&half, &[seen], prompt, Held::Baseline);
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

#[test]
fn an_intervention_that_would_hold_too_much_is_refused_before_its_uncut_run() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let mut spec = with(&ask(SHORT, 4), &intervention(&["answer -> visual @ 2"], &[]));
    let baseline = keep(engine, seen, &spec.uncut()).unwrap();
    let prompt = baseline.prompt.len();
    let [alone, three] =
        [Held::Baseline, Held::Intervention].map(|held| engine.memory(&spec, &[seen], prompt, held).total());
    assert!(alone < three);
    let run = |spec: &Experiment, ran: &mut usize| {
        engine.run(spec, &[seen], &Cancel::default(), &mut |_| *ran += 1).map(|_| ())
    };
    let mut ran = 0;
    spec.record.limit = three - 1;
    assert!(refused(run(&spec, &mut ran)).contains("the limit is"));
    assert_eq!(ran, 0);
    let cancel = Cancel::default();
    let from_kept = engine.run_from(&baseline, &spec, &[seen], &cancel, &mut |_| {});
    assert!(refused(from_kept).contains("the limit is"));
    // Enough for the uncut run alone.
    run(&spec.uncut(), &mut ran).unwrap();
    spec.record.limit = three;
    run(&spec, &mut ran).unwrap();
}

#[test]
fn features_that_are_added_count() {
    let (_dir, engine, seen) = spread_engine();
    let spec = ask_about(1, LEFT, 4);
    let n = engine.prompt(&spec.turns, &[&seen]).unwrap().tokens.len();
    let plain = Seen { added: Vec::new(), ..seen.clone() };
    let [with, without] =
        [&seen, &plain].map(|seen| engine.memory(&spec, &[seen], n, Held::Baseline).residuals);
    // After two layers, 64 wide.
    assert_eq!(with - without, (2 * n * 64 * 4) as u64);
}

#[test]
fn long_answers_are_scored_in_parts_and_come_out_as_in_one() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    // More rows than go through together.
    let n = TOGETHER + 20;
    let ids: Vec<u32> = (0..n as u32).map(|i| 10 + i % 50).collect();
    let spec = Experiment { forced_answer: Some(ids), ..ask(SHORT, n) };
    let baseline = keep(engine, seen, &spec).unwrap();
    assert_eq!(baseline.trace.answer.len(), n);
    for layer in [0, 3, 6] {
        let resid = resid_pre(engine, &baseline, layer, &Cancel::default()).unwrap();
        assert_eq!(resid.dims()[0], baseline.n_rows(), "layer {layer}");
    }
    let cut = intervention(&["answer -> visual @ 2-"], &[]);
    let scored = score(engine, &baseline, &cut, &[seen], &Cancel::default()).unwrap();
    let scratch = run(engine, seen, &with(&spec, &cut)).unwrap();
    assert_eq!(scored.effects.len(), n);
    same(&scored.trace, &scratch, "in parts");
}
