//! Qwen2-VL and Qwen2.5-VL: biases at queries, keys and values; the newer one looks in windows.
//!
//! Transformers' `Qwen2VLForConditionalGeneration` and `Qwen2_5_VLForConditionalGeneration`.

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
        qwen_vision::{Style, TowerConfig, Windows},
    },
};

/// Reads `Qwen2VLConfig`.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn read(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    let (section, text) = (root.section("vision_config")?, decoder(root)?);
    // Here `hidden_size` is the width of what leaves the tower.
    same_width(&section, "hidden_size", text.width)?;
    let (patches, width) = (patches(&section, 14)?, dim(&section, "embed_dim", 1280)?);
    let intermediate = width * section.count_or("mlp_ratio", 4, 1, 64)?;
    let act = activation(&section, "hidden_act", "quick_gelu")?;
    let tower = TowerConfig {
        vision: vision(&section, [width, intermediate, 32], patches, act)?,
        style: Style::Qwen2,
        patches,
        windows: None,
        table: None,
        deepstack: Vec::new(),
        out: text.width,
    };
    Ok(Box::new(QwenVl::new(root, tower, text)?))
}

/// Reads `Qwen2_5_VLConfig`.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn read_2_5(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    let (section, text) = (root.section("vision_config")?, decoder(root)?);
    same_width(&section, "out_hidden_size", text.width)?;
    let patches = patches(&section, 14)?;
    let width = dim(&section, "hidden_size", 1280)?;
    let intermediate = dim(&section, "intermediate_size", 3420)?;
    let act = activation(&section, "hidden_act", "silu")?;
    let vision = vision(&section, [width, intermediate, 32], patches, act)?;
    let side = dim(&section, "window_size", 112)? / patches.unit();
    if side == 0 {
        let expected = format!("at least the {} pixels of a visual token", patches.unit());
        return Err(section.wrong("window_size", &expected));
    }
    let full = blocks(&section, "fullatt_block_indexes", &[7, 15, 23, 31], vision.n_layers)?;
    let tower = TowerConfig {
        vision,
        style: Style::Qwen2_5,
        patches,
        windows: Some(Windows { side, full }),
        table: None,
        deepstack: Vec::new(),
        out: text.width,
    };
    Ok(Box::new(QwenVl::new(root, tower, text)?))
}

/// Qwen2's decoder has these biases, whatever its file says.
fn decoder(root: &Section<'_>) -> Result<TextConfig, JsonError> {
    Ok(TextConfig { qkv_bias: true, out_bias: false, ..text(root, false, &[])? })
}
