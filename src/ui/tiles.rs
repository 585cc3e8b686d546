//! Where views stand: a tree of tiles that people move and resize, and its form in a file.
//!
//! Knows views by name. A tree that is not whole is no tree: then the default one stands.

use std::collections::{BTreeMap, BTreeSet};

use egui::{Stroke, Style, Ui, WidgetText};
use egui_tiles::{
    Behavior, Container, Linear, LinearDir, ResizeState, Tile, TileId, Tiles, Tree, UiResponse,
};

use crate::ui::{
    frame::Frame,
    store::store::Store,
    view::{
        pane::View,
        registry::{ViewId, open},
    },
};

/// Share of the width that the image has at first.
const IMAGE_SHARE: f32 = 0.54;

/// Shares of the height that the views beside it have at first.
const SIDE: [(ViewId, f32); 4] =
    [(ViewId::Question, 0.12), (ViewId::Answer, 0.34), (ViewId::Flow, 0.34), (ViewId::Cut, 0.2)];

/// The image at the left, those of [`SIDE`] below each other at the right, and every other view a tab beside
/// the last of them.
pub fn default_tree() -> Tree<ViewId> {
    tree_of(&SIDE)
}

fn tree_of(beside: &[(ViewId, f32)]) -> Tree<ViewId> {
    let mut tiles = Tiles::default();
    let image = tiles.insert_pane(ViewId::Image);
    let mut panes: Vec<(TileId, f32)> =
        beside.iter().map(|(view, share)| (tiles.insert_pane(*view), *share)).collect();
    let placed = |view: &ViewId| *view == ViewId::Image || beside.iter().any(|(side, _)| side == view);
    let others = ViewId::ALL.into_iter().filter(|view| !placed(view));
    let others: Vec<TileId> = others.map(|view| tiles.insert_pane(view)).collect();
    if let (Some((last, _)), false) = (panes.last_mut(), others.is_empty()) {
        *last = tiles.insert_tab_tile([*last].into_iter().chain(others).collect());
    }
    let mut side = Linear::new(LinearDir::Vertical, panes.iter().map(|(id, _)| *id).collect());
    panes.iter().for_each(|(id, share)| side.shares.set_share(*id, share * beside.len() as f32));
    let side = tiles.insert_container(side);
    let root = tiles.insert_container(Linear::new_binary(LinearDir::Horizontal, [image, side], IMAGE_SHARE));
    Tree::new(egui::Id::unique("tiles"), root, tiles)
}

/// The tree as a file holds it.
pub fn to_text(tree: &Tree<ViewId>) -> Option<String> {
    serde_json::to_string(tree).ok()
}

/// Reads a tree; `None` unless every view stands in it once.
pub fn from_text(text: &str) -> Option<Tree<ViewId>> {
    let tree: Tree<ViewId> = serde_json::from_str(text).ok()?;
    is_whole(&tree).then_some(tree)
}

/// Whether every view stands in the tree exactly once, and every tile that is named exists.
fn is_whole(tree: &Tree<ViewId>) -> bool {
    let mut views = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next: Vec<TileId> = tree.root.into_iter().collect();
    while let Some(id) = next.pop() {
        // A tile inside itself would be walked for ever.
        if !seen.insert(id.0) || !tree.tiles.is_visible(id) {
            return false;
        }
        match tree.tiles.get(id) {
            Some(Tile::Pane(view)) => views.push(*view),
            Some(Tile::Container(container)) => next.extend(container.children()),
            None => return false,
        }
    }
    views.sort_unstable();
    views == ViewId::ALL && seen.len() == tree.tiles.len() && shares_are_sound(tree)
}

fn shares_are_sound(tree: &Tree<ViewId>) -> bool {
    tree.tiles.tiles().all(|tile| match tile {
        Tile::Container(Container::Linear(linear)) => {
            linear.shares.iter().all(|(_, share)| share.is_finite() && *share > 0.0)
        }
        _ => true,
    })
}

/// All views, opened.
pub fn open_views() -> BTreeMap<ViewId, Box<dyn View>> {
    ViewId::ALL.into_iter().map(|id| (id, open(id))).collect()
}

/// Draws the views in their tiles.
pub struct Panes<'a> {
    /// The views.
    pub views: &'a mut BTreeMap<ViewId, Box<dyn View>>,
    /// What they show.
    pub store: &'a Store,
    /// What they ask for.
    pub frame: &'a mut Frame,
}

impl Behavior<ViewId> for Panes<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _id: TileId, pane: &mut ViewId) -> UiResponse {
        if let Some(view) = self.views.get_mut(pane) {
            view.show(ui, self.store, self.frame);
        }
        if self.frame.take_drag() { UiResponse::DragStarted } else { UiResponse::None }
    }

    fn tab_title_for_pane(&mut self, pane: &ViewId) -> WidgetText {
        self.views.get(pane).map(|view| view.title(self.store)).unwrap_or_default().into()
    }

    fn min_size(&self) -> f32 {
        60.0
    }

    fn resize_stroke(&self, style: &Style, state: ResizeState) -> Stroke {
        match state {
            ResizeState::Idle => style.visuals.widgets.noninteractive.bg_stroke,
            ResizeState::Hovering => style.visuals.widgets.hovered.fg_stroke,
            ResizeState::Dragging => style.visuals.widgets.active.fg_stroke,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_survives_its_file() {
        let tree = default_tree();
        let read = from_text(&to_text(&tree).unwrap()).expect("a whole tree");
        assert_eq!(read, tree);
    }

    #[test]
    fn a_view_without_a_place_becomes_a_tab() {
        let tree = tree_of(&SIDE[..3]);
        assert!(is_whole(&tree));
        let tabs = tree.tiles.tiles().find_map(|tile| match tile {
            Tile::Container(Container::Tabs(tabs)) => Some(tabs.children.clone()),
            _ => None,
        });
        let views: Vec<Option<&ViewId>> =
            tabs.expect("tabs").into_iter().map(|id| tree.tiles.get_pane(&id)).collect();
        assert_eq!(views, [Some(&ViewId::Flow), Some(&ViewId::Cut)]);
    }

    #[test]
    fn a_tree_that_is_not_whole_is_none() {
        let whole = to_text(&default_tree()).unwrap();
        for broken in [
            String::new(),
            "{}".to_string(),
            whole.replace("\"cut\"", "\"answer\""),
            whole.replace("\"cut\"", "\"film\""),
            whole.replace("0.54", "-0.54").replace("1.08", "-1.08"),
        ] {
            assert!(from_text(&broken).is_none(), "{broken}");
        }
    }
}
