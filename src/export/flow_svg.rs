//! The flow chart as SVG: the answer's mean attention to every span, layer by layer.

use crate::{
    export::svg::svg,
    spec::span::Span,
    trace::{
        figure::{Align, Figure, Ink, Mark},
        palette::span_rgb,
        run::Trace,
    },
};

/// Size of its texts.
const TEXT: f32 = 12.0;

/// The answer's mean attention to every span, layer by layer, as one line a span.
pub fn flow_svg(trace: &Trace) -> String {
    let (layers, answer, spans) = (trace.kept.layers.len(), trace.pattern.len().max(1), Span::ALL.len());
    let flow = trace.shares();
    let share = |layer: usize, span: usize| {
        let rows = flow.iter().skip(layer * answer * spans + span).step_by(spans).take(answer);
        rows.sum::<f32>() / answer as f32
    };
    let (left, top, width, height) = (50.0, 20.0, 480.0, 260.0);
    let x = |layer: usize| left + width * layer as f32 / (layers.max(2) - 1) as f32;
    let y = |share: f32| top + height * (1.0 - share);
    let mut figure = Figure::new([660.0, 330.0], "Where the answer looked, layer by layer");
    figure.settings = vec![
        ("model".to_string(), trace.model.name.clone()),
        ("weights' sha256".to_string(), trace.model.sha256.clone()),
        ("answer".to_string(), trace.answer_text()),
    ];
    for tick in 0..=4 {
        let share = tick as f32 / 4.0;
        let at = y(share);
        figure.add(Mark::line(vec![[left, at], [left + width, at]], Ink::Faint, 1.0));
        figure.add(Mark::text([left - 6.0, at], share.to_string(), TEXT, Align::End, Ink::Text));
    }
    for (place, layer) in trace.kept.layers.iter().enumerate() {
        let at = [x(place), top + height + 12.0];
        figure.add(Mark::text(at, layer.to_string(), TEXT, Align::Middle, Ink::Text));
    }
    for (s, span) in Span::ALL.into_iter().enumerate() {
        let ink = Ink::rgb(span_rgb(span));
        let points = (0..layers).map(|layer| [x(layer), y(share(layer, s))]).collect();
        figure.add(Mark::line(points, ink, 2.0));
        let at = [left + width + 15.0, top + 16.0 * s as f32 + 4.0];
        figure.add(Mark::text(at, span.name(), TEXT, Align::Start, ink));
    }
    let below = [left + width / 2.0, top + height + 32.0];
    let axis = "layer; share of the answer's attention, mean over heads and tokens";
    figure.add(Mark::text(below, axis, TEXT, Align::Middle, Ink::Text));
    svg(&figure)
}
