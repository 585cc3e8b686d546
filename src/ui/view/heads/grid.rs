//! Maps of all heads of a layer, or of a head in all layers, side by side and drawn in one pass.
//!
//! Only what is seen is drawn; a larger picture of the map under the pointer stands in a corner. Knows the store; how
//! a map is drawn is the widget's.

use std::{ops::Range, sync::Arc};

use egui::{
    Align2, Area, Color32, ColorImage, Event, FontId, Id, Key, Label, Mesh, Modifiers, Order, Pos2, Rect,
    Response, RichText, Role, ScrollArea, Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui,
    UiBuilder, Vec2, WidgetInfo, pos2, vec2,
};
use image::RgbImage;

use crate::{
    spec::span::Span,
    trace::{palette::Colormap, sheet::Underlay},
    ui::{
        frame::Frame,
        store::{command::Command, images::Held, run::Run, settings::ColorRange, store::Store},
        theme,
        view::{
            heads::matrix::cut_head,
            heads::places::{Highs, LABEL, Of, Place, Places, WIDTH},
            map,
        },
        widgets::{
            color_bar::ColorBar,
            heatmap::{GridCell, Map, MapGrid, Patch},
            layer_strip::arrows,
            number,
            picture::{Drawn, Picture},
            with_shift::with_shift,
        },
    },
    worker::protocol::RunId,
};

/// Room at the right for the colours, where a view is wide enough for them.
const BAR: f32 = 66.0;
/// Widest and highest ground of a map, in pixels.
const GROUND: u32 = 160;

/// Patches, the run whose sinks they may be, and those that are none.
type Without = (Arc<[Patch]>, RunId, Arc<[Patch]>);

/// What the grid keeps between frames.
#[derive(Default)]
pub struct Grid {
    kept: map::Kept,
    /// Patches, and those of them that are no attention sinks of a run.
    without: Option<Without>,
    highs: Highs,
    /// What lies under maps: the image with this number.
    ground: Option<(u64, TextureHandle)>,
    enlarged: Picture,
    cursor: Cursor,
}

/// Where keys walk.
#[derive(Default)]
struct Cursor {
    at: usize,
    /// Keys moved since the pointer did: a pointer that rests points at nothing.
    by_keys: bool,
}

/// What is drawn.
struct Sheet<'a> {
    store: &'a Store,
    of: Of,
    /// What all maps share.
    map: &'a Map,
    maps: &'a [Place],
    /// The values at the upper ends of their colours.
    highs: Vec<f32>,
    ground: Option<&'a TextureHandle>,
    /// Whether maps are drawn by the shader.
    on_gpu: bool,
}

/// What the user points at, by number.
struct Pointed {
    at: Option<usize>,
    walked: bool,
    places: Places,
}

impl Grid {
    /// Draws it. Returns the layer and head that are pointed at, and whether keys went there.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        store: &Store,
        frame: &mut Frame,
        of: Of,
    ) -> (Option<(usize, Option<usize>)>, bool) {
        let shown = store.subject().map(|subject| subject.slot).and_then(|slot| store.image_of(slot));
        let Some((map, held)) = self.base(store).zip(shown) else {
            let text = "No maps yet: they come with an answer to a question about an image.";
            ui.add(Label::new(RichText::new(text).weak()).wrap());
            return (None, false);
        };
        let selected = (store.selection.layer, store.selection.head);
        let maps = of.maps(selected, map.row.n_layers, map.row.n_heads);
        if !self.highs.follow(&map, &maps) {
            ui.ctx().request_repaint();
        }
        let shared = match store.map.range {
            ColorRange::Map => None,
            ColorRange::Layers => Some(self.highs.largest()),
            ColorRange::Locked(high) => Some(high),
        };
        let highs = (0..maps.len()).map(|at| shared.unwrap_or_else(|| self.highs.of(at))).collect();
        let room = ui.available_rect_before_wrap();
        let bar = if room.width() > 280.0 { BAR } else { 0.0 };
        let body = Rect::from_min_max(room.min, pos2(room.right() - bar, room.bottom()));
        if body.width() < WIDTH.0 || body.height() < 20.0 {
            return (None, false);
        }
        let ground = ground(&mut self.ground, ui, held, store.map.underlay);
        let sheet = Sheet { store, of, map: &map, maps: &maps, highs, ground, on_gpu: frame.gpu_maps };
        let cursor = &mut self.cursor;
        let builder = UiBuilder::new().max_rect(body);
        let pointed = ui.scope_builder(builder, |ui| sheet.scroll(ui, frame, aspect(held), cursor)).inner;
        frame.place("maps of heads", body);
        if bar > 0.0 {
            sheet.colors(ui, body, shared);
        }
        if let Some(at) = pointed.at {
            let (layer, head) = maps.get(at).copied().unwrap_or(selected);
            let map = Map { layer, head, range: sheet.range(at), slot: slot(1), ..map.clone() };
            let right = pointed.places.of(at).center().x < body.center().x;
            enlarge(&mut self.enlarged, ui, (store, frame), (held, map), &sheet.told(at), (body, right));
        }
        (pointed.at.and_then(|at| maps.get(at).copied()), pointed.walked)
    }

    /// What all maps share; `None` where there is nothing to show.
    fn base(&mut self, store: &Store) -> Option<Map> {
        let subject = store.subject()?;
        let all = self.kept.patches(store, subject.slot)?;
        let n = all.len();
        let patches = self.without_sinks(store, subject.run, all);
        let (row, resident, colormap) = match store.difference() {
            Some(difference) => (difference.pattern.clone(), None, Colormap::Diverging),
            None => (subject.pattern.clone(), subject.resident.cloned(), store.map.colormap),
        };
        let opacity = if store.map.underlay == Underlay::Nothing { 1.0 } else { store.map.opacity };
        Some(Map {
            row,
            resident,
            // What is left out must not shine into what lies beside it.
            smooth: store.map.smooth && patches.len() == n,
            patches,
            layer: 0,
            head: None,
            range: (0.0, 1.0),
            colormap,
            gamma: store.map.gamma,
            opacity,
            uniform: None,
            slot: slot(0),
        })
    }

    /// The patches, less the sinks of a run where these are to be left out.
    fn without_sinks(&mut self, store: &Store, run: &Run, all: Arc<[Patch]>) -> Arc<[Patch]> {
        let sinks = run.end.as_ref().and_then(|end| end.sinks.as_deref());
        let Some(sinks) = sinks.filter(|_| store.map.without_sinks) else { return all };
        if let Some((from, of, patches)) = &self.without
            && Arc::ptr_eq(from, &all)
            && *of == run.id
        {
            return patches.clone();
        }
        let keys = run.visual_keys();
        let sinks: Vec<usize> = sinks.iter().filter_map(|sink| keys.get(*sink).copied()).collect();
        let left = all.iter().filter(|patch| !sinks.contains(&(patch.key as usize)));
        let patches: Arc<[Patch]> = left.copied().collect();
        self.without = Some((all, run.id, patches.clone()));
        patches
    }
}

/// Tells the maps of this view apart on the window's device.
fn slot(number: u64) -> u64 {
    Id::unique("maps of heads").value().wrapping_add(number)
}

/// Height by width.
fn aspect(held: &Held) -> f32 {
    let (width, height) = held.view.geometry.source;
    height.max(1) as f32 / width.max(1) as f32
}

impl Sheet<'_> {
    fn scroll(&self, ui: &mut Ui, frame: &mut Frame, aspect: f32, cursor: &mut Cursor) -> Pointed {
        let scroll = ScrollArea::vertical().id_salt("maps of heads").auto_shrink([false, false]);
        let shown = scroll.show_viewport(ui, |ui, viewport| {
            let room = vec2(ui.available_width(), viewport.height());
            let mut places = Places::new(self.maps.len(), room, aspect);
            places.origin = ui.max_rect().min;
            ui.set_height(places.height());
            ui.set_width(room.x);
            self.cells(ui, frame, places, places.between(viewport.top(), viewport.bottom()), cursor)
        });
        shown.inner
    }

    /// The maps that are seen, and what is done to them.
    fn cells(
        &self,
        ui: &Ui,
        frame: &mut Frame,
        places: Places,
        seen: Range<usize>,
        cursor: &mut Cursor,
    ) -> Pointed {
        let all = seen.clone().map(|at| places.of(at)).reduce(|a, b| a.union(b));
        let area = all.map_or(Rect::from_min_size(places.origin, Vec2::ZERO), |area| {
            Rect::from_min_max(area.min, area.max + vec2(0.0, LABEL))
        });
        let id = Id::unique("maps of heads");
        let pointer = ui.interact(area, id, Sense::CLICK);
        let stop =
            ui.interact(area.intersect(ui.clip_rect()), id.with("walk"), Sense::focusable_noninteractive());
        let shift = with_shift(ui);
        if let Some(at) = pointer.interact_pointer_pos().filter(|_| pointer.clicked()) {
            self.deed(frame, places.at(at), shift);
        }
        let walked = self.walk(ui, &stop, frame, places, cursor);
        let moved = ui.input(|i| i.events.iter().any(|event| matches!(event, Event::PointerMoved(_))));
        cursor.by_keys = stop.has_focus() && (walked || cursor.by_keys && !moved);
        let hovered = pointer.hover_pos().filter(|_| !cursor.by_keys).and_then(|at| places.at(at));
        let at = hovered.or(stop.has_focus().then_some(cursor.at));
        stop.widget_info(|| WidgetInfo {
            current_text_value: Some(self.told(cursor.at)),
            ..WidgetInfo::labeled(Role::Grid, ui.is_enabled(), "maps of heads")
        });
        self.paint(ui, places, seen, area);
        if let Some(at) = at {
            let stroke = Stroke::new(1.5, ui.visuals().text_color());
            ui.painter().rect_stroke(places.of(at), 0.0, stroke, StrokeKind::Outside);
        }
        Pointed { at: at.filter(|at| *at < self.maps.len()), walked, places }
    }

    /// Looks at a map's layer and head, or cuts that head.
    fn deed(&self, frame: &mut Frame, at: Option<usize>, cut: bool) {
        match at.and_then(|at| self.maps.get(at)) {
            Some(&(layer, Some(head))) if cut => cut_head(self.store, frame, layer, head),
            Some(&(layer, head)) => {
                frame.ask(Command::Layer(layer));
                frame.ask(Command::Head(head));
            }
            None => {}
        }
    }

    /// Keys, while the grid has the focus. Returns whether one moved on.
    fn walk(&self, ui: &Ui, stop: &Response, frame: &mut Frame, places: Places, cursor: &mut Cursor) -> bool {
        let last = self.maps.len().saturating_sub(1);
        cursor.at = cursor.at.min(last);
        if !stop.has_focus() {
            return false;
        }
        let stroke = Stroke::new(1.5, theme::accent(ui.visuals()));
        ui.painter().rect_stroke(stop.rect.shrink(1.0), 2.0, stroke, StrokeKind::Inside);
        let [right, down] = arrows(ui, stop.id);
        let to = cursor.at.saturating_add_signed(right + down * places.columns as isize).min(last);
        let walked = std::mem::replace(&mut cursor.at, to) != to;
        if walked {
            ui.scroll_to_rect(places.of(to).expand(LABEL), None);
        }
        // Enter with Shift held is Enter, too: it is asked for first.
        let pressed = |modifiers| ui.input_mut(|i| i.consume_key(modifiers, Key::Enter));
        let cut = pressed(Modifiers::SHIFT);
        if cut || pressed(Modifiers::NONE) {
            self.deed(frame, Some(to), cut);
        }
        walked
    }

    fn paint(&self, ui: &Ui, places: Places, seen: Range<usize>, area: Rect) {
        let visuals = ui.visuals();
        let mut mesh = self.ground.map_or(Mesh::default(), |ground| Mesh::with_texture(ground.id()));
        let whole = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));
        for at in seen.clone() {
            match self.ground {
                Some(_) => mesh.add_rect_with_uv(places.of(at), whole, Color32::WHITE),
                None => mesh.add_colored_rect(places.of(at), visuals.extreme_bg_color),
            }
        }
        ui.painter().add(mesh);
        if area.width() > 0.0 && area.height() > 0.0 {
            let share = |at: Pos2| (at - area.min) / area.size();
            let cell = |at: usize| {
                let (from, to) = (share(places.of(at).min), share(places.of(at).max));
                let (layer, head) = *self.maps.get(at)?;
                Some(GridCell { rect: [from.x, from.y, to.x, to.y], layer, head, high: self.range(at).1 })
            };
            let high = self.highs.iter().copied().fold(0.0, f32::max);
            let map = Map { range: (self.low(high), high), ..self.map.clone() };
            let grid = MapGrid { map, cells: seen.clone().filter_map(cell).collect() };
            grid.paint(ui, area, self.on_gpu);
        }
        seen.for_each(|at| self.label(ui, places.of(at), at));
    }

    /// What stands below a map, and the mark of the one on show.
    fn label(&self, ui: &Ui, rect: Rect, at: usize) {
        let Some(&place) = self.maps.get(at) else { return };
        let (painter, visuals) = (ui.painter(), ui.visuals());
        let selected = (self.store.selection.layer, self.store.selection.head) == place;
        let color = if selected { visuals.text_color() } else { visuals.weak_text_color() };
        let font = FontId::proportional(10.5);
        let name = self.of.name(place, rect.width() < 95.0);
        let below = |x: f32| pos2(x, rect.bottom() + LABEL / 2.0);
        painter.text(below(rect.left() + 1.0), Align2::LEFT_CENTER, name, font.clone(), color);
        painter.text(below(rect.right() - 1.0), Align2::RIGHT_CENTER, self.mass(place), font, color);
        if selected {
            let stroke = Stroke::new(2.0, theme::accent(visuals));
            painter.rect_stroke(rect, 0.0, stroke, StrokeKind::Outside);
        }
    }

    /// The share of attention on the image.
    fn mass(&self, (layer, head): Place) -> String {
        let subject = self.store.subject();
        subject
            .map_or(String::new(), |subject| number::percent(subject.flow.share(layer, head, Span::Visual)))
    }

    /// What there is to say of a map.
    fn told(&self, at: usize) -> String {
        let Some(&(layer, head)) = self.maps.get(at) else { return String::new() };
        let name = head.map_or("mean of heads".to_string(), |head| format!("head {head}"));
        let (low, high) = self.range(at);
        let low = if low < 0.0 { format!("-{}", number::short(-low)) } else { number::short(low) };
        let mass = self.mass((layer, head));
        format!("layer {layer}, {name}: {mass} on the image; colours from {low} to {}", number::short(high))
    }

    /// The lower end of colours whose upper one is known.
    fn low(&self, high: f32) -> f32 {
        if self.map.colormap.is_diverging() { -high } else { 0.0 }
    }

    /// The ends of a map's colours.
    fn range(&self, at: usize) -> (f32, f32) {
        let high = self.highs.get(at).copied().unwrap_or_default();
        (self.low(high), high)
    }

    /// The colours and their numbers, where all maps share them.
    fn colors(&self, ui: &mut Ui, body: Rect, shared: Option<f32>) {
        let left = body.right() + 12.0;
        let Some(high) = shared else {
            let rect = Rect::from_min_max(pos2(left, body.top()), pos2(body.right() + BAR, body.bottom()));
            let text = RichText::new("Each map has all colours, up to its own largest value").small().weak();
            ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| ui.add(Label::new(text).wrap()));
            return;
        };
        let bottom = body.bottom().min(body.top() + 220.0);
        let rect = Rect::from_x_y_ranges(left..=left + 11.0, body.top() + 2.0..=bottom - 2.0);
        if rect.height() < 30.0 {
            return;
        }
        let bar = ColorBar {
            colormap: self.map.colormap,
            range: (self.low(high), high),
            gamma: self.map.gamma,
            opacity: self.map.opacity,
            uniform: None,
            above: matches!(self.store.map.range, ColorRange::Locked(_)),
            mark: None,
        };
        bar.show(ui, rect);
    }
}

/// The image without its colours, small and dim; `None` where maps stand alone.
fn ground<'a>(
    kept: &'a mut Option<(u64, TextureHandle)>,
    ui: &Ui,
    held: &Held,
    underlay: Underlay,
) -> Option<&'a TextureHandle> {
    if underlay == Underlay::Nothing {
        return None;
    }
    if kept.as_ref().is_none_or(|(serial, _)| *serial != held.serial) {
        let image = dim(&held.view.picture);
        let texture = ui.ctx().load_texture("ground of maps", image, TextureOptions::LINEAR);
        *kept = Some((held.serial, texture));
    }
    kept.as_ref().map(|(_, texture)| texture)
}

/// An image in dim greys, small enough to lie under a small map.
fn dim(picture: &RgbImage) -> ColorImage {
    let (width, height) = picture.dimensions();
    let step = width.max(height).div_ceil(GROUND).max(1);
    let (columns, rows) = ((width / step).max(1), (height / step).max(1));
    let grey = |x: u32, y: u32| {
        let pixel = picture.get_pixel_checked(x * step, y * step).map_or([0; 3], |pixel| pixel.0);
        let [r, g, b] = pixel.map(u32::from);
        // Half as bright as it is.
        ((2 * r + 5 * g + b) / 16) as u8
    };
    let pixels = (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y)));
    ColorImage::from_gray_iter([columns as usize, rows as usize], pixels.map(|(x, y)| grey(x, y)))
}

/// A larger picture of one map, in the corner that is away from it. `place`: the room, and whether it is the right
/// corner.
fn enlarge(
    picture: &mut Picture,
    ui: &Ui,
    (store, frame): (&Store, &mut Frame),
    (held, map): (&Held, Map),
    told: &str,
    (body, right): (Rect, bool),
) {
    /// Narrowest that is worth it, and widest.
    const WIDE: (f32, f32) = (110.0, 340.0);
    let aspect = aspect(held);
    let width = (body.width() * 0.45).min((body.height() - 44.0) / aspect).min(WIDE.1);
    if width < WIDE.0 {
        // The image itself shows it, too.
        return;
    }
    let size = vec2(width, width * aspect);
    let left = if right { body.right() - width - 16.0 } else { body.left() };
    let area = Area::new(Id::unique("enlarged map")).order(Order::Tooltip).interactable(false).fade_in(false);
    area.fixed_pos(pos2(left, body.top())).show(ui.ctx(), |ui| {
        egui::Frame::popup(ui.style()).show(ui, |ui| {
            let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
            picture.show(ui, rect, &Drawn { held, map: Some(map), numbers: None }, store, frame);
            ui.set_max_width(width);
            ui.add(Label::new(RichText::new(told).small()).wrap());
        });
    });
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn the_ground_is_small_and_dim() {
        let white = dim(&RgbImage::from_pixel(401, 200, Rgb([255; 3])));
        assert_eq!(white.size, [133, 66]);
        assert!(white.pixels.iter().all(|pixel| *pixel == Color32::from_gray(127)));
        assert_eq!(dim(&RgbImage::from_pixel(3, 2, Rgb([0; 3]))).size, [3, 2]);
        assert_eq!(dim(&RgbImage::new(1, 4000)).size, [1, 160]);
    }
}
