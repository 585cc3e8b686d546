//! The layers under the image: how much each looks at it, which one is on show, and which are cut.
//!
//! Where there is room, every head of every layer below, in the columns of the strip.

use egui::{
    Align, Align2, Checkbox, FontId, Id, Label, Layout, Rangef, Rect, RichText, TextWrapMode, Ui, UiBuilder,
    pos2, vec2,
};

use crate::{
    spec::span::Span,
    trace::{
        figure::{Align as Stands, Figure, Ink, Mark},
        offer::{Format, Offer},
        table::{Table, Value},
    },
    ui::{
        frame::Frame,
        store::{command::Command, store::Store, view_id::ViewId},
        theme,
        view::{
            heads::matrix::{Shown, row_numbers},
            heads::values::{Measure, Sort, Values, about},
            pane::View,
        },
        widgets::{
            export_menu::export_menu,
            glance::Glance,
            layer_strip::{self, BELOW, Columns, LayerStrip},
            matrix::Kept,
            number,
            section::{section, still},
        },
    },
};

/// Height of the strip.
const STRIP: f32 = 22.0;

/// Room for the line of the cut.
const CUT_LINE: f32 = 22.0;

/// Room at the right for the scale and the names of heads.
const GUTTER: f32 = 50.0;

/// Least and largest height of a row of heads.
const ROW: (f32, f32) = (3.0, 16.0);

/// Marks on paper the layers that are cut.
const CUT: [u8; 3] = [190, 50, 30];

/// The view.
#[derive(Default)]
pub struct LayersView {
    values: Values,
    heads: Kept,
    glance: Glance,
}

impl View for LayersView {
    fn title(&self, _store: &Store) -> String {
        "Layers".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        still(ui, |ui| {
            section(ui, "Layers", frame, |ui, frame| {
                export_menu(ui, frame, ViewId::Layers, &[Format::Svg, Format::Csv]);
                header(ui, store);
            });
            match store.n_layers() {
                0 => {
                    _ = ui.label(RichText::new(if store.busy() { "loading…" } else { "no model yet" }).weak())
                }
                n_layers => self.body(ui, store, frame, n_layers),
            }
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        let Some(shares) = shares(store) else { return Vec::new() };
        vec![Offer::Figure(figure(store, &shares)), Offer::Table(table(store, &shares))]
    }
}

impl LayersView {
    fn body(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame, n_layers: usize) {
        let room = ui.available_rect_before_wrap();
        let top = room.top() + 3.0;
        let right = (room.right() - GUTTER).max(room.left() + 20.0);
        let strip = Rect::from_min_max(pos2(room.left() + 4.0, top), pos2(right, top + STRIP));
        let line = Rect::from_min_max(
            pos2(room.left(), strip.bottom() + BELOW),
            pos2(room.right(), strip.bottom() + BELOW + CUT_LINE),
        );
        let below = Rect::from_min_max(pos2(room.left(), line.bottom() + 2.0), room.max);
        let hovered = show_strip(ui, store, frame, strip, n_layers);
        if line.bottom() <= room.bottom() + 4.0 {
            cut_line(ui, store, frame, line);
        }
        let (cell, walked) = self.show_heads(ui, store, frame, below, strip);
        self.glance.follow(ui, store, frame, hovered.or(cell), walked);
    }

    /// Every head, where there is room. Returns what is pointed at, and whether keys went there.
    fn show_heads(
        &mut self,
        ui: &Ui,
        store: &Store,
        frame: &mut Frame,
        room: Rect,
        strip: Rect,
    ) -> (Option<(usize, Option<usize>)>, bool) {
        /// Room for the title.
        const TITLE: f32 = 14.0;
        let numbers = self.values.numbers(store, Measure::Mass);
        let Some(numbers) = numbers.filter(|numbers| numbers.n_layers == store.n_layers()) else {
            return (None, false);
        };
        let n_heads = numbers.n_heads as f32;
        let height = room.height() - TITLE;
        if n_heads == 0.0 || height < (n_heads * ROW.0).max(16.0) {
            return (None, false);
        }
        let painter = ui.painter().with_clip_rect(room.intersect(ui.clip_rect()));
        let at = pos2(room.left(), room.top() + TITLE / 2.0 - 1.0);
        let title = "Heads: attention of every head on the image · click to look, Shift and click to cut";
        painter.text(
            at,
            Align2::LEFT_CENTER,
            title,
            FontId::proportional(11.5),
            ui.visuals().weak_text_color(),
        );
        let bottom = room.top() + TITLE + height.min(n_heads * ROW.1);
        let rect = Rect::from_x_y_ranges(strip.x_range(), room.top() + TITLE..=bottom);
        frame.place("layers.heads", rect);
        let order = numbers.order(Sort::Number, 0);
        let shown = Shown { name: "heads of the layers", numbers: &numbers, order: &order };
        let deeds = shown.cells(ui, store, frame, rect, &mut self.heads);
        let rows = Columns::new(rect.y_range(), order.len());
        let before = if rows.step(11.0) == 1 { "head " } else { "" };
        row_numbers(ui, rows, &order, (rect.right() + 6.0, Align2::LEFT_CENTER), before);
        (deeds.at.map(|(layer, head)| (layer, Some(head))), deeds.walked)
    }
}

/// The number under the pointer; what can be done where there is none.
fn header(ui: &mut Ui, store: &Store) {
    let told = store.selection.preview.and_then(|(layer, head)| {
        let share = store.subject()?.flow.share(layer, head, Span::Visual);
        let head = store.selection.head_name();
        Some(format!("layer {layer}, {head}: {} on the image", number::percent(share)))
    });
    let stale = store.subject().is_some_and(|subject| !subject.fresh);
    let text = match told {
        Some(told) => RichText::new(told).small(),
        None if stale => RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())),
        None => RichText::new("attention on the image · click to look, drag to cut").small().weak(),
    };
    ui.add(Label::new(text).truncate());
}

/// For every layer, the share of attention on the image of the head on show.
fn shares(store: &Store) -> Option<Vec<f32>> {
    let (flow, head) = (store.subject()?.flow, store.selection.looked_at().1);
    Some((0..store.n_layers()).map(|layer| flow.share(layer, head, Span::Visual)).collect())
}

/// Draws the strip and asks for what is done there. Returns what is pointed at.
fn show_strip(
    ui: &Ui,
    store: &Store,
    frame: &mut Frame,
    rect: Rect,
    n_layers: usize,
) -> Option<(usize, Option<usize>)> {
    let values = shares(store).unwrap_or_else(|| vec![f32::NAN; n_layers]);
    let strip = LayerStrip {
        values: &values,
        colormap: store.map.colormap,
        layer: store.selection.layer,
        cuts: &|layer| store.cuts_layer(layer),
        range: store.cut.range(n_layers),
        active: store.cut.active().is_some_and(|item| item.on),
    };
    let done = strip.show(ui, Id::unique("layer strip"), rect);
    let scale =
        Rect::from_min_max(pos2(rect.right() + 12.0, rect.top()), pos2(rect.right() + 30.0, rect.bottom()));
    layer_strip::scale(ui, store.map.colormap, scale);
    frame.place("range", rect);
    if let Some([low, high]) = done.handles {
        frame.place("range.low", low);
        frame.place("range.high", high);
    }
    if let Some(layer) = done.look {
        frame.ask(Command::Layer(layer));
    }
    if let Some((first, last)) = done.cut {
        frame.ask(Command::CutLayers(first, last));
    }
    let layer = done.hovered?;
    let value = values.get(layer).copied().filter(|value| !value.is_nan());
    let told = value.map_or("nothing known yet".to_string(), |value| {
        format!("{} on the image, {}", number::percent(value), store.selection.head_name())
    });
    let cut = if store.cuts_layer(layer) { "\nsomething is cut here" } else { "" };
    let deeds = "click: look at it; drag over layers: cut them; drag the range or its ends: move them";
    done.strip.on_hover_text_at_pointer(format!("layer {layer}: {told}{cut}\n{deeds}"));
    Some((layer, store.selection.head))
}

/// The cut that the strip moves: named ranges, and whether it is in force.
fn cut_line(ui: &mut Ui, store: &Store, frame: &mut Frame, rect: Rect) {
    let layout = Layout::left_to_right(Align::Center);
    ui.scope_builder(UiBuilder::new().max_rect(rect).layout(layout), |ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        ui.spacing_mut().button_padding = vec2(5.0, 1.0);
        ui.spacing_mut().interact_size.y = CUT_LINE - 2.0;
        let n_layers = store.n_layers();
        let range = store.cut.range(n_layers).filter(|_| store.cut.active().is_some_and(|item| item.on));
        for (name, layers) in thirds(n_layers) {
            let preset = ui.selectable_label(range == Some(layers), RichText::new(name).small());
            let text = format!("Cuts layers {}-{}", layers.0, layers.1);
            if preset.on_hover_text(text).clicked() {
                frame.ask(Command::CutLayers(layers.0, layers.1));
            }
        }
        ui.add_space(6.0);
        active(ui, store, frame);
    });
}

/// The active cut as text, with its switch.
fn active(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let Some(item) = store.cut.active() else {
        let hint = RichText::new("nothing is cut: drag over layers").small().weak();
        ui.add(Label::new(hint).truncate());
        return;
    };
    let error = store.line_error(store.cut.active);
    let others = store.cut.items.iter().filter(|item| item.on).count() - usize::from(item.on);
    let more = if others > 0 { format!("  + {others} more in force") } else { String::new() };
    let mut text = RichText::new(format!("{}{more}", item.change)).monospace().size(11.5);
    if error.is_some() {
        text = text.color(theme::stale_color(ui.visuals()));
    }
    let mut on = item.on;
    ui.style_mut().wrap_mode = Some(TextWrapMode::Truncate);
    let switch = ui.add(Checkbox::new(&mut on, text));
    frame.place("range.cut", switch.rect);
    if switch.changed() {
        frame.ask(Command::SwitchCut(store.cut.active));
    }
    let whole = store.cut.range(store.n_layers()).is_some();
    let moves = match whole {
        true => "The strip moves this cut; the switch puts it in force or out of it",
        false => "Its layers are no single range: a drag over layers gives it one",
    };
    let text = error.map_or(moves.to_string(), |error| format!("Not in force: {error}"));
    switch.on_hover_text(format!("{}\n{text}", item.change));
}

/// Named ranges: thirds of the model, and all of it.
fn thirds(n: usize) -> [(&'static str, (usize, usize)); 4] {
    let last = n.saturating_sub(1);
    let third = |i: usize| (n * i / 3).min(last);
    let end = |i: usize| third(i).saturating_sub(1).max(third(i - 1));
    [("early", (0, end(1))), ("middle", (third(1), end(2))), ("late", (third(2), last)), ("all", (0, last))]
}

/// The strip as a drawing.
fn figure(store: &Store, shares: &[f32]) -> Figure {
    /// Left and right end of the strip.
    const ENDS: [f32; 2] = [20.0, 520.0];
    let title = format!("attention on the image by layer: {}, {}", about(store), store.selection.head_name());
    let mut figure = Figure::new([ENDS[0] + ENDS[1], 64.0], title.clone());
    figure.add(Mark::text([ENDS[0], 10.0], title, 11.0, Stands::Start, Ink::Text));
    let columns = Columns::new(Rangef::new(ENDS[0], ENDS[1]), shares.len());
    let step = columns.step(19.0);
    for (layer, share) in shares.iter().enumerate() {
        let x = columns.range(layer, layer);
        let color = store.map.colormap.rgb8(*share);
        figure.add(Mark::filled([x.min, 20.0, x.max, 42.0], Ink::rgb(color)));
        if store.cuts_layer(layer) {
            let line = vec![[x.min, 44.0], [x.max, 44.0]];
            figure.add(Mark::line(line, Ink::rgb(CUT), 2.0));
        }
        if layer.is_multiple_of(step) {
            figure.add(Mark::text([x.center(), 54.0], layer.to_string(), 10.0, Stands::Middle, Ink::Weak));
        }
    }
    figure
}

/// The strip as a table.
fn table(store: &Store, shares: &[f32]) -> Table {
    let name = format!("attention on the image by layer: {}, {}", about(store), store.selection.head_name());
    let row = |(layer, share): (usize, &f32)| {
        let cut = if store.cuts_layer(layer) { "cut" } else { "" };
        vec![Value::Whole(layer as i64), Value::Number(*share), Value::Text(cut.to_string())]
    };
    let columns = ["layer", "attention on the image", "in force"].map(String::from).to_vec();
    Table { name, columns, rows: shares.iter().enumerate().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_cover_every_layer_once() {
        assert_eq!(thirds(8), [("early", (0, 1)), ("middle", (2, 4)), ("late", (5, 7)), ("all", (0, 7))]);
        assert_eq!(thirds(30)[..3], [("early", (0, 9)), ("middle", (10, 19)), ("late", (20, 29))]);
        for n in 0..4 {
            assert!(thirds(n).iter().all(|(_, (a, b))| a <= b && *b <= n.saturating_sub(1)));
        }
    }
}
