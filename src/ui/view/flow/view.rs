//! Who reads what, layer by layer, and what that does: ribbons from span to span, of attention or of effect; and how
//! the selected words divide their attention, as lines or as bars.
//!
//! Knows which chart is drawn and what the pointer does on it; what charts are made of is `ribbons`' and
//! `share_lines`'. A click on a layer goes there, a click on a span draws its ribbons alone.

use egui::{
    EventFilter, Key, Label, Modifiers, Pos2, Rect, Response, RichText, Role, Sense, Stroke, StrokeKind,
    TextStyle, Ui, WidgetInfo, vec2,
};

use crate::{
    spec::span::Span,
    trace::{
        figure::Figure,
        offer::{Format, Offer},
    },
    ui::{
        frame::Frame,
        store::{command::Command, store::Store, view_id::ViewId},
        theme,
        view::{
            flow::columns::{Columns, CutLayers, Look},
            flow::edge_effects::{self, Effects},
            flow::nodes::{Node, meaning},
            flow::readings::Reading,
            flow::ribbons::{Pick, Ribbons, Stress},
            flow::share_chart::{self, Drawn},
            flow::share_lines::ShareChart,
            pane::View,
        },
        widgets::{
            export_menu::export_menu,
            figure::paint,
            section::{section, still},
            swatch, word,
        },
    },
    worker::protocol::Slot,
};

/// Below this height the chart goes without its legend, and without what explains it.
const LOW: f32 = 130.0;

/// Least height of a chart.
const LEAST: f32 = 40.0;

/// What it can be exported as.
const FORMATS: [Format; 4] = [Format::Svg, Format::Csv, Format::Npz, Format::Safetensors];

/// Which chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chart {
    /// From span to span.
    Ribbons,
    /// A line a span.
    Lines,
    /// A stacked bar a layer.
    Bars,
}

/// The view.
#[derive(Debug)]
pub struct FlowView {
    chart: Chart,
    /// Whether ribbons are effects rather than attention.
    effect: bool,
    /// Whether bos, template and markers have nodes of their own.
    all_spans: bool,
    /// A span of the node whose ribbons alone are drawn.
    isolated: Option<Span>,
    /// A span of the node that the pointer is on in the legend.
    pointed: Option<Span>,
    /// Layers in the window of a study.
    width: usize,
    /// How the chart looked last: what is exported is the same picture.
    look: Look,
}

impl Default for FlowView {
    fn default() -> Self {
        FlowView {
            chart: Chart::Ribbons,
            effect: false,
            all_spans: false,
            isolated: None,
            pointed: None,
            width: 3,
            look: Look::default(),
        }
    }
}

impl View for FlowView {
    fn title(&self, _store: &Store) -> String {
        "Flow".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        still(ui, |ui| {
            section(ui, "Flow", frame, |ui, frame| {
                export_menu(ui, frame, ViewId::Flow, &FORMATS);
                self.of(ui, store);
            });
            if store.n_layers() == 0 {
                weak(ui, if store.busy() { "loading…" } else { "no model yet" });
                return;
            }
            self.switches(ui, store, frame);
            match self.source(store) {
                Some(source) => self.ribbon_chart(ui, store, &source, frame),
                None => match self.shares(store) {
                    Some(chart) => {
                        let drawn = if self.chart == Chart::Bars { Drawn::Bars } else { Drawn::Lines };
                        self.look = share_chart::show(ui, &chart, drawn, frame);
                    }
                    None => weak(ui, &self.instead(store)),
                },
            }
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        let size = self.look.size;
        if let Some(source) = self.source(store) {
            let ribbons = source.ribbons(size, self.all_spans);
            let figure = self.ribbon_figure(store, &source, &ribbons, None);
            let (nodes, columns) = (&ribbons.nodes, ribbons.columns);
            let (table, tensors) = match &source {
                Source::Attention(reading) => (reading.table(nodes, columns), reading.tensors()),
                Source::Effect(effects) => (effects.table(nodes, columns), effects.tensors()),
            };
            return vec![Offer::Figure(figure), Offer::Table(table), tensors];
        }
        let Some(chart) = self.shares(store) else { return Vec::new() };
        let figure = match self.chart {
            Chart::Bars => chart.bars(self.look),
            _ => chart.lines(self.look),
        };
        vec![Offer::Figure(figure), Offer::Table(chart.table()), chart.tensors()]
    }
}

/// What ribbons are made of.
enum Source<'a> {
    Attention(Reading<'a>),
    Effect(Effects<'a>),
}

impl Source<'_> {
    fn nodes(&self, all_spans: bool) -> Vec<Node> {
        match self {
            Source::Attention(reading) => reading.nodes(all_spans),
            Source::Effect(effects) => effects.nodes(),
        }
    }

    fn ribbons(&self, size: [f32; 2], all_spans: bool) -> Ribbons {
        match self {
            Source::Attention(reading) => reading.ribbons(size, all_spans),
            Source::Effect(effects) => effects.ribbons(size),
        }
    }

    fn words(&self, ribbons: &Ribbons, pick: Pick) -> Vec<String> {
        match self {
            Source::Attention(reading) => reading.words(ribbons, pick),
            Source::Effect(effects) => effects.words(ribbons, pick),
        }
    }
}

fn weak(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).weak());
}

/// The run on show: the hovered word's, else the selected one.
fn shown(store: &Store) -> Slot {
    store.selection.subject().0
}

/// The words on show: a token, a phrase or a whole answer, and of which run and which head.
fn subject_words(store: &Store) -> String {
    let (slot, tokens) = store.selection.subject();
    let lane = store.runs.lane(slot);
    let text: String = tokens.iter().filter_map(|at| lane.token(*at)).map(word::shown).collect();
    let of =
        if tokens.is_empty() { "the whole answer".to_string() } else { format!("“{}”", text.trim()) };
    format!("of {of}, run {}, {}", store.runs.name(slot), store.selection.head_name())
}

impl FlowView {
    /// Whether ribbons are drawn of what was measured.
    fn of_effect(&self) -> bool {
        self.chart == Chart::Ribbons && self.effect
    }

    /// What ribbons are drawn from; `None` where there is nothing, or another chart is drawn.
    fn source<'a>(&self, store: &'a Store) -> Option<Source<'a>> {
        match (self.chart, self.effect) {
            (Chart::Ribbons, false) => Reading::of(store, shown(store)).map(Source::Attention),
            (Chart::Ribbons, true) => {
                Effects::of(store).filter(|effects| effects.found()).map(Source::Effect)
            }
            _ => None,
        }
    }

    fn shares(&self, store: &Store) -> Option<ShareChart> {
        let other = matches!(self.chart, Chart::Lines | Chart::Bars);
        other.then(|| ShareChart::new(store, subject_words(store))).flatten()
    }

    /// What stands where there is no chart.
    fn instead(&self, store: &Store) -> String {
        let text = match store.runs.lane(shown(store)).view() {
            None if store.busy() => "no answer yet…",
            None if store.cancelled() => "cancelled",
            None => "no answer yet: ask a question about the image",
            Some(_) if self.of_effect() => {
                "Attention tells what a span looks at; an effect tells what that changes. Measure it, and every ribbon \
                 is as wide as the log probability falls when its edge is cut."
            }
            Some(_) if self.chart != Chart::Ribbons => "no attention of this answer was kept",
            Some(run) if run.end.is_none() => "the flow of all rows comes with the end of the answer…",
            Some(_) if store.model.is_none() => "this saved run was written before flow was recorded",
            Some(_) => "no flow was recorded of this run",
        };
        text.to_string()
    }

    /// What the chart is of, and whether that is up to date.
    fn of(&self, ui: &mut Ui, store: &Store) {
        if self.of_effect() {
            if let Some(effects) = Effects::of(store) {
                ui.add(Label::new(RichText::new(effects.heading()).small()).truncate());
            }
            return;
        }
        let slot = shown(store);
        let text = match self.chart {
            Chart::Ribbons => {
                format!("all rows of run {}, mean of {} heads", store.runs.name(slot), store.n_heads())
            }
            _ => subject_words(store),
        };
        let fresh = match self.chart {
            Chart::Ribbons => Reading::of(store, slot).is_none_or(|reading| reading.fresh),
            _ => store.subject().is_none_or(|subject| subject.fresh),
        };
        if store.runs.lane(slot).view().is_some() {
            ui.add(Label::new(RichText::new(text).small()).truncate());
        }
        if !fresh {
            ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
        }
    }

    /// Which chart, and of what.
    fn switches(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(4.0, 3.0);
            ui.spacing_mut().button_padding = vec2(6.0, 1.0);
            let small = |text: &str| RichText::new(text).small();
            for (chart, name, tooltip) in [
                (Chart::Ribbons, "ribbons", "What every span reads from every other, layer by layer"),
                (Chart::Lines, "lines", "How the selected words divide their attention, a line a span"),
                (Chart::Bars, "bars", "The same, stacked: every bar is all attention of a layer"),
            ] {
                let chosen = ui.selectable_label(self.chart == chart, small(name));
                if chosen.on_hover_text(tooltip).clicked() {
                    self.chart = chart;
                }
            }
            ui.separator();
            for (effect, name, tooltip) in [
                (false, "attention", "What is looked at"),
                (true, "effect", "What it changes: every edge is cut, and the answer is scored again"),
            ] {
                let chosen = ui.selectable_label(self.of_effect() == effect, small(name));
                if chosen.on_hover_text(tooltip).clicked() {
                    self.effect = effect;
                    if effect {
                        self.chart = Chart::Ribbons;
                    }
                }
            }
            ui.separator();
            if self.of_effect() {
                edge_effects::controls(ui, store, &mut self.width, frame);
            } else if self.chart == Chart::Ribbons {
                let all = ui.checkbox(&mut self.all_spans, small("all spans"));
                all.on_hover_text("Bos, template and markers each by itself, rather than as text");
            }
        });
    }

    /// Ribbons, their legend, and what they leave out.
    fn ribbon_chart(&mut self, ui: &mut Ui, store: &Store, source: &Source<'_>, frame: &mut Frame) {
        let roomy = ui.available_height() > LOW;
        let note = if roomy { ui.text_style_height(&TextStyle::Small) + 8.0 } else { 0.0 };
        self.pointed = None;
        if roomy {
            self.span_legend(ui, &source.nodes(self.all_spans));
        }
        let size = vec2(ui.available_width().max(LEAST), (ui.available_height() - note).max(LEAST));
        let (place, response) = ui.allocate_exact_size(size, Sense::click());
        self.look = Look::of(ui, place);
        let ribbons = source.ribbons(self.look.size, self.all_spans);
        frame.place("flow", place);
        ribbons.columns.tell(place, frame);
        let isolated = self.isolated_node(&ribbons);
        let at = |pos: Pos2| -> [f32; 2] { (pos - place.min).into() };
        let pointed = response.interact_pointer_pos().or(response.hover_pos()).map(at);
        let picked = pointed.and_then(|at| ribbons.pick(at, isolated));
        self.click_ribbons(&response, &ribbons, picked, pointed, frame);
        walk(ui, store, &response, place, frame);
        let figure = self.ribbon_figure(store, source, &ribbons, picked);
        paint(ui, place, &figure);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, "ribbons of spans by layer"));
        if let Some(words) = picked.map(|pick| source.words(&ribbons, pick)).filter(|words| !words.is_empty())
        {
            tooltip(response, &words);
        }
        if roomy {
            let left_out = left_out(&ribbons.columns, self.of_effect());
            ui.add(Label::new(RichText::new(left_out).small().weak()).truncate());
        }
    }

    /// Each span's colour and how many positions it has.
    fn span_legend(&mut self, ui: &mut Ui, nodes: &[Node]) {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
            for node in nodes {
                let words = format!("{} {}", node.name(), node.positions);
                // No stop of the Tab key: the chart is one, and goes through the spans by Space.
                let entry = swatch::entry(ui, node.first(), words).interact(Sense::CLICK | Sense::HOVER);
                if entry.hovered() {
                    self.pointed = Some(node.first());
                }
                if entry.clicked() {
                    self.isolate(node.first());
                }
                let means = match node.spans[..] {
                    [span] => swatch::meaning(span).to_string(),
                    _ => meaning(node).unwrap_or_default(),
                };
                entry.on_hover_text(format!("{means}. A click draws its ribbons alone, and all again"));
            }
        });
    }

    /// A click on a span draws its ribbons alone, or all again; elsewhere it goes to the layer. By key, it goes
    /// through the spans.
    fn click_ribbons(
        &mut self,
        response: &Response,
        ribbons: &Ribbons,
        picked: Option<Pick>,
        at: Option<[f32; 2]>,
        frame: &mut Frame,
    ) {
        if !response.clicked() {
            return;
        }
        if response.interact_pointer_pos().is_none() {
            let next = self.isolated_node(ribbons).map_or(0, |node| node + 1);
            self.isolated = ribbons.nodes.get(next).map(|node| node.first());
            return;
        }
        if let Some(Pick::Node { node, .. }) = picked {
            if let Some(node) = ribbons.nodes.get(node) {
                self.isolate(node.first());
            }
        } else if let Some(layer) = at.and_then(|[x, _]| ribbons.columns.layer_at(x)) {
            frame.ask(Command::Layer(layer));
        }
    }

    fn isolate(&mut self, span: Span) {
        self.isolated = if self.isolated == Some(span) { None } else { Some(span) };
    }

    fn isolated_node(&self, ribbons: &Ribbons) -> Option<usize> {
        let span = self.isolated?;
        ribbons.nodes.iter().position(|node| node.spans.contains(&span))
    }

    fn ribbon_figure(
        &self,
        store: &Store,
        source: &Source<'_>,
        ribbons: &Ribbons,
        picked: Option<Pick>,
    ) -> Figure {
        let name = store.runs.name(shown(store));
        let title = match source {
            Source::Attention(_) => format!("flow of attention, run {name}"),
            Source::Effect(effects) => format!("effect of cutting edges on {}", effects.of_words()),
        };
        let pointed = |span: Span| ribbons.nodes.iter().position(|node| node.spans.contains(&span));
        let legend = self.pointed.and_then(pointed).map(|node| Pick::Node { node, edge: 0 });
        let stress = Stress { picked: picked.or(legend), isolated: self.isolated_node(ribbons) };
        // What was measured was measured on the uncut run, one edge at a time.
        let cut = match source {
            Source::Attention(_) => CutLayers::of(store, shown(store)),
            Source::Effect(_) => None,
        };
        ribbons.figure(title, self.look, cut.as_ref(), store.selection.looked_at().0, stress)
    }
}

/// What ribbons leave out and what columns hold.
fn left_out(columns: &Columns, effect: bool) -> String {
    let merged = match columns.per() {
        1 => String::new(),
        per => format!("; a column is the mean of {per} layers"),
    };
    match effect {
        false => format!("what comes into a span sums to 1; ribbons below 0.5 % are left out{merged}"),
        true => format!(
            "filled: the log probability falls when the edge is cut; broken outline: it rises; below 0.5 % of the \
             largest left out{merged}"
        ),
    }
}

/// Makes a chart one stop of the Tab key, whose layers arrows walk.
fn walk(ui: &Ui, store: &Store, response: &Response, place: Rect, frame: &mut Frame) {
    if !response.has_focus() {
        return;
    }
    let arrows = EventFilter { horizontal_arrows: true, ..Default::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
    let stroke = Stroke::new(1.0, theme::accent(ui.visuals()));
    ui.painter().rect_stroke(place, 2.0, stroke, StrokeKind::Inside);
    let presses = |key| ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, key));
    let by = presses(Key::ArrowRight) as isize - presses(Key::ArrowLeft) as isize;
    if by != 0 {
        let last = store.n_layers().saturating_sub(1);
        frame.ask(Command::Layer(store.selection.layer.saturating_add_signed(by).min(last)));
    }
}

fn tooltip(response: Response, words: &[String]) {
    response.on_hover_ui_at_pointer(|ui| {
        for (at, line) in words.iter().enumerate() {
            let text = RichText::new(line);
            ui.label(if at == 0 { text.strong() } else { text });
        }
    });
}
