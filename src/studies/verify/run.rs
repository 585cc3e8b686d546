//! A verification from beginning to end: the model is loaded, every case gone through in the same order.

use std::path::Path;

use crate::{
    checkpoint::{shards::weights_file, weights::WeightDtype},
    device::open::Compute,
    model::vlm::{LoadError, Vlm},
    progress::Cancel,
    studies::verify::{
        base,
        case::Case,
        generation, input, interventions,
        reference::Reference,
        report::{Report, VerifyError},
    },
};

/// Runs the model in `dir` against the reference beside it, float32.
///
/// # Errors
/// [`VerifyError`] when the comparison cannot be made; a difference is not an error.
pub fn verify(dir: &Path, compute: &Compute) -> Result<Report, VerifyError> {
    // The reference first: a mistake there should not wait for the weights.
    let reference = Reference::open(dir)?;
    let vlm = Vlm::load(dir, &compute.device, WeightDtype::F32)?;
    let cancel = Cancel::default();
    let (mut checks, mut known) = (Vec::new(), Vec::new());
    for (name, facts) in &reference.facts.cases {
        let mut case = Case::new(&vlm, &reference, name, facts, &cancel);
        run_case(&mut case)?;
        checks.append(&mut case.checks);
        known.append(&mut case.known);
    }
    let not_checked = reference.tensors.keys().filter(|k| !known.contains(k)).cloned().collect();
    let pass = !checks.is_empty() && checks.iter().all(|c| c.pass);
    Ok(Report {
        model: dir.display().to_string(),
        weights: weights_file(dir).map_err(LoadError::from)?,
        device: compute.description.clone(),
        dtype: vlm.dtype_text(),
        unused_weights: vlm.unused.clone(),
        not_checked,
        checks,
        pass,
    })
}

/// Everything that is compared in one case.
fn run_case(case: &mut Case<'_>) -> Result<(), VerifyError> {
    let ids = input::ids(case)?;
    input::facts(case, &ids);
    let images = input::vision(case)?;
    let rows = input::merged(case, &ids, &images)?;
    let base = base::baseline(case, rows.clone())?;
    base::lens(case, "lens", &base.resid_post)?;
    base::lens(case, "lens_in", &base.resid_in)?;
    let generated = generation::generation(case, "gen", &rows, None)?;
    generation::one_pass(case, &rows, &generated)?;
    for (name, facts) in &case.facts.knockouts {
        let cut = interventions::cut(case, name, facts)?;
        match &facts.tokens {
            Some(tokens) => {
                interventions::generation_cut(case, name, facts, tokens, &cut, &rows, &generated)?;
            }
            None => interventions::knockout(case, name, facts, &cut, &rows, &base.logits)?,
        }
    }
    interventions::without_added(case, &rows, &base.logits)?;
    interventions::ablation(case, &rows, images.tokens, &base.logits)
}
