//! What the user does to the model: a list of knockouts and ablations, each of which can be put out of force.
//!
//! Plain values that a file can hold. Knows the grammar; nothing of prompts, runs or drawing.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::spec::{
    ablation::{Ablation, Fill},
    experiment::Intervention,
    knockout::Knockout,
    sets::{Name, Numbers, Place, Places, Range, Set, Term},
    span::Span,
};

/// One thing that is done to the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Attention that is cut.
    Knockout(Knockout),
    /// Visual tokens that are overwritten.
    Ablation(Ablation),
}

impl Change {
    /// Reads either from text: a knockout has an arrow.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.contains('=') && !text.contains("->") {
            true => text.parse().map(Change::Ablation).map_err(|e| format!("{e}")),
            false => text.parse().map(Change::Knockout).map_err(|e| format!("{e}")),
        }
    }

    /// The knockout that it is.
    pub fn knockout(&self) -> Option<&Knockout> {
        match self {
            Change::Knockout(knockout) => Some(knockout),
            Change::Ablation(_) => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Knockout(knockout) => knockout.fmt(f),
            Change::Ablation(ablation) => ablation.fmt(f),
        }
    }
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutItem {
    /// Whether it is in force.
    pub on: bool,
    /// What is done.
    pub change: Change,
    /// The patches that the brush painted, where it follows the brush; by number among those of the image.
    #[serde(default)]
    pub painted: Option<BTreeSet<usize>>,
}

/// What painted patches become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaintRole {
    /// Overwritten with the mean visual embedding.
    #[default]
    Ablated,
    /// Keys that no position outside them can see.
    Key,
    /// Queries that cannot look at the rest of the image.
    Query,
    /// Selected, and nothing is done to the model.
    Selected,
}

impl PaintRole {
    /// All of them.
    pub const ALL: [PaintRole; 4] =
        [PaintRole::Ablated, PaintRole::Key, PaintRole::Query, PaintRole::Selected];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            PaintRole::Ablated => "ablate",
            PaintRole::Key => "cut as keys",
            PaintRole::Query => "cut as queries",
            PaintRole::Selected => "select only",
        }
    }

    /// What it means, in words.
    pub fn tooltip(self) -> &'static str {
        match self {
            PaintRole::Ablated => "Painted patches are overwritten with the mean visual embedding",
            PaintRole::Key => "No other position can look at painted patches",
            PaintRole::Query => "Painted patches cannot look at the rest of the image",
            PaintRole::Selected => "Painted patches are selected; nothing is done to the model",
        }
    }

    /// Whether nothing is done to the model.
    pub fn is_only_selected(self) -> bool {
        self == PaintRole::Selected
    }

    /// What is done to the patches and those within so many rings around them; `None` where nothing is.
    pub fn change(self, patches: &BTreeSet<usize>, rings: usize, layers: Numbers) -> Option<Change> {
        let painted = |minus| Term { rings, ..patch_term(patches, minus) };
        let (all, visual) = (whole(Name::All), whole(Name::Span(Span::Visual)));
        let knockout = |query, key| Change::Knockout(Knockout { query, key, layers, heads: Numbers::All });
        match self {
            _ if patches.is_empty() => None,
            PaintRole::Ablated => {
                let tokens = Set(vec![painted(false)]);
                Some(Change::Ablation(Ablation { tokens, fill: Fill::Mean, deepstack: false }))
            }
            PaintRole::Key => Some(knockout(Set(vec![all, painted(true)]), Set(vec![painted(false)]))),
            PaintRole::Query => Some(knockout(Set(vec![painted(false)]), Set(vec![visual, painted(true)]))),
            PaintRole::Selected => None,
        }
    }
}

/// A whole named set.
fn whole(name: Name) -> Term {
    Term { minus: false, name, places: Places::All, rings: 0 }
}

/// `visual[..]` of some patches, by number; whole runs of numbers as ranges.
pub fn patch_term(patches: &BTreeSet<usize>, minus: bool) -> Term {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &patch in patches {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == patch => *last = patch,
            _ => ranges.push((patch, patch)),
        }
    }
    let places = ranges.into_iter().map(|(a, b)| Place::Index(Range::Between(a, b))).collect();
    Term { minus, name: Name::Span(Span::Visual), places: Places::Of(places), rings: 0 }
}

/// Cuts by the names that papers have for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Answer tokens cannot look at the image.
    ImageToGenerated,
    /// Prompt text cannot look at the image; answer tokens can.
    ImageToText,
    /// Neither can.
    ImageToBoth,
    /// The last prompt row cannot look at the image.
    ImageToLast,
    /// The last row of visual tokens cannot look at the rest of the image.
    LastRow,
    /// Answer tokens can look at the image in the middle third of the layers alone.
    AllButWindow,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 6] = [
        Preset::ImageToGenerated,
        Preset::ImageToText,
        Preset::ImageToBoth,
        Preset::ImageToLast,
        Preset::LastRow,
        Preset::AllButWindow,
    ];

    /// The papers' name.
    pub fn name(self) -> &'static str {
        match self {
            Preset::ImageToGenerated => "image -> generated",
            Preset::ImageToText => "image -> text",
            Preset::ImageToBoth => "image -> text + generated",
            Preset::ImageToLast => "image -> last",
            Preset::LastRow => "last row of the image",
            Preset::AllButWindow => "all but a window",
        }
    }

    /// What it means, in words.
    pub fn tooltip(self) -> &'static str {
        match self {
            Preset::ImageToGenerated => "Answer tokens cannot look at visual tokens (Kaduri et al.)",
            Preset::ImageToText => "The prompt's text cannot look at visual tokens; answer tokens still can",
            Preset::ImageToBoth => "Neither the prompt's text nor answer tokens can look at visual tokens",
            Preset::ImageToLast => "The last prompt row, which predicts the first word, sees no visual token",
            Preset::LastRow => "The last row of visual tokens cannot look at the others (Neo et al.)",
            Preset::AllButWindow => {
                "Answer tokens can look at visual tokens in the middle third of the layers alone"
            }
        }
    }

    /// What it cuts in a model of so many layers, in `layers` where it does not say so itself.
    pub fn change(self, n_layers: usize, layers: &Numbers) -> Change {
        let set = |text: &str| crate::spec::parse::parse_set(text).unwrap_or(Set(vec![whole(Name::All)]));
        let cut = |query: &str, key: &str, layers: Numbers| {
            Change::Knockout(Knockout { query: set(query), key: set(key), layers, heads: Numbers::All })
        };
        let window = Range::Between(n_layers / 3, (n_layers * 2 / 3).saturating_sub(1).max(n_layers / 3));
        match self {
            Preset::ImageToGenerated => cut("answer", "visual", layers.clone()),
            Preset::ImageToText => cut("all - visual - answer", "visual", layers.clone()),
            Preset::ImageToBoth => cut("all - visual", "visual", layers.clone()),
            Preset::ImageToLast => cut("last", "visual", layers.clone()),
            Preset::LastRow => cut("lastrow", "visual - lastrow", layers.clone()),
            Preset::AllButWindow => cut("answer", "visual", Numbers::Except(vec![window])),
        }
    }
}

/// Everything that is done, and which line the layer strip moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CutSettings {
    /// The list.
    pub items: Vec<CutItem>,
    /// The line that the layer strip shows and moves.
    pub active: usize,
    /// What the brush makes of patches.
    pub role: PaintRole,
    /// Rings by which painted patches are grown.
    pub rings: usize,
    /// Draws of the control on random patches; 0 for none.
    pub control: usize,
}

impl CutSettings {
    /// Whether anything is to be done.
    pub fn wants_a_cut(&self) -> bool {
        self.items.iter().any(|item| item.on)
    }

    /// What is in force.
    pub fn intervention(&self) -> Intervention {
        let mut intervention = Intervention::default();
        for item in self.items.iter().filter(|item| item.on) {
            match &item.change {
                Change::Knockout(knockout) => intervention.knockouts.push(knockout.clone()),
                Change::Ablation(ablation) => intervention.ablations.push(ablation.clone()),
            }
        }
        intervention
    }

    /// The line that the layer strip moves, if it is a knockout.
    pub fn active(&self) -> Option<&CutItem> {
        self.items.get(self.active).filter(|item| item.change.knockout().is_some())
    }

    /// First and last layer of the active knockout, where it has one run of layers.
    pub fn range(&self, n_layers: usize) -> Option<(usize, usize)> {
        let knockout = self.active()?.change.knockout()?;
        let cut: Vec<usize> = (0..n_layers).filter(|&layer| knockout.layers.contains(layer)).collect();
        let (first, last) = (*cut.first()?, *cut.last()?);
        (last - first + 1 == cut.len()).then_some((first, last))
    }

    /// Whether something in force cuts a layer; of an ablation, every layer is touched from the first on.
    pub fn cuts(&self, layer: usize) -> bool {
        let cuts = |item: &CutItem| item.change.knockout().is_some_and(|k| k.layers.contains(layer));
        self.items.iter().any(|item| item.on && cuts(item))
    }

    /// Moves the active knockout to these layers and puts it in force; without one, `answer -> visual` is added.
    pub fn cut_layers(&mut self, (first, last): (usize, usize)) {
        let layers = Numbers::range(first.min(last), last.max(first));
        if self.active().is_some()
            && let Some(item) = self.items.get_mut(self.active)
            && let Change::Knockout(knockout) = &mut item.change
        {
            (knockout.layers, item.on) = (layers, true);
            return;
        }
        self.add(Preset::ImageToGenerated.change(0, &layers));
    }

    /// Adds a line, in force; a knockout becomes the active one. The same change twice would be refused: it is
    /// put in force where it stands.
    pub fn add(&mut self, change: Change) {
        let at = self.items.iter().position(|item| item.change == change);
        let at = at.unwrap_or_else(|| {
            self.items.push(CutItem { on: true, change, painted: None });
            self.items.len() - 1
        });
        if let Some(item) = self.items.get_mut(at) {
            item.on = true;
        }
        self.active = at;
    }

    /// Takes a line off.
    pub fn remove(&mut self, at: usize) {
        if at < self.items.len() {
            self.items.remove(at);
            self.active = self.active.min(self.items.len().saturating_sub(1));
        }
    }

    /// The patches that are painted, whatever they become.
    pub fn painted(&self) -> Option<&BTreeSet<usize>> {
        self.items.iter().find_map(|item| item.painted.as_ref())
    }

    /// Paints patches, or wipes them.
    pub fn paint(&mut self, patches: &[usize], add: bool) {
        let mut painted = self.painted().cloned().unwrap_or_default();
        for patch in patches {
            _ = if add { painted.insert(*patch) } else { painted.remove(patch) };
        }
        self.set_painted(painted);
    }

    /// Makes the painted line that of these patches: added at need, taken off when there are none.
    pub fn set_painted(&mut self, painted: BTreeSet<usize>) {
        let at = self.items.iter().position(|item| item.painted.is_some());
        let layers = at.and_then(|at| self.items[at].change.knockout()).map(|k| k.layers.clone());
        let change = self.role.change(&painted, self.rings, layers.unwrap_or_default());
        match (at, change) {
            (Some(at), None) => self.remove(at),
            (None, None) => {}
            (Some(at), Some(change)) => {
                if let Some(item) = self.items.get_mut(at) {
                    *item = CutItem { on: true, change, painted: Some(painted) };
                }
            }
            (None, Some(change)) => {
                self.items.push(CutItem { on: true, change, painted: Some(painted) });
            }
        }
    }

    /// Changes what painted patches become, and by how many rings they grow.
    pub fn paint_as(&mut self, role: PaintRole, rings: usize) {
        (self.role, self.rings) = (role, rings);
        if let Some(painted) = self.painted().cloned() {
            self.set_painted(painted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn painted_patches_become_what_they_are_painted_as() {
        let mut cut = CutSettings::default();
        cut.paint(&[3, 4, 5, 9], true);
        assert_eq!(cut.items[0].change.to_string(), "visual[3-5,9] = mean");
        cut.paint_as(PaintRole::Key, 1);
        assert_eq!(cut.items[0].change.to_string(), "all - visual[3-5,9]~1 -> visual[3-5,9]~1 @ all");
        cut.paint_as(PaintRole::Query, 0);
        assert_eq!(cut.items[0].change.to_string(), "visual[3-5,9] -> visual - visual[3-5,9] @ all");
        for item in &cut.items {
            assert_eq!(Change::parse(&item.change.to_string()).unwrap(), item.change);
        }
        cut.paint(&[3, 4, 5, 9], false);
        assert!(cut.items.is_empty() && !cut.wants_a_cut());
    }

    #[test]
    fn the_strip_moves_the_active_knockout_and_adds_one_where_there_is_none() {
        let mut cut = CutSettings::default();
        cut.paint(&[1], true);
        cut.cut_layers((5, 2));
        assert_eq!(cut.items[1].change.to_string(), "answer -> visual @ 2-5");
        assert_eq!(cut.range(8), Some((2, 5)));
        cut.add(Change::parse("last -> visual @ 1,3").unwrap());
        assert_eq!(cut.range(8), None, "two runs of layers have no ends");
        cut.cut_layers((0, 1));
        assert_eq!(cut.items[2].change.to_string(), "last -> visual @ 0-1");
        assert!(cut.cuts(1) && cut.cuts(4) && !cut.cuts(6));
        cut.remove(2);
        assert_eq!((cut.items.len(), cut.active), (2, 1));
        assert_eq!(cut.intervention().ablations.len(), 1);
    }

    #[test]
    fn presets_are_sound() {
        for preset in Preset::ALL {
            for n_layers in [1, 2, 3, 6, 32] {
                let change = preset.change(n_layers, &Numbers::All);
                assert_eq!(Change::parse(&change.to_string()).unwrap(), change, "{}", preset.name());
                let layers = &change.knockout().unwrap().layers;
                if n_layers > 2 {
                    layers.resolve("layer", n_layers).unwrap();
                }
            }
        }
    }
}
