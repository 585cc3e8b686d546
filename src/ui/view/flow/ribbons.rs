//! Ribbons from span to span, layer by layer: a node a span at every boundary between layers, and from each key's node
//! at the left of a layer to each query's node at its right a ribbon as wide as a number.
//!
//! What comes into a node lies one above the other: shares that sum to 1 fill its height. What leaves one may be more
//! than it is high: then ribbons overlap, and none leaves the node. Knows spans by name; not where numbers come from.

use crate::{
    trace::figure::{Align, Figure, Ink, Mark, curve, point_on},
    ui::view::{
        flow::columns::{Columns, CutLayers, Look, label},
        flow::nodes::Node,
    },
};

/// Ribbons below this share of the largest possible are left out.
pub const LEAST: f32 = 0.005;

/// Room for the names of the nodes.
const NAMES: f32 = 62.0;
/// Narrowest column.
const NARROWEST: f32 = 46.0;
/// Room above and below the nodes: for what is said of the cut, and for layer numbers.
const ABOVE: f32 = 22.0;
const BELOW: f32 = 24.0;
/// Room for the scale at the right.
const SCALE: f32 = 66.0;
/// Share of its row that a node is high.
const FILLED: f32 = 0.62;
/// Half the width of a node.
const HALF: f32 = 2.0;

/// One ribbon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Column of layers.
    pub column: usize,
    /// Which node reads, by number.
    pub query: usize,
    /// Which node is read.
    pub key: usize,
    /// What it stands for, sign included.
    pub value: f32,
    /// Its upper and lower side at the left.
    from: [f32; 2],
    /// Likewise at the right.
    to: [f32; 2],
}

impl Band {
    fn touches(&self, node: usize) -> bool {
        self.query == node || self.key == node
    }
}

/// What the pointer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// A node, or its name.
    Node {
        /// Which one.
        node: usize,
        /// The boundary that it stands at: that many columns lie left of it.
        edge: usize,
    },
    /// A ribbon, by number.
    Ribbon(usize),
}

/// What stands out and what steps back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stress {
    /// What the pointer is on.
    pub picked: Option<Pick>,
    /// The node whose ribbons alone are drawn.
    pub isolated: Option<usize>,
}

/// A width that stands for a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The number.
    pub value: f32,
    /// It in words, with its unit.
    pub text: String,
}

/// The chart: where everything lies.
#[derive(Clone, Debug)]
pub struct Ribbons {
    /// Nodes, from top to bottom.
    pub nodes: Vec<Node>,
    /// Layers.
    pub columns: Columns,
    /// Ribbons, those of a node to itself below all others.
    pub bands: Vec<Band>,
    /// The number that is as wide as a node is high.
    full: f32,
    scale: Option<Scale>,
    /// From the top of the frames to their bottom.
    frame: [f32; 2],
}

impl Ribbons {
    /// Lays nodes and columns out; ribbons come by [`Ribbons::fill`].
    pub fn new(nodes: Vec<Node>, n_layers: usize, size: [f32; 2], full: f32, scale: Option<Scale>) -> Self {
        let [width, height] = size;
        let right = width - if scale.is_some() { SCALE } else { HALF + 2.0 };
        let columns = Columns::new(NAMES.min(width * 0.3), right, n_layers, NARROWEST);
        let frame = [2.0, (height - BELOW + 4.0).max(3.0)];
        Ribbons { nodes, columns, bands: Vec::new(), full, scale, frame }
    }

    /// Lays out the ribbons of all columns; `None` is no ribbon. Those smaller than `least` are left out, and keep
    /// their place.
    pub fn fill(&mut self, least: f32, value: impl Fn(usize, &Node, &Node) -> Option<f32>) {
        let n = self.nodes.len();
        let height = self.height();
        let usable = |value: &f32| value.is_finite() && self.full.is_finite() && self.full > 0.0;
        let mut bands = Vec::new();
        for column in 0..self.columns.count() {
            let read = |query: &Node, key: &Node| value(column, query, key).filter(usable);
            // [query, key]
            let values: Vec<Vec<Option<f32>>> = self
                .nodes
                .iter()
                .map(|query| self.nodes.iter().map(|key| read(query, key)).collect())
                .collect();
            let width =
                |value: &Option<f32>| value.map_or(0.0, |value| (value.abs() / self.full).min(1.0) * height);
            let widths: Vec<Vec<f32>> = values.iter().map(|keys| keys.iter().map(width).collect()).collect();
            let arrive: Vec<Vec<f32>> = widths.iter().map(|keys| stack(keys, height)).collect();
            let leave: Vec<Vec<f32>> = (0..n)
                .map(|key| stack(&widths.iter().map(|keys| keys[key]).collect::<Vec<_>>(), height))
                .collect();
            for (query, key) in (0..n).flat_map(|query| (0..n).map(move |key| (query, key))) {
                let Some(value) = values[query][key].filter(|value| value.abs() >= least) else { continue };
                let wide = widths[query][key];
                let side = |node: usize, offset: f32| {
                    let top = self.row(node)[0] + offset;
                    [top, top + wide]
                };
                let (from, to) = (side(key, leave[key][query]), side(query, arrive[query][key]));
                bands.push(Band { column, query, key, value, from, to });
            }
        }
        // What a span reads from itself lies under what it reads from others.
        bands.sort_by_key(|band| band.query != band.key);
        self.bands = bands;
    }

    fn pitch(&self) -> f32 {
        ((self.frame[1] - 2.0 - ABOVE) / self.nodes.len().max(1) as f32).max(1.0)
    }

    /// How high a node is.
    fn height(&self) -> f32 {
        self.pitch() * FILLED
    }

    /// Upper and lower end of a node.
    fn row(&self, node: usize) -> [f32; 2] {
        let top = ABOVE + self.pitch() * (node as f32 + (1.0 - FILLED) / 2.0);
        [top, top + self.height()]
    }

    /// What lies at a place.
    pub fn pick(&self, at: [f32; 2], isolated: Option<usize>) -> Option<Pick> {
        let [x, y] = at;
        let inside = |node: &usize| {
            let [top, bottom] = self.row(*node);
            (top - 2.0..=bottom + 2.0).contains(&y)
        };
        let node = (0..self.nodes.len()).find(inside);
        let near = (0..=self.columns.count()).find(|edge| (self.columns.edge(*edge) - x).abs() <= HALF + 3.0);
        let edge = if x < self.columns.edge(0) { Some(0) } else { near };
        if let (Some(node), Some(edge)) = (node, edge) {
            return Some(Pick::Node { node, edge });
        }
        let column = self.columns.column_at(x)?;
        let t = self.along(column, x);
        let on = |band: &Band| {
            let between = |side: usize| point_on(curve([0.0, band.from[side]], [1.0, band.to[side]]), t)[1];
            band.column == column && (between(0)..=between(1)).contains(&y)
        };
        let seen = |band: &Band| isolated.is_none_or(|node| band.touches(node));
        self.bands.iter().rposition(|band| seen(band) && on(band)).map(Pick::Ribbon)
    }

    /// How far along the curves of a column a place lies.
    fn along(&self, column: usize, x: f32) -> f32 {
        let [left, right] = self.ends(column);
        let sides = curve([left, 0.0], [right, 0.0]);
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..20 {
            let middle = (low + high) / 2.0;
            if point_on(sides, middle)[0] < x { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    }

    /// From where to where the ribbons of a column run.
    fn ends(&self, column: usize) -> [f32; 2] {
        [self.columns.edge(column) + HALF, self.columns.edge(column + 1) - HALF]
    }

    /// The chart as a drawing.
    pub fn figure(
        &self,
        title: String,
        look: Look,
        cut: Option<&CutLayers>,
        layer: usize,
        stress: Stress,
    ) -> Figure {
        let mut figure = Figure::new(look.size, title);
        self.columns.add_shade(&mut figure, self.frame, cut, look);
        for (at, band) in self.bands.iter().enumerate() {
            if stress.isolated.is_none_or(|node| band.touches(node)) {
                self.add_band(&mut figure, band, opacity(band, at, stress.picked));
            }
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let back = stress.isolated.is_some_and(|isolated| isolated != at);
            let ink = Ink::sheer(node.rgb(), if back { 0.35 } else { 1.0 });
            let [top, bottom] = self.row(at);
            for edge in 0..=self.columns.count() {
                let x = self.columns.edge(edge);
                let rect = [x - HALF, top, x + HALF, bottom];
                figure.add(Mark::filled(rect, ink));
            }
            figure.add(label([2.0, (top + bottom) / 2.0], node.name(), Align::Start, ink));
        }
        self.columns.add_labels(&mut figure, look.size[1] - 9.0);
        self.columns.add_frames(&mut figure, self.frame, cut, layer, look);
        self.add_scale(&mut figure, look);
        figure
    }

    fn add_band(&self, figure: &mut Figure, band: &Band, opacity: f32) {
        let Some(rgb) = self.nodes.get(band.key).map(Node::rgb) else { return };
        let [left, right] = self.ends(band.column);
        let (from, to) = (band.from.map(|y| [left, y]), band.to.map(|y| [right, y]));
        if self.scale.is_none() || band.value < 0.0 {
            figure.add(Mark::Ribbon { from, to, fill: Ink::sheer(rgb, opacity) });
            return;
        }
        // What rises is empty, and has a broken outline: nobody takes it for what falls.
        figure.add(Mark::Ribbon { from, to, fill: Ink::sheer(rgb, opacity * 0.15) });
        for (from, to) in from.into_iter().zip(to) {
            let bound = curve(from, to);
            let points = (0..=12).map(|step| point_on(bound, step as f32 / 12.0)).collect();
            let ink = Ink::sheer(rgb, (opacity * 1.6).min(1.0));
            figure.add(Mark::dashed(points, ink, 1.0));
        }
    }

    /// A bar as high as a ribbon is wide that stands for a number.
    fn add_scale(&self, figure: &mut Figure, look: Look) {
        let Some(scale) = self.scale.as_ref().filter(|_| self.full > 0.0) else { return };
        let (x, top) = (look.size[0] - SCALE + 12.0, ABOVE);
        let bottom = top + scale.value / self.full * self.height();
        let rect = [x - HALF, top, x + HALF, bottom];
        figure.add(Mark::filled(rect, Ink::Weak));
        let at = [x + 7.0, (top + bottom) / 2.0];
        figure.add(label(at, scale.text.clone(), Align::Start, Ink::Weak));
    }
}

fn opacity(band: &Band, at: usize, picked: Option<Pick>) -> f32 {
    let plain = if band.query == band.key { 0.16 } else { 0.5 };
    match picked {
        None => plain,
        Some(Pick::Ribbon(picked)) if picked == at => 0.85,
        Some(Pick::Ribbon(_)) => plain,
        Some(Pick::Node { node, .. }) if band.touches(node) => plain + 0.3,
        Some(Pick::Node { .. }) => plain * 0.25,
    }
}

/// Where widths begin when they lie one below the other in a height. Where they are more than it, they overlap, and
/// none reaches out of it.
fn stack(widths: &[f32], height: f32) -> Vec<f32> {
    let total: f32 = widths.iter().sum();
    let last = widths.iter().copied().rfind(|width| *width > 0.0).unwrap_or(0.0);
    let over = total > height && total > last;
    let closer = if over { ((height - last) / (total - last)).clamp(0.0, 1.0) } else { 1.0 };
    let mut at = 0.0;
    let place = |width: &f32| {
        let offset = (at * closer).min((height - width).max(0.0));
        at += width;
        offset
    };
    widths.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::span::Span;

    /// Three spans in four layers: image, question, answer. Every query's shares sum to 1.
    fn chart() -> Ribbons {
        let mut present = [0; Span::COUNT];
        for (span, n) in [(Span::Visual, 144), (Span::Question, 5), (Span::Answer, 7)] {
            present[span.index()] = n;
        }
        let mut ribbons = Ribbons::new(Node::of(&present, false), 4, [500.0, 300.0], 1.0, None);
        ribbons.fill(LEAST, |column, query, key| {
            let tilt = column as f32 * 0.1;
            Some(match (query.first(), key.first()) {
                (Span::Visual, Span::Visual) => 1.0,
                (Span::Question, Span::Visual) => 0.6 - tilt,
                (Span::Question, Span::Question) => 0.4 + tilt,
                (Span::Answer, Span::Visual) => 0.7,
                (Span::Answer, Span::Question) => 0.002,
                (Span::Answer, Span::Answer) => 0.298,
                _ => 0.0,
            })
        });
        ribbons
    }

    #[test]
    fn what_flows_into_a_node_fills_its_height() {
        let chart = chart();
        assert_eq!(chart.nodes.iter().map(Node::name).collect::<Vec<_>>(), ["image", "question", "answer"]);
        for column in 0..4 {
            for query in 0..3 {
                let into = chart.bands.iter().filter(|b| (b.column, b.query) == (column, query));
                let (mut sum, mut from, mut to) = (0.0, f32::INFINITY, 0.0f32);
                for band in into {
                    assert!((band.to[1] - band.to[0] - (band.from[1] - band.from[0])).abs() < 1e-3);
                    sum += band.to[1] - band.to[0];
                    (from, to) = (from.min(band.to[0]), to.max(band.to[1]));
                    let [top, bottom] = chart.row(band.key);
                    assert!(band.from[0] > top - 1e-3 && band.from[1] < bottom + 1e-3, "{band:?}");
                }
                let [top, bottom] = chart.row(query);
                // One ribbon of 0.2 % is left out, and keeps its place.
                let missing = if query == 2 { 0.002 * chart.height() } else { 0.0 };
                assert!((sum + missing - chart.height()).abs() < 1e-2, "{column} {query}: {sum}");
                assert!((from - top).abs() < 1e-2 && (to - bottom).abs() < 1e-2);
            }
        }
        assert!(!chart.bands.iter().any(|b| (b.query, b.key) == (2, 1)), "below the least");
        assert_eq!(chart.bands.len(), 4 * 5);
    }

    #[test]
    fn a_ribbon_is_found_where_it_is_drawn() {
        let chart = chart();
        for (at, band) in chart.bands.iter().enumerate() {
            let [left, right] = chart.ends(band.column);
            for t in [0.2, 0.5, 0.8] {
                let [upper, lower] =
                    [0, 1].map(|side| point_on(curve([left, band.from[side]], [right, band.to[side]]), t));
                let place = [upper[0], (upper[1] + lower[1]) / 2.0];
                let Some(Pick::Ribbon(found)) = chart.pick(place, None) else { panic!("{band:?} at {t}") };
                // The one above may hide it.
                assert!(found >= at && chart.bands[found].column == band.column);
                let alone = chart.pick(place, Some(band.query));
                assert!(matches!(alone, Some(Pick::Ribbon(i)) if chart.bands[i].touches(band.query)));
            }
        }
        let [top, bottom] = chart.row(2);
        let middle = (top + bottom) / 2.0;
        assert_eq!(chart.pick([5.0, middle], None), Some(Pick::Node { node: 2, edge: 0 }), "its name");
        let x = chart.columns.edge(3);
        assert_eq!(chart.pick([x + 1.0, middle], None), Some(Pick::Node { node: 2, edge: 3 }));
    }

    #[test]
    fn isolation_leaves_the_ribbons_of_one_span() {
        let chart = chart();
        let ribbons = |isolated| {
            let stress = Stress { isolated, picked: None };
            let figure = chart.figure("a chart".to_string(), Look::default(), None, 1, stress);
            figure.marks.iter().filter(|mark| matches!(mark, Mark::Ribbon { .. })).count()
        };
        assert_eq!(ribbons(None), 20);
        // The question reads the image and itself, and the answer all but nothing of it.
        assert_eq!(ribbons(Some(1)), 8);
        assert_eq!(ribbons(Some(2)), 8);
    }

    #[test]
    fn ribbons_have_the_colour_of_what_is_read() {
        let chart = chart();
        let figure = chart.figure(String::new(), Look::default(), None, 0, Stress::default());
        let fills = figure.marks.iter().filter_map(|mark| match mark {
            Mark::Ribbon { fill, .. } => Some(*fill),
            _ => None,
        });
        for (fill, band) in fills.zip(&chart.bands) {
            assert_eq!(fill, Ink::sheer(chart.nodes[band.key].rgb(), opacity(band, 99, None)));
        }
    }

    #[test]
    fn what_rises_is_drawn_otherwise_and_the_scale_is_as_wide_as_its_number() {
        let mut present = [0; Span::COUNT];
        (present[Span::Visual.index()], present[Span::Last.index()]) = (4, 1);
        let scale = Scale { value: 0.5, text: "0.5 nats".to_string() };
        let nodes = Node::of(&present, true);
        let mut chart = Ribbons::new(nodes, 2, [400.0, 200.0], 2.0, Some(scale));
        chart.fill(0.0, |column, query, key| {
            let edge = query.first() == Span::Last && key.first() == Span::Visual;
            edge.then_some(if column == 0 { -1.0 } else { 0.5 })
        });
        let figure = chart.figure(String::new(), Look::default(), None, 0, Stress::default());
        let dashed = figure.marks.iter().filter(|mark| matches!(mark, Mark::Line { dashed: true, .. }));
        assert_eq!((chart.bands.len(), dashed.count()), (2, 2));
        let rise = chart.bands[1].to[1] - chart.bands[1].to[0];
        let bar = figure.marks.iter().find_map(|mark| match mark {
            Mark::Rect { rect, fill: Some(Ink::Weak), .. } => Some(rect[3] - rect[1]),
            _ => None,
        });
        assert!((bar.unwrap() - rise).abs() < 1e-3, "{bar:?} for {rise}");
        assert!((rise - chart.height() / 4.0).abs() < 1e-3);
    }
}
