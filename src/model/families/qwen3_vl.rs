//! Qwen3-VL (dense): norms of queries and keys, a table of positions in the tower, features that are added to the
//! residual stream after the decoder's first layers (deepstack).
//!
//! Transformers' `Qwen3VLForConditionalGeneration`.

use crate::{
    checkpoint::{
        config::{TextConfig, activation, dim},
        json::{JsonError, Section},
    },
    model::{
        families::{
            family::Family,
            qwen::{QwenVl, blocks, patches, same_width, text, vision},
        },
        qwen_vision::{Style, TowerConfig},
    },
};

/// Reads `Qwen3VLConfig`.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn read(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    let section = root.section("vision_config")?;
    // Positions are interleaved whether or not the file says so.
    let text = TextConfig { qk_norm: true, ..text(root, true, &["head_dim"])? };
    same_width(&section, "out_hidden_size", text.width)?;
    let patches = patches(&section, 16)?;
    let width = dim(&section, "hidden_size", 1152)?;
    let intermediate = dim(&section, "intermediate_size", 4304)?;
    let act = activation(&section, "hidden_act", "gelu_pytorch_tanh")?;
    let vision = vision(&section, [width, intermediate, 27], patches, act)?;
    let entries = dim(&section, "num_position_embeddings", 48 * 48)?;
    let side = entries.isqrt();
    if side * side != entries {
        return Err(section.wrong("num_position_embeddings", "a square number (the table is square)"));
    }
    let tower = TowerConfig {
        deepstack: blocks(&section, "deepstack_visual_indexes", &[8, 16, 24], vision.n_layers)?,
        vision,
        style: Style::Qwen3,
        patches,
        windows: None,
        table: Some(side),
        out: text.width,
    };
    Ok(Box::new(QwenVl::new(root, tower, text)?))
}
