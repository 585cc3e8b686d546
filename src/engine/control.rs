//! The control of an intervention: the same on as many random visual tokens.

use crate::{
    engine::{
        baseline::Baseline,
        error::RunError,
        load::Engine,
        resume::{change_of, effects_of},
        see::Seen,
    },
    progress::Cancel,
    spec::experiment::Intervention,
    statistics::spread::Spread,
    trace::{
        report::{Control, totals},
        tokens::visual,
    },
};

/// Scores the same intervention on as many random visual tokens, `draws` times.
///
/// # Errors
/// [`RunError`]; [`RunError::Needs`] when no visual token is touched.
pub fn control(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    images: &[&Seen],
    draws: usize,
    cancel: &Cancel,
) -> Result<Control, RunError> {
    let change = change_of(engine, baseline, intervention, images, cancel, &mut |_| {})?;
    let visual = visual(&baseline.prompt.tokens);
    let random =
        |draw: u64| change.at_random(&visual, baseline.experiment.seed, draw).ok_or_else(needs_visual);
    random(0)?;
    let (mut deltas, mut kls) = (Vec::new(), Vec::new());
    for draw in 1..=draws as u64 {
        let random = random(draw)?;
        let (delta, kl) = totals(&effects_of(engine, baseline, intervention, &random, cancel)?);
        deltas.push(delta);
        kls.push(kl);
    }
    let (delta, kl) = totals(&effects_of(engine, baseline, intervention, &change, cancel)?);
    Ok(Control { delta: Spread::new(delta, deltas), kl: Spread::new(kl, kls) })
}

/// Why an intervention that touches no visual token has no control.
pub(super) fn needs_visual() -> RunError {
    RunError::Needs {
        what: "a control on random patches",
        needs: "an intervention on visual tokens".to_string(),
    }
}
