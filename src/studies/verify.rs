//! Parity with a stored reference: every tensor of every case, its largest error and its tolerance.
//!
//! A folder holds config.json, model.safetensors, reference.safetensors and reference.json; no
//! tokenizer is needed, the end token does not stop generation, and a generated image id is text.
//! The reference implementation is transformers (eager attention, float32). Knows the model and
//! decoding, not prompts or spans: references name rows and keys by position.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::{checkpoint::{config::Family, weights::WeightDtype}, device::open::Compute, engine::decoding::{Decoding, DecodingError, Row, argmax, host, log_softmax}, model::{hooks::{Hooks, Keep}, vision::Watch, vlm::{LoadError, Vlm}}, progress::Cancel, spec::{knockout::Cut, sets::Positions}};

/// Attention: absolute.
const ATTENTION: f64 = 1e-5;
/// Logits, embeddings, hidden states, vision: share of the tensor's largest magnitude.
const RELATIVE: f64 = 1e-4;
/// Log probabilities and KL: absolute, in nats.
const NATS: f64 = 2e-4;

/// Why a folder cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Running it.
    #[error(transparent)]
    Decoding(#[from] DecodingError),
    /// A reference file that cannot be read.
    #[error("{}: {why}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A reference that does not fit the model or the format.
    #[error("reference `{name}`: {why}")]
    Reference {
        /// Tensor or key.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// One compared tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Case of the reference.
    pub case: String,
    /// Tensor of the case.
    pub tensor: String,
    /// Largest absolute difference; for ids the number of differing ones.
    pub error: f64,
    /// Largest error that passes.
    pub tolerance: f64,
    /// Whether it passes.
    pub pass: bool,
    /// What else is wrong, or worth knowing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The outcome of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder.
    pub model: String,
    /// Where it ran.
    pub device: String,
    /// Number formats.
    pub dtype: String,
    /// Weights that the folder holds and the model does not use.
    pub unused_weights: Vec<String>,
    /// Tensors of the reference that this program has no counterpart for.
    pub not_checked: Vec<String>,
    /// One line a tensor.
    pub checks: Vec<Check>,
    /// Whether all passed.
    pub pass: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}; {}", self.model, self.device, self.dtype)?;
        for key in &self.unused_weights {
            writeln!(f, "unused weight: {key}")?;
        }
        writeln!(f, "{:<10} {:<28} {:>11} {:>11}  result", "case", "tensor", "error", "tolerance")?;
        for c in &self.checks {
            let result = if c.pass { "pass" } else { "FAIL" };
            let note = if c.note.is_empty() { String::new() } else { format!("  {}", c.note) };
            writeln!(
                f,
                "{:<10} {:<28} {:>11.3e} {:>11.3e}  {result}{note}",
                c.case, c.tensor, c.error, c.tolerance
            )?;
        }
        for name in &self.not_checked {
            writeln!(f, "not checked: {name}")?;
        }
        let failed = self.checks.iter().filter(|c| !c.pass).count();
        let verdict = if self.pass { "PASS" } else { "FAIL" };
        write!(f, "{verdict}: {} tensors compared, {failed} failed", self.checks.len())
    }
}

/// Runs the model in `dir` against the reference beside it, float32.
///
/// # Errors
/// [`VerifyError`] when the comparison cannot be made; a difference is not an error.
pub fn verify(dir: &Path, compute: &Compute) -> Result<Report, VerifyError> {
    let vlm = Vlm::load(dir, &compute.device, WeightDtype::F32)?;
    let reference = Reference::open(dir)?;
    let cancel = Cancel::default();
    let mut checks = Vec::new();
    let mut known: Vec<String> = Vec::new();
    for (name, facts) in &reference.facts.cases {
        let mut case = Case {
            vlm: &vlm,
            reference: &reference,
            name,
            facts,
            len: 0,
            cancel: &cancel,
            checks: &mut checks,
            known: &mut known,
        };
        case.run()?;
    }
    let not_checked = reference.tensors.keys().filter(|k| !known.contains(k)).cloned().collect();
    let pass = !checks.is_empty() && checks.iter().all(|c| c.pass);
    Ok(Report {
        model: dir.display().to_string(),
        device: compute.description.clone(),
        dtype: vlm.dtype_text(),
        unused_weights: vlm.unused.clone(),
        not_checked,
        checks,
        pass,
    })
}

/// reference.json.
#[derive(Deserialize)]
struct Facts {
    cases: BTreeMap<String, CaseFacts>,
}

#[derive(Deserialize)]
struct CaseFacts {
    #[serde(rename = "T")]
    prompt_len: usize,
    visual_positions: Vec<usize>,
    question_rows: Vec<usize>,
    last_row: usize,
    #[serde(rename = "gen")]
    generation: GenFacts,
    lens: Option<LensFacts>,
    #[serde(default)]
    knockouts: BTreeMap<String, KnockoutFacts>,
    ablate: Option<AblateFacts>,
}

#[derive(Deserialize)]
struct GenFacts {
    tokens: Vec<u32>,
    min_top2_margin: Option<f64>,
}

#[derive(Deserialize)]
struct LensFacts {
    min_gap_top6: Option<f64>,
}

#[derive(Deserialize)]
struct KnockoutFacts {
    rows: Vec<usize>,
    keys: Vec<usize>,
    layers: Vec<usize>,
    heads: Option<Vec<usize>>,
    max_dlogit_last_row: Option<f64>,
    tokens: Option<Vec<u32>>,
    min_top2_margin: Option<f64>,
}

#[derive(Deserialize)]
struct AblateFacts {
    positions: Vec<usize>,
    max_dlogit_last_row: Option<f64>,
}

/// Both reference files.
struct Reference {
    facts: Facts,
    tensors: BTreeMap<String, Stored>,
}

/// One stored tensor, widened; ids are exact in float64.
struct Stored {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Reference {
    fn open(dir: &Path) -> Result<Self, VerifyError> {
        let read = |name: &str| {
            let file = dir.join(name);
            fs::read(&file).map_err(|e| VerifyError::File { file: file.clone(), why: e.to_string() })
        };
        let bad = |name: &str, why: String| VerifyError::File { file: dir.join(name), why };
        let facts = serde_json::from_slice(&read("reference.json")?)
            .map_err(|e| bad("reference.json", format!("does not follow the format ({e})")))?;
        let bytes = read("reference.safetensors")?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| bad("reference.safetensors", format!("not a complete safetensors file ({e})")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
                Dtype::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
                other => {
                    return Err(bad(
                        "reference.safetensors",
                        format!("`{name}` is {other:?}, expected F32 or I64"),
                    ));
                }
            };
            tensors.insert(name, Stored { shape: view.shape().to_vec(), values });
        }
        Ok(Reference { facts, tensors })
    }
}

/// One case being compared.
struct Case<'a> {
    vlm: &'a Vlm,
    reference: &'a Reference,
    name: &'a str,
    facts: &'a CaseFacts,
    /// Positions of the prompt, by its ids: `T` of reference.json is compared with it, not trusted.
    len: usize,
    cancel: &'a Cancel,
    checks: &'a mut Vec<Check>,
    known: &'a mut Vec<String>,
}

impl<'a> Case<'a> {
    fn run(&mut self) -> Result<(), VerifyError> {
        let ids = self.ids("input_ids")?;
        self.len = ids.len();
        self.fits("input_ids", ids.len())?;
        self.check_facts(&ids);
        let images = self.vision()?;
        let embeds = self.merged(&ids, images.clone())?;
        let base = self.baseline(embeds.clone())?;
        self.lens(&base.resid_post)?;
        let generated = self.generation("gen", &embeds, None)?;
        self.one_pass(&embeds, &generated)?;
        for (name, facts) in &self.facts.knockouts {
            let cut = self.cut(name, facts)?;
            match &facts.tokens {
                Some(tokens) => self.generation_cut(name, facts, tokens, &cut, &embeds, &generated)?,
                None => self.knockout(name, facts, &cut, &embeds, &base.logits)?,
            }
        }
        self.ablation(&embeds, images, &base.logits)
    }

    // What the JSON says of the case, where the tensors or the model can tell.
    fn check_facts(&mut self, ids: &[u32]) {
        let visual: Vec<usize> =
            (0..ids.len()).filter(|&i| ids[i] == self.vlm.config.image_token_id).collect();
        let tokens = &self.facts.generation.tokens;
        let stored: Vec<u32> =
            self.find("gen.tokens").map(|s| s.values.iter().map(|&v| v as u32).collect()).unwrap_or_default();
        // Text after the last visual token (Idefics3: and its closing token), without the last row.
        let closing = usize::from(matches!(self.vlm.config.family, Family::Idefics3 { .. }));
        let question: Vec<usize> =
            visual.last().map_or(Vec::new(), |last| (last + 1 + closing..ids.len() - 1).collect());
        let wrong: Vec<&str> = [
            ("question_rows", self.facts.question_rows == question),
            ("T", self.facts.prompt_len == ids.len()),
            ("visual_positions", self.facts.visual_positions == visual),
            ("last_row", self.facts.last_row + 1 == ids.len()),
            ("gen.tokens", *tokens == stored),
        ]
        .into_iter()
        .filter_map(|(key, holds)| (!holds).then_some(key))
        .collect();
        let note = if wrong.is_empty() { String::new() } else { format!("wrong: {}", wrong.join(", ")) };
        self.push("reference.json", wrong.len() as f64, 0.0, note);
    }

    // [visual tokens, width]: every tile through encoder and projector.
    fn vision(&mut self) -> Result<Tensor<2>, VerifyError> {
        let side = self.vlm.config.vision.image_size;
        let pixels = self.get("pixel_values")?;
        let shape = pixels.shape.clone();
        if shape.len() < 4 || shape[shape.len() - 3..] != [3, side, side] || pixels.values.is_empty() {
            return Err(
                self.unfit("pixel_values", format!("has shape {shape:?}, expected [.., 3, {side}, {side}]"))
            );
        }
        let tiles: Vec<Vec<f32>> =
            pixels.values.chunks(3 * side * side).map(|t| t.iter().map(|&v| v as f32).collect()).collect();
        let recorded = self.find("vision.hidden.0").is_some();
        let watch = if recorded { Watch::Everything } else { Watch::Nothing };
        let (mut features, mut embeds) = (Vec::new(), Vec::new());
        for (n, tile) in tiles.iter().enumerate() {
            let out = self.vlm.vision.forward(tile, watch, self.cancel).map_err(DecodingError::from)?;
            if let (Some(recording), 0) = (out.recorded, n) {
                for (k, hidden) in recording.hidden.into_iter().enumerate() {
                    self.relative(&format!("vision.hidden.{k}"), &host(hidden)?)?;
                }
                for (k, pattern) in recording.pattern.into_iter().enumerate() {
                    self.absolute(&format!("vision.attn.{k}"), &host(pattern)?, ATTENTION)?;
                }
            }
            embeds.push(self.vlm.projector.forward(out.features.clone()));
            features.extend(host(out.features)?);
        }
        let name = match self.vlm.config.family {
            Family::Llava { .. } => "vision.selected",
            Family::Idefics3 { .. } => "vision.last_hidden",
        };
        self.relative(name, &features)?;
        let embeds = Tensor::cat(embeds, 0);
        self.relative("image_embeds", &host(embeds.clone())?)?;
        Ok(embeds)
    }

    // [T, width]: visual positions filled from the images, in order.
    fn merged(&self, ids: &[u32], images: Tensor<2>) -> Result<Tensor<2>, VerifyError> {
        let visual = &self.facts.visual_positions;
        let given = images.dims()[0];
        if visual.len() != given || visual.iter().any(|&p| p >= ids.len()) {
            let why = format!("has {} places, the tiles give {given} visual tokens", visual.len());
            return Err(self.unfit("visual_positions", why));
        }
        Ok(crate::engine::decoding::place_rows(self.vlm.decoder.embed(ids), visual, images))
    }

    fn baseline(&mut self, embeds: Tensor<2>) -> Result<Base, VerifyError> {
        let mut decoding = Decoding::new(self.vlm, &[], 0, self.cancel)?;
        let all = Keep::rows(0..embeds.dims()[0]);
        let hooks = Hooks { pattern: all, resid_every: 1, ..Hooks::default() };
        let forward = decoding.pass(embeds, hooks)?;
        for (k, resid) in &forward.recorded.resid_pre {
            self.relative(&format!("hidden.{k}"), &host(resid.clone())?)?;
        }
        let n = forward.recorded.resid_pre.len();
        let normed = self.vlm.decoder.norm(forward.resid.clone());
        self.relative(&format!("hidden.{n}"), &host(normed)?)?;
        self.relative("resid_last", &host(forward.resid.clone())?)?;
        for (k, pattern) in by_layer(forward.recorded.pattern) {
            self.pattern(&format!("attn.{k}"), &host(pattern)?, None)?;
        }
        let logits = host(self.vlm.decoder.unembed(forward.resid.clone()))?;
        self.relative("logits", &logits)?;
        let later = forward.recorded.resid_pre.into_iter().skip(1).map(|(_, resid)| resid);
        Ok(Base { resid_post: later.chain([forward.resid]).collect(), logits })
    }

    // The reference's ids are looked up in our logits, so that near-ties may swap and nothing else.
    fn lens(&mut self, resid_post: &[Tensor<2>]) -> Result<(), VerifyError> {
        let Some(ids) = self.find("lens.top_ids") else { return Ok(()) };
        let want = self.get("lens.top_logits")?;
        let (vocabulary, k) = (self.vlm.config.text.vocabulary, ids.shape.last().copied().unwrap_or(0));
        let values = (resid_post.len() * self.len).checked_mul(k);
        if k == 0 || Some(ids.values.len()) != values || Some(want.values.len()) != values {
            return Err(self.unfit("lens.top_ids", format!("has shape {:?}", ids.shape)));
        }
        let tolerance = RELATIVE * magnitude(&want.values);
        let (mut sorted, mut named, mut gap) = (0.0f64, 0.0f64, f64::INFINITY);
        for (layer, resid) in resid_post.iter().enumerate() {
            let logits = host(self.vlm.decoder.unembed(resid.clone()))?;
            for (row, logits) in logits.chunks(vocabulary).enumerate() {
                let at = (layer * self.len + row) * k;
                let best = crate::engine::decoding::top(logits, k + 1);
                let stored = want.values[at..at + k].iter().zip(&ids.values[at..at + k]);
                for ((want, id), (_, ours)) in stored.zip(&best) {
                    sorted = sorted.max((f64::from(*ours) - want).abs());
                    let ours = logits.get(*id as usize).copied().unwrap_or(f32::NAN);
                    named = worst(named, (f64::from(ours) - want).abs());
                }
                gap = best.windows(2).map(|w| f64::from(w[0].1 - w[1].1)).fold(gap, f64::min);
            }
        }
        self.push("lens.top_logits", sorted, tolerance, String::new());
        self.push("lens.top_ids", named, tolerance, "our logits at the reference's ids".to_string());
        if let Some(want) = self.facts.lens.as_ref().and_then(|l| l.min_gap_top6) {
            self.push("lens.min_gap_top6", (gap - want).abs(), 2.0 * tolerance, String::new());
        }
        Ok(())
    }

    // Greedy decoding from the prompt, free-running, checked under `prefix`.
    fn generation(
        &mut self,
        prefix: &str,
        embeds: &Tensor<2>,
        cut: Option<&Cut>,
    ) -> Result<Generated, VerifyError> {
        let tokens = format!("{prefix}.tokens");
        let steps = self.get(&tokens)?.values.len();
        let cuts: Vec<Cut> = cut.cloned().into_iter().collect();
        let rows = self.len + steps;
        self.fits(&tokens, if steps == 0 { 0 } else { rows })?;
        let mut decoding = Decoding::new(self.vlm, &cuts, rows, self.cancel)?;
        let mut generated = Generated::default();
        let mut next = embeds.clone();
        for _ in 0..steps {
            let row = decoding.rows(next, 1)?.remove(0);
            let token = argmax(&row.logits) as u32;
            next = self.vlm.decoder.embed(&[token]);
            generated.tokens.push(token);
            generated.logits.extend(&row.logits);
            generated.logprob.push(log_softmax(&row.logits)[token as usize]);
            generated.rows.push(row);
        }
        let left = decoding.proof().map(|(_, mass)| mass).fold(0.0, f32::max);
        let want = self.get(&tokens)?;
        let differing =
            want.values.iter().zip(&generated.tokens).filter(|(a, b)| **a != f64::from(**b)).count();
        self.push(&tokens, differing as f64, 0.0, String::new());
        self.relative(&format!("{prefix}.logits"), &generated.logits)?;
        if self.find(&format!("{prefix}.logprob")).is_some() {
            self.absolute(&format!("{prefix}.logprob"), &generated.logprob.clone(), NATS)?;
        }
        let patterns = self.padded(&generated.rows)?;
        self.generated_pattern(&format!("{prefix}.attn"), &patterns, steps, cut)?;
        if cut.is_some() {
            self.push(&format!("{prefix}.blocked_mass"), f64::from(left), 0.0, String::new());
        }
        Ok(generated)
    }

    // [S, L, H, T + S - 1] with zeros past each row's keys.
    fn padded(&self, rows: &[Row]) -> Result<Vec<f32>, VerifyError> {
        let keys = self.len + rows.len() - 1;
        let mut out = Vec::new();
        for (s, row) in rows.iter().enumerate() {
            let Some(pattern) = &row.pattern else {
                return Err(self.unfit("gen.attn", format!("row {s} was not recorded")));
            };
            let n = pattern.dims()[2];
            for head in host(pattern.clone())?.chunks(n) {
                out.extend_from_slice(head);
                out.extend(std::iter::repeat_n(0.0, keys - n));
            }
        }
        Ok(out)
    }

    // Prefill and decode against one forward over everything.
    fn one_pass(&mut self, embeds: &Tensor<2>, generated: &Generated) -> Result<(), VerifyError> {
        let tokens = generated.tokens.clone();
        let logits = self.teacher(embeds, &tokens, &[])?;
        let want: Vec<f64> = self.get("gen.logits")?.values.clone();
        let tolerance = RELATIVE * magnitude(&want);
        self.push("gen.logits", distance(&logits, &want), tolerance, "one forward over all rows".to_string());
        Ok(())
    }

    // [S, V]: logits at every answer row, the answer given.
    fn teacher(&self, embeds: &Tensor<2>, tokens: &[u32], cuts: &[Cut]) -> Result<Vec<f32>, VerifyError> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let given = &tokens[..tokens.len() - 1];
        let mut all = vec![embeds.clone()];
        if !given.is_empty() {
            all.push(self.vlm.decoder.embed(given));
        }
        let mut decoding = Decoding::new(self.vlm, cuts, self.len + given.len(), self.cancel)?;
        let rows = decoding.rows(Tensor::cat(all, 0), tokens.len())?;
        Ok(rows.into_iter().flat_map(|r| r.logits).collect())
    }

    fn cut(&self, name: &str, facts: &KnockoutFacts) -> Result<Cut, VerifyError> {
        let text = &self.vlm.config.text;
        let heads = facts.heads.clone().unwrap_or_else(|| (0..text.n_heads).collect());
        let outside = |list: &[usize], len: usize| list.iter().any(|&n| n >= len);
        if outside(&facts.layers, text.n_layers) || outside(&heads, text.n_heads) {
            return Err(self.unfit(name, "names a layer or head that the model does not have".to_string()));
        }
        Ok(Cut {
            rows: Positions::listed(self.len, &facts.rows),
            keys: Positions::listed(self.len, &facts.keys),
            layers: (0..text.n_layers).map(|l| facts.layers.contains(&l)).collect(),
            heads: (0..text.n_heads).map(|h| heads.contains(&h)).collect(),
        })
    }

    fn knockout(
        &mut self,
        name: &str,
        facts: &KnockoutFacts,
        cut: &Cut,
        embeds: &Tensor<2>,
        base: &[f32],
    ) -> Result<(), VerifyError> {
        let cuts = [cut.clone()];
        let mut decoding = Decoding::new(self.vlm, &cuts, self.len, self.cancel)?;
        let all = Keep::rows(0..embeds.dims()[0]);
        let forward = decoding.pass(embeds.clone(), Hooks { pattern: all, ..Hooks::default() })?;
        for (k, pattern) in by_layer(forward.recorded.pattern) {
            let cut = cut.layers[k].then_some(cut);
            self.pattern(&format!("ko.{name}.attn.{k}"), &host(pattern)?, cut)?;
        }
        let left = decoding.proof().map(|(_, mass)| mass).fold(0.0, f32::max);
        self.push(&format!("ko.{name}.blocked_mass"), f64::from(left), 0.0, String::new());
        let logits = host(self.vlm.decoder.unembed(forward.resid))?;
        self.relative(&format!("ko.{name}.logits"), &logits)?;
        self.moved(&format!("ko.{name}.max_dlogit"), base, &logits, facts.max_dlogit_last_row);
        Ok(())
    }

    fn generation_cut(
        &mut self,
        name: &str,
        facts: &KnockoutFacts,
        tokens: &[u32],
        cut: &Cut,
        embeds: &Tensor<2>,
        base: &Generated,
    ) -> Result<(), VerifyError> {
        let prefix = format!("ko.{name}");
        let generated = self.generation(&prefix, embeds, Some(cut))?;
        let same = generated.tokens == tokens;
        self.push(&format!("{prefix}.tokens"), f64::from(u8::from(!same)), 0.0, "reference.json".to_string());
        self.margin(&format!("{prefix}.min_top2_margin"), &generated, facts.min_top2_margin)?;
        self.margin("gen.min_top2_margin", base, self.facts.generation.min_top2_margin)?;
        if self.find(&format!("{prefix}.teacher.logits")).is_none() {
            return Ok(());
        }
        let logits = self.teacher(embeds, &base.tokens, std::slice::from_ref(cut))?;
        self.relative(&format!("{prefix}.teacher.logits"), &logits)?;
        let (mut logprob, mut kl) = (Vec::new(), Vec::new());
        let vocabulary = self.vlm.config.text.vocabulary;
        for (s, (cut, base_row)) in logits.chunks(vocabulary).zip(base.logits.chunks(vocabulary)).enumerate()
        {
            let (q, p) = (log_softmax(cut), log_softmax(base_row));
            logprob.push(q[base.tokens[s] as usize]);
            kl.push(p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f32>());
        }
        self.absolute(&format!("{prefix}.teacher.logprob"), &logprob, NATS)?;
        self.absolute(&format!("{prefix}.teacher.kl"), &kl, NATS)
    }

    fn ablation(&mut self, embeds: &Tensor<2>, images: Tensor<2>, base: &[f32]) -> Result<(), VerifyError> {
        let Some(facts) = &self.facts.ablate else { return Ok(()) };
        if facts.positions.is_empty() || facts.positions.iter().any(|&p| p >= self.len) {
            let why = format!("must name positions below the prompt's {}", self.len);
            return Err(self.unfit("ablate.positions", why));
        }
        let mean = images.mean_dim(0);
        self.relative("ablate.mean", &host(mean.clone())?)?;
        let rows = mean.repeat_dim(0, facts.positions.len());
        let ablated = crate::engine::decoding::place_rows(embeds.clone(), &facts.positions, rows);
        let forward = Decoding::new(self.vlm, &[], 0, self.cancel)?.pass(ablated, Hooks::default())?;
        let logits = host(self.vlm.decoder.unembed(forward.resid))?;
        self.relative("ablate.logits", &logits)?;
        self.moved("ablate.max_dlogit", base, &logits, facts.max_dlogit_last_row);
        Ok(())
    }

    // Largest change of the last row's logits, against the number in reference.json.
    fn moved(&mut self, name: &str, base: &[f32], cut: &[f32], want: Option<f64>) {
        let Some(want) = want else { return };
        let last = base.len() - self.vlm.config.text.vocabulary;
        let change = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
        let moved = base[last..].iter().zip(&cut[last..]).map(change).fold(0.0, f64::max);
        let largest = base.iter().map(|l| f64::from(l.abs())).fold(0.0, f64::max);
        self.push(name, (moved - want).abs(), RELATIVE * largest, "reference.json".to_string());
    }

    // Smallest margin between the two best logits, against the number in reference.json.
    fn margin(&mut self, name: &str, generated: &Generated, want: Option<f64>) -> Result<(), VerifyError> {
        let Some(want) = want else { return Ok(()) };
        if self.checks.iter().any(|c| c.case == self.name && c.tensor == name) {
            return Ok(());
        }
        let margin = |row: &Row| {
            let best = crate::engine::decoding::top(&row.logits, 2);
            f64::from(best[0].1 - best[best.len() - 1].1)
        };
        let ours = generated.rows.iter().map(margin).fold(f64::INFINITY, f64::min);
        let largest = generated.logits.iter().map(|l| f64::from(l.abs())).fold(0.0, f64::max);
        self.push(name, (ours - want).abs(), RELATIVE * largest, "reference.json".to_string());
        Ok(())
    }

    // [1, H, T, T]; pairs that causality or the cut forbids must be exactly 0 on both sides.
    fn pattern(&mut self, name: &str, ours: &[f32], cut: Option<&Cut>) -> Result<(), VerifyError> {
        let t = self.len;
        let forbidden = |i: usize| {
            let (head, row, key) = (i / (t * t), i / t % t, i % t);
            key > row || cut.is_some_and(|c| c.heads.get(head) == Some(&true) && c.blocks(row, key))
        };
        self.attention(name, ours, forbidden)
    }

    // [S, L, H, keys], likewise.
    fn generated_pattern(
        &mut self,
        name: &str,
        ours: &[f32],
        steps: usize,
        cut: Option<&Cut>,
    ) -> Result<(), VerifyError> {
        let text = &self.vlm.config.text;
        let (t, layers, heads) = (self.len, text.n_layers, text.n_heads);
        let keys = t + steps - 1;
        let forbidden = |i: usize| {
            let (step, layer, head, key) =
                (i / (layers * heads * keys), i / (heads * keys) % layers, i / keys % heads, i % keys);
            let row = t - 1 + step;
            key > row || cut.is_some_and(|c| c.layers[layer] && c.heads[head] && c.blocks(row, key))
        };
        self.attention(name, ours, forbidden)
    }

    fn attention(
        &mut self,
        name: &str,
        ours: &[f32],
        forbidden: impl Fn(usize) -> bool,
    ) -> Result<(), VerifyError> {
        let want = self.get(name)?;
        let leaks = |values: &mut dyn Iterator<Item = f64>| {
            values.enumerate().filter(|&(i, v)| v != 0.0 && forbidden(i)).count()
        };
        let ours_leak = leaks(&mut ours.iter().map(|&v| f64::from(v)));
        let theirs_leak = leaks(&mut want.values.iter().copied());
        let note = match (ours_leak, theirs_leak) {
            (0, 0) => String::new(),
            (0, n) => format!("{n} forbidden pairs of the reference are not exactly 0"),
            (n, _) => format!("{n} forbidden pairs are not exactly 0"),
        };
        let error = distance(ours, &want.values);
        let error = if note.is_empty() { error } else { worst(error, f64::INFINITY) };
        self.push(name, error, ATTENTION, note);
        Ok(())
    }

    fn relative(&mut self, name: &str, ours: &[f32]) -> Result<(), VerifyError> {
        let want = self.get(name)?;
        self.push(name, distance(ours, &want.values), RELATIVE * magnitude(&want.values), String::new());
        Ok(())
    }

    fn absolute(&mut self, name: &str, ours: &[f32], tolerance: f64) -> Result<(), VerifyError> {
        let want = self.get(name)?;
        self.push(name, distance(ours, &want.values), tolerance, String::new());
        Ok(())
    }

    fn push(&mut self, tensor: &str, error: f64, tolerance: f64, note: String) {
        self.known.push(format!("{}/{tensor}", self.name));
        // Written so that a NaN fails.
        let pass = error <= tolerance;
        let (case, tensor) = (self.name.to_string(), tensor.to_string());
        self.checks.push(Check { case, tensor, error, tolerance, pass, note });
    }

    fn find(&self, name: &str) -> Option<&'a Stored> {
        self.reference.tensors.get(&format!("{}/{name}", self.name))
    }

    fn get(&mut self, name: &str) -> Result<&'a Stored, VerifyError> {
        self.known.push(format!("{}/{name}", self.name));
        self.find(name).ok_or_else(|| self.unfit(name, "is not in reference.safetensors".to_string()))
    }

    fn ids(&mut self, name: &str) -> Result<Vec<u32>, VerifyError> {
        let vocabulary = self.vlm.config.text.vocabulary as f64;
        let values = &self.get(name)?.values;
        match values.iter().find(|v| !(v.fract() == 0.0 && (0.0..vocabulary).contains(*v))) {
            None => Ok(values.iter().map(|&v| v as u32).collect()),
            Some(id) => Err(self.unfit(name, format!("holds {id}, expected ids below {vocabulary}"))),
        }
    }

    // A sequence must have a row, and room in the model's context.
    fn fits(&self, name: &str, rows: usize) -> Result<(), VerifyError> {
        let context = self.vlm.config.text.context;
        match (1..=context).contains(&rows) {
            true => Ok(()),
            false => Err(self.unfit(name, format!("makes {rows} positions, expected 1 to {context}"))),
        }
    }

    fn unfit(&self, name: &str, why: String) -> VerifyError {
        VerifyError::Reference { name: format!("{}/{name}", self.name), why }
    }
}

/// Layer, and `[heads, rows, keys]`: the attention of a pass that kept all layers.
fn by_layer(pattern: Option<Tensor<4>>) -> impl Iterator<Item = (usize, Tensor<3>)> {
    let layers = pattern.as_ref().map_or(0, |pattern| pattern.dims()[0]);
    let layer = move |k: usize| Some((k, pattern.clone()?.narrow(0, k, 1).squeeze_dim(0)));
    (0..layers).filter_map(layer)
}

/// The baseline forward.
struct Base {
    /// Per layer, `[T, width]`.
    resid_post: Vec<Tensor<2>>,
    /// `[T, V]`.
    logits: Vec<f32>,
}

#[derive(Default)]
struct Generated {
    tokens: Vec<u32>,
    /// `[S, V]`.
    logits: Vec<f32>,
    logprob: Vec<f32>,
    rows: Vec<Row>,
}

/// Largest absolute difference; infinite when the lengths differ, NaN when either side has one.
fn distance(ours: &[f32], want: &[f64]) -> f64 {
    if ours.len() != want.len() {
        return f64::INFINITY;
    }
    ours.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, worst)
}

/// The larger of two errors, NaN being the worst.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).fold(0.0, f64::max)
}
