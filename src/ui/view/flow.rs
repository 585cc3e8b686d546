//! Attention by span, layer by layer: where the selected word, or the whole answer, looks.
//!
//! One stacked bar a layer, of height 1. Under it, on the same x axis, the layer range that the cut blocks. A
//! click on a bar goes to that layer.

use std::{borrow::Cow, ops::RangeInclusive};

use egui::{
    Align2, FontId, Id, Label, Pos2, Rect, RichText, Sense, Stroke, StrokeKind, Ui, UiBuilder, pos2, vec2,
};
use egui_plot::{AxisHints, Bar, BarChart, GridMark, Plot, PlotPoint, PlotResponse};

use crate::{
    spec::span::Span,
    trace::{flow::Shares, palette::Colormap},
    ui::{
        frame::Frame,
        store::{command::Command, selection::slot_name, settings::CutSettings, store::Store},
        theme,
        view::pane::View,
        widgets::{
            range_strip::RangeStrip,
            section::{section, still},
            swatch::{self, swatch},
            word,
        },
    },
    worker::protocol::Slot,
};

/// Below this height the chart goes without its legend.
const LOW: f32 = 110.0;

/// Room for the strip under the chart.
const STRIP: f32 = 34.0;

/// The view. It keeps nothing.
#[derive(Default)]
pub struct FlowView;

impl View for FlowView {
    fn title(&self, _store: &Store) -> String {
        "Attention by span".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let (slot, token) = store.selection.shown();
        let flow = flow(store, slot, token);
        let chart = Chart { store, slot, flow: flow.as_deref().unwrap_or(&[]) };
        still(ui, |ui| {
            section(ui, "Attention by span", frame, |ui, _| of(ui, store, slot, token));
            if store.n_layers() == 0 {
                ui.label(RichText::new(if store.busy() { "loading…" } else { "no model yet" }).weak());
                return;
            }
            // The strip stands at the bottom whatever grows above it: it is dragged.
            let room = ui.available_rect_before_wrap();
            let strip = Rect::from_min_max(pos2(room.left(), room.bottom() - STRIP), room.max);
            let above = Rect::from_min_max(room.min, pos2(room.right(), strip.top() - 2.0));
            let columns = ui.scope_builder(UiBuilder::new().max_rect(above), |ui| {
                // In a low view bars are worth more than their numbers, which hovering tells.
                if above.height() > LOW {
                    legend(ui, store, chart.flow);
                }
                chart.show(ui, ui.available_height().max(24.0), frame)
            });
            chart.strip(ui, strip, columns.inner, frame);
        });
    }
}

/// The shares of one answer token, or the mean over all.
fn flow(store: &Store, slot: Slot, token: Option<usize>) -> Option<Cow<'_, [Shares]>> {
    let lane = store.runs.lane(slot);
    let flow = match token {
        Some(at) => &lane.row(at)?.0.flow,
        None => &lane.mean()?.flow,
    };
    Some(flow.of(store.selection.head))
}

/// What the chart is of.
fn of(ui: &mut Ui, store: &Store, slot: Slot, token: Option<usize>) {
    let lane = store.runs.lane(slot);
    if lane.stale() {
        ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
    }
    let of = match token.and_then(|at| lane.token(at)) {
        Some(token) => format!("of “{}”", word::shown(token).trim()),
        None => "of the whole answer".to_string(),
    };
    let head = store.selection.head_name();
    ui.add(Label::new(RichText::new(format!("{of}, {}, {head}", slot_name(slot))).small()).truncate());
}

/// Each span's colour and its share in the selected layer; spans without any share are left out.
fn legend(ui: &mut Ui, store: &Store, flow: &[Shares]) {
    let layer = store.selection.layer;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
        if flow.is_empty() {
            let instead = if store.cancelled() { "cancelled" } else { "no answer yet" };
            ui.label(RichText::new(instead).small().weak());
            return;
        }
        ui.label(RichText::new(format!("layer {layer}:")).small());
        for span in Span::ALL {
            if flow.iter().all(|shares| shares[span.index()] == 0.0) {
                continue;
            }
            let share = flow.get(layer).map_or(0.0, |shares| shares[span.index()]);
            swatch::entry(ui, span, format!("{} {share:.3}", span.name()));
        }
    });
}

/// Where the layers lie on screen: the left end of the first and the right end of the last.
#[derive(Clone, Copy)]
struct Columns {
    left: f32,
    right: f32,
    n_layers: usize,
}

impl Columns {
    fn layer_at(self, pos: Pos2) -> usize {
        let share = (pos.x - self.left) / (self.right - self.left).max(1.0);
        ((share * self.n_layers as f32).floor().max(0.0) as usize).min(self.n_layers - 1)
    }

    fn of(self, layer: usize) -> RangeInclusive<f32> {
        let width = (self.right - self.left) / self.n_layers as f32;
        let left = self.left + layer as f32 * width;
        left..=left + width
    }
}

/// What is drawn.
struct Chart<'a> {
    store: &'a Store,
    slot: Slot,
    flow: &'a [Shares],
}

impl Chart<'_> {
    fn show(&self, ui: &mut Ui, height: f32, frame: &mut Frame) -> Columns {
        let n_layers = self.store.n_layers();
        let blocked = self.blocked();
        let color = theme::cut_color(ui.visuals()).gamma_multiply(0.25);
        let bars = self.bars();
        let plot = plot(n_layers, height).show(ui, |plot| {
            for layer in &blocked {
                let at = *layer as f64;
                let span = egui_plot::Span::new("", at - 0.5..=at + 0.5);
                plot.span(span.fill(color).border_width(0.0));
            }
            bars.into_iter().for_each(|chart| plot.bar_chart(chart));
        });
        let bounds = *plot.transform.frame();
        frame.place("flow", bounds);
        let x = |layer: f64| plot.transform.position_from_point(&PlotPoint::new(layer, 0.0)).x;
        let columns = Columns { left: x(-0.5), right: x(n_layers as f64 - 0.5), n_layers };
        let marked = Rect::from_x_y_ranges(columns.of(self.store.selection.layer), bounds.y_range());
        let stroke = Stroke::new(1.5, ui.visuals().text_color());
        ui.painter().rect_stroke(marked, 1.0, stroke, StrokeKind::Middle);
        self.follow_pointer(plot, columns, &blocked, frame);
        columns
    }

    fn follow_pointer(&self, plot: PlotResponse<()>, columns: Columns, blocked: &[usize], frame: &mut Frame) {
        let response = plot.response;
        if let Some(pos) = response.interact_pointer_pos().filter(|_| response.clicked()) {
            frame.ask(Command::Layer(columns.layer_at(pos)));
        }
        if let Some(pos) = response.hover_pos() {
            let layer = columns.layer_at(pos);
            if let Some(shares) = self.flow.get(layer) {
                response.on_hover_ui_at_pointer(|ui| numbers(ui, layer, shares, blocked.contains(&layer)));
            }
        }
    }

    /// The range strip, on the chart's own x axis.
    fn strip(&self, ui: &mut Ui, row: Rect, columns: Columns, frame: &mut Frame) {
        let rect = Rect::from_x_y_ranges(columns.left..=columns.right, row.top() + 5.0..=row.top() + 23.0);
        // Shares of all attention: the colours run from 0 to 1, whatever is shown.
        let mut values: Vec<f32> = self.flow.iter().map(|shares| shares[Span::Visual.index()]).collect();
        values.resize(columns.n_layers, 0.0);
        let (colormap, cut) = (self.store.map.colormap, &self.store.cut);
        scale(ui, colormap, Rect::from_x_y_ranges(row.left()..=columns.left - 8.0, rect.y_range()));
        let strip = RangeStrip {
            values: &values,
            color: &|v| theme::map_color(colormap, v),
            range: cut.range,
            active: cut.enabled,
            layer: self.store.selection.layer,
            accent: theme::cut_color(ui.visuals()),
        };
        let response = strip.show(ui, Id::unique("layer range"), rect);
        frame.place("range", rect);
        frame.place("range.low", response.handles[0]);
        frame.place("range.high", response.handles[1]);
        if let Some(range) = response.range {
            // Moving a handle says what to cut, so it also switches the cut on.
            frame.ask(Command::Cut(CutSettings { enabled: true, range, ..cut.clone() }));
        }
        response.strip.on_hover_text(
            "Layers, coloured by their share of attention to the image, from 0 to 1. Drag the handles, or the \
             span between them, to block answer -> visual there.",
        );
    }

    /// Layers in which the run on show has something blocked.
    fn blocked(&self) -> Vec<usize> {
        let Some(run) = self.store.runs.lane(self.slot).view() else { return Vec::new() };
        let knockouts = &run.experiment.intervention.knockouts;
        (0..self.store.n_layers()).filter(|l| knockouts.iter().any(|k| k.layers.contains(*l))).collect()
    }

    fn bars(&self) -> Vec<BarChart> {
        let stale = self.store.runs.lane(self.slot).stale();
        let mut below = vec![0.0f64; self.flow.len()];
        let mut charts = Vec::new();
        for span in Span::ALL {
            let mut color = theme::span_color(span);
            if stale {
                color = color.gamma_multiply(0.6);
            }
            let bar = |(layer, shares): (usize, &Shares)| {
                let share = f64::from(shares[span.index()]);
                let bar = Bar::new(layer as f64, share).base_offset(below[layer]).width(0.86).fill(color);
                below[layer] += share;
                bar.stroke(Stroke::NONE)
            };
            let bars: Vec<Bar> = self.flow.iter().enumerate().map(bar).collect();
            charts.push(BarChart::new(span.name(), bars).color(color).allow_hover(false));
        }
        charts
    }
}

/// The colours of the strip and what they stand for, in the room at its left.
fn scale(ui: &Ui, colormap: Colormap, rect: Rect) {
    let font = FontId::proportional(9.0);
    let color = ui.visuals().text_color();
    let bar = Rect::from_min_max(pos2(rect.right() - 5.0, rect.top()), rect.max);
    for i in 0..12 {
        let part = bar.bottom() - bar.height() * (i + 1) as f32 / 12.0
            ..=bar.bottom() - bar.height() * i as f32 / 12.0;
        let part = Rect::from_x_y_ranges(bar.x_range(), part);
        ui.painter().rect_filled(part, 0.0, theme::map_color(colormap, (i as f32 + 0.5) / 12.0));
    }
    for (y, align, text) in [(bar.top(), Align2::RIGHT_TOP, "1"), (bar.bottom(), Align2::RIGHT_BOTTOM, "0")] {
        ui.painter().text(pos2(bar.left() - 3.0, y), align, text, font.clone(), color);
    }
}

/// The axes, and nothing that moves them.
fn plot(n_layers: usize, height: f32) -> Plot<'static> {
    let step = n_layers.div_ceil(16) as f64;
    Plot::new("flow")
        .height(height)
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
        .sense(Sense::CLICK | Sense::HOVER)
        .x_grid_spacer(move |_| {
            let mark = |l| GridMark { value: l as f64, step_size: step };
            (0..n_layers).step_by(step as usize).map(mark).collect()
        })
        .y_grid_spacer(|_| (0..=4).map(|i| GridMark { value: i as f64 / 4.0, step_size: 0.25 }).collect())
        .custom_x_axes(vec![
            AxisHints::new_x().formatter(|mark, _| format!("{:.0}", mark.value)).label_spacing(12.0..=20.0),
        ])
        .y_axis_formatter(|mark, _| format!("{:.2}", mark.value))
}

fn numbers(ui: &mut Ui, layer: usize, shares: &Shares, blocked: bool) {
    ui.label(RichText::new(format!("layer {layer}")).strong());
    egui::Grid::new("shares").num_columns(3).spacing([8.0, 2.0]).show(ui, |ui| {
        for span in Span::ALL.into_iter().rev().filter(|s| shares[s.index()] > 0.0) {
            swatch(ui, span);
            ui.label(span.name());
            ui.label(RichText::new(format!("{:.4}", shares[span.index()])).monospace());
            ui.end_row();
        }
    });
    if blocked {
        ui.label(RichText::new("something is blocked here").color(theme::cut_color(ui.visuals())));
    }
}
