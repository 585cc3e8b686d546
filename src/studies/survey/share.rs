//! Where attention goes: the mass that the answer's, the question's and the last row give to every span, by layer.
//!
//! Kaduri et al. (arXiv 2411.17491). As rows, `answer` means those that predict the answer's tokens: the last prompt
//! row and one for every token but the last, which is never looked from. As keys it means the generated positions. A
//! row of the table is the mean over an image's rows of the mean of all heads; what is not there is 0. The paper's band
//! is over tokens and images together: here every image counts once, and the standard deviation is that of images.

use crate::{
    spec::span::Span,
    studies::survey::{
        bench::Bench,
        error::SurveyError,
        findings::{ImageRows, Panel, mean_curves},
        kind::Kind,
    },
    trace::flow::RowFlow,
};

/// The study.
pub const KIND: Kind = Kind {
    name: "share",
    about: "attention mass from the answer, the question and the last prompt row to every span, by layer",
    source: "Kaduri et al., arXiv 2411.17491",
    cost: "one description an image",
    columns: &["image", "query", "layer", "key", "mass"],
    settings: &[],
    plain: true,
    measure,
    panels: |images, _, _| figure(images),
};

/// Query spans by name, as the grammar of cuts means them, and whose rows they are.
const QUERIES: [(&str, &[Span]); 3] =
    [("answer", &[Span::Last, Span::Answer]), ("question", &[Span::Question]), ("last", &[Span::Last])];

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let baseline = bench.ask(&bench.describing()).map_err(|e| bench.of_image(e))?;
    for (query, spans) in QUERIES {
        if !baseline.flow.spans.iter().any(|span| spans.contains(span)) {
            bench.left_out(format!("rows of `{query}`"), "no row of this span ran");
            continue;
        }
        for layer in 0..baseline.flow.n_layers {
            let given = given(&baseline.flow, layer, spans);
            for (key, mass) in Span::ALL.into_iter().zip(given) {
                bench.row([query.into(), layer.into(), key.name().into(), mass.into()]);
            }
        }
    }
    Ok(())
}

/// What the rows of some spans give to every span in a layer: their mean, in the order of [`Span::ALL`].
fn given(flow: &RowFlow, layer: usize, query: &[Span]) -> [f32; Span::COUNT] {
    let (mut sums, mut n) = ([0.0_f64; Span::COUNT], 0_usize);
    for (_, shares) in flow.spans.iter().zip(flow.layer(layer)).filter(|(span, _)| query.contains(span)) {
        sums.iter_mut().zip(shares).for_each(|(sum, &share)| *sum += f64::from(share));
        n += 1;
    }
    sums.map(|sum| (sum / n.max(1) as f64) as f32)
}

/// A panel a query span, a curve a key span.
fn figure(images: &[ImageRows]) -> Vec<Panel> {
    let of = |(query, _): (&str, &[Span])| {
        let mut series = mean_curves(images, |row| {
            let layer = row.number("layer")? as i64;
            (row.text("query") == query).then_some((row.text("key").to_string(), layer, row.number("mass")?))
        });
        series.sort_by_key(|curve| Span::ALL.iter().position(|span| span.name() == curve.name));
        Panel {
            title: format!("What rows of `{query}` look at"),
            across: "layer".to_string(),
            up: "attention mass (heads and tokens averaged in an image; mean and SD over images)".to_string(),
            range: Some([0.0, 1.0]),
            grid: false,
            series,
        }
    };
    QUERIES.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{studies::survey::findings::At, trace::table::Value};

    /// Two layers; visual, question, last, and two rows of answer.
    fn flow() -> RowFlow {
        let spans = vec![Span::Visual, Span::Question, Span::Last, Span::Answer, Span::Answer];
        let row = |visual: f32, question: f32| {
            let mut shares = [0.0; Span::COUNT];
            (shares[Span::Visual.index()], shares[Span::Question.index()]) = (visual, question);
            shares
        };
        let first = [row(1.0, 0.0), row(0.75, 0.25), row(0.5, 0.5), row(0.25, 0.75), row(0.0, 1.0)];
        let second = [row(1.0, 0.0), row(0.0, 1.0), row(1.0, 0.0), row(1.0, 0.0), row(0.25, 0.75)];
        RowFlow { n_layers: 2, spans, data: [first, second].concat().concat() }
    }

    #[test]
    fn the_answers_rows_begin_with_the_last_of_the_prompt() {
        let given = |layer, query: usize| {
            let given = given(&flow(), layer, QUERIES[query].1);
            [Span::Visual, Span::Question, Span::Answer].map(|key| given[key.index()])
        };
        assert_eq!(given(0, 0), [0.25, 0.75, 0.0]);
        assert_eq!(given(1, 0), [0.75, 0.25, 0.0]);
        assert_eq!(given(0, 1), [0.75, 0.25, 0.0]);
        assert_eq!(given(0, 2), [0.5, 0.5, 0.0]);
    }

    #[test]
    fn every_image_counts_once_in_its_querys_panel() {
        let row = |query: &str, layer: usize, key: &str, mass: f32| {
            vec![query.into(), layer.into(), key.into(), Value::Number(mass)]
        };
        let image = |name: &str, rows| ImageRows {
            image: name.to_string(),
            columns: &KIND.columns[1..],
            rows,
            facts: vec![],
        };
        let images = [
            image(
                "a.png",
                vec![
                    row("answer", 1, "visual", 0.25),
                    row("answer", 1, "bos", 0.75),
                    row("last", 1, "bos", 1.0),
                ],
            ),
            image("b.png", vec![row("answer", 1, "visual", 0.75), row("answer", 1, "bos", 0.25)]),
        ];
        let panels = figure(&images);
        let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, QUERIES.map(|(query, _)| format!("What rows of `{query}` look at")));
        let names: Vec<&str> = panels[0].series.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["bos", "visual"], "in the order of spans");
        let point = &panels[0].series[1].points[0];
        assert_eq!((&point.at, point.estimate.n, point.estimate.value), (&At::Number(1.0), 2, 0.5));
        assert!((point.estimate.sd.unwrap() - 0.125_f64.sqrt()).abs() < 1e-12);
        assert!(panels[1].series.is_empty());
        assert_eq!(panels[2].series[0].points[0].estimate.value, 1.0);
    }
}
