//! One case being compared: finds the reference's tensors, holds ours against them, keeps the list.
//!
//! Ours come as host numbers, row-major. Knows shapes of attention and the sizes of the model; runs nothing.

use crate::{
    model::vlm::Vlm,
    progress::Cancel,
    spec::knockout::Cut,
    statistics::finite::larger,
    studies::verify::{
        compare::{ATTENTION, RELATIVE, distance, magnitude},
        reference::{CaseFacts, Reference, Stored},
        report::{Check, VerifyError},
    },
};

/// See the module.
pub(super) struct Case<'a> {
    pub(super) vlm: &'a Vlm,
    reference: &'a Reference,
    name: &'a str,
    pub(super) facts: &'a CaseFacts,
    /// Positions of the prompt, by its ids: `T` of reference.json is compared with it, not trusted.
    pub(super) len: usize,
    pub(super) cancel: &'a Cancel,
    /// So far, in order.
    pub(super) checks: Vec<Check>,
    /// Names of the tensors that were compared, or asked for.
    pub(super) known: Vec<String>,
}

impl<'a> Case<'a> {
    /// Nothing is compared yet, and the prompt's length not known.
    pub(super) fn new(
        vlm: &'a Vlm,
        reference: &'a Reference,
        name: &'a str,
        facts: &'a CaseFacts,
        cancel: &'a Cancel,
    ) -> Self {
        Case { vlm, reference, name, facts, len: 0, cancel, checks: Vec::new(), known: Vec::new() }
    }

    /// `[1, H, T, T]`; pairs that causality or the cut forbids must be exactly 0 on both sides.
    pub(super) fn pattern(&mut self, name: &str, ours: &[f32], cut: Option<&Cut>) -> Result<(), VerifyError> {
        let t = self.len;
        let forbidden = |i: usize| {
            let (head, row, key) = (i / (t * t), i / t % t, i % t);
            key > row || cut.is_some_and(|c| c.heads.get(head) == Some(&true) && c.blocks(row, key))
        };
        self.attention(name, ours, forbidden)
    }

    /// `[S, L, H, keys]`, likewise.
    pub(super) fn generated_pattern(
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
        let error = if note.is_empty() { error } else { larger(error, f64::INFINITY) };
        self.push(name, error, ATTENTION, note);
        Ok(())
    }

    /// The tolerance is a share of the tensor's largest magnitude.
    pub(super) fn relative(&mut self, name: &str, ours: &[f32]) -> Result<(), VerifyError> {
        let want = self.get(name)?;
        self.push(name, distance(ours, &want.values), RELATIVE * magnitude(&want.values), String::new());
        Ok(())
    }

    /// The tolerance is a number.
    pub(super) fn absolute(&mut self, name: &str, ours: &[f32], tolerance: f64) -> Result<(), VerifyError> {
        let want = self.get(name)?;
        self.push(name, distance(ours, &want.values), tolerance, String::new());
        Ok(())
    }

    /// A comparison that was made elsewhere.
    pub(super) fn push(&mut self, tensor: &str, error: f64, tolerance: f64, note: String) {
        self.known.push(format!("{}/{tensor}", self.name));
        // Written so that a NaN fails.
        let pass = error <= tolerance;
        let (case, tensor) = (self.name.to_string(), tensor.to_string());
        self.checks.push(Check { case, tensor, error, tolerance, pass, note });
    }

    /// Whether something of this name was compared already.
    pub(super) fn has(&self, tensor: &str) -> bool {
        self.checks.iter().any(|c| c.tensor == tensor)
    }

    /// A tensor that the reference may lack.
    pub(super) fn find(&self, name: &str) -> Option<&'a Stored> {
        self.reference.tensors.get(&format!("{}/{name}", self.name))
    }

    /// A tensor that it must have.
    pub(super) fn get(&mut self, name: &str) -> Result<&'a Stored, VerifyError> {
        self.known.push(format!("{}/{name}", self.name));
        self.find(name).ok_or_else(|| self.unfit(name, "is not in reference.safetensors".to_string()))
    }

    /// A tensor of token ids, all of them in the vocabulary.
    pub(super) fn ids(&mut self, name: &str) -> Result<Vec<u32>, VerifyError> {
        let vocabulary = self.vlm.config.text.vocabulary as f64;
        let values = &self.get(name)?.values;
        match values.iter().find(|v| !(v.fract() == 0.0 && (0.0..vocabulary).contains(*v))) {
            None => Ok(values.iter().map(|&v| v as u32).collect()),
            Some(id) => Err(self.unfit(name, format!("holds {id}, expected ids below {vocabulary}"))),
        }
    }

    /// A sequence must have a row, and room in the model's context.
    pub(super) fn fits(&self, name: &str, rows: usize) -> Result<(), VerifyError> {
        let context = self.vlm.config.text.context;
        match (1..=context).contains(&rows) {
            true => Ok(()),
            false => Err(self.unfit(name, format!("makes {rows} positions, expected 1 to {context}"))),
        }
    }

    /// The error of a reference that does not fit.
    pub(super) fn unfit(&self, name: &str, why: String) -> VerifyError {
        VerifyError::Reference { name: format!("{}/{name}", self.name), why }
    }
}
