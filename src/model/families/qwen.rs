//! What Qwen's vision-language models share: one view of any size, three axes of positions, a tower of their own.
//!
//! Decoder settings stand in `text_config` or, in files of transformers 4.51 and before, at the top. The template
//! writes markers around an image's place. The files beside this one read what their generation has.

use burn::tensor::Device;
use serde_json::Value;

use crate::{
    checkpoint::{
        config::{Activation, TextConfig, VisionConfig, VlmConfig, dim, llama, mrope_axes},
        json::{JsonError, Section},
        weight_error::WeightError,
        weights::Weights,
    },
    image::{
        crop::{CLIP_MEAN, CLIP_STD},
        dynamic::Dynamic,
        patches::Patches,
        plan::PixelPlan,
        settings::Settings,
    },
    model::{
        decoder::DecoderKeys,
        encoder::Encoder,
        families::family::Family,
        names,
        qwen_vision::{EPS, QwenTower, TowerConfig},
        rotary::Position,
    },
    trace::{
        geometry::{Geometry, Piece},
        tokens::PromptToken,
    },
};

/// `<|image_pad|>` of the hub's models.
const IMAGE_TOKEN: usize = 151_655;

/// A configured Qwen-VL.
#[derive(Clone, Debug, PartialEq)]
pub struct QwenVl {
    config: VlmConfig,
    tower: TowerConfig,
}

impl QwenVl {
    /// Of its parts; checks that they fit.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn new(root: &Section<'_>, tower: TowerConfig, text: TextConfig) -> Result<Self, JsonError> {
        // Layers of the decoder after which something is added; the head must not read such an addition.
        if tower.deepstack.len() >= text.n_layers {
            let expected = format!("fewer than the decoder's {} layers", text.n_layers);
            return Err(root.section("vision_config")?.wrong("deepstack_visual_indexes", &expected));
        }
        let config = VlmConfig::read(root, tower.vision.clone(), text, IMAGE_TOKEN)?;
        Ok(QwenVl { config, tower })
    }
}

impl Family for QwenVl {
    fn config(&self) -> &VlmConfig {
        &self.config
    }

    fn encoder(&self, w: &Weights<'_>, device: &Device) -> Result<Box<dyn Encoder>, WeightError> {
        let prefix = w.prefix(&["model.visual.", "visual."], "patch_embed.proj.weight");
        Ok(Box::new(QwenTower::load(w, &prefix, &self.tower, device)?))
    }

    fn decoder_keys(&self, w: &Weights<'_>) -> DecoderKeys {
        let models = ["model.language_model.", "model.", "language_model.model.", "language_model."];
        let heads = ["lm_head.", "language_model.lm_head.", "model.lm_head."];
        DecoderKeys {
            model: w.prefix(&models, "embed_tokens.weight"),
            head: format!("{}weight", w.prefix(&heads, "weight")),
            tied: self.config.text.tied,
            names: &names::LLAMA,
        }
    }

    fn pixels(&self, settings: &Settings<'_>) -> Result<PixelPlan, JsonError> {
        pixels(settings, self.tower.patches)
    }

    fn layout(&self, image: &Geometry) -> Vec<Piece> {
        (0..image.views.len()).flat_map(|view| image.tokens_of(view)).collect()
    }

    fn positions(&self, prompt: &[PromptToken], images: &[Geometry]) -> Vec<Position> {
        positions(prompt, images)
    }

    fn around(&self) -> [&'static str; 2] {
        ["<|vision_start|>", "<|vision_end|>"]
    }

    fn added(&self) -> usize {
        self.tower.deepstack.len()
    }

    fn patches(&self) -> Option<Patches> {
        Some(self.tower.patches)
    }

    fn features_name(&self) -> &'static str {
        "vision.last_hidden"
    }

    fn markers_after(&self) -> usize {
        1
    }
}

/// `Qwen2VLImageProcessor`, of a model that cuts views into `patches`.
///
/// # Errors
/// [`JsonError`].
pub fn pixels(settings: &Settings<'_>, patches: Patches) -> Result<PixelPlan, JsonError> {
    settings.class(&[
        "Qwen2VLImageProcessor",
        "Qwen2_5_VLImageProcessor",
        "Qwen3VLImageProcessor",
        "Qwen2VLProcessor",
        "Qwen2_5_VLProcessor",
        "Qwen3VLProcessor",
    ])?;
    let plan = Box::new(Dynamic::read(settings, patches)?);
    Ok(PixelPlan { plan, filter: 3, mean: CLIP_MEAN, std: CLIP_STD })
}

/// `get_rope_index`: text goes on by one on every axis; in an image time stands still, and rows and columns
/// count from where it begins. What follows stands past the longer side of its grid.
fn positions(prompt: &[PromptToken], images: &[Geometry]) -> Vec<Position> {
    let mut next = 0;
    let place = |token: &PromptToken| {
        let visual = token.visual.and_then(|visual| {
            let view = images.get(visual.image)?.views.get(visual.view)?;
            Some((view.grid, visual.cell?))
        });
        let Some((grid, cell)) = visual else {
            next += 1;
            return [next - 1; 3];
        };
        let position = [next, next + cell.row as u32, next + cell.col as u32];
        if (cell.row + 1, cell.col + 1) == (grid.rows, grid.cols) {
            next += grid.rows.max(grid.cols) as u32;
        }
        position
    };
    prompt.iter().map(place).collect()
}

/// The decoder's settings: keys that a real file never leaves out must be there. `more` are those of the
/// generation; what follows from its code is for the caller to set.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn text(root: &Section<'_>, interleaved: bool, more: &[&str]) -> Result<TextConfig, JsonError> {
    let nested = root.section("text_config")?;
    let text = if nested.exists() { nested } else { root.clone() };
    let needed = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    ];
    if let Some(key) = needed.iter().chain(more).find(|key| text.absent(key)) {
        return Err(text.wrong(key, "a number"));
    }
    if text.absent("rope_theta") && text.section("rope_parameters")?.absent("rope_theta") {
        return Err(text.wrong("rope_theta", "a number"));
    }
    if text.boolean("use_sliding_window", false)? {
        return Err(text.wrong("use_sliding_window", "false (windows in the decoder are not computed)"));
    }
    let full = |layer: &Value| layer.as_str() == Some("full_attention");
    if text.get("layer_types").is_some_and(|types| !types.as_array().is_some_and(|t| t.iter().all(full))) {
        return Err(text.wrong("layer_types", "\"full_attention\" for every layer"));
    }
    let tied = root.boolean("tie_word_embeddings", false)? || text.boolean("tie_word_embeddings", false)?;
    let mut config = llama(&text, tied, 1e-6)?;
    config.rope.axes = mrope_axes(&text, config.head_dim, interleaved)?;
    Ok(config)
}

/// How views are cut; `side` is the default.
///
/// # Errors
/// [`JsonError`].
pub fn patches(vision: &Section<'_>, side: usize) -> Result<Patches, JsonError> {
    for key in ["in_channels", "in_chans"] {
        if vision.count_or(key, 3, 1, usize::MAX)? != 3 {
            return Err(vision.wrong(key, "3 (RGB)"));
        }
    }
    let patches = Patches {
        side: vision.count_or("patch_size", side, 1, 512)?,
        merge: vision.count_or("spatial_merge_size", 2, 1, 16)?,
        frames: vision.count_or("temporal_patch_size", 2, 1, 16)?,
    };
    if vision.count_or("spatial_patch_size", patches.side, 1, 512)? != patches.side {
        return Err(vision.wrong("spatial_patch_size", &format!("{}, as patch_size", patches.side)));
    }
    Ok(patches)
}

/// What all vision transformers have, of a tower of this width.
///
/// # Errors
/// [`JsonError`].
pub fn vision(
    section: &Section<'_>,
    [width, intermediate, depth]: [usize; 3],
    patches: Patches,
    act: Activation,
) -> Result<VisionConfig, JsonError> {
    let n_heads = dim(section, "num_heads", 16)?;
    // Half of a head's pairs are turned by row, half by column.
    if !width.is_multiple_of(4 * n_heads) {
        let expected = format!("heads of a multiple of 4 numbers that make up the width {width}");
        return Err(section.wrong("num_heads", &expected));
    }
    Ok(VisionConfig {
        width,
        intermediate,
        n_layers: section.count_or("depth", depth, 1, 1 << 10)?,
        n_heads,
        channels: 3,
        image_size: None,
        patch_size: patches.side,
        act,
        eps: EPS,
    })
}

/// A list of blocks, ascending, each below `depth`.
///
/// # Errors
/// [`JsonError`].
pub fn blocks(
    vision: &Section<'_>,
    key: &str,
    usual: &[usize],
    depth: usize,
) -> Result<Vec<usize>, JsonError> {
    let read = |v: &Value| v.as_u64().map(|n| n as usize).filter(|&n| n < depth);
    let blocks: Option<Vec<usize>> = match vision.get(key) {
        None => Some(usual.iter().copied().filter(|&n| n < depth).collect()),
        Some(list) => list.as_array().and_then(|list| list.iter().map(read).collect()),
    };
    blocks
        .filter(|blocks| blocks.is_sorted_by(|a, b| a < b))
        .ok_or_else(|| vision.wrong(key, &format!("blocks below {depth}, in order")))
}

/// Refuses a tower whose visual tokens have another width than the decoder's.
///
/// # Errors
/// [`JsonError`].
pub fn same_width(vision: &Section<'_>, key: &str, text: usize) -> Result<(), JsonError> {
    match dim(vision, key, text)? == text {
        true => Ok(()),
        false => Err(vision.wrong(key, &format!("{text}, the decoder's width"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::{
        spec::span::Span,
        trace::{
            geometry::{Grid, Place, View},
            tokens::VisualRef,
        },
    };

    #[test]
    fn sections_are_chunks_or_interleaved() {
        let config = |sections: Value| json!({"rope_scaling": {"type": "mrope", "mrope_section": sections}});
        let axes = |json: &Value, width: usize, interleaved: bool| {
            mrope_axes(&Section::root(json, Path::new("config.json")).unwrap(), width, interleaved)
        };
        let tiny = config(json!([2, 3, 3]));
        assert_eq!(axes(&tiny, 16, false).unwrap(), [0, 0, 1, 1, 1, 2, 2, 2]);
        let third = config(json!([4, 3, 3]));
        assert_eq!(axes(&third, 20, true).unwrap(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
        let real = config(json!([24, 20, 20]));
        let found = axes(&real, 128, true).unwrap();
        assert_eq!(found[57..], [0, 1, 2, 0, 0, 0, 0]);
        assert_eq!([0, 1, 2].map(|axis| found.iter().filter(|&&a| a == axis).count()), [24, 20, 20]);
        for wrong in [json!([2, 3, 4]), json!([8]), json!([8, 0, 0]), json!("8"), Value::Null] {
            let message = axes(&config(wrong), 16, false).unwrap_err().to_string();
            assert!(message.contains("rope_scaling.mrope_section"), "{message}");
        }
    }

    #[test]
    fn text_goes_on_past_the_longer_side_of_an_image() {
        let image = |rows, cols| Geometry {
            source: (9, 9),
            rows: 0,
            cols: 0,
            views: vec![View {
                place: Place::Whole,
                rect: [0.0, 0.0, 9.0, 9.0],
                grid: Grid { rows, cols },
                lead: 0,
            }],
        };
        let images = [image(1, 3), image(2, 1)];
        let token = |visual: Option<VisualRef>| PromptToken {
            position: 0,
            id: 0,
            text: String::new(),
            span: Span::System,
            visual,
            partial: false,
        };
        let of = |n: usize| {
            let cells = images[n].views[0].grid.cells();
            cells.map(move |cell| token(Some(VisualRef { image: n, view: 0, cell: Some(cell) })))
        };
        let prompt: Vec<PromptToken> =
            [token(None)].into_iter().chain(of(0)).chain(of(1)).chain([token(None)]).collect();
        let expected = [[0, 0, 0], [1, 1, 1], [1, 1, 2], [1, 1, 3], [4, 4, 4], [4, 5, 4], [6, 6, 6]];
        assert_eq!(positions(&prompt, &images), expected);
    }
}
