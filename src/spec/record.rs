//! What is kept of a run, in text and in bytes.
//!
//! Knows sizes and numbers; nothing of tensors.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::spec::{
    parse::parse_numbers,
    sets::{Numbers, SetError},
    span::Span,
    text::as_text,
};

/// What is kept of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Attention: of which answer rows, layers and heads.
    pub pattern: Pattern,
    /// Residuals (and with them what a later intervention starts from) of every so-manyth layer; 0
    /// keeps none.
    pub residuals_every: usize,
    /// Whether attention and residuals are stored in half precision.
    pub half: bool,
    /// Most bytes that may be held at a time ([`Memory`] says of what); a run that might hold more is refused
    /// before it begins.
    pub limit: u64,
}

impl Default for Record {
    fn default() -> Self {
        Record { pattern: Pattern::default(), residuals_every: 1, half: false, limit: 8 << 30 }
    }
}

/// Which attention is kept, by number, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Decoder layers.
    pub layers: Vec<usize>,
    /// Query heads.
    pub heads: Vec<usize>,
    /// Answer rows.
    pub rows: Vec<usize>,
}

/// The sizes of a model and a run that decide how much the run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Decoder layers.
    pub layers: usize,
    /// Query heads a layer.
    pub heads: usize,
    /// Key and value heads a layer.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Bytes of a number in the KV cache.
    pub weight_bytes: usize,
    /// Layers after which features of the images are added.
    pub added: usize,
    /// Candidates listed for every answer token.
    pub top: usize,
    /// Prompt positions.
    pub prompt: usize,
    /// Answer tokens at most.
    pub answer: usize,
}

/// What is held of a run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// One answer.
    Answer,
    /// An uncut answer, with what interventions start from.
    Baseline,
    /// That, the uncut answer as an intervention scores it, and the new one.
    Intervention,
    /// These, and the new answer from scratch.
    Checked,
}

impl Held {
    /// Answers whose attention is held.
    pub fn answers(self) -> u64 {
        match self {
            Held::Answer | Held::Baseline => 1,
            Held::Intervention => 3,
            Held::Checked => 4,
        }
    }

    /// Sequences whose keys and values are held, as are the logits of what is scored.
    fn sequences(self) -> u64 {
        match self {
            Held::Answer | Held::Baseline => 1,
            Held::Intervention | Held::Checked => 2,
        }
    }
}

impl Record {
    /// What is held at most.
    pub fn memory(&self, extent: &Extent, held: Held) -> Memory {
        let Extent { layers, heads, kv_heads, head_dim, width, vocabulary, weight_bytes, .. } = *extent;
        let (prompt, answer, baseline) = (extent.prompt, extent.answer, held != Held::Answer);
        let positions = (prompt + answer) as u64;
        let kept = self.pattern.resolve(layers, heads, answer).unwrap_or_default();
        let stored = if self.half { 2 } else { 4 };
        let residuals = match self.residuals_every {
            every if baseline && every > 0 => layers.div_ceil(every) as u64,
            _ => 0,
        };
        // Every row sees the keys up to its own.
        let keys: u64 = kept.rows.iter().map(|s| (prompt + s) as u64).sum();
        // Logits, and what every row gives to each span, float32.
        let logits = || (4 * answer * vocabulary) as u64 * held.sequences();
        let flow = (4 * layers * Span::COUNT) as u64 * positions * held.answers();
        let added = if baseline { (4 * extent.added * prompt * width) as u64 } else { 0 };
        Memory {
            pattern: (kept.layers.len() * kept.heads.len()) as u64 * keys * stored * held.answers(),
            residuals: residuals * positions * width as u64 * stored + added,
            // Keys and values, with room for half as many rows again: they grow where they lie.
            kv_cache: 3 * (layers * kv_heads * head_dim * weight_bytes) as u64 * positions * held.sequences(),
            outputs: flow + if baseline { logits() + positions * width as u64 * stored } else { 0 },
            // The uncut answer is held twice: as it is told, and as others start from it.
            candidates: CANDIDATE * (answer * extent.top.min(vocabulary)) as u64 * (held.answers() + 1),
        }
    }
}

/// Bytes of a candidate: its number, its log probability, and its text where that lies.
const CANDIDATE: u64 = 64;

/// Which attention is kept, in text: `answer[ROWS] @ LAYERS [# HEADS]`, or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Nothing at all.
    pub none: bool,
    /// Answer rows, counted from the one that predicts the first token.
    pub rows: Numbers,
    /// Decoder layers.
    pub layers: Numbers,
    /// Query heads.
    pub heads: Numbers,
}

impl Pattern {
    /// What is kept of a model with so many layers and heads, and an answer of at most `rows` tokens.
    ///
    /// # Errors
    /// [`SetError`]: a layer, head or row that does not exist.
    pub fn resolve(&self, layers: usize, heads: usize, rows: usize) -> Result<Kept, SetError> {
        if self.none {
            return Ok(Kept::default());
        }
        let places =
            |members: Vec<bool>| members.iter().zip(0..).filter(|(m, _)| **m).map(|(_, n)| n).collect();
        Ok(Kept {
            layers: places(self.layers.resolve("layer", layers)?),
            heads: places(self.heads.resolve("head", heads)?),
            rows: places(self.rows.resolve("answer row", rows)?),
        })
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = |why: String| {
            format!(
                "recording `{text}`: {why}; the form is answer[ROWS] @ LAYERS [# HEADS], or none, for example `answer @ 8-15 # 0,2`"
            )
        };
        let lower = text.trim().to_lowercase();
        if lower == "none" {
            return Ok(Pattern { none: true, ..Pattern::default() });
        }
        let (rows, rest) = lower.split_once('@').ok_or_else(|| fail("there is no `@ LAYERS`".into()))?;
        let rows = match rows.trim().strip_prefix("answer").map(str::trim) {
            Some("") => Numbers::All,
            Some(rows) => {
                let inside = rows.strip_prefix('[').and_then(|r| r.strip_suffix(']'));
                let inside = inside.ok_or_else(|| fail(format!("`{rows}` is no list of rows")))?;
                parse_numbers(inside).map_err(|w| fail(format!("rows: {w}")))?
            }
            None => return Err(fail(format!("`{}` is not `answer`", rows.trim()))),
        };
        let (layers, heads) = rest.split_once('#').unwrap_or((rest, "all"));
        Ok(Pattern {
            none: false,
            rows,
            layers: parse_numbers(layers).map_err(|w| fail(format!("layers: {w}")))?,
            heads: parse_numbers(heads).map_err(|w| fail(format!("heads: {w}")))?,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.none, &self.rows) {
            (true, _) => return f.write_str("none"),
            (_, Numbers::All) => write!(f, "answer @ {}", self.layers)?,
            (_, rows) => write!(f, "answer[{rows}] @ {}", self.layers)?,
        }
        match &self.heads {
            Numbers::All => Ok(()),
            heads => write!(f, " # {heads}"),
        }
    }
}

as_text!(Pattern);

/// What a run will hold at a time, in bytes, at most: all that grows with prompt and answer and outlives a pass.
/// The model, the encoded images, and what one layer computes on come on top, whatever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Attention of the answer rows, each over the keys that it sees, of every answer that is held.
    pub pattern: u64,
    /// Residual stream, `[kept layers, positions, width]`, and features that are added to it, `[prompt, width]`
    /// after each layer that has some.
    pub residuals: u64,
    /// Keys and values, `[2, layers, kv heads, positions, head width]`; twice where an intervention has its own.
    pub kv_cache: u64,
    /// What the last block and the head gave, `[positions, width]` and `[answer, vocabulary]`: what
    /// interventions are compared with, and what they give; and of every answer what each row gives to each span,
    /// `[layers, positions, spans]`.
    pub outputs: u64,
    /// Candidates of all answer tokens, with their texts.
    pub candidates: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = [self.pattern, self.residuals, self.kv_cache, self.outputs, self.candidates];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [pattern, residuals, kv, outputs, candidates, total] =
            [self.pattern, self.residuals, self.kv_cache, self.outputs, self.candidates, self.total()]
                .map(gigabytes);
        write!(
            f,
            "attention {pattern}, residuals {residuals}, KV cache {kv}, outputs {outputs}, candidates {candidates}: \
             {total} in all"
        )
    }
}

/// Bytes in GB (10^9), or MB where that reads better.
pub fn gigabytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e8 { format!("{:.2} GB", bytes / 1e9) } else { format!("{:.2} MB", bytes / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_print_what_they_read() {
        for text in ["none", "answer @ all", "answer[0-9] @ 8-15 # 0,2", "answer[3] @ !0"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        for (text, part) in [
            ("", "no `@ LAYERS`"),
            ("visual @ 1", "`visual` is not `answer`"),
            ("answer[1 @ 2", "no list of rows"),
            ("answer @ x", "layers: `x` is not a number"),
            ("answer @ 1 # y", "heads: `y`"),
        ] {
            assert!(text.parse::<Pattern>().unwrap_err().contains(part), "{text}");
        }
        let kept = "answer[0-] @ 1- # 3".parse::<Pattern>().unwrap().resolve(3, 4, 2).unwrap();
        assert_eq!((kept.rows, kept.layers, kept.heads), (vec![0, 1], vec![1, 2], vec![3]));
        let error = "answer @ 3".parse::<Pattern>().unwrap().resolve(3, 4, 2).unwrap_err();
        assert_eq!(error.to_string(), "layer 3 does not exist: valid are 0 to 2");
    }

    #[test]
    fn memory_follows_the_sizes_alone() {
        // LLaVA-1.5-7B: a prompt of 624 positions, 300 answer tokens, float32.
        let extent = Extent {
            layers: 32,
            heads: 32,
            kv_heads: 32,
            head_dim: 128,
            width: 4096,
            vocabulary: 32064,
            weight_bytes: 4,
            added: 0,
            top: 10,
            prompt: 624,
            answer: 300,
        };
        let memory = Record::default().memory(&extent, Held::Baseline);
        let text = "attention 0.95 GB, residuals 0.48 GB, KV cache 1.45 GB, outputs 54.44 MB, candidates 0.38 MB: 2.94 GB in all";
        assert_eq!(memory.to_string(), text);
        assert_eq!(memory.residuals, 32 * 924 * 4096 * 4);
        assert_eq!(
            memory.total(),
            memory.pattern + memory.residuals + memory.kv_cache + memory.outputs + memory.candidates
        );
        // An intervention: attention three times, keys, values and logits twice; features after two layers.
        let three = Record::default().memory(&Extent { added: 2, ..extent }, Held::Intervention);
        assert_eq!((three.pattern, three.kv_cache), (3 * memory.pattern, 2 * memory.kv_cache));
        assert_eq!(three.residuals, memory.residuals + 2 * 624 * 4096 * 4);
        assert_eq!(three.outputs, memory.outputs + 4 * 300 * 32064 + 2 * 4 * 32 * 924 * 7);
        assert_eq!(Record::default().memory(&extent, Held::Checked).pattern, 4 * memory.pattern);
        // Grouped keys in half precision; residuals of layers 0, 5, 10, ...; one layer's attention.
        let record = Record {
            pattern: "answer[0-9] @ 3 # 0,2".parse().unwrap(),
            residuals_every: 5,
            half: true,
            ..Record::default()
        };
        let memory = record.memory(&Extent { kv_heads: 8, weight_bytes: 2, ..extent }, Held::Baseline);
        // Rows 0 to 9 see 624 to 633 keys.
        assert_eq!(memory.pattern, 6285 * 2 * 2);
        assert_eq!(memory.residuals, 7 * 924 * 4096 * 2);
        assert_eq!(memory.kv_cache, 3 * 32 * 8 * 128 * 924 * 2);
        assert_eq!(record.memory(&extent, Held::Answer).residuals, 0);
        assert_eq!(record.memory(&extent, Held::Answer).outputs, 4 * 32 * 924 * 7);
        assert_eq!(Record { residuals_every: 0, ..record }.memory(&extent, Held::Baseline).residuals, 0);
    }
}
