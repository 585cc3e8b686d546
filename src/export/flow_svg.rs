//! The flow chart as SVG: the answer's mean attention to every span, layer by layer.

use std::fmt::Write as _;

use crate::{
    spec::span::Span,
    trace::{palette::span_rgb, run::Trace},
};

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
    let mut svg = String::from(
        "<svg xmlns='http://www.w3.org/2000/svg' width='660' height='330' font-family='sans-serif' font-size='12'>\n<rect width='660' height='330' fill='white'/>\n",
    );
    for tick in 0..=4 {
        let share = tick as f32 / 4.0;
        let at = y(share);
        let _ = writeln!(
            svg,
            "<path d='M{left} {at}h{width}' stroke='#ddd'/><text x='{}' y='{}' text-anchor='end'>{share}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for layer in 0..layers {
        let _ = writeln!(
            svg,
            "<text x='{}' y='{}' text-anchor='middle'>{}</text>",
            x(layer),
            top + height + 16.0,
            trace.kept.layers[layer]
        );
    }
    for (s, span) in Span::ALL.into_iter().enumerate() {
        let [r, g, b] = span_rgb(span);
        let points: Vec<String> = (0..layers).map(|l| format!("{:.1},{:.1}", x(l), y(share(l, s)))).collect();
        let at = top + 16.0 * s as f32 + 8.0;
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='rgb({r},{g},{b})' stroke-width='2'/>\n<text x='545' y='{at}' fill='rgb({r},{g},{b})'>{}</text>",
            points.join(" "),
            span.name()
        );
    }
    let _ = writeln!(
        svg,
        "<text x='{}' y='{}' text-anchor='middle'>layer; share of the answer's attention, mean over heads and tokens</text>\n</svg>",
        left + width / 2.0,
        top + height + 36.0
    );
    svg
}
