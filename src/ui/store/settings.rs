//! What the user has set up: how maps are drawn, how answers are chosen, what tints words, what the pointer does.
//!
//! Plain values that a file can hold. Knows nothing of runs or of drawing.

use serde::{Deserialize, Serialize};

use crate::{
    spec::{
        experiment::{Experiment, Sampling},
        picture::ImageSource,
    },
    trace::{palette::Colormap, sheet::Underlay},
    ui::store::talk::Talk,
};

/// Which numbers stand at the ends of the colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorRange {
    /// The map's own smallest and largest.
    Map,
    /// 0 and the largest of all layers of the word.
    #[default]
    Layers,
    /// 0 and this number, whatever is shown: comparable across words, layers, heads, runs, tiles and models.
    Locked(f32),
}

/// Which views of a tiled image are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// The tiles, where they lie on the image.
    #[default]
    Tiles,
    /// The view of the whole.
    Whole,
    /// Every view by itself, as it enters the encoder.
    Apart,
}

impl Views {
    /// All of them.
    pub const ALL: [Views; 3] = [Views::Tiles, Views::Whole, Views::Apart];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Views::Tiles => "tiles merged",
            Views::Whole => "view of the whole",
            Views::Apart => "as the model sees it",
        }
    }
}

/// How maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MapSettings {
    /// Colours.
    pub colormap: Colormap,
    /// 0 shows the image alone, 1 the map alone; the same for every value.
    pub opacity: f32,
    /// What lies under the map.
    pub underlay: Underlay,
    /// Which numbers the colours stand for.
    pub range: ColorRange,
    /// Which views are seen.
    pub views: Views,
    /// Whether the map is drawn at all.
    pub visible: bool,
    /// Exponent of the place on the colours: below 1 small values stand out, above 1 large ones.
    pub gamma: f32,
    /// Whether colours run smoothly from the middle of a patch to that of the next.
    pub smooth: bool,
    /// Whether attention sinks are left out.
    pub without_sinks: bool,
    /// Whether the borders of patches are drawn.
    pub grid: bool,
    /// Whether masks that are known are outlined, and the peak of the map is crossed.
    pub marks: bool,
}

impl Default for MapSettings {
    fn default() -> Self {
        MapSettings {
            colormap: Colormap::default(),
            opacity: 0.6,
            underlay: Underlay::default(),
            range: ColorRange::default(),
            views: Views::default(),
            visible: true,
            gamma: 1.0,
            smooth: false,
            without_sinks: false,
            grid: false,
            marks: true,
        }
    }
}

impl MapSettings {
    /// Brings what a file held into bounds.
    pub fn mend(&mut self) {
        let sound = |value: f32| value.is_finite() && value > 0.0 && value <= 1.0;
        if !(self.opacity.is_finite() && (0.0..=1.0).contains(&self.opacity)) {
            self.opacity = MapSettings::default().opacity;
        }
        if !(self.gamma.is_finite() && (0.2..=5.0).contains(&self.gamma)) {
            self.gamma = 1.0;
        }
        if matches!(self.range, ColorRange::Locked(high) if !sound(high)) {
            self.range = ColorRange::default();
        }
    }
}

/// How an answer is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asking {
    /// Longest answer, in tokens.
    pub max_new: usize,
    /// How tokens are drawn; the likeliest is taken if `None`.
    pub sampling: Option<Sampling>,
    /// Decides drawn tokens and random patches.
    pub seed: u64,
    /// Candidates listed for every token.
    pub top: usize,
}

impl Default for Asking {
    fn default() -> Self {
        Asking { max_new: 64, sampling: None, seed: 0, top: 10 }
    }
}

impl Asking {
    /// An uncut question about one image, in its conversation.
    pub fn experiment(&self, image: ImageSource, talk: &Talk, question: &str) -> Experiment {
        let Asking { max_new, sampling, seed, top } = *self;
        let turns = talk.turns(question);
        Experiment { turns, sampling, seed, top, ..Experiment::ask(image, question, max_new) }
    }
}

/// Where models run and in which number format, as the command line names both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// `auto`, `cpu` or `gpu`.
    pub device: &'static str,
    /// `auto`, `f32`, `f16` or `bf16`.
    pub dtype: &'static str,
}

impl Default for Running {
    fn default() -> Self {
        Running { device: "auto", dtype: "auto" }
    }
}

/// What tints words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tint {
    /// Attention to the image in the layer and head on show; to the locked patches, where some are.
    #[default]
    Attention,
    /// What the cut does to the log probability.
    Change,
    /// How undecided the model was: entropy of its distribution, in nats.
    Entropy,
    /// Nothing.
    Nothing,
}

impl Tint {
    /// All of them.
    pub const ALL: [Tint; 4] = [Tint::Attention, Tint::Change, Tint::Entropy, Tint::Nothing];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Tint::Attention => "attention to the image",
            Tint::Change => "change of log probability",
            Tint::Entropy => "entropy",
            Tint::Nothing => "no tint",
        }
    }
}

/// What the pointer does on an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Reads values; a click locks a patch, a drag moves the image.
    #[default]
    Look,
    /// Paints patches.
    Brush,
    /// Paints a rectangle of patches.
    Box,
    /// Wipes painted patches.
    Wipe,
}

impl Tool {
    /// All of them.
    pub const ALL: [Tool; 4] = [Tool::Look, Tool::Brush, Tool::Box, Tool::Wipe];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Look => "look",
            Tool::Brush => "brush",
            Tool::Box => "box",
            Tool::Wipe => "wipe",
        }
    }
}
