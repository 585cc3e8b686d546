//! What is kept of a run, in text and in bytes.
//!
//! Knows sizes and numbers; nothing of tensors.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::spec::{
    parse::parse_numbers,
    sets::{Numbers, SetError},
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
    /// Most bytes that may be kept; a run that would keep more is refused before it begins.
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
    /// Prompt positions.
    pub prompt: usize,
    /// Answer tokens at most.
    pub answer: usize,
}

impl Record {
    /// What is kept at most; `baseline`: residuals too, as for later interventions.
    pub fn memory(&self, extent: &Extent, baseline: bool) -> Memory {
        let Extent { layers, heads, kv_heads, head_dim, width, vocabulary, weight_bytes, prompt, answer } =
            *extent;
        let positions = (prompt + answer) as u64;
        let kept = self.pattern.resolve(layers, heads, answer).unwrap_or_default();
        let stored = if self.half { 2 } else { 4 };
        let residuals = match self.residuals_every {
            every if baseline && every > 0 => layers.div_ceil(every) as u64,
            _ => 0,
        };
        Memory {
            pattern: (kept.layers.len() * kept.heads.len() * kept.rows.len()) as u64 * positions * stored,
            residuals: residuals * positions * width as u64 * stored,
            kv_cache: 2 * (layers * kv_heads * head_dim * weight_bytes) as u64 * positions,
            // Logits and log probabilities, float32, and the last block's output.
            outputs: match baseline {
                true => (2 * 4 * answer * vocabulary) as u64 + positions * width as u64 * stored,
                false => 0,
            },
        }
    }
}

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

/// What a run will keep, in bytes, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Attention of the answer rows, as exported: `[layers, heads, answer, positions]`.
    pub pattern: u64,
    /// Residual stream, `[kept layers, positions, width]`.
    pub residuals: u64,
    /// Keys and values, `[2, layers, kv heads, positions, head width]`.
    pub kv_cache: u64,
    /// What the last block and the head gave, `[positions, width]` and twice `[answer, vocabulary]`: what
    /// interventions are compared with.
    pub outputs: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        [self.pattern, self.residuals, self.kv_cache, self.outputs].into_iter().fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [pattern, residuals, kv, outputs, total] =
            [self.pattern, self.residuals, self.kv_cache, self.outputs, self.total()].map(gigabytes);
        write!(
            f,
            "attention {pattern}, residuals {residuals}, KV cache {kv}, outputs {outputs}: {total} in all"
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
            prompt: 624,
            answer: 300,
        };
        let memory = Record::default().memory(&extent, true);
        let text = "attention 1.14 GB, residuals 0.48 GB, KV cache 0.97 GB, outputs 92.09 MB: 2.68 GB in all";
        assert_eq!(memory.to_string(), text);
        assert_eq!(memory.residuals, 32 * 924 * 4096 * 4);
        assert_eq!(memory.total(), memory.pattern + memory.residuals + memory.kv_cache + memory.outputs);
        // Grouped keys in half precision; residuals of layers 0, 5, 10, ...; one layer's attention.
        let record = Record {
            pattern: "answer[0-9] @ 3 # 0,2".parse().unwrap(),
            residuals_every: 5,
            half: true,
            ..Record::default()
        };
        let memory = record.memory(&Extent { kv_heads: 8, weight_bytes: 2, ..extent }, true);
        assert_eq!(memory.pattern, 10 * 2 * 924 * 2);
        assert_eq!(memory.residuals, 7 * 924 * 4096 * 2);
        assert_eq!(memory.kv_cache, 2 * 32 * 8 * 128 * 924 * 2);
        assert_eq!(record.memory(&extent, false).residuals, 0);
        assert_eq!(Record { residuals_every: 0, ..record }.memory(&extent, true).residuals, 0);
    }
}
