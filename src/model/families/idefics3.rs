//! Idefics3 and SmolVLM: SigLIP, pixel shuffle and one linear map, Llama; tiles beside a view of the whole.
//!
//! Transformers' `Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`. A marker stands
//! before each tile, a line break after each row of tiles, the view of the whole comes last.

use burn::tensor::Device;

use crate::{
    checkpoint::{
        config::{VisionConfig, VlmConfig, dim, llama, vision_transformer},
        json::{JsonError, Section},
        weight_error::WeightError,
        weights::Weights,
    },
    image::{plan::PixelPlan, settings::Settings, tiles::Tiles},
    model::{
        decoder::DecoderKeys,
        encoder::{Encoder, TowerAndProjector},
        families::family::Family,
        names,
        nn::{Linear, NormKind},
        projector::Projector,
        vision::{TowerPlan, VisionTower},
    },
    trace::geometry::{Geometry, Grid, Piece},
};

/// Stands before every tile and after the last.
const AROUND: &str = "<fake_token_around_image>";

/// A configured Idefics3.
#[derive(Clone, Debug, PartialEq)]
pub struct Idefics3 {
    config: VlmConfig,
    /// Pixel shuffle: this many patches a side become one visual token.
    scale_factor: usize,
}

/// Reads `Idefics3Config`, equal to `SmolVLMConfig`.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn read(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    Ok(Box::new(Idefics3::read(root)?))
}

impl Idefics3 {
    fn read(root: &Section<'_>) -> Result<Self, JsonError> {
        let (text, vision) = (root.section("text_config")?, root.section("vision_config")?);
        if text.string("model_type", "llama")? != "llama" {
            return Err(text.wrong("model_type", "\"llama\""));
        }
        let tied = root.boolean("tie_word_embeddings", false)?
            || root.absent("tie_word_embeddings") && text.boolean("tie_word_embeddings", false)?;
        let vision = siglip(&vision)?;
        let scale_factor = dim(root, "scale_factor", 2)?;
        if vision.grid() % scale_factor != 0 {
            let expected = format!("a divisor of the {} patches a side", vision.grid());
            return Err(root.wrong("scale_factor", &expected));
        }
        let text = llama(&text, tied, if text.exists() { 1e-6 } else { 1e-5 })?;
        Ok(Idefics3 { scale_factor, config: VlmConfig::read(root, vision, text, 128_257)? })
    }

    fn grid(&self) -> Grid {
        let side = self.config.vision.grid() / self.scale_factor;
        Grid { rows: side, cols: side }
    }
}

impl Family for Idefics3 {
    fn config(&self) -> &VlmConfig {
        &self.config
    }

    fn encoder(&self, w: &Weights<'_>, device: &Device) -> Result<Box<dyn Encoder>, WeightError> {
        let (vision, text, s) = (&self.config.vision, self.config.text.width, self.scale_factor);
        let prefixes = ["model.vision_model.", "vision_model."];
        let plan = TowerPlan {
            prefix: w.prefix(&prefixes, "embeddings.patch_embedding.weight"),
            names: &names::SIGLIP,
            norm: NormKind::Layer,
            qkv_bias: true,
            qk_norm: false,
            positions: position_ids(vision.grid()),
            select: None,
        };
        let tower = VisionTower::load(w, vision, plan, device)?;
        let prefix = w.prefix(&["model.connector.", "connector."], "modality_projection.proj.weight");
        let key = format!("{prefix}modality_projection.proj");
        let projection = Linear::load(w, &key, [text, vision.width * s * s], false)?;
        let projector = Projector::PixelShuffle { scale_factor: s, projection };
        Ok(Box::new(TowerAndProjector { tower, projector }))
    }

    fn decoder_keys(&self, w: &Weights<'_>) -> DecoderKeys {
        DecoderKeys {
            model: w.prefix(&["model.text_model.", "text_model."], "embed_tokens.weight"),
            head: "lm_head.weight".to_string(),
            tied: self.config.text.tied,
            names: &names::LLAMA,
        }
    }

    fn pixels(&self, settings: &Settings<'_>) -> Result<PixelPlan, JsonError> {
        pixels(settings, self.grid())
    }

    fn layout(&self, image: &Geometry) -> Vec<Piece> {
        layout(image)
    }

    fn check_processor(&self, processor: &Section<'_>) -> Result<(), JsonError> {
        let expected = self.grid().len();
        match processor.get("image_seq_len").and_then(serde_json::Value::as_u64) {
            Some(found) if found != expected as u64 => {
                let why = format!("{expected}: the model's config makes so many visual tokens of one tile");
                Err(processor.wrong("image_seq_len", &why))
            }
            _ => Ok(()),
        }
    }

    fn features_name(&self) -> &'static str {
        "vision.last_hidden"
    }

    fn markers_after(&self) -> usize {
        1
    }
}

/// `Idefics3ImageProcessor`, of a model whose tiles become `grid` visual tokens.
///
/// # Errors
/// [`JsonError`].
pub fn pixels(settings: &Settings<'_>, grid: Grid) -> Result<PixelPlan, JsonError> {
    settings.class(&[
        "Idefics3ImageProcessor",
        "SmolVLMImageProcessor",
        "Idefics3Processor",
        "SmolVLMProcessor",
    ])?;
    let plan = Box::new(Tiles::read(settings, grid)?);
    Ok(PixelPlan { plan, filter: 1, mean: [0.5; 3], std: [0.5; 3] })
}

/// `Idefics3Processor.replace_image_token`.
pub fn layout(image: &Geometry) -> Vec<Piece> {
    let marker = |text: String| Piece::Marker(text);
    let mut pieces = Vec::new();
    for row in 0..image.rows {
        for col in 0..image.cols {
            pieces.push(marker(format!("{AROUND}<row_{}_col_{}>", row + 1, col + 1)));
            pieces.extend(image.tokens_of(row * image.cols + col));
        }
        pieces.push(marker("\n".to_string()));
    }
    if image.rows > 0 {
        pieces.push(marker("\n".to_string()));
    }
    pieces.push(marker(format!("{AROUND}<global-img>")));
    pieces.extend(image.tokens_of(image.rows * image.cols));
    pieces.push(marker(AROUND.to_string()));
    pieces
}

/// `Idefics3VisionConfig`, equal to `SmolVLMVisionConfig`.
fn siglip(vision: &Section<'_>) -> Result<VisionConfig, JsonError> {
    vision_transformer(vision, [1152, 3072, 12, 16, 224, 32], "gelu_pytorch_tanh", 1e-6)
}

/// `[side * side]`: the row of the position embedding that each patch of an Idefics3 tile takes.
fn position_ids(side: usize) -> Vec<usize> {
    let along = buckets(side);
    along.iter().flat_map(|row| along.iter().map(move |col| row * side + col)).collect()
}

/// Along one edge of `Idefics3VisionEmbeddings`: which of `side` buckets the fraction `i / side` falls
/// into. In float32 that is not always `i` (19, 25, 29, .. a side), and the weights were trained so.
fn buckets(side: usize) -> Vec<usize> {
    let step = 1.0 / side as f64;
    let count = ((1.0 - step) / step).ceil() as usize;
    // torch.arange on a CPU, which rounds the first of every eight numbers before it counts on, as long
    // as there are sixteen more to make.
    let bound = |i: usize| {
        let (start, lane) = if i < count / 16 * 16 { (i / 8 * 8, i % 8) } else { (i, 0) };
        (f64::from((step + step * start as f64) as f32) + step * lane as f64) as f32
    };
    let bounds: Vec<f32> = (0..count).map(bound).collect();
    let fraction = |i: usize| (i as f32 * (1.0 / side as f32)).min(1.0 - 1e-6);
    (0..side).map(|i| bounds.partition_point(|&b| b <= fraction(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Idefics3VisionEmbeddings` of transformers 5.24 computes: the places along an edge that fall
    /// into the bucket before their own.
    #[test]
    fn idefics3_positions_are_bucketed_as_the_reference_does() {
        let earlier: [(usize, &[usize]); 7] = [
            (19, &[12]),
            (25, &[5, 9, 10, 11, 12, 13, 15, 18, 20, 23]),
            (29, &[3, 6, 24]),
            (31, &[17, 21, 25, 29]),
            (38, &[12]),
            (54, &[44, 45]),
            (72, &[35, 51, 52, 53, 60, 61]),
        ];
        for (side, earlier) in earlier {
            let expected: Vec<usize> = (0..side).map(|i| i - usize::from(earlier.contains(&i))).collect();
            assert_eq!(buckets(side), expected, "{side} a side");
        }
        for side in (1..=18).chain([24, 26, 27, 28, 32, 37, 64, 128]) {
            assert_eq!(buckets(side), (0..side).collect::<Vec<_>>(), "{side} a side");
        }
        let ids = position_ids(19);
        assert_eq!(ids[11 * 19 + 11..][..3], [11 * 19 + 11, 11 * 19 + 11, 11 * 19 + 13]);
        assert_eq!(ids[12 * 19], 11 * 19, "rows too");
    }
}
