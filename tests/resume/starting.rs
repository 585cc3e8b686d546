//! Where an intervention starts, and what it cannot start from.

use super::*;

#[test]
fn an_intervention_starts_at_its_lowest_layer_and_first_row() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let spec = ask(bundled::PROMPT, 6);
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
    let spec = ask(SHORT, 4);
    let cut = intervention(&["answer -> visual @ 1"], &[]);
    let bare = keep(engine, seen, &every(spec.clone(), 0)).unwrap();
    assert!(refused(intervene(engine, seen, &bare, &cut)).contains("needs residuals"));
    assert!(refused(square(engine, &bare, 0, 0, &Cancel::default())).contains("needs residuals"));

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
