//! Where views stand: a tree of tiles that people move and resize, and its form in a file.
//!
//! Knows views by name. A tree that is not whole is no tree: then the default one stands.

use std::collections::{BTreeMap, BTreeSet};

use egui::{
    Color32, EventFilter, Id, Rect, Role, Sense, Stroke, Style, Ui, Vec2, Visuals, WidgetInfo, WidgetText,
};
use egui_tiles::{
    Behavior, Container, Linear, LinearDir, ResizeState, TabState, Tile, TileId, Tiles, Tree, UiResponse,
};

use crate::ui::{
    frame::Frame,
    store::{store::Store, view_id::ViewId},
    view::{pane::View, registry::open},
};

/// Share of the width that the image has at first.
const IMAGE_SHARE: f32 = 0.46;

/// What stands at the left and at the right at first: what shares a place is a tab beside the first, and the share of
/// the height.
const COLUMNS: [&[(&[ViewId], f32)]; 2] = [
    &[(&[ViewId::Image], 0.76), (&[ViewId::Layers], 0.24)],
    &[
        (&[ViewId::Question], 0.11),
        (&[ViewId::Answer], 0.4),
        (
            &[
                ViewId::Flow,
                ViewId::Heads,
                ViewId::Lens,
                ViewId::Effects,
                ViewId::Cut,
                ViewId::Compress,
                ViewId::Studies,
            ],
            0.49,
        ),
    ],
];

/// The image over its layers at the left; question, runs and tabs at the right.
pub fn default_tree() -> Tree<ViewId> {
    let mut tiles = Tiles::default();
    let columns = COLUMNS.map(|places| {
        let place = |tiles: &mut Tiles<ViewId>, views: &[ViewId]| {
            let panes: Vec<TileId> = views.iter().map(|view| tiles.insert_pane(*view)).collect();
            match panes[..] {
                [one] => one,
                _ => tiles.insert_tab_tile(panes),
            }
        };
        let parts: Vec<(TileId, f32)> =
            places.iter().map(|(views, share)| (place(&mut tiles, views), *share)).collect();
        let mut column = Linear::new(LinearDir::Vertical, parts.iter().map(|(id, _)| *id).collect());
        parts.iter().for_each(|(id, share)| column.shares.set_share(*id, share * parts.len() as f32));
        tiles.insert_container(column)
    });
    let root = tiles.insert_container(Linear::new_binary(LinearDir::Horizontal, columns, IMAGE_SHARE));
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

/// Brings a view to the front, where it is a tab behind others.
pub fn bring_to_front(tree: &mut Tree<ViewId>, view: ViewId) {
    tree.make_active(|_, tile| matches!(tile, Tile::Pane(pane) if *pane == view));
}

/// The view that people are at, and the start of one that is to have the focus.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// The view that was pressed last, or gone to.
    pub view: ViewId,
    /// It was gone to, and has not the focus yet.
    pub wanted: bool,
    /// What has the focus at the start of a view, if anything has.
    pub start: Option<Id>,
}

impl Default for Front {
    fn default() -> Self {
        Front { view: ViewId::Image, wanted: false, start: None }
    }
}

impl Front {
    /// Goes to a view.
    pub fn go(&mut self, view: ViewId) {
        *self = Front { view, wanted: true, start: None };
    }

    /// Lets the start of a view have the focus: Tab goes on from there, and keys without a control of their own stay
    /// those of the window. Nothing stands there for the pointer, nor for Tab.
    fn start(&mut self, ui: &Ui, view: ViewId, title: &str) {
        let id = ui.scope_id().with("start");
        let has_focus = ui.memory(|memory| memory.has_focus(id));
        let begins = self.wanted && self.view == view;
        if !begins && !has_focus {
            if self.start == Some(id) {
                self.start = None;
            }
            return;
        }
        let at = Rect::from_min_size(ui.max_rect().min, Vec2::ZERO);
        let start = ui.interact(at, id, Sense::focusable_noninteractive());
        start.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{title}, view")));
        if begins {
            start.request_focus();
            (self.wanted, self.start) = (false, Some(id));
        }
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, arrows));
    }
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
    /// The one that people are at.
    pub front: &'a mut Front,
}

impl Behavior<ViewId> for Panes<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _id: TileId, pane: &mut ViewId) -> UiResponse {
        let room = ui.max_rect();
        if ui.input(|i| i.pointer.any_pressed()) && ui.rect_contains_pointer(room) {
            self.front.view = *pane;
        }
        if let Some(view) = self.views.get_mut(pane) {
            self.front.start(ui, *pane, &view.title(self.store));
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

    fn tab_bar_height(&self, _style: &Style) -> f32 {
        28.0
    }

    fn tab_bar_color(&self, visuals: &Visuals) -> Color32 {
        visuals.panel_fill
    }

    fn tab_bg_color(&self, visuals: &Visuals, _: &Tiles<ViewId>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.widgets.inactive.bg_fill } else { Color32::TRANSPARENT }
    }

    fn tab_outline_stroke(&self, _: &Visuals, _: &Tiles<ViewId>, _: TileId, _: &TabState) -> Stroke {
        Stroke::NONE
    }

    fn tab_bar_hline_stroke(&self, visuals: &Visuals) -> Stroke {
        visuals.widgets.noninteractive.bg_stroke
    }

    fn tab_text_color(&self, visuals: &Visuals, _: &Tiles<ViewId>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.text_color() } else { visuals.weak_text_color() }
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
    fn a_view_behind_others_comes_to_the_front() {
        let mut tree = default_tree();
        let panes = |tree: &Tree<ViewId>| -> Vec<ViewId> {
            let tile = |id: TileId| tree.tiles.get(id);
            let pane = |id: TileId| match tile(id) {
                Some(Tile::Pane(view)) => Some(*view),
                _ => None,
            };
            tree.active_tiles().into_iter().filter_map(pane).collect()
        };
        assert!(panes(&tree).contains(&ViewId::Flow) && !panes(&tree).contains(&ViewId::Lens));
        bring_to_front(&mut tree, ViewId::Lens);
        assert!(panes(&tree).contains(&ViewId::Lens) && !panes(&tree).contains(&ViewId::Flow));
        assert!(panes(&tree).contains(&ViewId::Image), "others stay where they are");
    }

    #[test]
    fn a_tree_that_is_not_whole_is_none() {
        let whole = to_text(&default_tree()).unwrap();
        for broken in [
            String::new(),
            "{}".to_string(),
            whole.replace("\"cut\"", "\"answer\""),
            whole.replace("\"cut\"", "\"film\""),
            whole.replace("0.46", "-0.46").replace("0.92", "-0.92"),
        ] {
            assert!(from_text(&broken).is_none(), "{broken}");
        }
    }
}
