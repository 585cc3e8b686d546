//! The image with the attention map over it, the colour bar, and the controls of the map.
//!
//! Knows the selection and the image; where the numbers of a map come from is `map`'s.

use egui::{
    Align, Color32, ColorImage, Frame as Room, Label, Layout, Margin, Panel, Pos2, Rect, Response, RichText,
    Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui, emath::GuiRounding as _, pos2, vec2,
};
use image::{Pixel as _, Rgb};

use crate::{
    trace::{
        geometry::{Geometry, Place},
        tokens::{Cell, VisualRef},
    },
    ui::{
        frame::Frame,
        store::{selection::slot_name, settings::Underlay, store::Store},
        theme,
        view::{map::Kept, pane::View},
        widgets::{
            color_bar::ColorBar,
            hatch::hatch,
            heatmap::{Map, Patch},
            map_controls::map_controls,
            number,
            section::{still, title_label},
            word,
        },
    },
    worker::protocol::{ImageView, Slot},
};

/// Room for the colour bar and its numbers.
const BAR_WIDTH: f32 = 64.0;

/// The view.
#[derive(Default)]
pub struct ImagePane {
    /// The image as a texture, by its serial number and with or without its colours.
    texture: Option<((u64, Underlay), TextureHandle)>,
    kept: Kept,
    /// The ends of the colours of the last map: what locking the range locks.
    range: Option<(f32, f32)>,
}

impl View for ImagePane {
    fn title(&self, _store: &Store) -> String {
        "Image".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        still(ui, |ui| {
            Panel::bottom("map")
                .show_separator_line(false)
                .frame(Room::new().inner_margin(Margin::symmetric(0, 6)))
                .show(ui, |ui| map_controls(ui, store, self.range, frame));
            match store.image() {
                Some(view) => self.image(ui, store, view, frame),
                None => nothing(ui, store, frame),
            }
        });
    }
}

fn nothing(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    title_label(ui, "Image", frame);
    ui.centered_and_justified(|ui| {
        ui.label(RichText::new(instead(store)).weak());
    });
}

/// What stands where there is no image.
fn instead(store: &Store) -> String {
    match &store.progress {
        Some(progress) => format!("{progress}…"),
        None if store.busy() => "loading…".to_string(),
        None if store.cancelled() => "cancelled: open an image, or drop one here".to_string(),
        None => "Open an image, or drop one here".to_string(),
    }
}

impl ImagePane {
    fn image(&mut self, ui: &mut Ui, store: &Store, view: &ImageView, frame: &mut Frame) {
        let (slot, token) = store.selection.shown();
        header(ui, store, view, frame);
        let rect = place_of(ui, view);
        let map = self.kept.map(store, slot, token, view);
        self.underlay(ui, store, view, rect, map.is_some() && store.map.visible);
        frame.place("image", rect);
        let response = ui.interact(rect, ui.scope_id().with("image"), Sense::hover());
        let seen = shares_of(view);
        let at =
            map.as_ref().zip(response.hover_pos()).and_then(|(map, pos)| patch_at(&map.patches, rect, pos));
        let hovered = map
            .as_ref()
            .zip(at)
            .map(|(map, at)| (on_screen(map.patches[at].rect, rect), patch_text(store, view, slot, map, at)));
        if let Some(map) = map {
            let bar = vec2(12.0, rect.height().clamp(140.0, 320.0));
            let bar = Rect::from_min_size(pos2(rect.right() + 10.0, rect.top()), bar);
            let mark = at.map(|at| map.value(at));
            let above = (0..map.patches.len()).any(|at| map.value(at) > map.range.1);
            let Map { colormap, range, gamma, opacity, uniform, .. } = map;
            ColorBar { colormap, range, gamma, opacity, uniform, above, mark }.show(ui, bar);
            self.range = Some(range);
            if store.map.visible {
                map.paint(ui, rect, frame.gpu_maps);
            }
        }
        unseen(ui, rect, seen);
        if let Some((place, text)) = hovered {
            outline(ui, place);
            tooltip(response, text);
        } else if response.hover_pos().is_some_and(|pos| !on_screen(seen, rect).contains(pos)) {
            response.on_hover_text_at_pointer(format!("The model never saw this part: {}", view.description));
        }
    }

    /// What lies under the map: the image, with or without its colours, or nothing while there is a map.
    fn underlay(&mut self, ui: &Ui, store: &Store, view: &ImageView, rect: Rect, mapped: bool) {
        let underlay = if mapped { store.map.underlay } else { Underlay::Colour };
        if underlay == Underlay::Nothing {
            ui.painter().rect_filled(rect, 0.0, ui.visuals().extreme_bg_color);
            return;
        }
        let key = (store.images.serial(), underlay);
        let held = self.texture.take().filter(|(held, _)| *held == key);
        let (_, texture) = self.texture.insert(held.unwrap_or_else(|| (key, texture(ui, view, underlay))));
        let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(texture.id(), rect, uv, Color32::WHITE);
    }
}

/// Where the image is drawn: as large as it fits beside the colour bar.
fn place_of(ui: &Ui, view: &ImageView) -> Rect {
    let area = ui.available_rect_before_wrap();
    let room = vec2((area.width() - BAR_WIDTH).max(40.0), area.height().max(40.0));
    let (w, h) = view.geometry.source;
    let scale = (room.x / w as f32).min(room.y / h as f32);
    let size = vec2(w as f32, h as f32) * scale;
    Rect::from_min_size(area.min + (room - size) * vec2(0.5, 0.0), size)
        .round_to_pixels(ui.pixels_per_point())
}

fn texture(ui: &Ui, view: &ImageView, underlay: Underlay) -> TextureHandle {
    let size = [view.picture.width() as usize, view.picture.height() as usize];
    let image = match underlay {
        Underlay::Grey => {
            let grey = |pixel: &Rgb<u8>| Color32::from_gray(pixel.to_luma().0[0]);
            ColorImage::new(size, view.picture.pixels().map(grey).collect())
        }
        Underlay::Colour | Underlay::Nothing => ColorImage::from_rgb(size, view.picture.as_raw()),
    };
    ui.ctx().load_texture("image", image, TextureOptions::LINEAR)
}

/// The part that the model saw, as shares of the image.
fn shares_of(view: &ImageView) -> [f32; 4] {
    let (w, h) = (view.geometry.source.0 as f32, view.geometry.source.1 as f32);
    let [x0, y0, x1, y1] = view.geometry.seen();
    [x0 / w, y0 / h, x1 / w, y1 / h]
}

/// Hatches what the model never saw: it is no part of what any number here is about.
fn unseen(ui: &Ui, image: Rect, seen: [f32; 4]) {
    let seen = on_screen(seen, image);
    let around = [
        Rect::from_min_max(image.min, pos2(image.right(), seen.top())),
        Rect::from_min_max(pos2(image.left(), seen.bottom()), image.max),
        Rect::from_min_max(pos2(image.left(), seen.top()), pos2(seen.left(), seen.bottom())),
        Rect::from_min_max(pos2(seen.right(), seen.top()), pos2(image.right(), seen.bottom())),
    ];
    for part in around.into_iter().filter(|part| part.width() >= 0.5 && part.height() >= 0.5) {
        ui.painter().rect_filled(part, 0.0, theme::shade());
        hatch(ui.painter(), part, 9.0, Stroke::new(1.0, theme::ON_DARK.gamma_multiply(0.7)));
    }
}

fn header(ui: &mut Ui, store: &Store, view: &ImageView, frame: &mut Frame) {
    let (slot, token) = store.selection.shown();
    let lane = store.runs.lane(slot);
    let stale = match token {
        Some(at) => lane.row(at).is_some_and(|(_, fresh)| !fresh),
        None => lane.stale(),
    };
    let of = match token.and_then(|at| lane.token(at)) {
        Some(token) => format!("“{}”", word::shown(token).trim()),
        None => "whole answer".to_string(),
    };
    let head = store.selection.head_name();
    let text = format!("{of}, {}, layer {}, {head}", slot_name(slot), store.selection.layer);
    ui.horizontal(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.add(Label::new(RichText::new(text).small()).truncate());
            if stale {
                ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
            }
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                title_label(ui, &view.source.name(), frame);
            });
        });
    });
}

fn on_screen([x0, y0, x1, y1]: [f32; 4], image: Rect) -> Rect {
    let at = |x: f32, y: f32| image.min + vec2(x, y) * image.size();
    Rect::from_min_max(at(x0, y0), at(x1, y1))
}

fn patch_at(patches: &[Patch], image: Rect, pos: Pos2) -> Option<usize> {
    patches.iter().rposition(|p| on_screen(p.rect, image).contains(pos))
}

fn outline(ui: &Ui, place: Rect) {
    let painter = ui.painter();
    painter.rect_stroke(place, 0.0, Stroke::new(2.0, theme::ON_DARK), StrokeKind::Outside);
    painter.rect_stroke(place.expand(2.0), 0.0, Stroke::new(1.0, theme::AROUND), StrokeKind::Outside);
}

fn tooltip(response: Response, [place, value, rank]: [String; 3]) {
    response.on_hover_ui_at_pointer(|ui| {
        ui.label(RichText::new(place).strong());
        ui.label(RichText::new(value).monospace());
        ui.label(rank);
    });
}

/// Where a patch is, its number, and how it ranks.
fn patch_text(store: &Store, view: &ImageView, slot: Slot, map: &Map, at: usize) -> [String; 3] {
    let key = map.patches[at].key as usize;
    let visual = store.runs.lane(slot).view().and_then(|run| run.prompt.get(key)).and_then(|t| t.visual);
    let place = match visual {
        Some(VisualRef { view: number, cell: Some(Cell { row, col }), .. }) => {
            let name = view_name(&view.geometry, number);
            format!("{name}row {row}, column {col}")
        }
        _ => format!("patch {at}"),
    };
    let value = map.value(at);
    let rank = (0..map.patches.len()).filter(|&i| map.value(i) > value).count() + 1;
    [
        format!("{place} (position {key})"),
        match map.uniform {
            Some(uniform) => format!("attention {value:.6}, {} x uniform", number::short(value / uniform)),
            None => format!("{value:.6}"),
        },
        format!("rank {rank} of {}, layer {}", map.patches.len(), map.layer),
    ]
}

/// What a view of a tiled image is called, with what goes before a place in it; an image of one view needs no
/// name for it.
fn view_name(geometry: &Geometry, view: usize) -> String {
    match geometry.views.get(view).map(|view| view.place) {
        Some(Place::Tile { row, col }) => format!("tile of row {row}, column {col}: "),
        Some(Place::Whole) if geometry.is_tiled() => "view of the whole: ".to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::{Grid, View};

    #[test]
    fn the_view_of_the_whole_is_no_tile() {
        let view = |place| View { place, rect: [0.0; 4], grid: Grid { rows: 1, cols: 1 }, lead: 0 };
        let views = vec![view(Place::Tile { row: 0, col: 1 }), view(Place::Whole)];
        let tiled = Geometry { source: (1, 1), rows: 1, cols: 1, views };
        assert_eq!(view_name(&tiled, 0), "tile of row 0, column 1: ");
        assert_eq!(view_name(&tiled, 1), "view of the whole: ");
        let single = Geometry { views: vec![view(Place::Whole)], ..tiled };
        assert_eq!(view_name(&single, 0), "");
    }
}
