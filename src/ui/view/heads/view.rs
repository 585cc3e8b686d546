//! All heads of all layers: a matrix of numbers, or the maps of a layer's heads or of a head in every layer.
//!
//! Keeps what is chosen to be seen; what is looked at and cut is the store's.

use egui::{
    Align2, Button, ComboBox, Label, ProgressBar, Rect, RichText, ScrollArea, Sense, Ui, UiBuilder, Vec2,
    pos2, vec2,
};

use crate::{
    spec::study::{HeadEffect, Study, StudyKind},
    trace::offer::{Format, Offer},
    ui::{
        frame::Frame,
        store::{
            command::Command,
            store::Store,
            studies::{State, StudyRun},
            view_id::ViewId,
        },
        theme,
        view::{
            heads::given,
            heads::grid::Grid,
            heads::matrix::{Shown, row_numbers},
            heads::places::Of,
            heads::values::{Measure, Numbers, Sort, Values, about, in_phrase, phrase},
            pane::View,
        },
        widgets::{
            color_bar::ColorBar,
            export_menu::export_menu,
            glance::Glance,
            layer_strip::{Columns, numbers as layer_numbers},
            matrix::Kept,
            section::{section, still},
        },
    },
};

/// Least and largest height of a row.
const ROW: (f32, f32) = (5.0, 44.0);

/// Room at the left for the numbers of heads, above for those of layers, and below for what is pointed at.
const GUTTER: f32 = 26.0;
const NUMBERS: f32 = 16.0;
const TOLD: f32 = 17.0;

/// Room at the right for the colours, where a view is wide enough for them.
const BAR: f32 = 66.0;

/// What is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Matrix,
    Maps(Of),
}

/// The view.
#[derive(Default)]
pub struct HeadsView {
    seen: Seen,
    measure: Measure,
    sort: Sort,
    values: Values,
    cells: Kept,
    grid: Grid,
    glance: Glance,
    /// Size of the matrix on screen.
    size: Vec2,
}

impl View for HeadsView {
    fn title(&self, _store: &Store) -> String {
        "Heads".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        still(ui, |ui| {
            section(ui, "Heads", frame, |ui, frame| {
                let formats = [Format::Svg, Format::Csv, Format::Npz, Format::Safetensors];
                export_menu(ui, frame, ViewId::Heads, &formats);
                of(ui, store);
            });
            if store.n_layers() == 0 {
                ui.label(RichText::new(if store.busy() { "loading…" } else { "no model yet" }).weak());
                return;
            }
            ui.horizontal_wrapped(|ui| self.choices(ui, store));
            if self.seen == Seen::Matrix && self.measure == Measure::Effect {
                ui.horizontal_wrapped(|ui| study(ui, store, frame));
            }
            let (at, walked) = match self.seen {
                Seen::Matrix => self.matrix(ui, store, frame),
                Seen::Maps(of) => self.grid.show(ui, store, frame, of),
            };
            self.glance.follow(ui, store, frame, at, walked);
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        let Some(numbers) = self.values.numbers(store, self.measure) else { return Vec::new() };
        let order = numbers.order(self.sort, store.selection.layer);
        let mut all = Measure::ALL.map(|measure| self.values.numbers(store, measure));
        let mut about = about(store);
        // What was measured of something else than what is on show stands by itself.
        if let Some(study) = store.studies.get(StudyKind::Heads).filter(|study| !is_shown(store, study)) {
            let other = self.measure == Measure::Effect;
            all = all.map(|numbers| numbers.filter(|numbers| (numbers.measure == Measure::Effect) == other));
            about = if other { studied(store, study) } else { about };
        }
        vec![
            Offer::Figure(given::figure(&numbers, &order, self.size.into(), &about)),
            Offer::Table(given::table(&all, &about)),
            given::tensors(&all, &about),
        ]
    }
}

impl HeadsView {
    /// What is seen, of what, in which order.
    fn choices(&mut self, ui: &mut Ui, store: &Store) {
        let (layer, head) = (store.selection.layer, store.selection.head);
        let of_head =
            head.map_or("mean of heads by layer".to_string(), |head| format!("head {head} by layer"));
        for (seen, name, tooltip) in [
            (Seen::Matrix, "matrix".to_string(), "A number for every head and layer"),
            (Seen::Maps(Of::Layer), format!("maps of layer {layer}"), "The map of every head of this layer"),
            (Seen::Maps(Of::Head), format!("maps of {of_head}"), "Its map in every layer"),
        ] {
            if ui.selectable_label(self.seen == seen, name).on_hover_text(tooltip).clicked() {
                self.seen = seen;
            }
        }
        if self.seen != Seen::Matrix {
            return;
        }
        ui.separator();
        for measure in Measure::ALL {
            let label = ui.selectable_label(self.measure == measure, measure.name());
            if label.on_hover_text(measure.tooltip()).clicked() {
                self.measure = measure;
            }
        }
        let sort = ComboBox::from_id_salt("sort").width(150.0).selected_text(self.sort.name());
        let sort = sort.show_ui(ui, |ui| {
            for sort in Sort::ALL {
                ui.selectable_value(&mut self.sort, sort, sort.name());
            }
        });
        let tooltip =
            "How heads are sorted; a number at the top sorts by its layer, one at the left by the mean";
        sort.response.accessible_name("order of heads").on_hover_text(tooltip);
    }

    /// The matrix with its numbers and colours. Returns what is pointed at, and whether keys went there.
    fn matrix(
        &mut self,
        ui: &mut Ui,
        store: &Store,
        frame: &mut Frame,
    ) -> (Option<(usize, Option<usize>)>, bool) {
        let room = ui.available_rect_before_wrap();
        let bar = if room.width() > 280.0 { BAR } else { 0.0 };
        let body = Rect::from_min_max(
            pos2(room.left(), room.top() + NUMBERS),
            pos2(room.right() - bar, room.bottom() - TOLD),
        );
        let Some(numbers) = self.values.numbers(store, self.measure) else {
            let text = "No answer yet. Once there is one, every head says how much it looks at the image.";
            ui.add(Label::new(RichText::new(text).weak()).wrap());
            return (None, false);
        };
        if body.width() < 2.0 * GUTTER || body.height() < ROW.0 || numbers.n_heads == 0 {
            return (None, false);
        }
        if numbers.under_way.is_some() {
            ui.ctx().request_repaint();
        }
        let order = numbers.order(self.sort, store.selection.layer);
        let shown = Shown { name: "heads by layers", numbers: &numbers, order: &order };
        let (kept, sort) = (&mut self.cells, &mut self.sort);
        let (cells, deeds) = ui
            .scope_builder(UiBuilder::new().max_rect(body), |ui| {
                let scroll = ScrollArea::vertical().id_salt("heads by layers").auto_shrink([false, false]);
                let cells = scroll.show(ui, |ui| {
                    let least = shown.numbers.n_heads as f32 * ROW.0;
                    let most = shown.numbers.n_heads as f32 * ROW.1;
                    let height = ui.available_height().floor().min(most).max(least);
                    let size = vec2(ui.available_width(), height);
                    let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
                    let cells = Rect::from_min_max(pos2(rect.left() + GUTTER, rect.top()), rect.max);
                    head_numbers(ui, cells, &order, sort);
                    (cells, shown.cells(ui, store, frame, cells, kept))
                });
                cells.inner
            })
            .inner;
        self.size = cells.size();
        frame.place("heads", cells.intersect(body));
        self.layer_numbers(ui, store, frame, &numbers, cells, body.top());
        let at = deeds.at;
        if bar > 0.0 {
            colors(ui, &numbers, body, at.map(|(layer, head)| numbers.value(layer, head)));
        }
        told(ui, &numbers, Rect::from_min_max(pos2(room.left(), body.bottom()), room.max), at);
        (at.map(|(layer, head)| (layer, Some(head))), deeds.walked)
    }

    /// The numbers of layers above the matrix: a click looks at a layer and sorts by it, another one no more.
    fn layer_numbers(
        &mut self,
        ui: &Ui,
        store: &Store,
        frame: &mut Frame,
        numbers: &Numbers,
        cells: Rect,
        bottom: f32,
    ) {
        let rect = Rect::from_x_y_ranges(cells.x_range(), bottom - NUMBERS..=bottom - 1.0);
        let columns = Columns::new(rect.x_range(), numbers.n_layers);
        layer_numbers(ui, columns, rect.center().y, store.selection.layer);
        let response = ui.interact(rect, ui.scope_id().with("layer numbers"), Sense::CLICK);
        if let Some(at) = response.interact_pointer_pos().filter(|_| response.clicked()) {
            let layer = columns.at(at.x);
            let again = self.sort == Sort::Layer && layer == store.selection.layer;
            self.sort = if again { Sort::Number } else { Sort::Layer };
            frame.ask(Command::Layer(layer));
        }
        if let Some(at) = response.hover_pos() {
            let layer = columns.at(at.x);
            response.on_hover_text_at_pointer(format!(
                "layer {layer}: a click looks at it and sorts heads by it"
            ));
        }
    }
}

/// The numbers of heads at the left of the matrix: a click sorts by their mean over layers, another one no more.
fn head_numbers(ui: &Ui, cells: Rect, order: &[usize], sort: &mut Sort) {
    let rect = Rect::from_x_y_ranges(cells.left() - GUTTER..=cells.left() - 2.0, cells.y_range());
    let rows = Columns::new(rect.y_range(), order.len());
    row_numbers(ui, rows, order, (rect.right() - 2.0, Align2::RIGHT_CENTER), "");
    let response = ui.interact(rect, ui.scope_id().with("head numbers"), Sense::CLICK);
    if response.clicked() {
        *sort = if *sort == Sort::Mean { Sort::Number } else { Sort::Mean };
    }
    response.on_hover_text("Heads: a click sorts them by their mean over layers");
}

/// The colours and their numbers, at the right of the matrix.
fn colors(ui: &Ui, numbers: &Numbers, body: Rect, mark: Option<f32>) {
    let left = body.right() + 12.0;
    let bottom = body.bottom().min(body.top() + 220.0);
    let rect = Rect::from_x_y_ranges(left..=left + 11.0, body.top() + 2.0..=bottom - 2.0);
    if rect.height() < 30.0 {
        return;
    }
    let bar = ColorBar {
        colormap: numbers.colors.colormap,
        range: numbers.colors.range,
        gamma: 1.0,
        opacity: 1.0,
        uniform: None,
        above: false,
        mark,
    };
    bar.show(ui, rect);
}

/// What is pointed at, in numbers; else how far they are, or what can be done.
fn told(ui: &mut Ui, numbers: &Numbers, rect: Rect, at: Option<(usize, usize)>) {
    let text = match (at, numbers.under_way) {
        (Some((layer, head)), _) => RichText::new(numbers.told(layer, head)).small(),
        (None, Some((done, all, what))) => {
            let text = format!("{}: … {done} of {all} {what}", numbers.measure.name());
            RichText::new(text).small().color(theme::stale_color(ui.visuals()))
        }
        (None, None) => {
            RichText::new("click to look, Shift and click to cut, again to leave it").small().weak()
        }
    };
    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| ui.add(Label::new(text).truncate()));
}

/// What everything here is of.
fn of(ui: &mut Ui, store: &Store) {
    if store.subject().is_some_and(|subject| !subject.fresh) {
        ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
    }
    if store.subject().is_some() {
        ui.add(Label::new(RichText::new(about(store)).small()).truncate());
    }
}

/// The study of what cutting every head does: how it is started and stopped, how far it is, what it is about.
fn study(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let study = store.studies.get(StudyKind::Heads);
    let base = store.base_of(store.selection.slot).filter(|run| run.end.is_some());
    let tokens = pinned(store);
    if let Some(study) = study.filter(|study| study.state == State::Running) {
        let (done, all) = study.steps;
        let share = done as f32 / all.max(1) as f32;
        ui.add(ProgressBar::new(share).desired_width(110.0).text(format!("{done} of {all}")));
        if ui.button("Stop").on_hover_text("Stops measuring; what was found stays").clicked() {
            frame.ask(Command::DropStudy(StudyKind::Heads));
        }
    }
    let is_there =
        |study: &StudyRun| matches!(study.state, State::Running | State::Whole) && measures(store, study);
    if !study.is_some_and(is_there) {
        let n = store.n_layers() * store.n_heads();
        let ready = store.model.is_some() && base.is_some();
        let words =
            base.map(|base| phrase(tokens.iter().filter_map(|at| base.answer.get(*at)).map(in_phrase)));
        let text = format!("Measure: {n} heads, each cut answer -> visual");
        let button = ui.add_enabled(ready, Button::new(text));
        frame.place("measure heads", button.rect);
        let of = words.unwrap_or("an answer".to_string());
        let tooltip = format!(
            "Cuts answer -> visual in one head of one layer at a time, and takes the change of the log probability \
             of {of}. It goes on while nothing else is asked"
        );
        let button = button.on_hover_text(tooltip).on_disabled_hover_text("Needs a model and its answer");
        if button.clicked() {
            frame.ask(Command::Study(Box::new(Study::Heads(HeadEffect { tokens: tokens.to_vec() }))));
        }
    }
    if let Some(study) = study {
        ui.add(Label::new(state(ui, store, study)).wrap());
    }
}

/// Whether the uncut run itself is on show.
fn uncut(store: &Store) -> bool {
    store.runs.lane(store.selection.slot).view().is_some_and(|run| run.base.is_none())
}

/// The tokens of the uncut run that are pinned: those of an answer under a cut are others.
fn pinned(store: &Store) -> &[usize] {
    if uncut(store) { &store.selection.tokens } else { &[] }
}

/// Whether a study measures what would be measured now.
fn measures(store: &Store, study: &StudyRun) -> bool {
    let base = store.base_of(store.selection.slot);
    let these = matches!(&study.study, Study::Heads(HeadEffect { tokens }) if tokens == pinned(store));
    these && base.is_some_and(|base| base.id == study.base)
}

/// Whether a study is about what is on show.
fn is_shown(store: &Store, study: &StudyRun) -> bool {
    uncut(store) && measures(store, study)
}

/// What a study is about, in words.
fn studied(store: &Store, study: &StudyRun) -> String {
    let answer = store.runs.get(study.base).map_or(&[][..], |run| &run.answer[..]);
    let words = match &study.study {
        Study::Heads(HeadEffect { tokens }) => {
            phrase(tokens.iter().filter_map(|at| answer.get(*at)).map(in_phrase))
        }
        _ => String::new(),
    };
    format!("{words}, run {}", study.base_name)
}

/// What a study is about and how it ended, in words.
fn state(ui: &Ui, store: &Store, study: &StudyRun) -> RichText {
    let of = format!("of {}", studied(store, study));
    let (done, all) = study.steps;
    let text = match &study.state {
        State::Failed(why) => {
            return RichText::new(format!("{of}: {why}")).small().color(theme::cut_color(ui.visuals()));
        }
        State::Dropped => format!("{of}: stopped at {done} of {all} heads"),
        State::Running | State::Whole => of,
    };
    match is_shown(store, study) {
        true => RichText::new(text).small().weak(),
        false => {
            let color = theme::stale_color(ui.visuals());
            RichText::new(format!("{text}, which is not what is on show")).small().color(color)
        }
    }
}
