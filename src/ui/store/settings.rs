//! What the user has set up: how maps are drawn, and what is cut.
//!
//! Plain values that a file can hold. Knows the grammar of knockouts; nothing of runs or of drawing.

use serde::{Deserialize, Serialize};

use crate::{
    spec::{
        knockout::{Knockout, KnockoutError},
        sets::{Name, Numbers, Places, Set, Term},
        span::Span,
    },
    trace::palette::Colormap,
};

/// What lies under a map. Over none of them does opacity change with the value: a colour is a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// The image without its colours: every colour that is seen is the map's.
    #[default]
    Grey,
    /// The image as it is: its colours mix with the map's.
    Colour,
    /// Nothing: the map alone, its colours pure.
    Nothing,
}

impl Underlay {
    /// All of them.
    pub const ALL: [Underlay; 3] = [Underlay::Grey, Underlay::Colour, Underlay::Nothing];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Underlay::Grey => "grey image",
            Underlay::Colour => "colour image",
            Underlay::Nothing => "map alone",
        }
    }
}

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

/// How maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapSettings {
    /// Colours.
    pub colormap: Colormap,
    /// 0 shows the image alone, 1 the map alone; the same for every value.
    pub opacity: f32,
    /// What lies under the map.
    pub underlay: Underlay,
    /// Which numbers the colours stand for.
    pub range: ColorRange,
    /// Of a tiled image: the tiles rather than the view of the whole.
    pub tiles: bool,
    /// Whether the map is drawn at all.
    pub visible: bool,
}

impl Default for MapSettings {
    fn default() -> Self {
        MapSettings {
            colormap: Colormap::default(),
            opacity: 0.6,
            underlay: Underlay::default(),
            range: ColorRange::default(),
            tiles: true,
            visible: true,
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
        if matches!(self.range, ColorRange::Locked(high) if !sound(high)) {
            self.range = ColorRange::default();
        }
    }
}

/// The knockouts that the user has set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutSettings {
    /// Whether `answer -> visual` is blocked in `range`.
    pub enabled: bool,
    /// First and last layer blocked.
    pub range: (usize, usize),
    /// Further knockouts, as typed, separated by `;`.
    pub typed: String,
}

impl CutSettings {
    /// Whether anything is to be cut.
    pub fn wants_a_cut(&self) -> bool {
        self.enabled || !self.typed.trim().is_empty()
    }

    /// The knockout that the two handles stand for.
    pub fn range_knockout(&self) -> Knockout {
        let term = |span| Term { minus: false, name: Name::Span(span), places: Places::All, rings: 0 };
        let whole = |span| Set(vec![term(span)]);
        Knockout {
            query: whole(Span::Answer),
            key: whole(Span::Visual),
            layers: Numbers::range(self.range.0, self.range.1),
            heads: Numbers::All,
        }
    }

    /// The typed knockouts.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn typed_knockouts(&self) -> Result<Vec<Knockout>, KnockoutError> {
        self.typed.split(';').filter(|text| !text.trim().is_empty()).map(str::parse).collect()
    }

    /// Puts the range into the middle half of a model of `n_layers`.
    pub fn centre(&mut self, n_layers: usize) {
        self.range = match n_layers {
            0..4 => (0, n_layers.saturating_sub(1)),
            n => (n / 4, n * 3 / 4 - 1),
        };
    }
}
