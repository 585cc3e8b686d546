//! What an intervention does to an answer: its effects, answers that are drawn or given, and those that are stopped.

use super::*;

#[test]
fn effects_are_what_the_logits_say() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &ask(bundled::PROMPT, 10)).unwrap();
    let cut = intervention(&["answer -> visual @ all"], &[]);
    let effects = score(engine, &baseline, &cut, &[seen], &Cancel::default()).unwrap().effects;
    assert_eq!(effects, intervene(engine, seen, &baseline, &cut).unwrap().effects);
    let spec = Experiment { forced_answer: Some(baseline.trace.ids()), ..with(&baseline.experiment, &cut) };
    let scratch = keep(engine, seen, &spec).unwrap();
    for (s, effect) in effects.iter().enumerate() {
        let wide = |logits: &[f32]| -> Vec<f64> {
            let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            logits.iter().map(|&l| f64::from(l) - sum.ln()).collect()
        };
        let (p, q) = (wide(&baseline.logits[s]), wide(&scratch.logits[s]));
        let id = baseline.trace.ids()[s] as usize;
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

#[test]
fn sampled_answers_follow_their_seed_and_can_be_resumed() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = |seed| Experiment {
        sampling: Some(Sampling { temperature: 2.0, top_p: 1.0 }),
        seed,
        ..ask(bundled::PROMPT, 8)
    };
    let answers: Vec<Vec<u32>> = (0..4).map(|seed| ids(&run(engine, seen, &spec(seed)).unwrap())).collect();
    assert_eq!(answers[1], ids(&run(engine, seen, &spec(1)).unwrap()));
    assert!(answers[1..].iter().any(|a| *a != answers[0]));
    for seed in 0..4 {
        let baseline = keep(engine, seen, &spec(seed)).unwrap();
        assert_eq!(baseline.trace.ids(), answers[seed as usize]);
        let cut = intervention(&["answer -> object @ all"], &[]);
        let resumed = intervene(engine, seen, &baseline, &cut).unwrap().free;
        let scratch = keep(engine, seen, &with(&baseline.experiment, &cut)).unwrap();
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
        let error = refused(run(engine, seen, &Experiment { sampling, ..spec(0) }));
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_forced_baseline_is_scored_and_then_answered_freely() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let free = run(engine, seen, &ask(SHORT, 5)).unwrap();
    assert_eq!(free.stop, Stop::End);
    let mut forced = ids(&free);
    forced.extend([11, 11]);
    let spec = Experiment { forced_answer: Some(forced.clone()), ..ask(SHORT, 5) };
    let baseline = keep(engine, seen, &spec).unwrap();
    // Too little to change a word; the words after the end token were the caller's, not the model's.
    let outcome =
        intervene(engine, seen, &baseline, &intervention(&["answer -> visual[0] @ 5 # 0"], &[])).unwrap();
    assert_eq!(ids(&outcome.forced), forced);
    assert_eq!(outcome.effects.len(), forced.len());
    assert_eq!((ids(&outcome.free), outcome.free.stop), (ids(&free), Stop::End));
}

#[test]
fn a_cancelled_intervention_stops_within_a_token() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &ask(bundled::PROMPT, 12)).unwrap();
    assert_eq!(baseline.trace.answer.len(), 12);
    let cuts = (0..6).flat_map(|layer| {
        ["visual", "object", "visual[0-71]", "visual[72-143]"]
            .map(|key| format!("question + answer -> {key} @ {layer}-"))
    });
    let another = cuts.into_iter().find(|cut| {
        let free = intervene(engine, seen, &baseline, &intervention(&[cut], &[])).unwrap().free;
        free.answer.len() > 4 && ids(&free)[..2] != baseline.trace.ids()[..2]
    });
    // The first leaves the answer as it is, the second changes one of its first two words.
    for cut in ["decode[9] -> visual[0] @ 5 # 0", &another.unwrap()] {
        let cut = intervention(&[cut], &[]);
        let whole = intervene(engine, seen, &baseline, &cut).unwrap().free;
        for at in 1..4 {
            let (cancel, mut tokens) = (Cancel::default(), 0);
            let outcome = resume::intervene(engine, &baseline, &cut, &[seen], &cancel, &mut |event| {
                if matches!(event, RunEvent::Token { .. }) {
                    tokens += 1;
                    if tokens == at {
                        cancel.cancel();
                    }
                }
            });
            let (free, outcome) = outcome.unwrap();
            assert_eq!((free.stop, free.answer.len(), tokens), (Stop::Cancelled, at, at));
            assert_eq!(free.answer, whole.answer[..at]);
            assert_eq!(free.pattern.len(), at);
            // Every row that predicted one of its tokens, and those before.
            let rows: usize = free.flow.as_ref().unwrap().rows.iter().sum();
            assert_eq!(rows, baseline.prompt.len() + at - 1);
            let same = run(engine, seen, &with(&baseline.experiment, &cut)).unwrap();
            assert!(free.knockouts[0].total_pairs() <= same.knockouts[0].total_pairs());
            assert_eq!(outcome.unwrap().effects.len(), 12);
        }
        let cancel = Cancel::default();
        cancel.cancel();
        let outcome = resume::intervene(engine, &baseline, &cut, &[seen], &cancel, &mut |event| {
            assert!(matches!(event, RunEvent::Prompt(_)), "{event:?}");
        });
        let (free, outcome) = outcome.unwrap();
        assert_eq!((free.stop, free.answer.len()), (Stop::Cancelled, 0));
        assert!(outcome.is_none());
        let scored = score(engine, &baseline, &cut, &[seen], &cancel);
        assert!(matches!(scored, Err(RunError::Decoding(DecodingError::Cancelled(_)))));
        let control = control::control(engine, &baseline, &cut, &[seen], 3, &cancel);
        assert!(matches!(control, Err(RunError::Decoding(DecodingError::Cancelled(_)))));
    }
}

#[test]
fn an_experiment_repeats_its_numbers_and_survives_being_stopped() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let cut = intervention(&["answer -> object @ all"], &["object = mean"]);
    let experiment = Experiment { control: 2, ..with(&ask(LEFT, 4), &cut) };
    let run = |cancel: &Cancel, stop: bool| {
        let ran = engine.run(&experiment, &[seen], cancel, &mut |event| {
            if stop && matches!(event, RunEvent::Token { .. }) {
                cancel.cancel();
            }
        });
        ran.map(|(_, report)| report)
    };
    let report = run(&Cancel::default(), false).unwrap();
    let again = run(&Cancel::default(), false).unwrap();
    assert_eq!(report.numbers().difference(&again.numbers()), 0.0);
    assert_eq!(report.experiment, experiment);
    let outcome = report.outcome.as_ref().unwrap();
    let scratch = engine.scratch(&experiment, &[seen], &Cancel::default(), &mut |_| {}).unwrap();
    assert_eq!(ids(&report.answer), ids(&scratch));
    let numbers = report.numbers();
    assert_eq!(numbers.effects.unwrap().len(), report.baseline().answer.len());
    let control = outcome.control.as_ref();
    assert!(control.is_some());
    assert_eq!(numbers.control, control.map(|c| [c.delta.mean, c.kl.mean]));

    let uncut = Experiment { control: 2, ..ask(LEFT, 4) };
    let (kept, uncut) = engine.run(&uncut, &[seen], &Cancel::default(), &mut |_| {}).unwrap();
    assert!(uncut.outcome.is_none() && uncut.uncut.is_none());
    assert_eq!(ids(&uncut.answer), ids(report.baseline()));
    // Any intervention can start from the run that comes with it, told or not.
    let from_kept = engine.run_from(&kept, &experiment, &[seen], &Cancel::default(), &mut |_| {}).unwrap();
    assert_eq!(from_kept.numbers().difference(&report.numbers()), 0.0);

    let stopped = run(&Cancel::default(), true).unwrap();
    assert_eq!((stopped.answer.stop, stopped.answer.answer.len()), (Stop::Cancelled, 1));
    assert!(stopped.outcome.is_some_and(|o| o.control.is_none()));
    // Stopped in the uncut run there is nothing to compare with.
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = run(&cancel, false).unwrap();
    assert_eq!((stopped.answer.stop, stopped.outcome.is_none()), (Stop::Cancelled, true));
}
