//! The image with the attention map over it, the colour bar, and the controls of the map.
//!
//! Knows the selection and the image; where the numbers of a map come from is `map`'s.

use egui::{
    Align, Color32, ColorImage, Frame as Room, Label, Layout, Margin, Panel, Pos2, Rect, Response, RichText,
    Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui, emath::GuiRounding as _, pos2, vec2,
};

use crate::{
    trace::tokens::{Cell, VisualRef},
    ui::{
        frame::Frame,
        store::{selection::slot_name, store::Store},
        theme,
        view::{map::Kept, pane::View},
        widgets::{
            color_bar::color_bar,
            heatmap::{Map, Patch},
            map_controls::map_controls,
            section::{still, title_label},
            word,
        },
    },
    worker::protocol::{ImageView, Slot},
};

/// Images larger than this are shown smaller; the model always gets them whole.
const LARGEST_TEXTURE: u32 = 2048;

/// Room for the colour bar and its numbers.
const BAR_WIDTH: f32 = 64.0;

/// The view.
#[derive(Default)]
pub struct ImagePane {
    /// The image as a texture, by its serial number.
    texture: Option<(u64, TextureHandle)>,
    kept: Kept,
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
                .show(ui, |ui| map_controls(ui, store, frame));
            match store.image() {
                Some(view) => self.image(ui, store, view, frame),
                None => nothing(ui, frame),
            }
        });
    }
}

fn nothing(ui: &mut Ui, frame: &mut Frame) {
    title_label(ui, "Image", frame);
    ui.centered_and_justified(|ui| {
        ui.label(RichText::new("Open an image, or drop one here").weak());
    });
}

impl ImagePane {
    fn image(&mut self, ui: &mut Ui, store: &Store, view: &ImageView, frame: &mut Frame) {
        let (slot, token) = store.selection.shown();
        header(ui, store, view, frame);
        let area = ui.available_rect_before_wrap();
        let room = vec2((area.width() - BAR_WIDTH).max(40.0), area.height().max(40.0));
        let (w, h) = view.pixels.dimensions();
        let scale = (room.x / w as f32).min(room.y / h as f32);
        let size = vec2(w as f32, h as f32) * scale;
        let rect = Rect::from_min_size(area.min + (room - size) * vec2(0.5, 0.0), size)
            .round_to_pixels(ui.pixels_per_point());
        let texture = self.texture(ui, store.images.serial(), view);
        let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(texture.id(), rect, uv, Color32::WHITE);
        frame.place("image", rect);

        let response = ui.interact(rect, ui.scope_id().with("image"), Sense::hover());
        let Some(map) = self.kept.map(store, slot, token, view) else { return };
        let at = response.hover_pos().and_then(|pos| patch_at(&map.patches, rect, pos));
        let bar = vec2(12.0, rect.height().clamp(140.0, 320.0));
        let bar = Rect::from_min_size(pos2(rect.right() + 10.0, rect.top()), bar);
        color_bar(ui, map.colormap, map.range, bar, at.map(|at| map.share(map.value(at))));
        let hovered = at.map(|at| (on_screen(map.patches[at].rect, rect), patch_text(store, slot, &map, at)));
        if store.map.visible {
            map.paint(ui, rect, frame.gpu_maps);
        }
        if let Some((place, text)) = hovered {
            outline(ui, place);
            tooltip(response, text);
        }
    }

    fn texture(&mut self, ui: &Ui, serial: u64, view: &ImageView) -> TextureHandle {
        if let Some((held, texture)) = &self.texture
            && *held == serial
        {
            return texture.clone();
        }
        let side = (ui.input(|i| i.max_texture_side) as u32).min(LARGEST_TEXTURE);
        let (w, h) = view.pixels.dimensions();
        let shrunk = (w > side || h > side).then(|| {
            let scale = side as f64 / w.max(h) as f64;
            let fit = |n: u32| ((n as f64 * scale).round() as u32).clamp(1, side);
            image::imageops::thumbnail(view.pixels.as_ref(), fit(w), fit(h))
        });
        let pixels = shrunk.as_ref().unwrap_or(&view.pixels);
        let size = [pixels.width() as usize, pixels.height() as usize];
        let image = ColorImage::from_rgb(size, pixels.as_raw());
        let texture = ui.ctx().load_texture("image", image, TextureOptions::LINEAR);
        self.texture = Some((serial, texture.clone()));
        texture
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
    let head = store.selection.head.map_or("mean of heads".to_string(), |h| format!("head {h}"));
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
fn patch_text(store: &Store, slot: Slot, map: &Map, at: usize) -> [String; 3] {
    let key = map.patches[at].key as usize;
    let visual = store.runs.lane(slot).view().and_then(|run| run.prompt.get(key)).and_then(|t| t.visual);
    let tiled = store.image().is_some_and(|image| image.geometry.is_tiled());
    let place = match visual {
        Some(VisualRef { view, cell: Some(Cell { row, col }), .. }) if tiled => {
            format!("tile {view}, row {row}, column {col}")
        }
        Some(VisualRef { cell: Some(Cell { row, col }), .. }) => format!("row {row}, column {col}"),
        _ => format!("patch {at}"),
    };
    let value = map.value(at);
    let rank = (0..map.patches.len()).filter(|&i| map.value(i) > value).count() + 1;
    [
        format!("{place} (position {key})"),
        format!("attention {value:.6}"),
        format!("rank {rank} of {}, layer {}", map.patches.len(), map.layer),
    ]
}
