//! What families make of settings and of images, without a model folder.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use serde_json::json;
use sightline::{
    checkpoint::{
        config::VlmConfig,
        json::{JsonError, Section},
        shards::Watch,
        weight_error::WeightError,
        weights::Weights,
    },
    engine::load::Engine,
    image::{
        error::ImageError,
        plan::{ImageProcessor, PixelPlan},
        settings::Settings,
    },
    model::{
        decoder::{Decoder, DecoderKeys},
        encoder::Encoder,
        families::{family::Family, idefics3, internvl, llava, registry},
        rotary::Position,
    },
    progress::Cancel,
    trace::{
        geometry::{Geometry, Grid, Piece, Place, View},
        tokens::PromptToken,
    },
};

/// LLaVA, as its config's defaults have it.
pub fn llava() -> Arc<dyn Family> {
    let config = json!({"model_type": "llava", "text_config": {"vocab_size": 32_064}});
    registry::from_json(&Section::root(&config, Path::new("config.json")).unwrap()).unwrap()
}

/// Idefics3 with `side` x `side` visual tokens a tile.
pub fn idefics3(side: usize) -> Arc<dyn Family> {
    let config = json!({"model_type": "idefics3", "scale_factor": 1,
        "vision_config": {"image_size": 16 * side, "patch_size": 16},
        "text_config": {"vocab_size": 200_000}});
    registry::from_json(&Section::root(&config, Path::new("config.json")).unwrap()).unwrap()
}

/// What the class that the settings name makes of them; a class that no family has is LLaVA's to refuse.
pub fn processor(dir: &Path) -> Result<ImageProcessor, ImageError> {
    const TILES: [&str; 4] =
        ["Idefics3ImageProcessor", "SmolVLMImageProcessor", "Idefics3Processor", "SmolVLMProcessor"];
    const RATIO: [&str; 2] = ["GotOcr2ImageProcessor", "InternVLImageProcessor"];
    let grid = Grid { rows: 4, cols: 4 };
    ImageProcessor::from_dir(dir, |settings| match (settings.class(&TILES), settings.class(&RATIO)) {
        (Ok(_), _) => idefics3::pixels(settings, grid),
        (_, Ok(_)) => internvl::pixels(settings, grid),
        _ => llava::pixels(settings, grid, 0),
    })
}

/// What stands in an Idefics3 prompt for an image of so many tiles of `side` x `side` visual tokens; 0 x 0
/// for one that is not cut.
pub fn tiles(rows: usize, cols: usize, side: usize) -> Vec<Piece> {
    let (width, height) = (64 * cols.max(1) as u32, 64 * rows.max(1) as u32);
    let view = |place, [x0, y0, x1, y1]: [usize; 4]| View {
        place,
        rect: [x0, y0, x1, y1].map(|v| v as f32),
        grid: Grid { rows: side, cols: side },
        lead: 0,
    };
    let mut views: Vec<View> = (0..rows * cols)
        .map(|i| {
            let (row, col) = (i / cols, i % cols);
            view(Place::Tile { row, col }, [64 * col, 64 * row, 64 * (col + 1), 64 * (row + 1)])
        })
        .collect();
    views.push(view(Place::Whole, [0, 0, width as usize, height as usize]));
    idefics3(side).layout(&Geometry { source: (width, height), rows, cols, views })
}

/// What stands in a LLaVA prompt for an image of `rows` x `cols` visual tokens, after its class token if that
/// is kept.
pub fn view(rows: usize, cols: usize, class_token: bool) -> Vec<Piece> {
    let view = View {
        place: Place::Whole,
        rect: [0.0, 0.0, 64.0, 64.0],
        grid: Grid { rows, cols },
        lead: usize::from(class_token),
    };
    llava().layout(&Geometry { source: (64, 64), rows: 0, cols: 0, views: vec![view] })
}

/// A family whose visual tokens stand in the rows and columns of their view, as Qwen's do: time stands still in
/// a view, and what follows goes on past the largest.
#[derive(Debug)]
struct Spread(Arc<dyn Family>);

impl Family for Spread {
    fn config(&self) -> &VlmConfig {
        self.0.config()
    }

    fn encoder(&self, w: &Weights<'_>, device: &Device) -> Result<Box<dyn Encoder>, WeightError> {
        self.0.encoder(w, device)
    }

    fn decoder_keys(&self, w: &Weights<'_>) -> DecoderKeys {
        self.0.decoder_keys(w)
    }

    fn pixels(&self, settings: &Settings<'_>) -> Result<PixelPlan, JsonError> {
        self.0.pixels(settings)
    }

    fn layout(&self, image: &Geometry) -> Vec<Piece> {
        self.0.layout(image)
    }

    fn positions(&self, prompt: &[PromptToken], images: &[Geometry]) -> Vec<Position> {
        let mut next = 0;
        let place = |token: &PromptToken| {
            let Some(visual) = token.visual else {
                next += 1;
                return [next - 1; 3];
            };
            let (cell, grid) = (visual.cell.unwrap(), images[visual.image].views[visual.view].grid);
            let position = [next, next + cell.row as u32, next + cell.col as u32];
            if (cell.row + 1, cell.col + 1) == (grid.rows, grid.cols) {
                next += grid.rows.max(grid.cols) as u32;
            }
            position
        };
        prompt.iter().map(place).collect()
    }

    fn features_name(&self) -> &'static str {
        self.0.features_name()
    }

    fn markers_after(&self) -> usize {
        self.0.markers_after()
    }
}

/// Makes an engine's positions three-dimensional: each pair of a head is turned by the axes in turn.
pub fn spread(mut engine: Engine, dir: &Path) -> Engine {
    let vlm = &mut engine.vlm;
    let half = vlm.config.text.head_dim / 2;
    vlm.config.text.rope.axes = (0..half).map(|pair| pair % 3).collect();
    let cancel = Cancel::default();
    let watch = Watch::new(dir, &cancel, &|_| {}).unwrap();
    let weights = Weights::open(dir, &vlm.device, vlm.dtype, &watch).unwrap();
    let keys = vlm.family.decoder_keys(&weights);
    vlm.decoder = Decoder::load(&weights, &keys, &vlm.config.text, &vlm.device).unwrap();
    vlm.family = Arc::new(Spread(vlm.family.clone()));
    engine
}
