//! The same intervention on random patches.

use super::*;

#[test]
fn a_control_draws_as_many_random_patches() {
    let (engine, seen, cancel) = (&*ENGINE, &*SEEN, Cancel::default());
    let baseline = keep(engine, seen, &ask(LEFT, 6)).unwrap();
    let control = |baseline: &Baseline, cuts: &[&str], ablations: &[&str], draws| {
        control::control(engine, baseline, &intervention(cuts, ablations), &[seen], draws, &cancel)
    };
    for (cuts, ablations) in [(vec!["answer -> object @ all"], vec![]), (vec![], vec!["object~1 = mean"])] {
        let found = control(&baseline, &cuts, &ablations, 4).unwrap();
        assert_eq!(found, control(&baseline, &cuts, &ablations, 4).unwrap());
        // More draws begin with the same ones.
        assert_eq!(control(&baseline, &cuts, &ablations, 2).unwrap().kl.draws, found.kl.draws[..2]);
        let change = intervention(&cuts, &ablations);
        let effects = score(engine, &baseline, &change, &[seen], &cancel).unwrap().effects;
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
        let spec = Experiment { seed: 9, ..baseline.experiment.clone() };
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
