//! Which way what an answer needs takes, and in which layers: every path is cut in a window of layers that moves
//! through the model.
//!
//! Zhang et al. (arXiv 2411.18620), and the cuts about an object of Neo et al. (arXiv 2410.07149). `delta` is the sum
//! over the answer's tokens, the end token among them, of the change of natural log probability; `first_ratio` the
//! relative change of the first token's probability, p cut / p uncut - 1. Windows are clipped at the ends. Papers look
//! at right answers only: rows, and the figure, hold every answer.
//!
//! An object's flows are about the first object that question or answer names and that is the only one of its class.
//! Of several named objects the others are left out aloud, as is a path that a prompt does not have.

use std::collections::BTreeSet;

use crate::{
    engine::{baseline::Baseline, decoding::DecodingError, error::RunError, many::Scored, see::Seen},
    spec::{
        experiment::Intervention,
        sets::{Name, PatchSet, Places, Set, Term},
        span::Span,
    },
    studies::survey::{
        bench::Bench,
        error::SurveyError,
        findings::{ImageRows, Panel, Row, Series, mean_curves, share_curves},
        kind::Kind,
        settings::Flow,
    },
};

/// The study.
pub const KIND: Kind = Kind {
    name: "windows",
    about: "every path cut in a window of layers: change of the log probability of the answer, right or wrong",
    source: "Zhang et al., arXiv 2411.18620; Neo et al., arXiv 2410.07149",
    cost: "an answer a question, and a pass over its changed rows for each path, window and layer",
    columns: &["image", "question", "flow", "centre", "half", "delta", "first_ratio"],
    settings: &["flows", "halves"],
    plain: true,
    measure,
    panels: |images, _, _| figure(images),
};

/// Patches around an object that are cut with it.
const RINGS: usize = 1;

/// What cutting each flow does, window by window and token by token.
type OfFlows = Vec<(Flow, Vec<Vec<Scored>>)>;

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    for asked in bench.questions() {
        let baseline = bench.ask(&asked).map_err(|e| bench.of_image(e))?;
        of_question(bench, &asked.text, &baseline)?;
    }
    Ok(())
}

/// The rows of one question.
fn of_question(bench: &mut Bench<'_>, question: &str, baseline: &Baseline) -> Result<(), SurveyError> {
    let typed = bench.settings.flows.clone();
    let wanted = typed.is_empty() || typed.iter().any(is_of_an_object);
    let object = if wanted { object(bench, question, baseline)? } else { None };
    let mut flows = match typed.is_empty() {
        true => usual(object.is_some()),
        false => typed,
    };
    if object.is_none() {
        for flow in flows.extract_if(.., |flow| is_of_an_object(flow)) {
            let why = "no object that the question or its answer names is known by its pixels";
            bench.left_out(format!("{question}: {flow}"), why);
        }
    }
    let n_layers = bench.engine.info.n_layers;
    let halves = bench.settings.halves(&bench.engine.info);
    let windows: Vec<(usize, usize)> =
        halves.iter().flat_map(|&half| (0..n_layers).map(move |centre| (centre, half))).collect();
    let seen = object.unwrap_or_else(|| bench.seen.clone());
    for (flow, scored) in scored(bench, question, baseline, flows, &windows, &seen)? {
        let flow = flow.to_string();
        for (&(centre, half), tokens) in windows.iter().zip(scored) {
            let Some([delta, first_ratio]) = changes(&tokens) else { continue };
            let flow = flow.as_str();
            bench.row([
                question.into(),
                flow.into(),
                centre.into(),
                half.into(),
                delta.into(),
                first_ratio.into(),
            ]);
        }
    }
    Ok(())
}

/// The change of an answer's log probability, and the relative change of its first token's probability; `None` of an
/// answer without tokens.
fn changes(tokens: &[Scored]) -> Option<[f32; 2]> {
    let first = tokens.first()?;
    let delta: f64 = tokens.iter().map(|token| f64::from(token.delta)).sum();
    Some([delta as f32, f64::from(first.delta).exp_m1() as f32])
}

/// What every window of each flow does, all of them scored together. Where one cannot be cut, flow by flow, and that
/// one is left out aloud.
fn scored(
    bench: &mut Bench<'_>,
    question: &str,
    baseline: &Baseline,
    flows: Vec<Flow>,
    windows: &[(usize, usize)],
    seen: &Seen,
) -> Result<OfFlows, SurveyError> {
    let cuts = |flow: &Flow| -> Vec<Intervention> {
        windows.iter().map(|&(centre, half)| flow.around(centre, half)).collect()
    };
    let all: Vec<Intervention> = flows.iter().flat_map(cuts).collect();
    match bench.score(baseline, &all, seen) {
        Ok(scored) => {
            let mut scored = scored.into_iter();
            let of_flow = |flow| (flow, scored.by_ref().take(windows.len()).collect());
            return Ok(flows.into_iter().map(of_flow).collect());
        }
        Err(e) if !is_of_a_cut(&e) => return Err(bench.of_image(e)),
        Err(_) => {}
    }
    let mut kept = Vec::new();
    for flow in flows {
        match bench.score(baseline, &cuts(&flow), seen) {
            Ok(scored) => kept.push((flow, scored)),
            Err(e) if is_of_a_cut(&e) => bench.left_out(format!("{question}: {flow}"), e.to_string()),
            Err(e) => return Err(bench.of_image(e)),
        }
    }
    Ok(kept)
}

/// Whether a path cannot be cut here, and others may.
fn is_of_a_cut(error: &RunError) -> bool {
    use DecodingError::Knockout;
    matches!(error, RunError::Knockout { .. } | RunError::Choice { .. } | RunError::Decoding(Knockout(_)))
}

/// The image with that object marked that the flows of an object are about.
fn object(bench: &mut Bench<'_>, question: &str, baseline: &Baseline) -> Result<Option<Seen>, SurveyError> {
    if bench.subject.objects.is_empty() {
        return Ok(None);
    }
    let named = [question, &baseline.trace.answer_text()].map(|text| bench.named(text)).concat();
    let (mut marked, mut told) = (None, BTreeSet::new());
    for class in named {
        let objects = bench.subject.objects.iter().enumerate();
        let of_class: Vec<usize> = objects.filter(|(_, o)| o.class == class).map(|(n, _)| n).collect();
        // An answer, and a question, may name what the image does not show.
        if of_class.is_empty() || !told.insert(class.clone()) {
            continue;
        }
        let why = match of_class[..] {
            _ if marked.is_some() => "another object is named before it",
            [n] => match bench.marked(n)? {
                Some(seen) => {
                    marked = Some(seen);
                    continue;
                }
                None => "its pixels are not known, or fill no part of a patch",
            },
            _ => "the image shows several, and which of them is meant is not known",
        };
        bench.left_out(format!("{question}: flows of the object `{class}`"), why);
    }
    if told.is_empty() {
        let why = "neither the question nor its answer names an object of the image";
        bench.left_out(format!("{question}: flows of an object"), why);
    }
    Ok(marked)
}

/// Whether a flow's rows or keys depend on an object.
fn is_of_an_object(flow: &Flow) -> bool {
    flow.query.patch_sets().chain(flow.key.patch_sets()).any(|set| set == PatchSet::Object)
}

/// The paths that are cut where none is chosen; `object`: those of an object too.
fn usual(object: bool) -> Vec<Flow> {
    let term = |name, rings| Term { minus: false, name, places: Places::All, rings };
    let span = |span| Set(vec![term(Name::Span(span), 0)]);
    let around = term(Name::Patches(PatchSet::Object), RINGS);
    let rest = Set(vec![term(Name::Span(Span::Visual), 0), Term { minus: true, ..around.clone() }]);
    let around = Set(vec![around]);
    let last_row = Set(vec![term(Name::Patches(PatchSet::LastRow), 0)]);
    let [answer, question, last] = [Span::Answer, Span::Question, Span::Last].map(span);
    let visual = span(Span::Visual);
    let mut pairs = vec![
        (&answer, &visual),
        (&question, &visual),
        (&last, &visual),
        (&answer, &question),
        (&last, &question),
    ];
    if object {
        pairs.extend([
            (&last, &around),
            (&last, &rest),
            (&last_row, &around),
            (&question, &around),
            (&question, &rest),
        ]);
    }
    pairs.into_iter().map(|(query, key)| Flow { query: query.clone(), key: key.clone() }).collect()
}

/// Three panels a half-width, a curve a flow.
fn figure(images: &[ImageRows]) -> Vec<Panel> {
    let half = |row: &Row<'_>| row.number("half").map(|half| half as i64);
    let halves: BTreeSet<i64> =
        images.iter().flat_map(|image| image.iter().filter_map(|r| half(&r))).collect();
    let of = |width: i64| {
        let at = move |row: &Row<'_>| {
            let centre = row.number("centre")? as i64;
            (half(row) == Some(width)).then(|| (row.text("flow").to_string(), centre))
        };
        let mean = |column: &'static str| {
            mean_curves(images, move |row| {
                let (flow, centre) = at(row)?;
                Some((flow, centre, row.number(column)?))
            })
        };
        let lost = share_curves(images, move |row| {
            let (flow, centre) = at(row)?;
            Some((flow, centre, row.number("delta")? < -std::f64::consts::LN_2))
        });
        [
            panel("Log probability of the answer", width, "change in nats, mean", None, mean("delta")),
            panel("First token's probability", width, "p cut / p uncut - 1, mean", None, mean("first_ratio")),
            panel(
                "Answers that become less than half as likely",
                width,
                "share of answers",
                Some([0.0, 1.0]),
                lost,
            ),
        ]
    };
    halves.into_iter().flat_map(of).collect()
}

/// One panel, of windows with so many layers on either side.
fn panel(title: &str, half: i64, up: &str, range: Option<[f64; 2]>, series: Vec<Series>) -> Panel {
    let layers = match half {
        0 => "one layer".to_string(),
        half => format!("{} layers", 2 * half + 1),
    };
    Panel {
        title: format!("{title}, windows of {layers}"),
        across: "centre layer".to_string(),
        up: up.to_string(),
        range,
        grid: false,
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        studies::survey::findings::{At, Estimate},
        trace::table::Value,
    };

    #[test]
    fn usual_flows_are_what_one_would_type() {
        let spans = [
            "answer -> visual",
            "question -> visual",
            "last -> visual",
            "answer -> question",
            "last -> question",
        ];
        let objects = [
            "last -> object~1",
            "last -> visual - object~1",
            "lastrow -> object~1",
            "question -> object~1",
            "question -> visual - object~1",
        ];
        let typed =
            |texts: &[&str]| -> Vec<Flow> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(usual(false), typed(&spans));
        assert_eq!(usual(true), typed(&[spans, objects].concat()));
        assert!(typed(&objects).iter().all(is_of_an_object) && !typed(&spans).iter().any(is_of_an_object));
    }

    #[test]
    fn all_tokens_count_and_the_first_ones_probability_changes_by_its_own_delta() {
        let token = |delta: f32| Scored { logprob: -1.0, delta, rank: 0 };
        let tokens = [token(0.25_f32.ln()), token(1.0), token(-0.5)];
        let [delta, first_ratio] = changes(&tokens).unwrap();
        assert!((delta - (0.25_f32.ln() + 0.5)).abs() < 1e-6, "{delta}");
        assert!((first_ratio + 0.75).abs() < 1e-6, "{first_ratio}");
        assert_eq!(changes(&[]), None);
    }

    #[test]
    fn panels_are_by_half_width_and_curves_by_flow() {
        let row = |flow: &str, centre: usize, half: usize, delta: f32, ratio: f32| {
            let (delta, ratio) = (Value::Number(delta), Value::Number(ratio));
            vec!["where?".into(), flow.into(), centre.into(), half.into(), delta, ratio]
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
                    row("a -> b", 0, 1, -2.0, -0.5),
                    row("a -> b", 2, 1, 0.5, 0.25),
                    row("c -> d", 0, 0, -0.5, 0.0),
                ],
            ),
            // Half as likely is not less than half.
            image("b.png", vec![row("a -> b", 0, 1, -0.6875, -0.25)]),
        ];
        let panels = figure(&images);
        assert_eq!(panels.len(), 6);
        assert_eq!(panels[0].title, "Log probability of the answer, windows of one layer");
        assert_eq!(panels[5].title, "Answers that become less than half as likely, windows of 3 layers");
        assert_eq!((panels[0].series.len(), panels[0].series[0].name.as_str()), (1, "c -> d"));
        let [deltas, ratios, lost] = [3, 4, 5].map(|n| &panels[n].series[0].points);
        let at: Vec<&At> = deltas.iter().map(|point| &point.at).collect();
        assert_eq!(at, [&At::Number(0.0), &At::Number(2.0)]);
        assert!((deltas[0].estimate.value + 1.34375).abs() < 1e-9);
        assert_eq!(ratios[0].estimate.value, -0.375);
        assert_eq!(lost[0].estimate, Estimate::share(1, 2));
    }
}
