//! A picture of an image with a map over it: zoomed and moved with every other image of the window, under one cursor.
//!
//! What the model never saw is hatched; locked and painted patches, known masks and the map's peak are outlined. Reads
//! what is selected from the store; asks for nothing, but says what the pointer is at. Knows images, maps and lattices;
//! not what a map's numbers measure.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use egui::{
    CursorIcon, Key, PointerButton, Rect, Response, Role, Sense, TextureId, Ui, UiBuilder, Vec2, WidgetInfo,
    emath::GuiRounding as _, vec2,
};

use crate::trace::sheet::Underlay;
use crate::ui::{
    frame::{Frame, Zoom},
    store::{images::Held, settings::Tool, store::Store},
    widgets::{
        ground::Grounds,
        heatmap::Map,
        lattice::{Shown, Sight},
        map_values::MapValues,
        marks::{Marked, Marks, cross},
        outline::place_of,
        zoom::{about, fit, moved, placed},
    },
};

/// Points of the wheel that make a picture e times as large.
const WHEEL: f32 = 250.0;

/// Pictures made so far: every one has its number.
static MADE: AtomicU64 = AtomicU64::new(0);

/// What a picture shows.
#[derive(Debug)]
pub struct Drawn<'a> {
    /// The image.
    pub held: &'a Held,
    /// The map over it.
    pub map: Option<Map>,
    /// Visual tokens of the map's patches, by number, in the map's order; those that the picture shows, ascending, if
    /// it is `None`.
    pub numbers: Option<&'a [usize]>,
}

/// What the pointer is at.
#[derive(Debug)]
pub struct Pointed {
    /// The image, zoomed: some of it may lie outside the room.
    pub image: Rect,
    /// The visual token under the pointer, by number.
    pub patch: Option<usize>,
    /// Its number on the map.
    pub value: Option<f32>,
    /// What the picture shows, where.
    pub shown: Arc<Shown>,
    /// Whether the pointer moves the picture, whatever the tool.
    pub moving: bool,
    /// The part of the image that is seen.
    pub response: Response,
}

/// Where a picture lies.
struct Place<'a> {
    image: Rect,
    /// What can be seen of it.
    seen: Rect,
    sight: Sight,
    shown: &'a Shown,
}

/// See the module.
#[derive(Debug)]
pub struct Picture {
    number: u64,
    grounds: Grounds,
    shown: Option<((u64, Sight), Arc<Shown>)>,
    values: MapValues,
    marks: Marks,
    was_hovered: bool,
}

impl Default for Picture {
    fn default() -> Self {
        Picture {
            number: MADE.fetch_add(1, Ordering::Relaxed),
            grounds: Grounds::default(),
            shown: None,
            values: MapValues::default(),
            marks: Marks::default(),
            was_hovered: false,
        }
    }
}

impl Picture {
    /// Draws the source image into `room`, with the views that are seen merged on it.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        room: Rect,
        drawn: &Drawn<'_>,
        store: &Store,
        frame: &mut Frame,
    ) -> Pointed {
        self.draw(ui, room, drawn, Sight::of(store.map.views), store, frame)
    }

    /// Draws one view as it enters the encoder; it is not zoomed.
    pub fn show_view(
        &mut self,
        ui: &mut Ui,
        room: Rect,
        view: usize,
        drawn: &Drawn<'_>,
        store: &Store,
        frame: &mut Frame,
    ) -> Pointed {
        self.draw(ui, room, drawn, Sight::View(view), store, frame)
    }

    /// The numbers of the map that was drawn last.
    pub fn values(&self) -> &MapValues {
        &self.values
    }

    /// What lies under the map that was drawn last.
    pub fn ground(&self) -> Option<TextureId> {
        self.grounds.last()
    }

    /// Which patch of the map a visual token has.
    pub fn index(&self, drawn: &Drawn<'_>, number: usize) -> Option<usize> {
        match (drawn.numbers, &self.shown) {
            (Some(numbers), _) => numbers.iter().position(|own| *own == number),
            (None, Some((_, shown))) => shown.index(number),
            (None, None) => None,
        }
    }

    fn draw(
        &mut self,
        ui: &mut Ui,
        room: Rect,
        drawn: &Drawn<'_>,
        sight: Sight,
        store: &Store,
        frame: &mut Frame,
    ) -> Pointed {
        let shown = self.shown(drawn.held, sight);
        let zooms = !matches!(sight, Sight::View(_));
        let size = fit(size_of(drawn.held, sight), room.size());
        let placed = |zoom: Zoom| placed(room, size, if zooms { zoom } else { Zoom::default() });
        let id = ui.scope_id().with(("picture", self.number));
        let seen = placed(frame.zoom).intersect(room);
        let response = ui.interact(seen, id, Sense::click_and_drag());
        let name = match sight {
            Sight::View(view) => format!("view {view} of the image"),
            Sight::Tiles | Sight::Whole => "image".to_string(),
        };
        response.widget_info(|| WidgetInfo::labeled(Role::Image, ui.is_enabled(), &name));
        let moving = zooms && steer(ui, &response, room, size, store.tool, frame);
        let image = placed(frame.zoom).round_to_pixels(ui.pixels_per_point());

        self.values.follow(drawn.map.as_ref());
        // A finger that clicked is gone already.
        let clicked =
            || response.interact_pointer_pos().filter(|_| response.clicked_by(PointerButton::Primary));
        let at = response.hover_pos().or_else(clicked).map(|pos| place_of(pos, image));
        self.share_cursor(ui, &response, at, &shown, drawn.held, frame);
        let patch = at.and_then(|at| shown.at(at));
        let value = patch.and_then(|patch| self.values.get(self.index(drawn, patch)?));
        let place = Place { image, seen: image.intersect(room), sight, shown: &shown };
        self.paint(ui, &place, drawn, store, frame);
        Pointed { image, patch, value, shown, moving, response }
    }

    fn paint(&mut self, ui: &mut Ui, place: &Place<'_>, drawn: &Drawn<'_>, store: &Store, frame: &Frame) {
        let Place { image, seen, sight, shown } = *place;
        let salt = ("painted picture", self.number);
        let mut inside = ui.new_child(UiBuilder::new().id_salt(salt).max_rect(seen));
        inside.set_clip_rect(seen.intersect(ui.clip_rect()));
        let map = drawn.map.as_ref().filter(|_| store.map.visible);
        let underlay = if map.is_some() { store.map.underlay } else { Underlay::Colour };
        self.grounds.draw(&inside, image, drawn.held, sight, underlay);
        if let Some(map) = map {
            Map { slot: self.number, ..map.clone() }.paint(&inside, image, frame.gpu_maps);
        }
        let peak = map.and_then(|map| map.patches.get(self.values.peak()?)).map(|patch| patch.rect);
        let left_out = |number: &usize| {
            let at = self.index(drawn, *number);
            map.is_some() && at.is_some_and(|at| self.values.get(at).is_none())
        };
        let sinks = store.subject().and_then(|subject| store.sinks(subject.slot)).unwrap_or_default();
        let sinks = sinks.iter().copied().filter(|_| store.map.without_sinks).filter(left_out).collect();
        let marked = Marked { key: (drawn.held.serial, sight), shown, view: &drawn.held.view, peak, sinks };
        self.marks.draw(&inside, image, &marked, store);
        if let Some(cursor) = frame.cursor().filter(|_| !self.was_hovered) {
            cross(&inside, image, &marked, cursor);
        }
    }

    fn shown(&mut self, held: &Held, sight: Sight) -> Arc<Shown> {
        let key = (held.serial, sight);
        match &self.shown {
            Some((of, shown)) if *of == key => shown.clone(),
            _ => {
                let shown = Arc::new(Shown::of(&held.view.geometry, sight));
                self.shown = Some((key, shown.clone()));
                shown
            }
        }
    }

    /// Says where on the source image the pointer is: every other image shows the same place.
    fn share_cursor(
        &mut self,
        ui: &Ui,
        response: &Response,
        at: Option<[f32; 2]>,
        shown: &Shown,
        held: &Held,
        frame: &mut Frame,
    ) {
        if let Some([x, y]) = at {
            let ([x0, y0, x1, y1], (w, h)) = (shown.frame, held.view.geometry.source);
            frame.point_at([(x0 + x * (x1 - x0)) / w as f32, (y0 + y * (y1 - y0)) / h as f32]);
        } else if self.was_hovered {
            // The crosses on other images go with it.
            ui.ctx().request_repaint();
        }
        self.was_hovered = response.hovered();
    }
}

/// The size of a picture before it is fitted.
fn size_of(held: &Held, sight: Sight) -> Vec2 {
    let view = match sight {
        Sight::View(view) => held.view.views.get(view),
        Sight::Tiles | Sight::Whole => None,
    };
    let (w, h) = view.map_or(held.view.geometry.source, |view| view.dimensions());
    vec2(w as f32, h as f32)
}

/// Zooms by the wheel, moves by a drag, fits by a double click. Returns whether the pointer moves the picture.
fn steer(ui: &Ui, response: &Response, room: Rect, size: Vec2, tool: Tool, frame: &mut Frame) -> bool {
    if let Some(pointer) = response.hover_pos() {
        let factor = ui.input_mut(|i| {
            let wheel = std::mem::take(&mut i.smooth_scroll_delta);
            // With Shift held egui turns the wheel sideways.
            let wheel = if i.modifiers.shift { wheel.x + wheel.y } else { wheel.y };
            i.zoom_delta() * (wheel / WHEEL).exp()
        });
        if factor != 1.0 {
            frame.zoom = about(room, size, frame.zoom, pointer, factor);
        }
    }
    let space = ui.input(|i| i.key_down(Key::Space)) && !ui.ctx().text_edit_focused();
    let held = response.is_pointer_button_down_on();
    let middle = held && ui.input(|i| i.pointer.button_down(PointerButton::Middle));
    let zoomed = frame.zoom.scale > 1.0;
    let by_hand = space || tool == Tool::Look && zoomed;
    if response.dragged_by(PointerButton::Middle) || by_hand && response.dragged_by(PointerButton::Primary) {
        frame.zoom = moved(room, size, frame.zoom, response.drag_delta());
    }
    if response.double_clicked() && tool == Tool::Look {
        frame.zoom = Zoom::default();
    }
    if response.hovered() {
        let hand = if held { CursorIcon::Grabbing } else { CursorIcon::Grab };
        match tool {
            _ if space || middle => ui.ctx().set_cursor_icon(hand),
            Tool::Look => {}
            Tool::Brush | Tool::Box | Tool::Wipe => ui.ctx().set_cursor_icon(CursorIcon::Crosshair),
        }
    }
    middle || space && held
}
