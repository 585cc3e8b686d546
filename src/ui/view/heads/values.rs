//! Numbers of heads: attention to the image, entropy of attention, effect of cutting, each `[layers, heads]`, layers
//! slowest, and not a number where it is not known (yet).
//!
//! They are taken once for what is on show. Entropy needs every key of every row: it is taken some rows a frame, and
//! kept a row. Knows the store; draws nothing.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{
    spec::{span::Span, study::StudyKind},
    trace::{palette::Colormap, pattern::PatternRow, tokens::AnswerToken},
    ui::{
        store::{store::Store, subject::Subject},
        widgets::{matrix::Colors, number},
    },
    worker::protocol::RunId,
};

/// Keys whose entropy is taken in one frame: about two milliseconds.
const KEYS_A_FRAME: usize = 300_000;

/// What is known of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// The share of its attention that goes to the image.
    #[default]
    Mass,
    /// The entropy of its attention, in nats.
    Entropy,
    /// What cutting it does to the log probability, in nats.
    Effect,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 3] = [Measure::Mass, Measure::Entropy, Measure::Effect];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Mass => "on the image",
            Measure::Entropy => "entropy",
            Measure::Effect => "effect of cutting it",
        }
    }

    /// What it means, in words.
    pub fn tooltip(self) -> &'static str {
        match self {
            Measure::Mass => "The share of a head's attention that goes to the image, from 0 to 1",
            Measure::Entropy => {
                "How widely a head's attention is spread over all keys, in nats: 0 on a single key. Of several \
                 words, the mean of their entropies"
            }
            Measure::Effect => {
                "How the log probability changes when answer -> visual is cut in this head alone, in nats: below \
                 0 where what the head saw had helped"
            }
        }
    }

    /// A number with its unit.
    pub fn written(self, value: f32) -> String {
        match self {
            _ if value.is_nan() => "not known yet".to_string(),
            Measure::Mass => format!("{} on the image", number::percent(value)),
            Measure::Entropy => format!("entropy {value:.3} nats"),
            Measure::Effect => format!("{} nats when cut", number::signed(value)),
        }
    }
}

/// How rows of heads are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By their number.
    #[default]
    Number,
    /// By their value in the layer that is chosen.
    Layer,
    /// By the mean of their values over layers.
    Mean,
}

impl Sort {
    /// All of them.
    pub const ALL: [Sort; 3] = [Sort::Number, Sort::Layer, Sort::Mean];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Number => "by number",
            Sort::Layer => "by the layer on show",
            Sort::Mean => "by the mean over layers",
        }
    }
}

/// One measure of all heads.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// What it is.
    pub measure: Measure,
    /// `[layers, heads]`, layers slowest.
    pub values: Arc<Vec<f32>>,
    /// Layers.
    pub n_layers: usize,
    /// Heads a layer.
    pub n_heads: usize,
    /// Which numbers the colours stand for.
    pub colors: Colors,
    /// How much is done and how much there is, and of what, while some is still to be done here.
    pub under_way: Option<(usize, usize, &'static str)>,
}

impl Numbers {
    /// One of them.
    pub fn value(&self, layer: usize, head: usize) -> f32 {
        let at = layer * self.n_heads + head;
        self.values.get(at).copied().filter(|_| head < self.n_heads).unwrap_or(f32::NAN)
    }

    /// The mean of a head over the layers where it is known.
    pub fn mean(&self, head: usize) -> f32 {
        let known = (0..self.n_layers).map(|layer| self.value(layer, head)).filter(|value| !value.is_nan());
        let (sum, n) = known.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
        if n == 0 { f32::NAN } else { sum / n as f32 }
    }

    /// Whether all are known.
    pub fn whole(&self) -> bool {
        self.under_way.is_none() && self.values.iter().all(|value| !value.is_nan())
    }

    /// What there is to say of one.
    pub fn told(&self, layer: usize, head: usize) -> String {
        format!("layer {layer}, head {head}: {}", self.measure.written(self.value(layer, head)))
    }

    /// Heads from the first row to the last: the largest first, of effects the deepest fall.
    pub fn order(&self, sort: Sort, layer: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.n_heads).collect();
        let of = |head: usize| if sort == Sort::Layer { self.value(layer, head) } else { self.mean(head) };
        if sort == Sort::Number {
            return order;
        }
        let keys: Vec<f32> = order.iter().map(|head| of(*head)).collect();
        order.sort_by(|a, b| match (keys[*a], keys[*b]) {
            (a, b) if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
            (a, b) if self.measure == Measure::Effect => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (a, b) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        });
        order
    }
}

/// What is costly to take anew every frame.
#[derive(Default)]
pub struct Values {
    /// Of which attention, and the shares.
    mass: Option<Mass>,
    entropy: Entropies,
    /// Of which study and how many of its findings, for how many layers and heads.
    effect: Option<(EffectKey, Arc<Vec<f32>>)>,
}

type Mass = (Weak<Vec<f32>>, Arc<Vec<f32>>);

type EffectKey = (Option<(RunId, u64)>, usize, usize);

impl Values {
    /// One measure of what is on show; `None` where nothing is.
    pub fn numbers(&mut self, store: &Store, measure: Measure) -> Option<Numbers> {
        let colormap = store.map.colormap;
        if measure == Measure::Effect {
            return Some(self.effect(store));
        }
        let subject = store.subject()?;
        let (n_layers, n_heads) = (subject.pattern.n_layers, subject.pattern.n_heads);
        let (values, high, under_way) = match measure {
            Measure::Entropy => {
                let rows = rows(store, &subject);
                let under_way = self.entropy.follow(&rows);
                let longest = rows.iter().map(|row| row.n_keys).max().unwrap_or(1);
                (self.entropy.values(&rows), (longest.max(1) as f32).ln(), under_way)
            }
            _ => (self.mass(&subject), 1.0, None),
        };
        let colors = Colors { colormap, range: (0.0, high) };
        Some(Numbers { measure, values, n_layers, n_heads, colors, under_way })
    }

    fn mass(&mut self, subject: &Subject<'_>) -> Arc<Vec<f32>> {
        let of = &subject.pattern.data;
        // Held weakly: a mean that grows is not copied for it, and lies elsewhere from then on.
        if let Some((_, values)) = self.mass.as_ref().filter(|(held, _)| is(held, of)) {
            return values.clone();
        }
        let (flow, n_heads) = (subject.flow, subject.pattern.n_heads);
        let layers = 0..subject.pattern.n_layers;
        let share = |layer| (0..n_heads).map(move |head| flow.share(layer, Some(head), Span::Visual));
        let values = Arc::new(layers.flat_map(share).collect::<Vec<f32>>());
        self.mass = Some((Arc::downgrade(of), values.clone()));
        values
    }

    /// What the study of heads found so far.
    fn effect(&mut self, store: &Store) -> Numbers {
        let (n_layers, n_heads) = (store.n_layers(), store.n_heads());
        let study = store.studies.get(StudyKind::Heads);
        let key = (study.map(|study| (study.id, study.serial)), n_layers, n_heads);
        let held = self.effect.as_ref().filter(|(held, _)| *held == key).map(|(_, values)| values.clone());
        let values = held.unwrap_or_else(|| {
            let mut values = vec![f32::NAN; n_layers * n_heads];
            for (&(layer, head), &delta) in study.iter().flat_map(|study| &study.found.heads) {
                if let Some(value) = values.get_mut(layer * n_heads + head).filter(|_| head < n_heads) {
                    *value = delta;
                }
            }
            Arc::new(values)
        });
        let high = values.iter().filter(|value| !value.is_nan()).fold(0.0f32, |high, v| high.max(v.abs()));
        let colors = Colors { colormap: Colormap::Diverging, range: (-high, high) };
        self.effect = Some((key, values.clone()));
        Numbers { measure: Measure::Effect, values, n_layers, n_heads, colors, under_way: None }
    }
}

/// Whether numbers lie where some lay: nothing else can while they are held, even weakly.
fn is(held: &Weak<Vec<f32>>, data: &Arc<Vec<f32>>) -> bool {
    std::ptr::eq(held.as_ptr(), Arc::as_ptr(data))
}

/// The rows that the subject is the mean of, or the one that it is.
fn rows<'a>(store: &'a Store, subject: &Subject<'a>) -> Vec<&'a PatternRow> {
    let lane = store.runs.lane(subject.slot);
    let Some(mean) = subject.mean else { return vec![subject.pattern] };
    let (_, tokens) = store.selection.subject();
    if !tokens.is_empty() {
        return tokens.iter().filter_map(|&at| lane.row(at)).map(|(row, _)| &row.pattern).collect();
    }
    let mut both = [lane.running, lane.done].into_iter().flatten();
    let whole = both.find(|run| std::ptr::eq(&run.mean, mean));
    whole.into_iter().flat_map(|run| run.rows.iter().flatten()).map(|row| &row.pattern).collect()
}

/// Entropies of rows, taken over several frames.
#[derive(Default)]
struct Entropies {
    /// By where a row's numbers lie, as far as they are taken. Held weakly, so that no others come to lie there.
    of_rows: HashMap<usize, (Weak<Vec<f32>>, Vec<f32>)>,
    /// The rows on show.
    rows: Vec<usize>,
    /// The sum of those that are taken whole, and how many these are.
    sum: (Vec<f64>, usize),
    shown: Option<Arc<Vec<f32>>>,
}

impl Entropies {
    /// Goes on with some rows. Returns how far it is while it is not at the end.
    fn follow(&mut self, rows: &[&PatternRow]) -> Option<(usize, usize, &'static str)> {
        let places: Vec<usize> = rows.iter().map(|row| Arc::as_ptr(&row.data) as usize).collect();
        if !places.starts_with(&self.rows) {
            self.of_rows.retain(|_, (row, _)| row.strong_count() > 0);
            (self.sum, self.shown) = Default::default();
        }
        self.rows = places;
        let mut left = KEYS_A_FRAME;
        while let Some(row) = rows.get(self.sum.1).filter(|_| left > 0) {
            self.shown = None;
            let n = row.n_layers * row.n_heads;
            let place = Arc::as_ptr(&row.data) as usize;
            let entry = self.of_rows.entry(place).or_insert_with(|| (Arc::downgrade(&row.data), Vec::new()));
            let done = &mut entry.1;
            while done.len() < n && left > 0 {
                done.push(entropy(row.head(done.len() / row.n_heads, done.len() % row.n_heads)));
                left = left.saturating_sub(row.n_keys.max(1));
            }
            if done.len() < n {
                break;
            }
            self.sum.0.resize(n, 0.0);
            self.sum.0.iter_mut().zip(done.iter()).for_each(|(sum, value)| *sum += f64::from(*value));
            self.sum.1 += 1;
            left = left.saturating_sub(n.max(1));
        }
        let row = rows.get(self.sum.1)?;
        match rows.len() {
            1 => Some((self.begun(row).len(), row.n_layers * row.n_heads, "heads")),
            n => Some((self.sum.1, n, "words")),
        }
    }

    /// What is taken of a row.
    fn begun(&self, row: &PatternRow) -> &[f32] {
        self.of_rows.get(&(Arc::as_ptr(&row.data) as usize)).map_or(&[][..], |(_, done)| done.as_slice())
    }

    /// The mean over the rows that are taken, or what there is of the first.
    fn values(&mut self, rows: &[&PatternRow]) -> Arc<Vec<f32>> {
        if let Some(shown) = &self.shown {
            return shown.clone();
        }
        let values = match (&self.sum, rows.first()) {
            ((sum, n @ 1..), _) => sum.iter().map(|sum| (sum / *n as f64) as f32).collect(),
            (_, Some(row)) => {
                let mut values = self.begun(row).to_vec();
                values.resize(row.n_layers * row.n_heads, f32::NAN);
                values
            }
            (_, None) => Vec::new(),
        };
        let values = Arc::new(values);
        self.shown = Some(values.clone());
        values
    }
}

/// The entropy of attention in nats: from 0, all of it on one key, to the logarithm of their number.
fn entropy(keys: &[f32]) -> f32 {
    let sum: f32 = keys.iter().filter(|share| **share > 0.0).map(|share| share * share.ln()).sum();
    (-sum).max(0.0)
}

/// A token as a phrase has it.
pub fn in_phrase(token: &AnswerToken) -> &str {
    if token.end { " end" } else { &token.text }
}

/// The texts of some tokens as one; none stand for the whole answer.
pub fn phrase<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    /// Longest phrase that is written out.
    const MOST: usize = 40;
    let text: String = texts.into_iter().collect();
    match text.trim() {
        "" if text.is_empty() => "the whole answer".to_string(),
        text if text.chars().count() > MOST => {
            format!("“{}…”", text.chars().take(MOST).collect::<String>())
        }
        text => format!("“{text}”"),
    }
}

/// What maps and charts are of, in words: “red”, run A.
pub fn about(store: &Store) -> String {
    let (slot, tokens) = store.selection.subject();
    let lane = store.runs.lane(slot);
    let words = phrase(tokens.iter().filter_map(|at| lane.token(*at)).map(in_phrase));
    format!("{words}, run {}", store.runs.name(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(measure: Measure, values: Vec<f32>) -> Numbers {
        let colors = Colors { colormap: Colormap::Inferno, range: (0.0, 1.0) };
        Numbers { measure, values: Arc::new(values), n_layers: 2, n_heads: 3, colors, under_way: None }
    }

    #[test]
    fn heads_are_sorted_by_what_they_are_known_for() {
        let known = vec![0.1, 0.9, 0.5, 0.8, 0.7, f32::NAN];
        let mass = numbers(Measure::Mass, known.clone());
        assert_eq!(mass.order(Sort::Number, 0), [0, 1, 2]);
        assert_eq!(mass.order(Sort::Layer, 0), [1, 2, 0]);
        assert_eq!(mass.order(Sort::Layer, 1), [0, 1, 2], "what is not known stands last");
        assert_eq!(mass.order(Sort::Mean, 0), [1, 2, 0], "means 0.45, 0.8, 0.5");
        assert_eq!(
            numbers(Measure::Effect, known).order(Sort::Layer, 0),
            [0, 2, 1],
            "the deepest fall first"
        );
        assert!(!mass.whole() && mass.value(0, 3).is_nan() && mass.value(2, 0).is_nan());
        assert!((mass.mean(2) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn entropy_runs_from_one_key_to_all_alike() {
        assert_eq!(entropy(&[0.0, 1.0, 0.0]), 0.0);
        assert!((entropy(&[0.25; 4]) - 4.0f32.ln()).abs() < 1e-6);
        assert!((entropy(&[0.5, 0.5, 0.0]) - 2.0f32.ln()).abs() < 1e-6);
    }

    fn row(n_keys: usize, on: f32) -> PatternRow {
        let rest = (1.0 - on) / (n_keys - 1) as f32;
        let head: Vec<f32> = (0..n_keys).map(|key| if key == 0 { on } else { rest }).collect();
        PatternRow { n_layers: 2, n_heads: 1, n_keys, data: Arc::new(head.repeat(2)) }
    }

    #[test]
    fn entropies_of_words_are_averaged_and_taken_once() {
        let (a, b) = (row(4, 0.25), row(4, 1.0));
        let mut entropies = Entropies::default();
        assert_eq!(entropies.follow(&[&a]), None);
        assert!((entropies.values(&[&a])[1] - 4.0f32.ln()).abs() < 1e-6);
        assert_eq!(entropies.follow(&[&a, &b]), None, "one more word came");
        assert!((entropies.values(&[&a, &b])[0] - 4.0f32.ln() / 2.0).abs() < 1e-6);
        assert_eq!((entropies.of_rows.len(), entropies.sum.1), (2, 2));
        drop(a);
        assert_eq!(entropies.follow(&[&b]), None);
        assert_eq!(entropies.values(&[&b])[..], [0.0, 0.0]);
        assert_eq!(entropies.of_rows.len(), 1, "what is gone is forgotten");
    }

    #[test]
    fn long_rows_take_more_than_a_frame() {
        let (a, b) = (row(KEYS_A_FRAME, 0.5), row(4, 0.25));
        let mut entropies = Entropies::default();
        assert_eq!(entropies.follow(&[&a]), Some((1, 2, "heads")));
        let values = entropies.values(&[&a]);
        assert!(values[0] > 0.0 && values[1].is_nan());
        assert_eq!(entropies.follow(&[&a, &b]), Some((1, 2, "words")), "it goes on from there");
        assert_eq!(entropies.follow(&[&a, &b]), None);
    }

    #[test]
    fn a_phrase_is_what_is_read() {
        assert_eq!(phrase([" red", " ball"]), "“red ball”");
        assert_eq!(phrase([]), "the whole answer");
        assert_eq!(phrase(["\n"]), "“”", "a token without ink is a token");
        assert_eq!(phrase([&*"é".repeat(99)]).chars().count(), 43);
    }
}
