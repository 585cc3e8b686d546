//! Residuals and whole patterns of a kept run, computed again.

use super::*;

#[test]
fn residuals_between_the_stored_ones_are_computed_again() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let cut = intervention(&["question -> visual @ 1"], &["visual[3] = zero"]);
    let cancel = Cancel::default();
    for change in [Intervention::default(), cut] {
        let spec = with(&ask(SHORT, 3), &change);
        let all = keep(engine, seen, &spec).unwrap();
        let some = keep(engine, seen, &every(spec, 4)).unwrap();
        for layer in 0..=6 {
            let of = |b: &Baseline| host(resid_pre(engine, b, layer, &cancel).unwrap()).unwrap();
            let (a, b) = (of(&all), of(&some));
            let size = a.iter().map(|v| v.abs()).fold(0.0, f32::max);
            let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(a.len(), all.n_rows() * 128);
            assert!(far <= 1e-4 * size, "layer {layer}: {far} of {size}");
        }
    }
}

fn squares(
    engine: &Engine,
    seen: &Seen,
    cut: &Intervention,
    blocked: impl Fn(usize, usize, usize, usize) -> bool,
) {
    let cancel = Cancel::default();
    for n in [1, 3] {
        let spec = every(with(&ask(bundled::PROMPT, 4), cut), n);
        let baseline = keep(engine, seen, &spec).unwrap();
        let (rows, prompt) = (baseline.n_rows(), baseline.prompt.len());
        let (mut counts, mut open) = ([0, 0], 0);
        for (layer, head) in [(0, 0), (2, 3), (3, 1)] {
            let whole = square(engine, &baseline, layer, head, &cancel).unwrap();
            assert_eq!(whole.len(), rows * rows);
            for (r, row) in whole.chunks(rows).enumerate() {
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
                let found = &whole[row * rows..][..row + 1];
                let far = recorded.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(recorded.len() == row + 1 && far == 0.0, "{far}");
            }
        }
        assert_eq!(counts[1] > 0, !cut.is_empty());
        assert!(open * 2 > counts[0], "{open} of {counts:?}");
        let (layers, heads) = (engine.info.n_layers, engine.info.n_heads);
        let error = refused(square(engine, &baseline, layers, 0, &cancel));
        assert!(
            error.contains(&format!("layer {layers} does not exist: valid are 0 to {}", layers - 1)),
            "{error}"
        );
        let error = refused(square(engine, &baseline, 0, heads, &cancel));
        assert!(error.contains(&format!("head {heads} does not exist: valid are 0 to 3")), "{error}");
    }
}

#[test]
fn a_square_is_the_whole_pattern_with_its_cuts() {
    for (engine, seen) in [(&*ENGINE, SEEN.clone()), (&TILED.1, tiled_seen(&TILED.1))] {
        squares(engine, &seen, &Intervention::default(), |_, _, _, _| false);
        let trace = run(engine, &seen, &ask(bundled::PROMPT, 1)).unwrap();
        let spans: Vec<Span> = trace.prompt.iter().map(|t| t.span).collect();
        let cut = intervention(&["question -> visual @ 2-3 # 3", "visual -> bos @ 0"], &[]);
        squares(engine, &seen, &cut, |layer, head, row, key| {
            let is = |at: usize, span: Span| spans.get(at) == Some(&span);
            let first = layer >= 2 && head == 3 && is(row, Span::Question) && is(key, Span::Visual);
            first || (layer == 0 && is(row, Span::Visual) && is(key, Span::Bos))
        });
    }
}

/// What enters every layer, kept or computed again from what was kept.
pub fn computed_again(engine: &Engine, seen: &Seen) {
    let cancel = Cancel::default();
    let cut = intervention(&["question -> visual @ 1"], &["visual[3] = zero"]);
    for change in [Intervention::default(), cut] {
        let spec = with(&ask(SHORT, 3), &change);
        let all = keep(engine, seen, &spec).unwrap();
        let some = keep(engine, seen, &every(spec, 3)).unwrap();
        for layer in 0..=engine.info.n_layers {
            let of = |b: &Baseline| host(resid_pre(engine, b, layer, &cancel).unwrap()).unwrap();
            assert_eq!(of(&all), of(&some), "{}, layer {layer}", engine.info.family);
        }
    }
}

#[test]
fn what_is_computed_again_knows_of_three_axes_and_added_features() {
    let (_dir, engine, seen) = spread_engine();
    computed_again(&engine, &seen);
    squares(&engine, &seen, &Intervention::default(), |_, _, _, _| false);
    // Integrated gradients go the same way: their ends are what the answer's words were given.
    let baseline = keep(&engine, &seen, &ask(LEFT, 4)).unwrap();
    let cut = intervention(&["last -> gradient[0-4] @ all"], &[]);
    let scratch = run(&engine, &seen, &with(&baseline.experiment, &cut)).unwrap();
    assert_eq!(blank(&scratch).len(), 5);
    same(&intervene(&engine, &seen, &baseline, &cut).unwrap().free, &scratch, "gradient");
}
