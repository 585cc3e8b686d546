//! Integrated gradients, and the set that they make.

use super::*;

/// Prompt embeddings with the image, each at its place, and where the image is.
fn embeds(engine: &Engine, seen: &Seen, baseline: &Baseline) -> (Rows, Vec<usize>) {
    let visual = visual(&baseline.trace);
    let embeds = engine.vlm.decoder.embed(&baseline.prompt.ids());
    let embeds = place_rows(embeds, &visual, seen.embeds.clone());
    (Rows::text(embeds, consecutive(0, baseline.prompt.len())), visual)
}

#[test]
fn attributions_add_up_and_the_largest_are_the_gradient_set() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let (vlm, cancel) = (&engine.vlm, Cancel::default());
    let baseline = keep(engine, seen, &ask(LEFT, 4)).unwrap();
    let answer = baseline.trace.ids();
    let (embeds, visual) = embeds(engine, seen, &baseline);
    let mut steps = Vec::new();
    let mut on_step = |done: usize, total: usize| steps.push((done, total));
    let parts = gradient::attributions(vlm, embeds.clone(), &visual, &answer, &cancel, &mut on_step).unwrap();
    assert!(steps.iter().copied().eq((1..=gradient::STEPS).map(|step| (step, gradient::STEPS))));
    assert_eq!(parts.len(), visual.len());
    let given = vlm.decoder.embed(&answer[..answer.len() - 1]);
    let end = embeds.then_text(given);
    let at = |input: Tensor<2>| {
        gradient::log_probability(vlm, &end.with(input), &answer, &cancel).unwrap().into_scalar::<f32>()
    };
    let (start, end) = (at(gradient::at_mean(&end.resid, &visual)), at(end.resid.clone()));
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
        let mut on = |event: RunEvent<'_>| {
            let step = matches!(event, RunEvent::Progress(Progress { stage: Stage::Gradients, .. }));
            steps += usize::from(step);
        };
        blank(&resume::intervene(engine, &baseline, &cut, &[seen], &cancel, &mut on).unwrap().0)
    };
    assert_eq!(again(), ten);
    // They cost many passes: a kept run works them out once.
    assert_eq!(again(), ten);
    assert_eq!(steps, gradient::STEPS);
}

#[test]
fn a_cancelled_gradient_stops_and_so_does_the_run_that_asked_for_it() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &ask(SHORT, 3)).unwrap();
    let (embeds, visual) = embeds(engine, seen, &baseline);
    let cancel = Cancel::default();
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            cancel.cancel();
        });
        gradient::attributions(&engine.vlm, embeds, &visual, &baseline.trace.ids(), &cancel, &mut |_, _| {})
    });
    assert!(matches!(found, Err(DecodingError::Cancelled(_))));
    // The flag stays up: whatever is asked now is stopped before it begins.
    for set in ["gradient[0]", "sink", "visual"] {
        let cut = intervention(&[&format!("answer -> {set} @ all")], &["visual[0] = mean"]);
        let (free, outcome) =
            resume::intervene(engine, &baseline, &cut, &[seen], &cancel, &mut |_| {}).unwrap();
        assert_eq!((free.stop, free.answer.len()), (Stop::Cancelled, 0), "{set}");
        assert!(outcome.is_none(), "{set}");
        let trace = engine.scratch(&with(&baseline.experiment, &cut), &[seen], &cancel, &mut |_| {}).unwrap();
        assert_eq!((trace.stop, trace.answer.len()), (Stop::Cancelled, 0), "{set}");
    }
}
