//! What a study's rows say: figures with 95 % intervals, arranged as the panels of one drawing.
//!
//! Intervals: Wilson for shares of independent things, else the bootstrap over images, so that what one image gives
//! many times counts as one image. Plain numbers; knows no model.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    statistics::interval::{Figure, Rate},
    studies::survey::bench::Fact,
    trace::table::Value,
};

/// The rows of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRows {
    /// The image's name.
    pub image: String,
    /// The study's columns, the image's aside.
    pub columns: &'static [&'static str],
    /// As measured.
    pub rows: Vec<Vec<Value>>,
    /// What the rows have no column for.
    pub facts: Vec<Fact>,
}

/// One row, by the names of its columns.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    columns: &'static [&'static str],
    values: &'a [Value],
}

impl ImageRows {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: self.columns, values })
    }
}

impl<'a> Row<'a> {
    /// What stands in a column; nothing where there is none of this name.
    pub fn value(&self, column: &str) -> &'a Value {
        let at = self.columns.iter().position(|name| *name == column);
        at.and_then(|at| self.values.get(at)).unwrap_or(&Value::Nothing)
    }

    /// Its text; empty where there is none.
    pub fn text(&self, column: &str) -> &'a str {
        match self.value(column) {
            Value::Text(text) => text,
            _ => "",
        }
    }

    /// Its number.
    pub fn number(&self, column: &str) -> Option<f64> {
        match self.value(column) {
            Value::Whole(number) => Some(*number as f64),
            Value::Number(number) => Some(as_written(*number)),
            Value::Text(_) | Value::Nothing => None,
        }
    }
}

/// A number as a table writes it: 0.1 of 32 bits is 0.1.
fn as_written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::NAN)
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of how many things.
    pub n: usize,
    /// The figure.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Standard deviation over the things (over n - 1), where that is of interest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<f64>,
}

/// One part of a study's figure: curves over one axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What runs from left to right: "layer".
    pub across: String,
    /// What is measured, with its unit.
    pub up: String,
    /// Lower and upper end of the upright axis, where they are known; else those of the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Whether it is drawn as a grid of cells, a row a series, rather than as curves.
    pub grid: bool,
    /// The curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
}

/// One point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where it stands.
    pub at: At,
    /// Its figure.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// A place on the axis from left to right. Numbers come before names, in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum At {
    /// A number.
    Number(f64),
    /// A name: bars and not a curve.
    Name(String),
}

impl Estimate {
    /// A share of independent things: Wilson's interval.
    pub fn share(right: usize, n: usize) -> Self {
        let Rate { n, value, low, high, .. } = Rate::new(right, n);
        Estimate { n, value, low, high, sd: None }
    }

    /// The mean of all numbers, which come image by image: the bootstrap over images. `None` of none.
    pub fn mean(images: &[Vec<f64>]) -> Option<Self> {
        let n: usize = images.iter().map(Vec::len).sum();
        if n == 0 {
            return None;
        }
        let sums: Vec<[f64; 2]> = images
            .iter()
            .filter(|numbers| !numbers.is_empty())
            .map(|numbers| [numbers.iter().sum(), numbers.len() as f64])
            .collect();
        let mean = |images: &mut dyn Iterator<Item = [f64; 2]>| {
            let [sum, n] = images.fold([0.0, 0.0], |[sum, n], [s, m]| [sum + s, n + m]);
            sum / n.max(1.0)
        };
        let Figure { value, low, high } = Figure::bootstrap(&sums, mean);
        let squares: f64 = images.iter().flatten().map(|number| (number - value).powi(2)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        Some(Estimate { n, value, low, high, sd })
    }

    /// A ratio of two sums, of which every image gives its parts, the second a count of things: the bootstrap over
    /// images. `None` of none.
    pub fn ratio(images: &[[f64; 2]]) -> Option<Self> {
        let counted: Vec<[f64; 2]> = images.iter().copied().filter(|[_, things]| *things > 0.0).collect();
        if counted.is_empty() {
            return None;
        }
        let sums = |images: &mut dyn Iterator<Item = [f64; 2]>| {
            images.fold([0.0, 0.0], |[sum, things], [s, t]| [sum + s, things + t])
        };
        let Figure { value, low, high } = Figure::bootstrap(&counted, |images| {
            let [sum, things] = sums(images);
            sum / things
        });
        let [_, things] = sums(&mut counted.iter().copied());
        Some(Estimate { n: things as usize, value, low, high, sd: None })
    }
}

/// Facts of every image by some key: what [`Estimate::mean`] takes, key by key, in order.
pub fn facts_by_key<K: Ord>(
    images: &[ImageRows],
    of: impl Fn(&Fact) -> Option<K>,
) -> BTreeMap<K, Vec<Vec<f64>>> {
    let of_image = |image: &ImageRows| -> Vec<(K, f64)> {
        image.facts.iter().filter_map(|fact| Some((of(fact)?, as_written(fact.value)))).collect()
    };
    keyed(images.iter().map(of_image))
}

/// Numbers of every image by some key, from its rows: what [`Estimate::mean`] takes, key by key, in order.
pub fn by_key<K: Ord>(
    images: &[ImageRows],
    of: impl Fn(&Row<'_>) -> Option<(K, f64)>,
) -> BTreeMap<K, Vec<Vec<f64>>> {
    keyed(images.iter().map(|image| image.iter().filter_map(|row| of(&row)).collect()))
}

/// Numbers with their keys, image by image, key by key: an entry an image, up to the last that has the key.
fn keyed<K: Ord>(images: impl Iterator<Item = Vec<(K, f64)>>) -> BTreeMap<K, Vec<Vec<f64>>> {
    let mut all: BTreeMap<K, Vec<Vec<f64>>> = BTreeMap::new();
    for (n, image) in images.enumerate() {
        for (key, number) in image {
            let of_key = all.entry(key).or_default();
            of_key.resize(n + 1, Vec::new());
            of_key[n].push(number);
        }
    }
    all
}

/// Curves over layers, or whatever else is counted: means by name and place.
pub fn mean_curves(images: &[ImageRows], of: impl Fn(&Row<'_>) -> Option<(String, i64, f64)>) -> Vec<Series> {
    let means = by_key(images, |row| of(row).map(|(name, at, number)| ((name, at), number)));
    let points = means.into_iter().filter_map(|((name, at), numbers)| {
        Some((name, Point { at: At::Number(at as f64), estimate: Estimate::mean(&numbers)? }))
    });
    gathered(points)
}

/// Curves over layers, or whatever else is counted: shares by name and place, with Wilson's intervals.
pub fn share_curves(
    images: &[ImageRows],
    of: impl Fn(&Row<'_>) -> Option<(String, i64, bool)>,
) -> Vec<Series> {
    let counts = by_key(images, |row| of(row).map(|(name, at, yes)| ((name, at), f64::from(u8::from(yes)))));
    let points = counts.into_iter().map(|((name, at), numbers)| {
        let all: Vec<f64> = numbers.into_iter().flatten().collect();
        let right = all.iter().filter(|&&number| number > 0.0).count();
        (name, Point { at: At::Number(at as f64), estimate: Estimate::share(right, all.len()) })
    });
    gathered(points)
}

/// Points with the names of their curves, those of one curve one after the other.
pub(super) fn gathered(points: impl Iterator<Item = (String, Point)>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for (name, point) in points {
        match series.last_mut().filter(|last| last.name == name) {
            Some(last) => last.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageRows> {
        let row =
            |flow: &str, layer: usize, delta: f32| vec![flow.into(), layer.into(), Value::Number(delta)];
        let image = |name: &str, rows: Vec<Vec<Value>>| ImageRows {
            image: name.to_string(),
            columns: &["flow", "layer", "delta"],
            rows,
            facts: Vec::new(),
        };
        vec![
            image("a.png", vec![row("b", 1, 0.1), row("a", 0, -1.0), row("a", 10, 2.0)]),
            image("b.png", vec![row("a", 0, -3.0), row("a", 0, 1.0)]),
        ]
    }

    #[test]
    fn curves_are_means_over_all_rows_and_stand_in_order() {
        let curves = mean_curves(&images(), |row| {
            Some((row.text("flow").to_string(), row.number("layer")? as i64, row.number("delta")?))
        });
        let names: Vec<&str> = curves.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(curves[0].points[0].at, At::Number(0.0));
        assert_eq!(curves[0].points[1].at, At::Number(10.0));
        let first = curves[0].points[0].estimate;
        assert_eq!((first.n, first.value, first.sd), (3, -1.0, Some(2.0)));
        // Images are drawn anew, and not their rows: only -1 and the mean of -3 and 1 can come.
        assert_eq!((first.low, first.high), (-1.0, -1.0));
        assert_eq!(curves[1].points[0].estimate.value, 0.1, "0.1 of 32 bits is 0.1");
    }

    #[test]
    fn shares_have_wilsons_interval() {
        let curves = share_curves(&images(), |row| Some((String::new(), 0, row.number("delta")? > 0.0)));
        assert_eq!(curves[0].points[0].estimate, Estimate::share(3, 5));
        assert!(Estimate::mean(&[vec![], vec![]]).is_none());
    }

    #[test]
    fn a_ratio_is_of_the_sums_and_its_interval_of_the_images() {
        let ratio = Estimate::ratio(&[[1.0, 10.0], [0.0, 0.0], [9.0, 10.0]]).unwrap();
        assert_eq!((ratio.n, ratio.value, ratio.low, ratio.high), (20, 0.5, 0.1, 0.9));
        assert!(Estimate::ratio(&[[0.0, 0.0]]).is_none());
    }

    #[test]
    fn facts_are_gathered_image_by_image() {
        let fact = |name: &str, layer: usize, value: f32| Fact {
            name: name.to_string(),
            layer: Some(layer),
            head: None,
            value,
        };
        let mut images = images();
        images[0].facts = vec![fact("a", 1, 0.1), fact("b", 0, 5.0)];
        images[1].facts = vec![fact("a", 1, -0.5), fact("a", 0, 2.0)];
        let found = facts_by_key(&images, |fact| (fact.name == "a").then_some(fact.layer?));
        assert_eq!(found[&1], [vec![0.1], vec![-0.5]]);
        assert_eq!(found[&0], [vec![], vec![2.0]]);
        assert_eq!(found.len(), 2);
    }
}
