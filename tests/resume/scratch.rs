//! Resumed runs against the same from scratch.

use super::*;

#[test]
fn resuming_gives_what_running_from_scratch_gives() {
    let others = two_scenes();
    let donors = vec![
        format!("image:{}", scene(1).display()),
        format!("mean:{}", others.path().display()),
        format!("image:{}", scene(2).display()),
    ];
    trials::Trials::new(&ENGINE, &SEEN, (12, 12), donors).run(60);
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
    trials::Trials::new(engine, &seen, (8, 8), donors).run(60);
}

#[test]
fn resuming_gives_the_same_with_three_axes_and_added_features() {
    let (_dir, engine, seen) = spread_engine();
    let donors = vec![format!("image:{}", fixture("processing/images/scene_640x427.png").display())];
    // Axes and features matter.
    let plain = run(&TILED.1, &tiled_seen(&TILED.1), &ask(LEFT, 4)).unwrap();
    let spread = run(&engine, &seen, &ask(LEFT, 4)).unwrap();
    let bare = run(&engine, &Seen { added: Vec::new(), ..seen.clone() }, &ask(LEFT, 4)).unwrap();
    assert_eq!(spread.prompt, plain.prompt);
    assert!(patterns(&spread)[..1000] != patterns(&plain)[..1000]);
    assert!(patterns(&spread) != patterns(&bare));
    trials::Trials::new(&engine, &seen, (8, 8), donors).run(60);
}

#[test]
fn resumed_answers_end_where_and_as_scratch_answers_end() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    // Cuts that make the model stop earlier, later, or say the end token at the last place.
    for (prompt, max_new) in
        [(SHORT, 12), (bundled::PROMPT, 9), ("is there a rabbit?", 2), ("is there a rabbit?", 1)]
    {
        let baseline = keep(engine, seen, &ask(prompt, max_new)).unwrap();
        for cut in [
            "answer -> visual @ all",
            "decode -> visual @ 0-2",
            "last -> question @ all",
            "answer -> all - bos @ 1-",
        ] {
            let cut = intervention(&[cut], &[]);
            let scratch = run(engine, seen, &with(&baseline.experiment, &cut)).unwrap();
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
    let baseline = keep(&engine, &seen, &ask("what?", 500)).unwrap();
    let cut = intervention(&["answer -> visual @ all"], &[]);
    let scratch = run(&engine, &seen, &with(&baseline.experiment, &cut)).unwrap();
    assert_eq!((baseline.trace.stop, scratch.stop), (Stop::Context, Stop::Context));
    assert_ne!(ids(&baseline.trace), ids(&scratch));
    let resumed = intervene(&engine, &seen, &baseline, &cut).unwrap().free;
    same(&resumed, &scratch, "context");
}

#[test]
fn touching_nothing_returns_the_stored_baseline() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    for sampling in [None, Some(Sampling { temperature: 1.5, top_p: 0.9 })] {
        let spec = Experiment { sampling, ..ask(bundled::PROMPT, 8) };
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
                assert_eq!(trace.flow, baseline.trace.flow);
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
fn questions_without_an_image_are_resumed_too() {
    let engine = &*ENGINE;
    let cancel = Cancel::default();
    let baseline = engine.keep(&ask_about(0, "is there a duck?", 4), &[], &cancel, &mut |_| {}).unwrap();
    let cut = intervention(&["answer -> question[0-2] @ 1-"], &[]);
    let scratch = engine.scratch(&with(&baseline.experiment, &cut), &[], &cancel, &mut |_| {}).unwrap();
    let resumed = intervene_on(engine, &[], &baseline, &cut).unwrap();
    same(&resumed.free, &scratch, "no image");
    for (cuts, ablations) in [
        (vec!["answer -> visual @ 1"], vec![]),
        (vec!["answer -> random[0] @ 1"], vec![]),
        (vec!["answer -> register + sink + gradient @ 1"], vec![]),
        (vec![], vec!["visual = mean"]),
        (vec![], vec!["object = zero"]),
    ] {
        let change = intervention(&cuts, &ablations);
        let error = refused(intervene_on(engine, &[], &baseline, &change));
        assert!(
            ["is empty", "there are none", "names no visual token"].iter().any(|p| error.contains(p)),
            "{error}"
        );
    }
}

#[test]
fn half_precision_weights_resume_as_they_run() {
    let dir = &TILED.0;
    let engine = load_as(dir.path(), &device::cpu(), WeightDtype::F16).unwrap();
    let seen = tiled_seen(&engine);
    let baseline = keep(&engine, &seen, &ask(bundled::PROMPT, 5)).unwrap();
    let memory = engine.memory(&baseline.experiment, &[&seen], baseline.prompt.len(), Held::Baseline);
    assert_eq!(memory.kv_cache, (3 * 4 * 2 * 16 * (baseline.prompt.len() + 5) * 2) as u64);
    let cut = intervention(&["answer -> object @ 1-", "question -> visual @ 2 # 1"], &["object = mean"]);
    let spec = Experiment { forced_answer: Some(baseline.trace.ids()), ..with(&baseline.experiment, &cut) };
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
