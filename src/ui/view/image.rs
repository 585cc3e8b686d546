//! The image with the attention map over it, and the colour bar.

use std::sync::Arc;

use egui::{
    Align2, Color32, ColorImage, Mesh, Pos2, Rect, RichText, Sense, Stroke, StrokeKind, TextStyle,
    TextureHandle, TextureOptions, Ui, emath::GuiRounding as _, pos2, vec2,
};

use crate::{trace::run::{Cell, PatternRow, VisualRef}, ui::{layout::Draft, store::{selection::Which, state::{Action, State}}, theme, widgets::heatmap::{self, Map, Patch}}, worker::thread::ImageView};

/// Images larger than this are shown smaller; the model always gets them whole.
const LARGEST_TEXTURE: u32 = 2048;

/// What the lowest value keeps of the opacity when low values fade.
const FADED: f32 = 0.15;

/// What is costly to remake every frame.
#[derive(Default)]
pub struct Kept {
    /// The image as a texture, by the serial number of the image.
    image: Option<(u64, TextureHandle)>,
    /// The mean of the rows on show.
    mean: Option<(MeanKey, PatternRow)>,
}

/// What a mean row was made of. Holds the first and the last row, so that no later row can lie at
/// the same address and pass for one of them.
struct MeanKey {
    which: Which,
    rows: usize,
    fresh: bool,
    ends: [Arc<Vec<f32>>; 2],
}

impl PartialEq for MeanKey {
    fn eq(&self, other: &Self) -> bool {
        (self.which, self.rows, self.fresh) == (other.which, other.rows, other.fresh)
            && self.ends.iter().zip(&other.ends).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Kept {
    fn texture(&mut self, ui: &Ui, serial: u64, view: &ImageView) -> TextureHandle {
        if let Some((held, texture)) = &self.image
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
        self.image = Some((serial, texture.clone()));
        texture
    }
}

/// Draws the panel.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft, _actions: &mut Vec<Action>) {
    let Some(view) = &state.image else {
        ui.centered_and_justified(|ui| {
            ui.label(RichText::new("Open an image, or drop one here").weak());
        });
        return;
    };
    let (which, token) = state.selection.shown();
    header(ui, state, view, which, token);

    let bar_width = 64.0;
    let area = ui.available_rect_before_wrap();
    let room = vec2((area.width() - bar_width).max(40.0), area.height().max(40.0));
    let (w, h) = view.pixels.dimensions();
    let scale = (room.x / w as f32).min(room.y / h as f32);
    let size = vec2(w as f32, h as f32) * scale;
    let rect = Rect::from_min_size(area.min + (room - size) * vec2(0.5, 0.0), size)
        .round_to_pixels(ui.pixels_per_point());
    let texture = draft.kept.texture(ui, state.image_serial, view);
    let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    ui.painter().image(texture.id(), rect, uv, Color32::WHITE);
    draft.place("image", rect);

    let response = ui.interact(rect, ui.scope_id().with("image"), Sense::hover());
    let Some(map) = map(state, draft, which, token, view) else { return };
    let bar = Rect::from_min_size(
        pos2(rect.right() + 10.0, rect.top()),
        vec2(12.0, rect.height().clamp(140.0, 320.0)),
    );
    color_bar(ui, &map, bar);

    if let Some(pos) = response.hover_pos()
        && let Some(at) = patch_at(&map.patches, rect, pos)
    {
        let place = on_screen(map.patches[at].rect, rect);
        let text = patch_text(state, which, &map, at);
        let outline = (place, map.share(map.value(at)), bar);
        if state.map.visible {
            map.paint(ui, rect, draft.gpu_maps);
        }
        ui.painter().rect_stroke(outline.0, 0.0, Stroke::new(2.0, Color32::WHITE), StrokeKind::Outside);
        ui.painter().rect_stroke(
            outline.0.expand(2.0),
            0.0,
            Stroke::new(1.0, Color32::BLACK),
            StrokeKind::Outside,
        );
        let y = bar.bottom() - outline.1 * bar.height();
        ui.painter().hline(
            bar.left() - 4.0..=bar.right() + 4.0,
            y,
            Stroke::new(2.0, ui.visuals().text_color()),
        );
        response.on_hover_ui_at_pointer(|ui| {
            ui.label(RichText::new(text.0).strong());
            ui.label(RichText::new(text.1).monospace());
            ui.label(text.2);
        });
    } else if state.map.visible {
        map.paint(ui, rect, draft.gpu_maps);
    }
}

fn header(ui: &mut Ui, state: &State, view: &ImageView, which: Which, token: Option<usize>) {
    let lane = state.runs.lane(which);
    let stale = match token {
        Some(at) => lane.row(at).is_some_and(|(_, fresh)| !fresh),
        None => lane.stale(),
    };
    ui.horizontal(|ui| {
        ui.add(egui::Label::new(RichText::new(&view.name).heading()).truncate());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let word = token.and_then(|at| lane.tokens().get(at).map(|(t, _)| t.text.trim().to_string()));
            let head = state.selection.head.map_or("mean of heads".to_string(), |h| format!("head {h}"));
            let of = match word {
                Some(word) => format!("“{word}”"),
                None => "whole answer".to_string(),
            };
            let text = format!("{of}, {}, layer {}, {head}", which.name(), state.selection.layer);
            ui.label(RichText::new(text).small());
            if stale {
                ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
            }
        });
    });
}

/// The map of the selection, if there is one.
fn map(
    state: &State,
    draft: &mut Draft,
    which: Which,
    token: Option<usize>,
    view: &ImageView,
) -> Option<Map> {
    let lane = state.runs.lane(which);
    let run = lane.view()?;
    let keys = run.visual_keys();
    if keys.len() != view.patches.len() || keys.is_empty() {
        return None;
    }
    let (row, resident, layer, head) = match token {
        Some(at) => {
            let (row, _) = lane.row(at)?;
            (row.pattern.clone(), row.resident.clone(), state.selection.layer, state.selection.head)
        }
        None => (
            mean_row(state, draft, which, run.prompt.len())?,
            None,
            state.selection.layer,
            state.selection.head,
        ),
    };
    if layer >= row.n_layers || head.is_some_and(|h| h >= row.n_heads) {
        return None;
    }
    let mixed = view.global.iter().any(|g| *g != view.global[0]);
    let (w, h) = view.pixels.dimensions();
    let shares = |[x0, y0, x1, y1]: [f32; 4]| [x0 / w as f32, y0 / h as f32, x1 / w as f32, y1 / h as f32];
    let patches: Arc<[Patch]> = keys
        .iter()
        .zip(view.patches.iter().zip(&view.global))
        // A class token holds no part of the image: its rectangle is empty.
        .filter(|(_, (rect, global))| rect[0] < rect[2] && (!mixed || **global != state.map.tiles))
        .map(|(&key, (&rect, _))| Patch::new(shares(rect), key))
        .collect();
    let values = |layer: usize| patches.iter().map(move |p| (layer, p.key as usize)).collect::<Vec<_>>();
    let ends = |layers: std::ops::Range<usize>| {
        layers
            .flat_map(values)
            .map(|(layer, key)| heatmap::value(&row, layer, head, key))
            .fold((f32::INFINITY, 0.0f32), |(low, high), v| (low.min(v), high.max(v)))
    };
    let range = match state.map.shared_range {
        true => (0.0, ends(0..row.n_layers).1),
        false => ends(layer..layer + 1),
    };
    Some(Map {
        row: row.clone(),
        resident,
        patches: patches.clone(),
        layer,
        head,
        range,
        colormap: state.map.colormap,
        opacity: state.map.opacity,
        floor: if state.map.fade { FADED } else { 1.0 },
        slot: 0,
    })
}

/// The mean of all rows on show over the prompt's positions, kept until a row changes.
fn mean_row(state: &State, draft: &mut Draft, which: Which, n_keys: usize) -> Option<PatternRow> {
    let lane = state.runs.lane(which);
    let rows = lane.rows();
    let first = &rows.first()?.pattern;
    let last = &rows.last()?.pattern;
    let ends = [first.data.clone(), last.data.clone()];
    let key = MeanKey { which, rows: rows.len(), fresh: !lane.busy(), ends };
    if let Some((held, row)) = &draft.kept.mean
        && *held == key
    {
        return Some(row.clone());
    }
    let mut sum = vec![0.0f32; first.n_layers * first.n_heads * n_keys];
    for row in &rows {
        let row = &row.pattern;
        for (at, keys) in sum.chunks_exact_mut(n_keys).enumerate() {
            let from = row.head(at / row.n_heads, at % row.n_heads);
            keys.iter_mut().zip(from).for_each(|(s, p)| *s += p / rows.len() as f32);
        }
    }
    let row = PatternRow { n_layers: first.n_layers, n_heads: first.n_heads, n_keys, data: sum.into() };
    draft.kept.mean = Some((key, row.clone()));
    Some(row)
}

fn on_screen([x0, y0, x1, y1]: [f32; 4], image: Rect) -> Rect {
    let at = |x: f32, y: f32| image.min + vec2(x, y) * image.size();
    Rect::from_min_max(at(x0, y0), at(x1, y1))
}

fn patch_at(patches: &[Patch], image: Rect, pos: Pos2) -> Option<usize> {
    patches.iter().rposition(|p| on_screen(p.rect, image).contains(pos))
}

/// Where a patch is, its number, and how it ranks.
fn patch_text(state: &State, which: Which, map: &Map, at: usize) -> (String, String, String) {
    let key = map.patches[at].key as usize;
    let visual = state.runs.lane(which).view().and_then(|v| v.prompt.get(key)).and_then(|t| t.visual);
    let place = match visual {
        Some(VisualRef { tile, cell: Some(Cell { row, col }), .. }) => {
            match state.image.as_ref().is_some_and(|i| i.global.contains(&false) && i.global.contains(&true))
            {
                true => format!("tile {tile}, row {row}, column {col}"),
                false => format!("row {row}, column {col}"),
            }
        }
        _ => format!("patch {at}"),
    };
    let value = map.value(at);
    let rank = (0..map.patches.len()).filter(|&i| map.value(i) > value).count() + 1;
    (
        format!("{place} (position {key})"),
        format!("attention {value:.6}"),
        format!("rank {rank} of {}, layer {}", map.patches.len(), map.layer),
    )
}

/// The colours and the numbers at their ends and in the middle.
fn color_bar(ui: &Ui, map: &Map, rect: Rect) {
    let mut mesh = Mesh::default();
    const STEPS: u32 = 48;
    for i in 0..=STEPS {
        let t = i as f32 / STEPS as f32;
        let y = rect.bottom() - t * rect.height();
        let color = map.colormap.color(t);
        mesh.colored_vertex(pos2(rect.left(), y), color);
        mesh.colored_vertex(pos2(rect.right(), y), color);
        if i > 0 {
            let v = i * 2;
            mesh.add_triangle(v - 2, v - 1, v);
            mesh.add_triangle(v - 1, v, v + 1);
        }
    }
    ui.painter().add(mesh);
    let outline = ui.visuals().widgets.noninteractive.bg_stroke;
    ui.painter().rect_stroke(rect, 0.0, outline, StrokeKind::Outside);
    let font = TextStyle::Small.resolve(ui.style());
    let (low, high) = map.range;
    let ends = match high > low {
        true => &[(0.0, Align2::LEFT_BOTTOM), (0.5, Align2::LEFT_CENTER), (1.0, Align2::LEFT_TOP)][..],
        // One number only, most often 0 under a cut.
        false => &[(0.0, Align2::LEFT_BOTTOM)],
    };
    for &(t, align) in ends {
        let at = pos2(rect.right() + 5.0, rect.bottom() - t * rect.height());
        ui.painter().text(at, align, number(low + t * (high - low)), font.clone(), ui.visuals().text_color());
    }
}

/// Three significant digits.
fn number(value: f32) -> String {
    match value {
        0.0 => "0".to_string(),
        v if v >= 0.1 => format!("{v:.3}"),
        v if v >= 0.001 => format!("{v:.4}"),
        v => format!("{v:.1e}"),
    }
}
