//! Lines and stacked bars on screen, and what the pointer does on them; `share_lines` has both for files.
//!
//! A click goes to the layer. Knows the chart's numbers; not what they are of.

use std::ops::RangeInclusive;

use egui::{Pos2, Rect, Response, RichText, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2};
use egui_plot::{AxisHints, Bar, BarChart, GridMark, Plot, PlotPoint};

use crate::ui::{
    frame::Frame,
    store::command::Command,
    theme,
    view::{flow::columns::Look, flow::share_lines::ShareChart},
    widgets::{
        figure::paint,
        number,
        swatch::{self, swatch},
    },
};

/// Below this height bars go without their legend.
const LOW: f32 = 130.0;

/// Least width and height of a chart.
const LEAST: f32 = 40.0;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// A line a span.
    Lines,
    /// A stacked bar a layer.
    Bars,
}

/// Draws it. Returns how it looked.
pub fn show(ui: &mut Ui, chart: &ShareChart, drawn: Drawn, frame: &mut Frame) -> Look {
    if drawn == Drawn::Bars && ui.available_height() > LOW {
        legend(ui, chart);
    }
    let size = vec2(ui.available_width().max(LEAST), ui.available_height().max(LEAST));
    let look = Look::of(ui, Rect::from_min_size(ui.cursor().min, size));
    let (response, layer) = match drawn {
        Drawn::Bars => bars(ui, chart, size.y, frame),
        Drawn::Lines => lines(ui, chart, look, frame),
    };
    if let Some(layer) = layer {
        if response.clicked() {
            frame.ask(Command::Layer(layer));
        }
        response.on_hover_ui_at_pointer(|ui| numbers(ui, chart, layer));
    }
    look
}

/// The lines, to be pointed at, and the layer under the pointer.
fn lines(ui: &mut Ui, chart: &ShareChart, look: Look, frame: &mut Frame) -> (Response, Option<usize>) {
    let (place, response) = ui.allocate_exact_size(look.size.into(), Sense::CLICK | Sense::HOVER);
    frame.place("flow", place);
    let columns = chart.columns(look.size);
    columns.tell(place, frame);
    paint(ui, place, &chart.lines(look));
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, "shares of spans by layer"));
    let pointed = response.interact_pointer_pos().or(response.hover_pos());
    (response, pointed.and_then(|pos| columns.layer_at(pos.x - place.left())))
}

/// Where the layers lie on screen: the left end of the first and the right end of the last.
#[derive(Clone, Copy)]
struct Slots {
    left: f32,
    right: f32,
    n_layers: usize,
}

impl Slots {
    fn layer_at(self, pos: Pos2) -> Option<usize> {
        let share = (pos.x - self.left) / (self.right - self.left).max(1.0);
        let inside = (0.0..1.0).contains(&share) && self.n_layers > 0;
        inside.then(|| ((share * self.n_layers as f32) as usize).min(self.n_layers - 1))
    }

    fn of(self, layer: usize) -> RangeInclusive<f32> {
        let width = (self.right - self.left) / self.n_layers.max(1) as f32;
        let left = self.left + layer as f32 * width;
        left..=left + width
    }
}

/// The bars, to be pointed at, and the layer under the pointer.
fn bars(ui: &mut Ui, chart: &ShareChart, height: f32, frame: &mut Frame) -> (Response, Option<usize>) {
    let n_layers = chart.shares.len();
    let color = theme::cut_color(ui.visuals()).gamma_multiply(0.25);
    let blocked = (0..n_layers).filter(|layer| chart.cut.as_ref().is_some_and(|cut| cut.contains(*layer)));
    let plot = plot(n_layers, height).show(ui, |plot| {
        for layer in blocked {
            let at = layer as f64;
            let span = egui_plot::Span::new("", at - 0.5..=at + 0.5);
            plot.span(span.fill(color).border_width(0.0));
        }
        stacked(chart).into_iter().for_each(|bars| plot.bar_chart(bars));
    });
    let bounds = *plot.transform.frame();
    frame.place("flow", bounds);
    let x = |layer: f64| plot.transform.position_from_point(&PlotPoint::new(layer, 0.0)).x;
    let slots = Slots { left: x(-0.5), right: x(n_layers as f64 - 0.5), n_layers };
    for layer in 0..n_layers {
        frame.place(format!("flow[{layer}]"), Rect::from_x_y_ranges(slots.of(layer), bounds.y_range()));
    }
    let marked = Rect::from_x_y_ranges(slots.of(chart.layer), bounds.y_range());
    let stroke = Stroke::new(1.5, theme::accent(ui.visuals()));
    ui.painter().rect_stroke(marked, 1.0, stroke, StrokeKind::Middle);
    let response = plot.response;
    let pointed = response.interact_pointer_pos().or(response.hover_pos());
    (response, pointed.and_then(|pos| slots.layer_at(pos)))
}

fn stacked(chart: &ShareChart) -> Vec<BarChart> {
    let mut below = vec![0.0f64; chart.shares.len()];
    let mut charts = Vec::new();
    for span in chart.spans() {
        let color = theme::span_color(span).gamma_multiply(if chart.fresh { 1.0 } else { 0.6 });
        let bars = chart.shares.iter().zip(&mut below).enumerate().map(|(layer, (shares, below))| {
            let share = f64::from(shares[span.index()]);
            let bar = Bar::new(layer as f64, share).base_offset(*below).width(0.86).fill(color);
            *below += share;
            bar.stroke(Stroke::NONE)
        });
        let bars: Vec<Bar> = bars.collect();
        charts.push(BarChart::new(span.name(), bars).color(color).allow_hover(false));
    }
    charts
}

/// The axes, and nothing that moves them.
fn plot(n_layers: usize, height: f32) -> Plot<'static> {
    let step = n_layers.div_ceil(16).max(1) as f64;
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

/// Each span's colour and its share in the layer on show.
fn legend(ui: &mut Ui, chart: &ShareChart) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(4.0, 2.0);
        ui.label(RichText::new(format!("layer {}:", chart.layer)).small());
        for (span, share, _) in chart.numbers(chart.layer) {
            let entry = swatch::entry(ui, span, format!("{} {share:.3}", span.name()));
            entry.on_hover_text(swatch::meaning(span));
        }
    });
}

fn numbers(ui: &mut Ui, chart: &ShareChart, layer: usize) {
    ui.label(RichText::new(format!("layer {layer}")).strong());
    egui::Grid::new("shares").num_columns(3).spacing([8.0, 2.0]).show(ui, |ui| {
        for (span, share, sd) in chart.numbers(layer).into_iter().rev() {
            swatch(ui, span);
            ui.label(span.name());
            let sd = sd.map(|sd| format!(" ± {}", number::short(sd))).unwrap_or_default();
            ui.label(RichText::new(format!("{}{sd}", number::short(share))).monospace());
            ui.end_row();
        }
    });
    if let Some(cut) = chart.cut.as_ref().filter(|cut| cut.contains(layer)) {
        let text = format!("something is cut here in {}", cut.run);
        ui.label(RichText::new(text).color(theme::cut_color(ui.visuals())));
    }
}
