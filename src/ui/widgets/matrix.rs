//! A matrix of coloured cells: a number a column and row. A click looks at a cell, with Shift it cuts it.
//!
//! For keys it is one stop: arrows walk from cell to cell, Enter looks and Shift+Enter cuts. Values are
//! `[columns, rows]`, columns slowest. Knows numbers; not what they are of.

use std::sync::Arc;

use egui::{
    Color32, Event, Id, Key, Mesh, Modifiers, Pos2, Rangef, Rect, Response, Role, Sense, Stroke, StrokeKind,
    Ui, WidgetInfo,
};

use crate::{
    trace::palette::Colormap,
    ui::{
        theme,
        widgets::{
            hatch::hatch,
            layer_strip::{Columns, arrows, runs},
            with_shift::with_shift,
        },
    },
};

/// Which numbers the colours stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colors {
    /// Colours.
    pub colormap: Colormap,
    /// Numbers at their two ends.
    pub range: (f32, f32),
}

impl Colors {
    /// The place of a number on the colours, 0 to 1. Where nothing but one number is possible, it has that of the
    /// lower end, or of the middle where colours have one.
    pub fn share(&self, value: f32) -> f32 {
        let (low, high) = self.range;
        match high > low {
            true => ((value - low) / (high - low)).clamp(0.0, 1.0),
            false if self.colormap.is_diverging() => 0.5,
            false => 0.0,
        }
    }

    /// The colour of a number.
    pub fn of(&self, value: f32) -> Color32 {
        theme::map_color(self.colormap, self.share(value))
    }
}

/// Columns and rows whose common cells are cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// One a column.
    pub columns: Vec<bool>,
    /// One a row, by number.
    pub rows: Vec<bool>,
}

/// What the matrix shows.
pub struct Matrix<'a> {
    /// What screen readers call it.
    pub name: &'a str,
    /// Numbers; what is none is not drawn.
    pub values: &'a Arc<Vec<f32>>,
    /// Number of columns.
    pub columns: usize,
    /// Rows by number, from the top.
    pub order: &'a [usize],
    /// Which numbers the colours stand for.
    pub colors: Colors,
    /// The column on show, and the row; no row stands for all of them.
    pub shown: (usize, Option<usize>),
    /// What is cut.
    pub cut: &'a [Block],
    /// What there is to say of a cell.
    pub told: &'a dyn Fn(usize, usize) -> String,
}

/// What a matrix keeps between frames.
#[derive(Default)]
pub struct Kept {
    /// Where keys walk: column and row.
    cursor: Option<(usize, usize)>,
    /// Keys moved since the pointer did: a pointer that rests points at nothing.
    by_keys: bool,
    drawn: Option<(Source, Arc<Mesh>)>,
}

/// What cells were drawn from.
struct Source {
    values: Arc<Vec<f32>>,
    order: Vec<usize>,
    rect: Rect,
    colors: Colors,
}

/// What the user did to the matrix. Cells are columns and rows.
#[derive(Default)]
pub struct Deeds {
    /// The cell under the pointer, or where keys are.
    pub at: Option<(usize, usize)>,
    /// Whether a key moved there.
    pub walked: bool,
    /// A cell to look at.
    pub look: Option<(usize, usize)>,
    /// A cell to cut.
    pub cut: Option<(usize, usize)>,
}

impl Matrix<'_> {
    /// Draws it into `rect`.
    pub fn show(&self, ui: &Ui, id: Id, rect: Rect, kept: &mut Kept) -> Deeds {
        let columns = Columns::new(rect.x_range(), self.columns);
        let rows = Columns::new(rect.y_range(), self.order.len());
        let cell = |at: Pos2| Some((columns.at(at.x), *self.order.get(rows.at(at.y))?));
        let pointer = ui.interact(rect, id, Sense::CLICK);
        let stop = ui.interact(rect, id.with("walk"), Sense::focusable_noninteractive());
        let mut deeds = Deeds::default();
        if let Some(at) = pointer.interact_pointer_pos().filter(|_| pointer.clicked()).and_then(cell) {
            (kept.cursor, kept.by_keys) = (Some(at), false);
            match with_shift(ui) {
                true => deeds.cut = Some(at),
                false => deeds.look = Some(at),
            }
        }
        self.walk(ui, &stop, kept, &mut deeds);
        let moved = ui.input(|i| i.events.iter().any(|event| matches!(event, Event::PointerMoved(_))));
        kept.by_keys = stop.has_focus() && (deeds.walked || kept.by_keys && !moved);
        let hovered = pointer.hover_pos().filter(|_| !kept.by_keys).and_then(cell);
        deeds.at = hovered.or(deeds.at);
        let cursor = kept.cursor;
        stop.widget_info(|| WidgetInfo {
            current_text_value: cursor.map(|(column, row)| (self.told)(column, row)),
            ..WidgetInfo::labeled(Role::Grid, ui.is_enabled(), self.name)
        });
        if ui.is_rect_visible(rect) {
            self.paint(ui, rect, columns, rows, kept);
            if let Some(at) = deeds.at {
                self.outline(ui, columns, rows, at, Stroke::new(1.5, ui.visuals().text_color()));
            }
        }
        if let Some((column, row)) = hovered {
            pointer.on_hover_text_at_pointer((self.told)(column, row));
        }
        deeds
    }

    /// Keys, while the matrix has the focus.
    fn walk(&self, ui: &Ui, stop: &Response, kept: &mut Kept, deeds: &mut Deeds) {
        let Some(&top) = self.order.first().filter(|_| stop.has_focus() && self.columns > 0) else { return };
        let stroke = Stroke::new(1.5, theme::accent(ui.visuals()));
        ui.painter().rect_stroke(stop.rect.expand(2.0), 2.0, stroke, StrokeKind::Outside);
        let from = kept.cursor.unwrap_or((self.shown.0, self.shown.1.unwrap_or(top)));
        let [right, down] = arrows(ui, stop.id);
        let place = self.order.iter().position(|row| *row == from.1).unwrap_or(0);
        let place = place.saturating_add_signed(down).min(self.order.len() - 1);
        let column = from.0.saturating_add_signed(right).min(self.columns - 1);
        let to = (column, self.order.get(place).copied().unwrap_or(top));
        deeds.walked = to != from;
        (kept.cursor, deeds.at) = (Some(to), Some(to));
        // Enter with Shift held is Enter, too: it is asked for first.
        let pressed = |modifiers| ui.input_mut(|i| i.consume_key(modifiers, Key::Enter));
        if pressed(Modifiers::SHIFT) {
            deeds.cut = Some(to);
        } else if pressed(Modifiers::NONE) {
            deeds.look = Some(to);
        }
    }

    fn paint(&self, ui: &Ui, rect: Rect, columns: Columns, rows: Columns, kept: &mut Kept) {
        let (painter, visuals) = (ui.painter(), ui.visuals());
        painter.rect_filled(rect, 0.0, visuals.faint_bg_color);
        painter.add(self.mesh(rect, columns, rows, kept));
        let stroke = Stroke::new(1.0, theme::cut_color(visuals));
        for block in self.cut {
            let holds = |list: &[bool], at: usize| list.get(at).copied().unwrap_or(false);
            let across = runs(self.columns, |column| holds(&block.columns, column));
            let down = runs(self.order.len(), |place| holds(&block.rows, self.order[place]));
            for (first, last) in across {
                for (top, bottom) in &down {
                    let cells = Rect::from_x_y_ranges(columns.range(first, last), rows.range(*top, *bottom));
                    hatch(painter, cells, 6.0, stroke);
                }
            }
        }
        let column = Rect::from_x_y_ranges(columns.range(self.shown.0, self.shown.0), rect.y_range());
        let strong = Stroke::new(1.5, visuals.text_color());
        painter.rect_stroke(column, 0.0, strong, StrokeKind::Middle);
        if let Some(row) = self.shown.1 {
            let stroke = Stroke::new(2.0, theme::accent(visuals));
            self.outline(ui, columns, rows, (self.shown.0, row), stroke);
        }
    }

    fn outline(&self, ui: &Ui, columns: Columns, rows: Columns, (column, row): (usize, usize), ink: Stroke) {
        let Some(place) = self.order.iter().position(|other| *other == row) else { return };
        let cell = Rect::from_x_y_ranges(columns.range(column, column), rows.range(place, place));
        ui.painter().rect_stroke(cell, 0.0, ink, StrokeKind::Middle);
    }

    /// The cells, drawn anew only where something is not as it was.
    fn mesh(&self, rect: Rect, columns: Columns, rows: Columns, kept: &mut Kept) -> Arc<Mesh> {
        let same = |source: &Source| {
            let Source { values, order, rect: held, colors } = source;
            let place = (*held, order.as_slice(), *colors) == (rect, self.order, self.colors);
            place && Arc::ptr_eq(values, self.values)
        };
        if let Some((_, mesh)) = kept.drawn.as_ref().filter(|(source, _)| same(source)) {
            return mesh.clone();
        }
        let gap = |width: f32| if width >= 6.0 { 1.0 } else { 0.0 };
        let (right, bottom) = (gap(columns.width), gap(rows.width));
        let n_rows = self.values.len() / self.columns.max(1);
        let mut mesh = Mesh::default();
        mesh.reserve_vertices(4 * self.values.len());
        mesh.reserve_triangles(2 * self.values.len());
        for column in 0..self.columns {
            let x = Rangef::new(columns.edge(column), columns.edge(column + 1) - right);
            for (place, row) in self.order.iter().enumerate() {
                let y = Rangef::new(rows.edge(place), rows.edge(place + 1) - bottom);
                let value = self.values.get(column * n_rows + row).filter(|value| !value.is_nan());
                if let Some(value) = value {
                    mesh.add_colored_rect(Rect::from_x_y_ranges(x, y), self.colors.of(*value));
                }
            }
        }
        let mesh = Arc::new(mesh);
        let (values, order) = (self.values.clone(), self.order.to_vec());
        kept.drawn = Some((Source { values, order, rect, colors: self.colors }, mesh.clone()));
        mesh
    }
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;

    const COLORS: Colors = Colors { colormap: Colormap::Inferno, range: (0.0, 1.0) };

    fn matrix<'a>(values: &'a Arc<Vec<f32>>, order: &'a [usize]) -> Matrix<'a> {
        let told = &|_: usize, _: usize| String::new();
        Matrix { name: "", values, columns: 2, order, colors: COLORS, shown: (0, None), cut: &[], told }
    }

    #[test]
    fn cells_stand_where_their_row_does_and_are_drawn_once() {
        let values = Arc::new(vec![0.0, 1.0, f32::NAN, 0.5, 0.25, 0.75]);
        let rect = Rect::from_min_max(pos2(0.0, 0.0), pos2(4.0, 6.0));
        let (columns, rows) = (Columns::new(rect.x_range(), 2), Columns::new(rect.y_range(), 3));
        let mut kept = Kept::default();
        let mesh = matrix(&values, &[2, 0, 1]).mesh(rect, columns, rows, &mut kept);
        assert_eq!(mesh.vertices.len(), 5 * 4, "what is no number is not drawn");
        // The first cell is that of row 0, which stands below row 2; that has no number there.
        let color = |cell: usize| mesh.vertices[4 * cell].color;
        assert_eq!(mesh.vertices[0].pos, pos2(0.0, 2.0));
        assert_eq!([color(0), color(1)], [0.0, 1.0].map(|value| COLORS.of(value)));
        assert_eq!((mesh.vertices[8].pos, color(2)), (pos2(2.0, 0.0), COLORS.of(0.75)));
        let again = matrix(&values, &[2, 0, 1]).mesh(rect, columns, rows, &mut kept);
        assert!(Arc::ptr_eq(&mesh, &again));
        let sorted = matrix(&values, &[0, 1, 2]).mesh(rect, columns, rows, &mut kept);
        assert!(!Arc::ptr_eq(&mesh, &sorted) && sorted.vertices[0].pos == pos2(0.0, 0.0));
    }

    #[test]
    fn nothing_but_zeros_has_the_colour_of_zero() {
        let colors = |colormap, range| Colors { colormap, range };
        assert_eq!(colors(Colormap::Viridis, (0.0, 0.0)).share(0.0), 0.0);
        assert_eq!(colors(Colormap::Diverging, (0.0, 0.0)).share(0.0), 0.5);
        assert_eq!(colors(Colormap::Diverging, (-2.0, 2.0)).share(-1.0), 0.25);
        assert_eq!(colors(Colormap::Viridis, (0.0, 2.0)).share(3.0), 1.0);
    }
}
