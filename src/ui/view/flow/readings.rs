//! What every span of a run reads from every other, layer by layer, as ribbons have it.
//!
//! Numbers are means over a span's rows and all heads; of columns of several layers, over these too. Several spans
//! under one name read what their rows read on average. Knows runs and layouts of ribbons; draws nothing.

use std::{ops::Range, sync::Arc};

use crate::{
    spec::span::Span,
    trace::{
        flow::SpanFlow,
        offer::Offer,
        table::{Table, Value},
        tensors::NamedTensor,
    },
    ui::{
        store::{run::Run, store::Store},
        view::{
            flow::columns::{Columns, in_words},
            flow::nodes::{Node, counted, meaning, positions},
            flow::ribbons::{LEAST, Pick, Ribbons},
        },
        widgets::number,
    },
    worker::protocol::Slot,
};

/// The flow of a run.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// What its spans read.
    flow: &'a Arc<SpanFlow>,
    run: &'a Run,
    n_heads: usize,
    /// Whether it is of the run that was asked for, rather than of the one before.
    pub fresh: bool,
}

impl<'a> Reading<'a> {
    /// That of a slot's run; while it goes on, that of the run before. `None` where there is neither.
    pub fn of(store: &'a Store, slot: Slot) -> Option<Self> {
        let lane = store.runs.lane(slot);
        let view = lane.view();
        let before = lane.done().filter(|done| view.is_none_or(|view| view.same_prompt(done)));
        let run = view.filter(|run| run.end.is_some()).or(before)?;
        let flow = run.end.as_ref()?.flow.as_ref()?;
        Some(Reading { flow, run, n_heads: store.n_heads(), fresh: !lane.busy() })
    }

    /// The spans that read something, from top to bottom.
    pub fn nodes(&self, all: bool) -> Vec<Node> {
        let mut present = positions(self.run);
        for (span, rows) in Span::ALL.iter().zip(self.flow.rows) {
            // The only token of an answer is predicted and never looks: there are two at least, or none.
            if rows == 0 {
                present[span.index()] = 0;
            }
        }
        Node::of(&present, all)
    }

    /// The chart of them.
    pub fn ribbons(&self, size: [f32; 2], all: bool) -> Ribbons {
        let mut ribbons = Ribbons::new(self.nodes(all), self.flow.n_layers, size, 1.0, None);
        let columns = ribbons.columns;
        ribbons.fill(LEAST, |column, query, key| Some(self.share(columns.layers(column), query, key)));
        ribbons
    }

    fn rows(&self, node: &Node) -> usize {
        node.spans.iter().map(|span| self.flow.rows[span.index()]).sum()
    }

    /// What a node reads from another, the mean of some layers.
    pub fn share(&self, layers: Range<usize>, query: &Node, key: &Node) -> f32 {
        let n = layers.len().max(1) as f32;
        layers.map(|layer| self.share_in(layer, query, key)).sum::<f32>() / n
    }

    fn share_in(&self, layer: usize, query: &Node, key: &Node) -> f32 {
        let of = |query: Span| key.spans.iter().map(|key| self.flow.get(layer, query, *key)).sum::<f32>();
        match query.spans[..] {
            [one] => of(one),
            _ => {
                let weighed = query.spans.iter().map(|span| of(*span) * self.flow.rows[span.index()] as f32);
                weighed.sum::<f32>() / self.rows(query).max(1) as f32
            }
        }
    }

    /// What is under the pointer, in words.
    pub fn words(&self, ribbons: &Ribbons, pick: Pick) -> Vec<String> {
        match pick {
            Pick::Ribbon(at) => {
                let Some(band) = ribbons.bands.get(at) else { return Vec::new() };
                let (Some(query), Some(key)) = (ribbons.nodes.get(band.query), ribbons.nodes.get(band.key))
                else {
                    return Vec::new();
                };
                let layers = ribbons.columns.layers(band.column);
                let (reads, from) = (query.word(), key.word());
                let share = number::short(band.value);
                let whose = self.mean_of(layers.len(), query);
                let mut words =
                    vec![format!("{reads} reads {share} from {from} in {} {whose}", in_words(layers))];
                words.extend(meaning(query));
                words
            }
            Pick::Node { node, edge } => {
                let Some(query) = ribbons.nodes.get(node) else { return Vec::new() };
                let mut words = vec![format!("{}: {}", query.word(), counted(query.positions, "position"))];
                if let Some(column) = edge.checked_sub(1) {
                    let layers = ribbons.columns.layers(column);
                    let whose = self.mean_of(layers.len(), query);
                    words.push(format!("In {} it reads {whose}", in_words(layers.clone())));
                    for key in &ribbons.nodes {
                        let share = self.share(layers.clone(), query, key);
                        if share > 0.0 {
                            words.push(format!("{} from {}", number::short(share), key.word()));
                        }
                    }
                }
                words.extend(meaning(query));
                words.push("A click draws its ribbons alone, and all again".to_string());
                words
            }
        }
    }

    /// What a number is a mean of: `(mean of 12 rows, 4 heads)`.
    fn mean_of(&self, n_layers: usize, query: &Node) -> String {
        let mut parts = Vec::new();
        if n_layers > 1 {
            parts.push(counted(n_layers, "layer"));
        }
        parts.extend([counted(self.rows(query), "row"), counted(self.n_heads, "head")]);
        format!("(mean of {})", parts.join(", "))
    }

    /// Its numbers, as they are on the chart.
    pub fn table(&self, nodes: &[Node], columns: Columns) -> Table {
        let mut table = Table::new("flow", ["layer", "query", "key", "share"]);
        for column in 0..columns.count() {
            for (query, key) in nodes.iter().flat_map(|query| nodes.iter().map(move |key| (query, key))) {
                let share = self.share(columns.layers(column), query, key);
                let layer = layer_value(columns, column);
                table.push([layer, query.word().into(), key.word().into(), share.into()]);
            }
        }
        table
    }

    /// All spans in every layer: `[layers, query span, key span]`.
    pub fn tensors(&self) -> Offer {
        let shape = [self.flow.n_layers, Span::COUNT, Span::COUNT];
        let tensor = NamedTensor::new("flow.spans", shape, self.flow.data.clone());
        Offer::Tensors { name: "flow".to_string(), tensors: vec![tensor] }
    }
}

/// A column of layers as a value of a table.
pub fn layer_value(columns: Columns, column: usize) -> Value {
    match columns.layers(column) {
        layers if layers.len() == 1 => layers.start.into(),
        _ => columns.label(column).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{experiment::Experiment, picture::ImageSource};

    #[test]
    fn several_spans_read_what_their_rows_read_on_average() {
        let mut flow = SpanFlow { n_layers: 1, rows: [1, 3, 0, 2, 0, 1, 0], data: vec![0.0; 49] };
        let mut set = |query: Span, key: Span, share| {
            flow.data[query.index() * Span::COUNT + key.index()] = share;
        };
        set(Span::Bos, Span::Bos, 1.0);
        set(Span::System, Span::Bos, 0.25);
        set(Span::System, Span::System, 0.25);
        set(Span::System, Span::Visual, 0.5);
        set(Span::Last, Span::Visual, 1.0);
        let flow = Arc::new(flow);
        let experiment = Experiment::ask(ImageSource::File("a.png".into()), "what ?", 4);
        let run = Run::new(1, experiment, None);
        let reading = Reading { flow: &flow, run: &run, n_heads: 4, fresh: true };
        let present = [1, 3, 0, 2, 0, 1, 0];
        let nodes = Node::of(&present, false);
        let at = |name: &str| nodes.iter().find(|node| node.word() == name).unwrap();
        // One row reads only text, three read it half the time.
        assert_eq!(reading.share(0..1, at("text"), at("text")), (1.0 + 3.0 * 0.5) / 4.0);
        assert_eq!(reading.share(0..1, at("text"), at("visual")), 3.0 * 0.5 / 4.0);
        assert_eq!(reading.share(0..1, at("last"), at("visual")), 1.0);
        let sum: f32 = nodes.iter().map(|key| reading.share(0..1, at("text"), key)).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(reading.mean_of(1, at("text")), "(mean of 4 rows, 4 heads)");
        assert_eq!(reading.mean_of(3, at("last")), "(mean of 3 layers, 1 row, 4 heads)");
    }

    #[test]
    fn nothing_is_read_where_there_is_no_run() {
        assert!(Reading::of(&Store::default(), 0).is_none());
    }
}
