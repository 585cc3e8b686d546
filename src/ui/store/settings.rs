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

/// How maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapSettings {
    /// Colours.
    pub colormap: Colormap,
    /// 0 shows the image alone, 1 the map alone.
    pub opacity: f32,
    /// Low values let more of the image through.
    pub fade: bool,
    /// One colour range for all layers of a token, from 0; else each map's own.
    pub shared_range: bool,
    /// Of a tiled image: the tiles rather than the view of the whole.
    pub tiles: bool,
    /// Whether the map is drawn at all.
    pub visible: bool,
}

impl Default for MapSettings {
    fn default() -> Self {
        MapSettings {
            colormap: Colormap::default(),
            opacity: 0.8,
            fade: true,
            shared_range: true,
            tiles: true,
            visible: true,
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
