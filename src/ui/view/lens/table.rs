//! The table of a lens: a row a position, a column a layer, in every cell what that layer would say there.
//!
//! Only the cells that can be seen are laid out, and each is looked up by layer and position. It says what is under
//! the pointer and what was clicked; what follows from that is the view's. Knows readings; asks for nothing.

use std::collections::BTreeMap;

use egui::{
    Align2, Color32, EventFilter, FontId, Id, Key, Mesh, Modifiers, Rangef, Rect, Response, Role, Sense,
    Stroke, StrokeKind, TextStyle, Ui, WidgetInfo, pos2, vec2,
};
use egui_table::{CellInfo, Column, HeaderCellInfo, HeaderRow, Table, TableDelegate};

use crate::{
    trace::{finding::LensReading, palette::Colormap},
    ui::{
        frame::Frame,
        store::selection::Selection,
        theme,
        view::{lens::places::Place, lens::words::plain},
        widgets::{number, with_shift::with_shift},
    },
    worker::protocol::Slot,
};

/// Width of the column that names positions, and the least and the most of one of a layer.
const WIDTHS: [f32; 3] = [168.0, 58.0, 120.0];
/// Height of a row.
const ROW: f32 = 20.0;
/// Steps of the legend's colours.
const STEPS: u32 = 24;

/// What stands in the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shows {
    /// The likeliest token, coloured by its probability.
    #[default]
    Top,
    /// The probability of the word that was typed.
    Probability,
    /// Its rank: how many tokens are likelier.
    Rank,
}

impl Shows {
    /// All of them.
    pub const ALL: [Shows; 3] = [Shows::Top, Shows::Probability, Shows::Rank];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Shows::Top => "likeliest token",
            Shows::Probability => "probability",
            Shows::Rank => "rank",
        }
    }
}

/// How cells look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What stands in them.
    pub shows: Shows,
    /// The probability at the upper end of the colours.
    pub high: f32,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Colours.
    pub colormap: Colormap,
}

impl Look {
    /// What a cell says, and where on the colours it lies; `None` where the typed word was not read.
    pub fn cell(&self, reading: &LensReading) -> Option<(String, f32)> {
        match self.shows {
            Shows::Top => reading.top.first().map(|top| (plain(&top.text), top.logprob.exp() / self.high)),
            Shows::Probability => {
                reading.chosen.map(|(_, p)| (number::percent(p), p / self.high.max(f32::MIN_POSITIVE)))
            }
            Shows::Rank => reading.chosen.map(|(rank, _)| (rank.to_string(), self.nearness(rank))),
        }
    }

    /// 1 for the likeliest token, 0 for the last of the vocabulary, by powers.
    fn nearness(&self, rank: usize) -> f32 {
        let last = (self.vocabulary.max(2) as f32).ln();
        (1.0 - ((rank + 1) as f32).ln() / last).clamp(0.0, 1.0)
    }

    /// What the two ends of the colours stand for.
    pub fn ends(&self) -> [String; 2] {
        match self.shows {
            Shows::Top | Shows::Probability => ["0 %".to_string(), number::percent(self.high)],
            Shows::Rank => [format!("rank {}", self.vocabulary.saturating_sub(1)), "rank 0".to_string()],
        }
    }

    /// The colours between two numbers.
    pub fn legend(&self, ui: &mut Ui) {
        let [low, high] = self.ends();
        ui.small(low);
        let (rect, response) = ui.allocate_exact_size(vec2(72.0, 10.0), Sense::hover());
        let mut mesh = Mesh::default();
        for i in 0..=STEPS {
            let t = i as f32 / STEPS as f32;
            let (x, color) = (rect.left() + t * rect.width(), theme::map_color(self.colormap, t));
            mesh.colored_vertex(pos2(x, rect.top()), color);
            mesh.colored_vertex(pos2(x, rect.bottom()), color);
            if i > 0 {
                mesh.add_triangle(2 * i - 2, 2 * i - 1, 2 * i);
                mesh.add_triangle(2 * i - 1, 2 * i, 2 * i + 1);
            }
        }
        ui.painter().add(mesh);
        ui.small(high);
        response.on_hover_text(match self.shows {
            Shows::Top => "Colours: the probability of the likeliest token",
            Shows::Probability => "Colours: the probability of the word, up to the largest that was read",
            Shows::Rank => "Colours: the rank of the word, by powers; 0 is the likeliest token",
        });
    }
}

/// The table.
pub struct LensTable<'a> {
    /// Its rows.
    pub places: &'a [Place],
    /// What was read, by layer and position.
    pub lens: Option<&'a BTreeMap<usize, BTreeMap<usize, LensReading>>>,
    /// Its columns.
    pub n_layers: usize,
    /// The layer on show.
    pub layer: usize,
    /// How cells look.
    pub look: Look,
    /// Position and layer of the cell that is pinned.
    pub pinned: Option<(usize, usize)>,
    /// Row and layer of the cell that keys have reached.
    pub cursor: Option<(usize, usize)>,
    /// What is selected everywhere.
    pub selection: &'a Selection,
    /// The slot of the run that was read.
    pub slot: Option<Slot>,
    /// Whether it is of another run than the one on show.
    pub stale: bool,
    /// A row to bring into sight.
    pub scroll: Option<usize>,
}

/// A cell, or the name of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its row.
    pub row: usize,
    /// Its layer; `None` for the name of the row.
    pub layer: Option<usize>,
    /// Where it is seen.
    pub rect: Rect,
}

/// What people did.
#[derive(Debug, Default)]
pub struct Told {
    /// What the pointer is at.
    pub hovered: Option<Hit>,
    /// What was clicked, and whether Shift was held.
    pub clicked: Option<(Hit, bool)>,
    /// A layer that was clicked.
    pub layer: Option<usize>,
    /// The cell that keys have reached, while they are the table's.
    pub cursor: Option<Hit>,
    /// Row and layer that keys have moved to.
    pub moved: Option<(usize, usize)>,
    /// Whether keys are the table's.
    pub focused: bool,
    /// The table itself.
    pub id: Option<Id>,
}

/// Width of a table that shows all of these layers.
pub fn width(n_layers: usize) -> f32 {
    WIDTHS[0] + WIDTHS[1] * n_layers as f32
}

impl LensTable<'_> {
    /// Draws it into what room there is.
    pub fn show(&self, ui: &mut Ui, frame: &mut Frame) -> Told {
        let room = ui.available_rect_before_wrap();
        let [name, least, most] = WIDTHS;
        let each = ((room.width() - name) / self.n_layers.max(1) as f32).floor().clamp(least, most);
        let column = |width: f32| Column::new(width).range(Rangef::new(width, width)).resizable(false);
        let mut columns = vec![column(name.min((room.width() / 2.0).floor()))];
        columns.extend((0..self.n_layers).map(|_| column(each)));
        let mut table = Table::new()
            .id_salt("lens table")
            .num_rows(self.places.len() as u64)
            .columns(columns)
            .num_sticky_cols(1)
            .headers([HeaderRow::new(ROW)]);
        let stop = ui.scope_id().with("lens stop");
        let mut told = Told { id: Some(stop), ..Told::default() };
        self.walk(ui, stop, room, &mut told);
        if let Some((row, layer)) = told.moved {
            table = table.scroll_to_row(row as u64, None).scroll_to_column(layer + 1, None);
        } else if let Some(row) = self.scroll {
            table = table.scroll_to_row(row as u64, None);
        }
        table.show(ui, &mut Drawing { table: self, frame, told: &mut told });
        frame.place("lens", room);
        told
    }

    /// One stop of the Tab key; arrows walk from cell to cell, Enter pins.
    fn walk(&self, ui: &Ui, id: Id, room: Rect, told: &mut Told) {
        let stop = ui.interact(room, id, Sense::focusable_noninteractive());
        stop.widget_info(|| WidgetInfo::labeled(Role::Grid, true, "cells of the lens"));
        if !stop.has_focus() || self.places.is_empty() || self.n_layers == 0 {
            return;
        }
        told.focused = true;
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, arrows));
        let accent = Stroke::new(1.5, theme::accent(ui.visuals()));
        ui.painter().rect_stroke(room, 3.0, accent, StrokeKind::Inside);
        let presses =
            |modifiers, key| ui.input_mut(|input| input.count_and_consume_key(modifiers, key)) as isize;
        let step = |back, on| presses(Modifiers::NONE, on) - presses(Modifiers::NONE, back);
        let (down, right) = (step(Key::ArrowUp, Key::ArrowDown), step(Key::ArrowLeft, Key::ArrowRight));
        let from = self.cursor.or_else(|| self.pinned_row()).unwrap_or((0, self.layer));
        let within =
            |at: usize, by: isize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        let to = (within(from.0, down, self.places.len()), within(from.1, right, self.n_layers));
        if self.cursor != Some(to) {
            told.moved = Some(to);
        }
        // A key with Shift held is that key, too.
        for (modifiers, shift) in [(Modifiers::SHIFT, true), (Modifiers::NONE, false)] {
            if presses(modifiers, Key::Enter) > 0 {
                told.clicked = Some((Hit { row: to.0, layer: Some(to.1), rect: room }, shift));
            }
        }
    }

    /// Row and layer of the pinned cell.
    fn pinned_row(&self) -> Option<(usize, usize)> {
        let (position, layer) = self.pinned?;
        let row = self.places.binary_search_by_key(&position, |place| place.position).ok()?;
        Some((row, layer))
    }

    fn reading(&self, layer: usize, position: usize) -> Option<&LensReading> {
        self.lens?.get(&layer)?.get(&position)
    }
}

/// Draws the cells that can be seen.
struct Drawing<'a, 'b> {
    table: &'a LensTable<'a>,
    frame: &'b mut Frame,
    told: &'b mut Told,
}

impl TableDelegate for Drawing<'_, '_> {
    fn header_cell_ui(&mut self, ui: &mut Ui, cell: &HeaderCellInfo) {
        if ui.is_sizing_pass() {
            return;
        }
        let rect = ui.max_rect();
        let font = TextStyle::Small.resolve(ui.style());
        let Some(layer) = cell.col_range.start.checked_sub(1) else {
            let ink = ui.visuals().weak_text_color();
            ui.painter().text(
                rect.left_center() + vec2(6.0, 0.0),
                Align2::LEFT_CENTER,
                "row  \\  layer",
                font,
                ink,
            );
            return;
        };
        let on_show = layer == self.table.layer;
        let response = ui.interact(rect, cell.table_id.with(("layer", layer)), Sense::CLICK | Sense::HOVER);
        response
            .widget_info(|| WidgetInfo::selected(Role::Button, true, on_show, format!("lens layer {layer}")));
        self.frame.place(format!("lens.layer[{layer}]"), response.interact_rect);
        let ink = if on_show { theme::accent(ui.visuals()) } else { ui.visuals().text_color() };
        ui.painter().text(rect.center(), Align2::CENTER_CENTER, layer.to_string(), font, ink);
        if on_show || response.hovered() {
            let line =
                Rect::from_min_max(pos2(rect.left() + 2.0, rect.bottom() - 2.0), rect.max - vec2(2.0, 0.0));
            ui.painter().rect_filled(line, 0.0, theme::accent(ui.visuals()));
        }
        if response.clicked() {
            self.told.layer = Some(layer);
        }
        let last =
            if layer + 1 == self.table.n_layers { "; the last: what the model itself says" } else { "" };
        response.on_hover_text(format!("The output of layer {layer}{last}. Click to look at this layer."));
    }

    fn row_ui(&mut self, ui: &mut Ui, row: u64) {
        let Some(place) = self.table.places.get(row as usize) else { return };
        let selection = self.table.selection;
        let accent = theme::accent(ui.visuals());
        if place.patch.is_some() && place.patch == selection.patch {
            ui.painter().rect_filled(ui.max_rect(), 0.0, accent.gamma_multiply(0.3));
        } else if place.is_selected(selection, self.table.slot) {
            ui.painter().rect_filled(ui.max_rect(), 0.0, accent.gamma_multiply(0.14));
        }
    }

    fn cell_ui(&mut self, ui: &mut Ui, cell: &CellInfo) {
        let row = cell.row_nr as usize;
        let Some(place) = self.table.places.get(row).filter(|_| !ui.is_sizing_pass()) else { return };
        let layer = cell.col_nr.checked_sub(1);
        let id = cell.table_id.with((place.position, layer));
        let response = ui.interact(ui.max_rect(), id, Sense::CLICK | Sense::HOVER);
        let hit = Hit { row, layer, rect: response.interact_rect };
        match layer {
            None => self.name(ui, place, &response),
            Some(layer) => self.reading(ui, row, place, layer, &response),
        }
        if response.hovered() {
            self.told.hovered = Some(hit);
        }
        if response.clicked() {
            self.told.clicked = Some((hit, with_shift(ui)));
        }
    }

    fn default_row_height(&self) -> f32 {
        ROW
    }
}

impl Drawing<'_, '_> {
    /// What a row is of: its span's colour, its position, what it holds, what it predicts.
    fn name(&mut self, ui: &Ui, place: &Place, response: &Response) {
        let rect = ui.max_rect();
        response.widget_info(|| WidgetInfo::labeled(Role::RowHeader, true, place.told()));
        self.frame.place(format!("lens[{}]", place.position), response.interact_rect);
        let painter = ui.painter();
        let stripe = Rect::from_min_size(rect.min + vec2(1.0, 2.0), vec2(3.0, rect.height() - 4.0));
        painter.rect_filled(stripe, 1.0, theme::span_color(place.span));
        let font = TextStyle::Small.resolve(ui.style());
        let (ink, weak) = (ui.visuals().text_color(), ui.visuals().weak_text_color());
        let mono = FontId::monospace(font.size);
        let start = rect.left_center() + vec2(8.0, 0.0);
        let number = painter.text(start, Align2::LEFT_CENTER, place.position, mono, weak);
        let text = match &place.next {
            Some(next) => format!("{} -> {}", place.holds, plain(&next.text)),
            None => place.holds.clone(),
        };
        let after = pos2(number.right() + 6.0, rect.center().y);
        painter.text(after, Align2::LEFT_CENTER, text, font, ink);
    }

    /// What a layer would say.
    fn reading(&mut self, ui: &Ui, row: usize, place: &Place, layer: usize, response: &Response) {
        let (table, rect) = (self.table, ui.max_rect());
        let pinned = table.pinned == Some((place.position, layer));
        let cell = table.reading(layer, place.position).and_then(|reading| table.look.cell(reading));
        let says = cell.as_ref().map_or("not read", |(text, _)| text.as_str());
        response.widget_info(|| {
            let label = format!("layer {layer}, row {}: {says}", place.position);
            WidgetInfo::selected(Role::Cell, true, pinned, label)
        });
        self.frame.place(format!("lens[{}][{layer}]", place.position), response.interact_rect);
        let painter = ui.painter();
        if let Some((text, share)) = cell {
            let faint = if table.stale { 0.45 } else { 1.0 };
            let fill = theme::map_color(table.look.colormap, share);
            painter.rect_filled(rect.shrink(0.5), 0.0, fill.gamma_multiply(faint));
            let ink = if table.stale { ui.visuals().text_color() } else { ink_on(fill) };
            let font = TextStyle::Small.resolve(ui.style());
            painter.text(rect.left_center() + vec2(5.0, 0.0), Align2::LEFT_CENTER, text, font, ink);
        }
        let reached = self.told.moved.or(table.cursor) == Some((row, layer));
        if reached {
            self.told.cursor = Some(Hit { row, layer: Some(layer), rect: response.interact_rect });
        }
        let accent = theme::accent(ui.visuals());
        if pinned || reached || response.hovered() {
            let width = if pinned { 2.0 } else { 1.0 };
            painter.rect_stroke(rect.shrink(0.5), 0.0, Stroke::new(width, accent), StrokeKind::Inside);
        } else if layer == table.layer {
            for x in [rect.left(), rect.right()] {
                painter.vline(x, rect.y_range(), Stroke::new(1.0, accent.gamma_multiply(0.6)));
            }
        }
    }
}

/// What is read on a colour.
fn ink_on(fill: Color32) -> Color32 {
    let [r, g, b, _] = fill.to_array().map(f32::from);
    if 0.299 * r + 0.587 * g + 0.114 * b > 140.0 { theme::AROUND } else { theme::ON_DARK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tokens::Candidate;

    fn look(shows: Shows, high: f32) -> Look {
        Look { shows, high, vocabulary: 100, colormap: Colormap::Inferno }
    }

    #[test]
    fn a_cell_says_what_it_is_asked() {
        let top = vec![Candidate { id: 1, text: " duck".to_string(), logprob: 0.5f32.ln() }];
        let mut reading = LensReading { position: 1, top, chosen: Some((9, 0.01)) };
        let (text, share) = look(Shows::Top, 1.0).cell(&reading).unwrap();
        assert!(text == "duck" && (share - 0.5).abs() < 1e-6);
        let (text, share) = look(Shows::Probability, 0.04).cell(&reading).unwrap();
        assert!(text == "1.0 %" && (share - 0.25).abs() < 1e-6, "{text} {share}");
        let (text, share) = look(Shows::Rank, 1.0).cell(&reading).unwrap();
        assert!(text == "9" && (share - 0.5).abs() < 1e-6, "{text} {share}");
        reading.chosen = None;
        assert_eq!(look(Shows::Rank, 1.0).cell(&reading), None, "no word was read");
    }

    #[test]
    fn legends_have_numbers() {
        assert_eq!(look(Shows::Top, 1.0).ends(), ["0 %", "100.0 %"]);
        assert_eq!(look(Shows::Probability, 0.05).ends(), ["0 %", "5.0 %"]);
        assert_eq!(look(Shows::Rank, 1.0).ends(), ["rank 99", "rank 0"]);
    }

    #[test]
    fn words_are_readable_on_every_colour() {
        assert_eq!(ink_on(theme::map_color(Colormap::Inferno, 0.0)), theme::ON_DARK);
        assert_eq!(ink_on(theme::map_color(Colormap::Inferno, 1.0)), theme::AROUND);
    }
}
