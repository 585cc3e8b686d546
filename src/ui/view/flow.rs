//! Attention by span, layer by layer: where the selected word, or the whole answer, looks.
//!
//! One stacked bar a layer, of height 1. Under it, on the same x axis, the layer range that the cut
//! blocks. A click on a bar goes to that layer.

use egui::{Id, RichText, Sense, Stroke, Ui, vec2};
use egui_plot::{Bar, BarChart, Plot, PlotPoint};

use crate::{spec::span::Span, ui::{layout::{Draft, section}, store::{selection::Which, state::{Action, State}}, theme, widgets::range_strip::RangeStrip}};

/// `[layers][spans]` in the order of [`Span::ALL`]: of one answer token, or the mean over all.
fn flow(state: &State, which: Which, token: Option<usize>) -> Option<Vec<[f32; 7]>> {
    let lane = state.runs.lane(which);
    if let Some(at) = token {
        return Some(lane.row(at)?.0.flow.clone());
    }
    let rows = lane.rows();
    let mut mean = vec![[0.0f32; 7]; rows.first()?.flow.len()];
    for row in &rows {
        for (sum, shares) in mean.iter_mut().zip(&row.flow) {
            sum.iter_mut().zip(shares).for_each(|(s, p)| *s += p / rows.len() as f32);
        }
    }
    Some(mean)
}

/// Draws the panel.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft, actions: &mut Vec<Action>) {
    let (which, token) = state.selection.shown();
    let flow = flow(state, which, token);
    let of = match token.and_then(|at| state.runs.lane(which).tokens().get(at).map(|(t, _)| t.text.clone())) {
        Some(text) => format!("of “{}”", text.trim()),
        None => "of the whole answer".to_string(),
    };
    section(ui, "Attention by span", |ui| {
        if state.runs.lane(which).stale() {
            ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
        }
        ui.label(RichText::new(format!("{of}, {}, mean of heads", which.name())).small());
    });
    let n_layers = state.n_layers();
    if n_layers == 0 {
        ui.label(RichText::new("no model yet").weak());
        return;
    }
    legend(ui, state, flow.as_deref());

    let cut = blocked_layers(state, which, n_layers);
    let selected = state.selection.layer;
    let bars = bars(flow.as_deref().unwrap_or(&[]), state.runs.lane(which).stale());
    let text = ui.visuals().text_color();
    let cut_color = theme::cut_color(ui.visuals());
    let step = n_layers.div_ceil(16) as f64;
    let plot = Plot::new("flow")
        .height((ui.available_height() - 250.0).clamp(150.0, 340.0))
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
        .show_x(false)
        .show_y(false)
        .show_grid([false, true])
        .y_axis_min_width(30.0)
        .set_margin_fraction(vec2(0.0, 0.0))
        .include_x(-0.5)
        .include_x(n_layers as f64 - 0.5)
        .include_y(0.0)
        .include_y(1.0)
        .sense(Sense::click())
        .x_grid_spacer(move |_| {
            let mark = |l| egui_plot::GridMark { value: l as f64, step_size: step };
            (0..n_layers).step_by(step as usize).map(mark).collect()
        })
        .y_grid_spacer(|_| {
            (0..=4).map(|i| egui_plot::GridMark { value: i as f64 / 4.0, step_size: 0.25 }).collect()
        })
        .custom_x_axes(vec![
            egui_plot::AxisHints::new_x()
                .formatter(|mark, _| format!("{:.0}", mark.value))
                .label_spacing(12.0..=20.0),
        ])
        .y_axis_formatter(|mark, _| format!("{:.2}", mark.value))
        .show(ui, |plot| {
            for layer in &cut {
                let at = *layer as f64;
                plot.span(
                    egui_plot::Span::new("", at - 0.5..=at + 0.5)
                        .fill(cut_color.gamma_multiply(0.25))
                        .border_width(0.0),
                );
            }
            bars.into_iter().for_each(|chart| plot.bar_chart(chart));
        });
    let frame = *plot.transform.frame();
    draft.place("flow", frame);
    let x = |layer: f64| plot.transform.position_from_point(&PlotPoint::new(layer, 0.0)).x;
    let (left, right) = (x(-0.5), x(n_layers as f64 - 0.5));
    let marked =
        egui::Rect::from_x_y_ranges(x(selected as f64 - 0.5)..=x(selected as f64 + 0.5), frame.y_range());
    ui.painter().rect_stroke(marked, 1.0, Stroke::new(1.5, text), egui::StrokeKind::Middle);

    let layer_at = |pos: egui::Pos2| {
        let share = (pos.x - left) / (right - left).max(1.0);
        ((share * n_layers as f32).floor().max(0.0) as usize).min(n_layers - 1)
    };
    if let Some(pos) = plot.response.interact_pointer_pos().filter(|_| plot.response.clicked()) {
        actions.push(Action::Layer(layer_at(pos)));
    }
    if let (Some(pos), Some(flow)) = (plot.response.hover_pos(), &flow) {
        let layer = layer_at(pos);
        plot.response.on_hover_ui_at_pointer(|ui| numbers(ui, layer, flow.get(layer), cut.contains(&layer)));
    }

    // The range strip, on the chart's own x axis.
    ui.add_space(2.0);
    let (row, _) = ui.allocate_exact_size(vec2(ui.available_width(), 34.0), Sense::hover());
    let rect = egui::Rect::from_x_y_ranges(left..=right, row.top() + 5.0..=row.top() + 23.0);
    let values: Vec<f32> = match &flow {
        Some(flow) => flow.iter().map(|shares| shares[Span::Visual.index()]).collect(),
        None => vec![0.0; n_layers],
    };
    let top = values.iter().copied().fold(1e-6, f32::max);
    let values: Vec<f32> = values.iter().map(|v| v / top).collect();
    let colormap = state.map.colormap;
    let strip = RangeStrip {
        values: &values,
        color: &|v| colormap.color(v),
        range: state.cut.range,
        active: state.cut.enabled,
        layer: selected,
        accent: cut_color,
    };
    let response = strip.show(ui, Id::unique("layer range"), rect);
    draft.place("range", rect);
    draft.place("range.low", response.handles[0]);
    draft.place("range.high", response.handles[1]);
    if let Some(range) = response.range {
        // Moving a handle says what to cut, so it also switches the cut on.
        actions.push(Action::Cut(crate::ui::store::state::CutSettings {
            enabled: true,
            range,
            ..state.cut.clone()
        }));
    }
    response.strip.on_hover_text(
        "Layers, coloured by attention to the image. Drag the handles, or the span between them, \
         to block answer -> visual there.",
    );
}

/// Layers in which the trace on show has something blocked.
fn blocked_layers(state: &State, which: Which, n_layers: usize) -> Vec<usize> {
    match state.runs.lane(which).view() {
        Some(view) => {
            let blocked = |l: &usize| view.ask.knockouts.iter().any(|k| k.layers.contains(*l));
            (0..n_layers).filter(blocked).collect()
        }
        None => Vec::new(),
    }
}

fn bars(flow: &[[f32; 7]], stale: bool) -> Vec<BarChart> {
    let mut below = vec![0.0f64; flow.len()];
    let mut charts = Vec::new();
    for span in Span::ALL {
        let mut color = theme::span_color(span);
        if stale {
            color = color.gamma_multiply(0.6);
        }
        let bar = |(layer, shares): (usize, &[f32; 7])| {
            let share = shares[span.index()] as f64;
            let bar = Bar::new(layer as f64, share).base_offset(below[layer]).width(0.86).fill(color);
            below[layer] += share;
            bar.stroke(Stroke::NONE)
        };
        let bars: Vec<Bar> = flow.iter().enumerate().map(bar).collect();
        charts.push(BarChart::new(span.name(), bars).color(color).allow_hover(false));
    }
    charts
}

/// Each span's colour and its share in the selected layer; spans without any share are left out.
fn legend(ui: &mut Ui, state: &State, flow: Option<&[[f32; 7]]>) {
    let Some(flow) = flow else { return };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
        ui.label(RichText::new(format!("layer {}:", state.selection.layer)).small());
        for span in Span::ALL {
            if flow.iter().all(|shares| shares[span.index()] == 0.0) {
                continue;
            }
            let share = flow.get(state.selection.layer).map_or(0.0, |shares| shares[span.index()]);
            let (rect, _) = ui.allocate_exact_size(vec2(9.0, 9.0), Sense::hover());
            ui.painter().rect_filled(rect, 2.0, theme::span_color(span));
            ui.label(RichText::new(format!("{} {share:.3}", span.name())).small());
            ui.add_space(3.0);
        }
    });
}

fn numbers(ui: &mut Ui, layer: usize, shares: Option<&[f32; 7]>, blocked: bool) {
    let Some(shares) = shares else { return };
    ui.label(RichText::new(format!("layer {layer}")).strong());
    egui::Grid::new("shares").num_columns(3).spacing([8.0, 2.0]).show(ui, |ui| {
        for span in Span::ALL.into_iter().rev().filter(|s| shares[s.index()] > 0.0) {
            let (rect, _) = ui.allocate_exact_size(vec2(9.0, 9.0), Sense::hover());
            ui.painter().rect_filled(rect, 2.0, theme::span_color(span));
            ui.label(span.name());
            ui.label(RichText::new(format!("{:.4}", shares[span.index()])).monospace());
            ui.end_row();
        }
    });
    if blocked {
        ui.label(RichText::new("something is blocked here").color(theme::cut_color(ui.visuals())));
    }
}
