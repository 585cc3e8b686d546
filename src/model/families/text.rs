//! The language models that several families carry: what each takes for absent keys, and how its files name its parts.
//!
//! All of them are the shared decoder. Knows configs and names; not where a family keeps its weights.

use crate::{
    checkpoint::{
        config::{LLAMA, TextConfig, TextDefaults, decoder, llama},
        json::{JsonError, Section},
    },
    model::names::{self, DecoderNames},
};

/// `Qwen2Config`'s.
const QWEN2: TextDefaults = TextDefaults {
    vocabulary: 151_936,
    width: 4096,
    intermediate: 22_016,
    n_kv_heads: Some(32),
    context: 32_768,
    eps: 1e-6,
};

/// `Phi3Config`'s.
const PHI3: TextDefaults = TextDefaults {
    vocabulary: 32_064,
    width: 3072,
    intermediate: 8192,
    n_kv_heads: None,
    context: 4096,
    eps: 1e-5,
};

/// `InternLM2Config`'s, as its authors ship it.
const INTERNLM2: TextDefaults = TextDefaults { vocabulary: 103_168, ..LLAMA };

/// A kind of language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// `LlamaForCausalLM`.
    Llama,
    /// `Qwen2ForCausalLM`.
    Qwen2,
    /// `Phi3ForCausalLM`.
    Phi3,
    /// `InternLM2ForCausalLM`.
    InternLm2,
}

impl TextKind {
    /// Reads its config. `tied` is for the family to say.
    ///
    /// # Errors
    /// [`JsonError`], naming the key.
    pub fn read(self, text: &Section<'_>, tied: bool) -> Result<TextConfig, JsonError> {
        Ok(match self {
            TextKind::Llama => llama(text, tied, LLAMA.eps)?,
            TextKind::Qwen2 => {
                let config = decoder(text, tied, QWEN2)?;
                let window = qwen2_window(text, config.n_layers)?;
                TextConfig { qkv_bias: true, ..within(config, window) }
            }
            TextKind::Phi3 => {
                let window = sliding_window(text, None)?;
                within(decoder(text, tied, PHI3)?, window)
            }
            TextKind::InternLm2 => {
                let bias = text.boolean("bias", true)?;
                TextConfig { qkv_bias: bias, out_bias: bias, ..decoder(text, tied, INTERNLM2)? }
            }
        })
    }

    /// What its files call its parts.
    pub fn names(self) -> &'static DecoderNames {
        match self {
            TextKind::Llama | TextKind::Qwen2 => &names::LLAMA,
            TextKind::Phi3 => &names::PHI3,
            TextKind::InternLm2 => &names::INTERNLM2,
        }
    }
}

/// A model whose rows see so many keys at most is computed as far as they see all of them.
fn within(config: TextConfig, window: Option<usize>) -> TextConfig {
    TextConfig { context: window.map_or(config.context, |window| config.context.min(window)), ..config }
}

/// How many keys a row sees, itself among them.
fn sliding_window(text: &Section<'_>, default: Option<usize>) -> Result<Option<usize>, JsonError> {
    const KEY: &str = "sliding_window";
    match (text.absent(KEY), text.is_null(KEY)) {
        (true, true) => Ok(None),
        (true, false) => Ok(default),
        _ => text.count(KEY, 1, usize::MAX).map(Some),
    }
}

/// Qwen2's window counts where it is switched on and some layer has it.
fn qwen2_window(text: &Section<'_>, n_layers: usize) -> Result<Option<usize>, JsonError> {
    const FULL: &str = "full_attention";
    if !text.boolean("use_sliding_window", false)? {
        return Ok(None);
    }
    let some = match text.get("layer_types").and_then(serde_json::Value::as_array) {
        Some(types) => types.iter().any(|one| one != FULL),
        None => text.count_or("max_window_layers", 28, 0, usize::MAX)? < n_layers,
    };
    if some { sliding_window(text, Some(4096)) } else { Ok(None) }
}
