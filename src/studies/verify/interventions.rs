//! Knockouts of one forward and of a whole generation, and the ablation.
//!
//! Rows, keys, layers and heads are those that reference.json lists; logits are `[T, V]` or `[S, V]`.

use burn::tensor::Tensor;

use crate::{
    engine::{
        decoding::{Decoding, Rows, host, place_rows},
        logits::log_softmax,
    },
    model::hooks::{Hooks, Keep},
    spec::{knockout::Cut, resolve::Positions},
    statistics::finite::larger,
    studies::verify::{
        base::by_layer,
        case::Case,
        compare::{NATS, RELATIVE, largest},
        generation::{Generated, blocked_mass, generation, margin, teacher},
        reference::KnockoutFacts,
        report::VerifyError,
    },
};

/// What reference.json asks to cut.
pub(super) fn cut(case: &Case<'_>, name: &str, facts: &KnockoutFacts) -> Result<Cut, VerifyError> {
    let text = &case.vlm.config.text;
    let heads = facts.heads.clone().unwrap_or_else(|| (0..text.n_heads).collect());
    let outside = |list: &[usize], len: usize| list.iter().any(|&n| n >= len);
    if outside(&facts.layers, text.n_layers) || outside(&heads, text.n_heads) {
        return Err(case.unfit(name, "names a layer or head that the model does not have".to_string()));
    }
    Ok(Cut {
        rows: Positions::listed(case.len, &facts.rows),
        keys: Positions::listed(case.len, &facts.keys),
        layers: (0..text.n_layers).map(|l| facts.layers.contains(&l)).collect(),
        heads: (0..text.n_heads).map(|h| heads.contains(&h)).collect(),
    })
}

/// A knockout of one forward; `base` are the logits without it.
pub(super) fn knockout(
    case: &mut Case<'_>,
    name: &str,
    facts: &KnockoutFacts,
    cut: &Cut,
    prompt: &Rows,
    base: &[f32],
) -> Result<(), VerifyError> {
    let cuts = [cut.clone()];
    let mut decoding = Decoding::new(case.vlm, &cuts, case.len, case.cancel)?;
    let all = Keep::rows(0..prompt.len());
    let forward = decoding.pass(prompt.clone(), Hooks { pattern: all, ..Hooks::default() })?;
    for (k, pattern) in by_layer(forward.recorded.pattern) {
        let cut = cut.layers[k].then_some(cut);
        case.pattern(&format!("ko.{name}.attn.{k}"), &host(pattern)?, cut)?;
    }
    case.push(&format!("ko.{name}.blocked_mass"), blocked_mass(&decoding), 0.0, String::new());
    let logits = host(case.vlm.decoder.unembed(forward.resid))?;
    case.relative(&format!("ko.{name}.logits"), &logits)?;
    moved(case, &format!("ko.{name}.max_dlogit"), base, &logits, facts.max_dlogit_last_row);
    Ok(())
}

/// A knockout of a whole generation, free-running; then of the answer without it, `base`, where the
/// reference has that.
pub(super) fn generation_cut(
    case: &mut Case<'_>,
    name: &str,
    facts: &KnockoutFacts,
    tokens: &[u32],
    cut: &Cut,
    prompt: &Rows,
    base: &Generated,
) -> Result<(), VerifyError> {
    let prefix = format!("ko.{name}");
    let generated = generation(case, &prefix, prompt, Some(cut))?;
    let same = generated.tokens == tokens;
    case.push(&format!("{prefix}.tokens"), f64::from(u8::from(!same)), 0.0, "reference.json".to_string());
    margin(case, &format!("{prefix}.min_top2_margin"), &generated, facts.min_top2_margin);
    let of_base = case.facts.generation.min_top2_margin;
    margin(case, "gen.min_top2_margin", base, of_base);
    if case.find(&format!("{prefix}.teacher.logits")).is_none() {
        return Ok(());
    }
    let logits = teacher(case, prompt, &base.tokens, std::slice::from_ref(cut))?;
    case.relative(&format!("{prefix}.teacher.logits"), &logits)?;
    let (mut logprob, mut kl) = (Vec::new(), Vec::new());
    let vocabulary = case.vlm.config.text.vocabulary;
    for (s, (cut, base_row)) in logits.chunks(vocabulary).zip(base.logits.chunks(vocabulary)).enumerate() {
        let (q, p) = (log_softmax(cut), log_softmax(base_row));
        logprob.push(q[base.tokens[s] as usize]);
        kl.push(p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f32>());
    }
    case.absolute(&format!("{prefix}.teacher.logprob"), &logprob, NATS)?;
    case.absolute(&format!("{prefix}.teacher.kl"), &kl, NATS)
}

/// Positions that take the mean visual embedding; `base` are the logits without it.
pub(super) fn ablation(
    case: &mut Case<'_>,
    prompt: &Rows,
    images: Tensor<2>,
    base: &[f32],
) -> Result<(), VerifyError> {
    let Some(facts) = &case.facts.ablate else { return Ok(()) };
    if facts.positions.is_empty() || facts.positions.iter().any(|&p| p >= case.len) {
        let why = format!("must name positions below the prompt's {}", case.len);
        return Err(case.unfit("ablate.positions", why));
    }
    let mean = images.mean_dim(0);
    case.relative("ablate.mean", &host(mean.clone())?)?;
    let means = mean.repeat_dim(0, facts.positions.len());
    let ablated = prompt.with(place_rows(prompt.resid.clone(), &facts.positions, means));
    let logits = logits_of(case, ablated.clone())?;
    case.relative("ablate.logits", &logits)?;
    moved(case, "ablate.max_dlogit", base, &logits, facts.max_dlogit_last_row);
    let Some(want) = facts.max_dlogit_if_deepstack_were_removed_too else { return Ok(()) };
    let (gone, width) = (&facts.positions, case.vlm.config.text.width);
    let nothing = || Tensor::zeros([gone.len(), width], &case.vlm.device);
    let added = ablated.added.into_iter().map(|(layer, t)| (layer, place_rows(t, gone, nothing()))).collect();
    let without = logits_of(case, Rows { added, ..ablated })?;
    moved(case, "ablate.max_dlogit_if_deepstack_were_removed_too", &logits, &without, Some(want));
    Ok(())
}

/// The prompt without what is added after layers; `base` are the logits with it.
pub(super) fn without_added(case: &mut Case<'_>, prompt: &Rows, base: &[f32]) -> Result<(), VerifyError> {
    let Some(facts) = &case.facts.deepstack else { return Ok(()) };
    let missing = facts.n.abs_diff(prompt.added.len());
    case.push("deepstack.n", missing as f64, 0.0, "reference.json".to_string());
    let without = logits_of(case, Rows { added: Vec::new(), ..prompt.clone() })?;
    let want = facts.max_dlogit_last_row_if_left_out;
    moved(case, "deepstack.max_dlogit_if_left_out", base, &without, want);
    Ok(())
}

/// `[T, V]`: what a prompt gives, nothing cut.
fn logits_of(case: &Case<'_>, rows: Rows) -> Result<Vec<f32>, VerifyError> {
    let forward = Decoding::new(case.vlm, &[], 0, case.cancel)?.pass(rows, Hooks::default())?;
    Ok(host(case.vlm.decoder.unembed(forward.resid))?)
}

/// Largest change of the last row's logits, against the number in reference.json.
fn moved(case: &mut Case<'_>, name: &str, base: &[f32], cut: &[f32], want: Option<f64>) {
    let Some(want) = want else { return };
    let last = base.len() - case.vlm.config.text.vocabulary;
    let change = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
    let moved = base[last..].iter().zip(&cut[last..]).map(change).fold(0.0, larger);
    case.push(name, (moved - want).abs(), RELATIVE * largest(base), "reference.json".to_string());
}
