//! What happens to a word when a span can no longer read another: attention's ribbons, drawn from knockouts.
//!
//! Every edge is cut in a window of layers around every layer; what stands for it is the change of the log
//! probability of the pinned tokens of the uncut answer. Every edge is a cut of its own: spans are never merged, since
//! two cuts together are not their sum. Knows the study and its findings; nothing of how it goes about it.

use std::ops::Range;

use egui::{RichText, Ui};

use crate::{
    spec::{
        span::Span,
        study::{EdgeEffect, Study, StudyKind},
    },
    trace::{offer::Offer, table::Table, tensors::NamedTensor},
    ui::{
        frame::Frame,
        store::{
            command::Command,
            run::Run,
            store::Store,
            studies::{State, StudyRun},
        },
        theme,
        view::{
            flow::columns::{Columns, in_words},
            flow::nodes::{Node, counted, meaning, positions},
            flow::readings::layer_value,
            flow::ribbons::{LEAST, Pick, Ribbons, Scale},
        },
        widgets::{number, word::shown},
    },
};

/// Layers in the window, to choose from.
pub const WIDTHS: [usize; 4] = [1, 3, 5, 9];

/// The node's height in widest ribbons: several come into one node.
const FULL: f32 = 1.6;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Effects<'a> {
    study: &'a StudyRun,
    asked: &'a EdgeEffect,
    /// The run that it is about, while it is held.
    base: Option<&'a Run>,
    n_layers: usize,
    /// The largest change so far, in nats.
    largest: f32,
}

impl<'a> Effects<'a> {
    /// The last study; `None` before the first.
    pub fn of(store: &'a Store) -> Option<Self> {
        let study = store.studies.get(StudyKind::Edges)?;
        let Study::Edges(asked) = &study.study else { return None };
        let base = store.runs.get(study.base);
        let changes = study.found.edges.values().flat_map(|layers| layers.values());
        let largest = changes.filter(|delta| delta.is_finite()).fold(0.0, |most: f32, d| most.max(d.abs()));
        Some(Effects { study, asked, base, n_layers: store.n_layers(), largest })
    }

    /// What it is about, in words.
    pub fn of_words(&self) -> String {
        said(self.base, &self.asked.tokens)
    }

    /// The run whose answer it is about, if that is not the one on show.
    pub fn of_another_run(&self, store: &Store) -> Option<&str> {
        let shown = store.base_of(store.selection.slot).map(|run| run.id);
        (shown != Some(self.study.base)).then_some(self.study.base_name.as_str())
    }

    /// Whether something was measured.
    pub fn found(&self) -> bool {
        !self.study.found.edges.is_empty()
    }

    /// What was measured, in words.
    pub fn heading(&self) -> String {
        let (of, run, width) = (self.of_words(), &self.study.base_name, self.width_words());
        format!("log probability of {of}, run {run}, cut in windows of {width}")
    }

    /// The spans, from top to bottom: those of the run, and what else was found.
    pub fn nodes(&self) -> Vec<Node> {
        let mut present = self.base.map_or([0; Span::COUNT], positions);
        // The only token of an answer is predicted and never looks.
        let answer = &mut present[Span::Answer.index()];
        *answer = if *answer > 1 { *answer } else { 0 };
        for (query, key) in self.study.found.edges.keys() {
            for span in [query, key] {
                let known = &mut present[span.index()];
                *known = (*known).max(1);
            }
        }
        Node::of(&present, true)
    }

    /// The chart of it.
    pub fn ribbons(&self, size: [f32; 2]) -> Ribbons {
        let (nodes, full) = (self.nodes(), self.largest * FULL);
        let mut ribbons = Ribbons::new(nodes, self.n_layers, size, full, Some(scale(self.largest)));
        let columns = ribbons.columns;
        ribbons
            .fill(self.largest * LEAST, |column, query, key| self.delta(columns.layers(column), query, key));
        ribbons
    }

    /// The change when an edge is cut around a layer, in nats; of several layers the mean of those that were
    /// measured. `None` where nothing was yet.
    fn delta(&self, layers: Range<usize>, query: &Node, key: &Node) -> Option<f32> {
        let by_layer = self.study.found.edges.get(&(query.first(), key.first()))?;
        let found: Vec<f32> = layers.filter_map(|layer| by_layer.get(&layer).copied()).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f32>() / found.len() as f32)
    }

    /// The layers of the windows around some layers.
    fn window(&self, layers: Range<usize>) -> Range<usize> {
        let half = self.asked.width / 2;
        layers.start.saturating_sub(half)..(layers.end + half).min(self.n_layers)
    }

    /// What is under the pointer, in words.
    pub fn words(&self, ribbons: &Ribbons, pick: Pick) -> Vec<String> {
        let node = |at: usize| ribbons.nodes.get(at);
        match pick {
            Pick::Ribbon(at) => {
                let Some(band) = ribbons.bands.get(at) else { return Vec::new() };
                let (Some(query), Some(key)) = (node(band.query), node(band.key)) else { return Vec::new() };
                let layers = ribbons.columns.layers(band.column);
                let mut words = vec![self.cutting(query, key, &layers, band.value)];
                if layers.len() > 1 {
                    let around = in_words(layers);
                    words.push(format!("Mean over windows of {} around {around}", self.width_words()));
                } else {
                    let cut = self.asked.intervention(query.first(), key.first(), layers.start);
                    words.extend(cut.knockouts.iter().map(|knockout| format!("As typed: {knockout}")));
                }
                words.extend(meaning(query));
                words
            }
            Pick::Node { node: at, edge } => {
                let Some(query) = node(at) else { return Vec::new() };
                let mut words = vec![format!("{}: {}", query.word(), counted(query.positions, "position"))];
                if let Some(column) = edge.checked_sub(1) {
                    let layers = ribbons.columns.layers(column);
                    for key in &ribbons.nodes {
                        if let Some(delta) = self.delta(layers.clone(), query, key) {
                            words.push(self.cutting(query, key, &layers, delta));
                        }
                    }
                }
                words.extend(meaning(query));
                words.push("A click draws its ribbons alone, and all again".to_string());
                words
            }
        }
    }

    fn cutting(&self, query: &Node, key: &Node, layers: &Range<usize>, delta: f32) -> String {
        let (window, nats) = (in_words(self.window(layers.clone())), nats(delta));
        let of = self.of_words();
        format!("cutting {} -> {} in {window}: {nats} for {of}", query.word(), key.word())
    }

    fn width_words(&self) -> String {
        counted(self.asked.width, "layer")
    }

    /// Its numbers, as they are on the chart.
    pub fn table(&self, nodes: &[Node], columns: Columns) -> Table {
        let headings = ["layer", "query", "key", "delta (nats)", "window"];
        let mut table = Table::new("effect of edges", headings);
        for column in 0..columns.count() {
            for (query, key) in nodes.iter().flat_map(|query| nodes.iter().map(move |key| (query, key))) {
                let layers = columns.layers(column);
                let Some(delta) = self.delta(layers.clone(), query, key) else { continue };
                let window = self.window(layers);
                let window = match window.len() {
                    0 | 1 => window.start.to_string(),
                    _ => format!("{}-{}", window.start, window.end - 1),
                };
                let layer = layer_value(columns, column);
                table.push([layer, query.word().into(), key.word().into(), delta.into(), window.into()]);
            }
        }
        table
    }

    /// All edges in every layer: `[layers, query span, key span]`; NaN where nothing was measured.
    pub fn tensors(&self) -> Offer {
        let side = Span::COUNT;
        let mut values = vec![f32::NAN; self.n_layers * side * side];
        for ((query, key), layers) in &self.study.found.edges {
            for (layer, delta) in layers {
                let at = (layer * side + query.index()) * side + key.index();
                if let Some(value) = values.get_mut(at) {
                    *value = *delta;
                }
            }
        }
        let shape = vec![self.n_layers, side, side];
        let tensor = NamedTensor::new("effect.edges", shape, values);
        Offer::Tensors { name: "effect of edges".to_string(), tensors: vec![tensor] }
    }
}

/// Which window, measure or stop, how far it is, and what the numbers are of.
pub fn controls(ui: &mut Ui, store: &Store, width: &mut usize, frame: &mut Frame) {
    ui.label(RichText::new("window").small());
    for n in WIDTHS {
        let choice = ui.selectable_label(*width == n, RichText::new(n.to_string()).small());
        let choice = choice.accessible_name(format!("window of {}", counted(n, "layer")));
        if choice.on_hover_text("Layers that are cut together, around each layer in turn").clicked() {
            *width = n;
        }
    }
    let effects = Effects::of(store);
    let running = effects.as_ref().filter(|effects| effects.study.state == State::Running);
    if running.is_some()
        && ui.small_button("Stop measuring").on_hover_text("What was measured stays").clicked()
    {
        frame.ask(Command::DropStudy(StudyKind::Edges));
    }
    let asks_this = |effects: &Effects<'_>| {
        (&effects.asked.tokens, effects.asked.width) == (&store.selection.tokens, *width)
            && effects.of_another_run(store).is_none()
    };
    if !running.is_some_and(asks_this) {
        measure(ui, store, *width, effects.as_ref(), frame);
    }
    if let Some(effects) = &effects {
        standing(ui, store, effects);
    }
}

/// The button that measures the pinned tokens, or what is in its way.
fn measure(ui: &mut Ui, store: &Store, width: usize, effects: Option<&Effects<'_>>, frame: &mut Frame) {
    let weak = |text: &str| RichText::new(text).small().weak();
    if store.model.is_none() {
        ui.label(weak("effects are measured with the model: open it first"));
        return;
    }
    let slot = store.selection.slot;
    let Some(base) = store.base_of(slot).filter(|run| run.end.is_some()) else {
        ui.label(weak("effects can be measured when the uncut answer is complete"));
        return;
    };
    let shown = store.runs.lane(slot).view().map(|run| run.id);
    if shown != Some(base.id) {
        // Tokens that are pinned in an answer under a cut are none of the uncut answer.
        ui.label(weak("effects are of words of the uncut answer"));
        if let Some(uncut) = store.runs.slot_showing(base.id) {
            let show = ui.small_button(format!("Show run {}", store.runs.name(uncut)));
            if show.clicked() {
                frame.ask(Command::Show(uncut));
            }
        }
        return;
    }
    let asked = EdgeEffect { tokens: store.selection.tokens.clone(), width };
    let done = effects.is_some_and(|effects| {
        (effects.study.base, effects.asked, &effects.study.state) == (base.id, &asked, &State::Whole)
    });
    let of = said(Some(base), &asked.tokens);
    let button = ui.small_button(if done { format!("Measure {of} again") } else { format!("Measure {of}") });
    let button = button.on_hover_text(
        "Cuts every span -> span edge in a window around every layer, and scores the answer each time. Pin a word to \
         measure it alone.",
    );
    if button.clicked() {
        frame.ask(Command::Study(Box::new(Study::Edges(asked))));
    }
}

/// How far a study is, and what its numbers are of.
fn standing(ui: &mut Ui, store: &Store, effects: &Effects<'_>) {
    let (done, all) = effects.study.steps;
    match &effects.study.state {
        State::Running => _ = ui.label(RichText::new(format!("{done} of {all}")).small().monospace()),
        State::Dropped => _ = ui.label(RichText::new(format!("stopped at {done} of {all}")).small().weak()),
        State::Failed(why) => {
            let why = RichText::new(why).small().color(theme::cut_color(ui.visuals()));
            ui.label(why);
        }
        State::Whole => {}
    }
    let pinned = &store.selection.tokens;
    let other = effects.of_another_run(store);
    if other.is_some() || *pinned != effects.asked.tokens {
        let run = other.map(|name| format!(" of run {name}")).unwrap_or_default();
        let text = RichText::new(format!("of {}{run}", effects.of_words())).small();
        let label = ui.label(text.color(theme::stale_color(ui.visuals())));
        label.on_hover_text("What is drawn was measured of this, not of what is pinned now");
    }
}

/// Some tokens of an answer, as people read them.
fn said(run: Option<&Run>, tokens: &[usize]) -> String {
    const LONGEST: usize = 28;
    if tokens.is_empty() {
        return "the whole answer".to_string();
    }
    let text: String = match run {
        Some(run) => tokens.iter().filter_map(|at| run.answer.get(*at)).map(shown).collect(),
        None => return counted(tokens.len(), "token"),
    };
    let text = text.trim();
    match text.chars().count() > LONGEST {
        true => format!("“{}…”", text.chars().take(LONGEST).collect::<String>().trim_end()),
        false => format!("“{text}”"),
    }
}

/// A change with its sign and its unit.
fn nats(delta: f32) -> String {
    format!("{} nats", number::signed(delta).replacen('-', "−", usize::from(delta < 0.0)))
}

/// The largest of 1, 2, 5, 10 and so on, and their tenths, that is at most a number of nats.
fn scale(largest: f32) -> Scale {
    if !(largest.is_finite() && largest > 0.0) {
        return Scale { value: 0.0, text: String::new() };
    }
    let exponent = largest.log10().floor();
    let decade = 10f32.powf(exponent);
    let value =
        [5.0, 2.0].map(|step| step * decade).into_iter().find(|step| *step <= largest).unwrap_or(decade);
    let digits = (-exponent).max(0.0) as usize;
    Scale { value, text: format!("{value:.digits$} nats") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{experiment::Experiment, picture::ImageSource},
        trace::{
            finding::{EdgeFound, Finding},
            table::Value,
            tokens::{AnswerToken, PromptToken},
        },
        ui::store::studies::Studies,
        worker::protocol::ToldRow,
    };

    fn run() -> Run {
        let experiment = Experiment::ask(ImageSource::File("a.png".into()), "what ?", 4);
        let mut run = Run::new(1, experiment, None);
        for (position, span) in [Span::Bos, Span::Visual, Span::Question, Span::Last].into_iter().enumerate()
        {
            let text = span.name().to_string();
            run.prompt.push(PromptToken { position, id: 1, text, span, visual: None, partial: false });
        }
        for (at, text) in [" a", " camera", " stands"].into_iter().enumerate() {
            let token = AnswerToken {
                position: 4 + at,
                id: 1,
                text: text.to_string(),
                span: Span::Answer,
                entropy: None,
                logprob: -0.1,
                top: Vec::new(),
                end: false,
                partial: false,
            };
            run.push(token, ToldRow::Nothing);
        }
        run
    }

    fn study(found: &[(Span, Span, usize, f32)]) -> Studies {
        let mut studies = Studies::default();
        studies.begin(9, Study::Edges(EdgeEffect { tokens: vec![1], width: 3 }), 1, "A".to_string());
        for &(query, key, layer, delta) in found {
            let edge = Finding::Edge(EdgeFound { query, key, layer, delta });
            studies.found(9, edge, (1, 20));
        }
        studies
    }

    fn effects<'a>(studies: &'a Studies, run: &'a Run) -> Effects<'a> {
        let study = studies.get(StudyKind::Edges).unwrap();
        let Study::Edges(asked) = &study.study else { panic!("another study") };
        Effects { study, asked, base: Some(run), n_layers: 6, largest: 4.0 }
    }

    #[test]
    fn missing_results_are_gaps_and_found_ones_speak() {
        use Span::{Answer, Last, Visual};
        let (run, studies) = (run(), study(&[(Answer, Visual, 3, -3.2125), (Last, Visual, 0, 4.0)]));
        let effects = effects(&studies, &run);
        let ribbons = effects.ribbons([760.0, 420.0]);
        assert_eq!(ribbons.bands.len(), 2, "what was not measured is not drawn");
        let at = ribbons.bands.iter().position(|band| band.value < 0.0).unwrap();
        let words = effects.words(&ribbons, Pick::Ribbon(at));
        assert_eq!(words[0], "cutting answer -> visual in layers 2-4: −3.21 nats for “camera”");
        let up = effects.words(&ribbons, Pick::Ribbon(1 - at));
        assert_eq!(up[0], "cutting last -> visual in layers 0-1: +4.00 nats for “camera”");
        let table = effects.table(&ribbons.nodes, ribbons.columns);
        assert_eq!(table.rows.len(), 2);
        assert_eq!(table.rows[1][3], Value::Number(-3.2125));
        let Offer::Tensors { tensors, .. } = effects.tensors() else { panic!("no tensors") };
        assert_eq!(tensors[0].shape, [6, 7, 7]);
        let at = (3 * 7 + Answer.index()) * 7 + Visual.index();
        assert_eq!(tensors[0].values[at], -3.2125);
        assert_eq!(tensors[0].values.iter().filter(|value| value.is_finite()).count(), 2);
    }

    #[test]
    fn columns_of_several_layers_are_means_of_what_is_there() {
        use Span::{Last, Visual};
        let (run, studies) = (run(), study(&[(Last, Visual, 0, -1.0), (Last, Visual, 2, -2.0)]));
        let effects = effects(&studies, &run);
        let ribbons = effects.ribbons([180.0, 200.0]);
        assert!(ribbons.columns.per() >= 3, "{:?}", ribbons.columns);
        assert_eq!(ribbons.bands[0].value, -1.5);
    }

    #[test]
    fn a_scale_is_a_round_number_that_fits() {
        for (largest, expected, text) in
            [(4.0, 2.0, "2 nats"), (0.07, 0.05, "0.05 nats"), (56.1, 50.0, "50 nats"), (1.0, 1.0, "1 nats")]
        {
            let found = scale(largest);
            assert!((found.value - expected).abs() < 1e-5, "{largest}: {found:?}");
            assert_eq!(found.text, text);
        }
        assert_eq!((scale(f32::NAN).value, scale(0.0).value), (0.0, 0.0));
    }

    #[test]
    fn tokens_are_named_as_they_are_read() {
        let run = run();
        assert_eq!(said(Some(&run), &[]), "the whole answer");
        assert_eq!(said(Some(&run), &[0, 1]), "“a camera”");
        assert_eq!(said(None, &[0, 1]), "2 tokens");
        assert_eq!((nats(-2.1e-5), nats(0.0)), ("−2.1e-5 nats".to_string(), "0 nats".to_string()));
    }
}
