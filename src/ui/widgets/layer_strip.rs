//! The layers of a model as a strip: a slot a layer, coloured by a number. A click looks at a layer, a drag cuts the
//! layers that it passes over; the range of a cut has two handles and moves as a whole.
//!
//! For keys it is a stop that looks, and each handle is one. Knows layers as numbers only.

use egui::{
    Align2, Color32, CursorIcon, EventFilter, FontId, Id, Key, Mesh, Modifiers, Pos2, Rangef, Rect, Response,
    Role, Sense, Shape, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

use crate::{
    trace::palette::Colormap,
    ui::{theme, widgets::hatch::hatch},
};

/// Room below the strip for the mark of the layer on show and for numbers.
pub const BELOW: f32 = 21.0;

/// How far a pointer strays while it rests.
const STILL: f32 = 4.0;

/// A length divided evenly among columns, or rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Columns {
    /// Where the first begins.
    pub start: f32,
    /// Width of each.
    pub width: f32,
    /// How many there are.
    pub n: usize,
}

impl Columns {
    /// `n` columns over a range.
    pub fn new(range: Rangef, n: usize) -> Self {
        Columns { start: range.min, width: range.span().max(0.0) / n.max(1) as f32, n }
    }

    /// Where column `at` begins.
    pub fn edge(self, at: usize) -> f32 {
        self.start + at as f32 * self.width
    }

    /// From `first` to the end of `last`.
    pub fn range(self, first: usize, last: usize) -> Rangef {
        Rangef::new(self.edge(first), self.edge(last + 1))
    }

    /// The column at `x`; beyond the ends, that at the end.
    pub fn at(self, x: f32) -> usize {
        let at = (x - self.start) / self.width.max(f32::MIN_POSITIVE);
        // What is negative becomes 0.
        (at.floor() as usize).min(self.n.saturating_sub(1))
    }

    /// The edge that is nearest to `x`.
    fn nearest(self, x: f32) -> isize {
        ((x - self.start) / self.width.max(f32::MIN_POSITIVE)).round() as isize
    }

    /// Which columns get a number where numbers need so much room: every so many.
    pub fn step(self, room: f32) -> usize {
        [1, 2, 5, 10, 20, 50, 100].into_iter().find(|step| *step as f32 * self.width >= room).unwrap_or(200)
    }
}

/// Runs of consecutive numbers below `n` for which something holds: first and last of each.
pub fn runs(n: usize, holds: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in (0..n).filter(|at| holds(*at)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == at => *last = at,
            _ => runs.push((at, at)),
        }
    }
    runs
}

/// Writes the numbers of columns at the height `y`, as many as there is room for; that of `strong` always.
pub fn numbers(ui: &Ui, columns: Columns, y: f32, strong: usize) {
    let digits = columns.n.saturating_sub(1).to_string().len();
    let room = 7.0 * digits as f32 + 5.0;
    let step = columns.step(room);
    let visuals = ui.visuals();
    for at in 0..columns.n {
        let crowded = at.abs_diff(strong) as f32 * columns.width < room;
        let color = match at == strong {
            true => visuals.text_color(),
            false if crowded || !at.is_multiple_of(step) => continue,
            false => visuals.weak_text_color(),
        };
        let place = pos2(columns.edge(at) + columns.width / 2.0, y);
        ui.painter().text(place, Align2::CENTER_CENTER, at, FontId::proportional(10.5), color);
    }
}

/// The presses of arrows that a control with the focus gets: to the right, and downwards.
pub fn arrows(ui: &Ui, id: Id) -> [isize; 2] {
    let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
    let presses = |key| ui.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key)) as isize;
    [presses(Key::ArrowRight) - presses(Key::ArrowLeft), presses(Key::ArrowDown) - presses(Key::ArrowUp)]
}

/// The colours of the strip and the shares that they stand for, 0 and 1.
pub fn scale(ui: &Ui, colormap: Colormap, rect: Rect) {
    let font = FontId::proportional(9.0);
    let bar = Rect::from_min_max(rect.min, pos2(rect.left() + 5.0, rect.bottom()));
    let steps = Columns::new(bar.y_range(), 12);
    let mut mesh = Mesh::default();
    for at in 0..steps.n {
        let color = theme::map_color(colormap, 1.0 - (at as f32 + 0.5) / steps.n as f32);
        mesh.add_colored_rect(Rect::from_x_y_ranges(bar.x_range(), steps.range(at, at)), color);
    }
    ui.painter().add(mesh);
    let ends = [(bar.top(), Align2::LEFT_TOP, "1"), (bar.bottom(), Align2::LEFT_BOTTOM, "0")];
    for (y, align, text) in ends {
        let color = ui.visuals().weak_text_color();
        ui.painter().text(pos2(bar.right() + 3.0, y), align, text, font.clone(), color);
    }
}

/// What the strip shows.
pub struct LayerStrip<'a> {
    /// One number a layer, 0 to 1; what is no number has no colour.
    pub values: &'a [f32],
    /// Colours.
    pub colormap: Colormap,
    /// Layer on show.
    pub layer: usize,
    /// Whether anything in force cuts a layer.
    pub cuts: &'a dyn Fn(usize) -> bool,
    /// First and last layer of the cut that the strip moves.
    pub range: Option<(usize, usize)>,
    /// Whether that cut is in force.
    pub active: bool,
}

/// What the user did to the strip.
pub struct StripResponse {
    /// The whole strip.
    pub strip: Response,
    /// The layer under the pointer.
    pub hovered: Option<usize>,
    /// A layer to look at.
    pub look: Option<usize>,
    /// First and last layer to cut.
    pub cut: Option<(usize, usize)>,
    /// The two handles.
    pub handles: Option<[Rect; 2]>,
}

/// How a drag over slots began.
#[derive(Clone, Copy)]
struct Grip {
    x: f32,
    slot: usize,
    /// The range that is moved as a whole.
    whole: Option<(usize, usize)>,
    /// Whether it has left its place.
    begun: bool,
}

/// What a drag over slots comes to.
enum Drag {
    Look(usize),
    Cut((usize, usize)),
}

/// `range` with its low end at `to`: inside the layers, never past the high end.
fn with_low(range: (usize, usize), to: isize) -> (usize, usize) {
    (to.clamp(0, range.1 as isize) as usize, range.1)
}

/// `range` with its high end at `to`: inside `n` layers, never before the low end.
fn with_high(range: (usize, usize), to: isize, n: usize) -> (usize, usize) {
    (range.0, to.clamp(range.0 as isize, (n as isize - 1).max(range.0 as isize)) as usize)
}

/// `range` moved by `by` as a whole, inside `n` layers.
fn moved(range: (usize, usize), by: isize, n: usize) -> (usize, usize) {
    let most = (n as isize - 1 - range.1 as isize).max(0);
    let by = by.clamp(-(range.0 as isize), most);
    (range.0.saturating_add_signed(by), range.1.saturating_add_signed(by))
}

/// Where something is dragged. On a slow machine a whole drag can fall between two frames: its end counts too.
fn pulled(response: &Response) -> Option<Pos2> {
    response.interact_pointer_pos().filter(|_| response.dragged() || response.drag_stopped())
}

impl LayerStrip<'_> {
    /// Draws the strip into `rect`, whose width is divided evenly among the layers, and numbers into the room
    /// [`BELOW`] it.
    pub fn show(&self, ui: &Ui, id: Id, rect: Rect) -> StripResponse {
        let columns = Columns::new(rect.x_range(), self.values.len());
        let strip = ui.interact(rect, id, Sense::CLICK | Sense::DRAG);
        let (mut look, mut cut) = (self.walk(ui, id, rect, columns.n), None);
        let ends = self.range.map(|range| self.handles(ui, id, rect, columns, range));
        if let Some(at) = strip.interact_pointer_pos().filter(|_| strip.clicked()) {
            look = Some(columns.at(at.x));
        }
        match self.drag(ui, &strip, columns) {
            Some(Drag::Look(layer)) => look = Some(layer),
            Some(Drag::Cut(range)) if !self.active || self.range != Some(range) => cut = Some(range),
            _ => {}
        }
        if let Some((_, range)) = &ends
            && self.range != Some(*range)
        {
            cut = Some(*range);
        }
        let hovered = strip.hover_pos().filter(|_| !strip.dragged()).map(|at| columns.at(at.x));
        if ui.is_rect_visible(rect) {
            self.paint(ui, rect, columns, hovered);
            ends.iter().for_each(|(handles, _)| self.paint_handles(ui, rect, columns, handles));
        }
        self.point(ui, &strip, columns);
        let handles = ends.map(|(handles, _)| handles.map(|handle| handle.rect));
        StripResponse { strip, hovered, look, cut, handles }
    }

    /// The stop of the Tab key that looks: arrows go from layer to layer.
    fn walk(&self, ui: &Ui, id: Id, rect: Rect, n: usize) -> Option<usize> {
        let stop = ui.interact(rect, id.with("look"), Sense::focusable_noninteractive());
        let value = Some(self.layer as f64);
        let info = || WidgetInfo::labeled(Role::Slider, ui.is_enabled(), "Layer");
        stop.widget_info(|| WidgetInfo { value, ..info() });
        if !stop.has_focus() {
            return None;
        }
        let stroke = Stroke::new(1.5, theme::accent(ui.visuals()));
        ui.painter().rect_stroke(rect.expand(3.0), 3.0, stroke, StrokeKind::Outside);
        let [right, down] = arrows(ui, stop.id);
        let to = self.layer.saturating_add_signed(right - down).min(n.saturating_sub(1));
        (to != self.layer).then_some(to)
    }

    /// The two handles, and the range that they leave.
    fn handles(
        &self,
        ui: &Ui,
        id: Id,
        rect: Rect,
        columns: Columns,
        range: (usize, usize),
    ) -> ([Response; 2], (usize, usize)) {
        let width = (columns.width * 0.8).clamp(6.0, 11.0);
        // More outside than inside: the two ends of a narrow range stand apart.
        let place = |x: f32, side: f32| {
            Rect::from_center_size(
                pos2(x + side * width / 4.0, rect.center().y),
                vec2(width, rect.height() + 8.0),
            )
        };
        let ends = [("low", columns.edge(range.0), -1.0), ("high", columns.edge(range.1 + 1), 1.0)];
        let handles =
            ends.map(|(name, x, side)| ui.interact(place(x, side), id.with(name), Sense::click_and_drag()));
        let mut now = range;
        for (handle, is_low) in handles.iter().zip([true, false]) {
            if handle.clicked() || handle.drag_started() {
                handle.request_focus();
            }
            if let Some(at) = pulled(handle) {
                let edge = columns.nearest(at.x);
                now = if is_low { with_low(now, edge) } else { with_high(now, edge - 1, columns.n) };
            }
            if handle.has_focus() {
                let [right, down] = arrows(ui, handle.id);
                let by = right - down;
                now = match is_low {
                    true => with_low(now, now.0 as isize + by),
                    false => with_high(now, now.1 as isize + by, columns.n),
                };
            }
            let (value, name) = if is_low { (now.0, "first cut layer") } else { (now.1, "last cut layer") };
            handle.widget_info(|| WidgetInfo {
                value: Some(value as f64),
                ..WidgetInfo::labeled(Role::Slider, ui.is_enabled(), name)
            });
        }
        (handles, now)
    }

    /// A drag over slots: cuts from the first to the present one, or moves the range that it began in.
    fn drag(&self, ui: &Ui, strip: &Response, columns: Columns) -> Option<Drag> {
        if strip.drag_started()
            && let Some(at) = ui.input(|i| i.pointer.press_origin())
        {
            let slot = columns.at(at.x);
            let grip = Grip { x: at.x, slot, whole: self.movable(slot), begun: false };
            ui.data_mut(|d| d.insert_temp(strip.id, grip));
        }
        let at = pulled(strip)?;
        let mut grip: Grip = ui.data(|d| d.get_temp(strip.id))?;
        let slot = columns.at(at.x);
        grip.begun |= slot != grip.slot || (at.x - grip.x).abs() > STILL;
        ui.data_mut(|d| d.insert_temp(strip.id, grip));
        if !grip.begun {
            // A long press is a click, not a cut.
            return strip.drag_stopped().then_some(Drag::Look(slot));
        }
        Some(Drag::Cut(match grip.whole {
            Some(range) => moved(range, slot as isize - grip.slot as isize, columns.n),
            None => (grip.slot.min(slot), grip.slot.max(slot)),
        }))
    }

    /// The range that a drag from a layer moves as a whole; one of all layers has nowhere to go.
    fn movable(&self, layer: usize) -> Option<(usize, usize)> {
        let there = |(low, high): &(usize, usize)| {
            (*low..=*high).contains(&layer) && high - low + 1 < self.values.len()
        };
        self.range.filter(|range| self.active && there(range))
    }

    /// The pointer's look over the strip.
    fn point(&self, ui: &Ui, strip: &Response, columns: Columns) {
        let Some(at) = strip.hover_pos() else { return };
        let icon = match (self.movable(columns.at(at.x)).is_some(), strip.dragged()) {
            (true, true) => CursorIcon::Grabbing,
            (true, false) => CursorIcon::Grab,
            (false, true) => CursorIcon::ResizeHorizontal,
            (false, false) => CursorIcon::PointingHand,
        };
        ui.ctx().set_cursor_icon(icon);
    }

    fn paint(&self, ui: &Ui, rect: Rect, columns: Columns, hovered: Option<usize>) {
        let (painter, visuals) = (ui.painter(), ui.visuals());
        let accent = theme::cut_color(visuals);
        painter.rect_filled(rect, 0.0, visuals.faint_bg_color);
        let gap = if columns.width >= 8.0 { 1.0 } else { 0.0 };
        let mut mesh = Mesh::default();
        for (layer, &value) in self.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            let x = Rangef::new(columns.edge(layer), columns.edge(layer + 1) - gap);
            mesh.add_colored_rect(
                Rect::from_x_y_ranges(x, rect.y_range()),
                theme::map_color(self.colormap, value),
            );
        }
        painter.add(mesh);
        for (first, last) in runs(columns.n, self.cuts) {
            // Hatched, so that the colours below stay readable.
            let blocked = Rect::from_x_y_ranges(columns.range(first, last), rect.y_range());
            hatch(painter, blocked, 7.0, Stroke::new(1.0, accent));
        }
        if let Some((first, last)) = self.range {
            let inside = Rect::from_x_y_ranges(columns.range(first, last), rect.y_range());
            let stroke = Stroke::new(2.0, self.strength(accent));
            painter.rect_stroke(inside, 0.0, stroke, StrokeKind::Middle);
        }
        if let Some(layer) = hovered {
            let slot = Rect::from_x_y_ranges(columns.range(layer, layer), rect.y_range());
            let stroke = Stroke::new(1.5, theme::accent(visuals));
            painter.rect_stroke(slot, 0.0, stroke, StrokeKind::Inside);
        }
        let (x, y) = (columns.edge(self.layer) + columns.width / 2.0, rect.bottom() + 3.0);
        let mark = vec![pos2(x, y), pos2(x - 4.5, y + 6.0), pos2(x + 4.5, y + 6.0)];
        painter.add(Shape::convex_polygon(mark, visuals.text_color(), Stroke::NONE));
        numbers(ui, columns, rect.bottom() + 15.0, self.layer);
    }

    fn strength(&self, color: Color32) -> Color32 {
        if self.active { color } else { color.gamma_multiply(0.5) }
    }

    fn paint_handles(&self, ui: &Ui, rect: Rect, columns: Columns, handles: &[Response; 2]) {
        let Some((first, last)) = self.range else { return };
        let accent = theme::cut_color(ui.visuals());
        let thin = (columns.width * 0.5).clamp(3.0, 7.0);
        for (handle, x) in handles.iter().zip([columns.edge(first), columns.edge(last + 1)]) {
            let hot = handle.hovered() || handle.dragged() || handle.has_focus();
            if handle.hovered() || handle.dragged() {
                ui.ctx().set_cursor_icon(CursorIcon::ResizeHorizontal);
            }
            let size = vec2(if hot { thin + 2.0 } else { thin }, rect.height() + 6.0);
            let body = Rect::from_center_size(pos2(x, rect.center().y), size);
            ui.painter().rect_filled(body, 2.0, if hot { accent } else { self.strength(accent) });
            if handle.has_focus() {
                let stroke = Stroke::new(1.5, ui.visuals().text_color());
                ui.painter().rect_stroke(body.expand(2.0), 3.0, stroke, StrokeKind::Outside);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_stay_inside_and_in_order() {
        assert_eq!(with_low((2, 5), -3), (0, 5));
        assert_eq!(with_low((2, 5), 9), (5, 5));
        assert_eq!(with_high((2, 5), 99, 8), (2, 7));
        assert_eq!(with_high((2, 5), 0, 8), (2, 2));
        assert_eq!(with_high((0, 0), -1, 8), (0, 0));
    }

    #[test]
    fn moving_keeps_the_width() {
        assert_eq!(moved((2, 5), 1, 8), (3, 6));
        assert_eq!(moved((2, 5), 9, 8), (4, 7));
        assert_eq!(moved((2, 5), -9, 8), (0, 3));
        assert_eq!(moved((0, 7), 3, 8), (0, 7));
    }

    #[test]
    fn every_place_has_its_column() {
        let columns = Columns::new(Rangef::new(10.0, 310.0), 80);
        assert_eq!(columns.width, 3.75);
        assert_eq!([-5.0, 10.0, 13.8, 309.9, 900.0].map(|x| columns.at(x)), [0, 0, 1, 79, 79]);
        assert_eq!([columns.nearest(11.0), columns.nearest(13.0), columns.nearest(310.0)], [0, 1, 80]);
        assert_eq!((columns.edge(80), columns.range(0, 79).span()), (310.0, 300.0));
        let none = Columns::new(Rangef::new(10.0, 10.0), 0);
        assert_eq!((none.at(10.0), none.at(50.0)), (0, 0));
    }

    #[test]
    fn numbers_are_as_dense_as_there_is_room() {
        let step = |width: f32, n| Columns::new(Rangef::new(0.0, width), n).step(19.0);
        assert_eq!([step(540.0, 6), step(300.0, 30), step(300.0, 80), step(100.0, 1000)], [1, 2, 10, 200]);
    }

    #[test]
    fn runs_of_layers_that_are_cut_need_not_touch() {
        assert_eq!(runs(8, |layer| [0, 1, 4, 6, 7].contains(&layer)), [(0, 1), (4, 4), (6, 7)]);
        assert!(runs(8, |_| false).is_empty() && runs(0, |_| true).is_empty());
    }
}
