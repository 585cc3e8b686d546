//! What runs where, how fast, and what is going on.
//!
//! Knows facts of the store; changes none.

use egui::{ProgressBar, RichText, Sides, Ui};

use crate::{
    trace::report::End,
    ui::{
        frame::Frame,
        store::{command::Command, store::Store},
        widgets::{busy::busy, listed},
    },
    worker::protocol::ModelView,
};

/// Draws the bar: facts at the left, cut short where they do not fit; what goes on at the right, whole.
pub fn status_bar(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    ui.add_space(2.0);
    Sides::new().shrink_left().truncate().show(
        ui,
        |ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            match &store.model {
                None => _ = ui.label(RichText::new("no model yet").weak()),
                Some(model) => model_facts(ui, model),
            }
            if let Some(image) = store.image() {
                fact(ui, &image.description, "What was done to the image");
            }
            if let Some(end) = store.runs.baseline().view().and_then(|run| run.end.as_ref()) {
                speed(ui, end);
            }
        },
        |ui| what_goes_on(ui, store, frame),
    );
    ui.add_space(2.0);
}

/// Right to left.
fn what_goes_on(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    if store.busy() {
        listed::button(ui, frame, &Command::Cancel);
    }
    match &store.progress {
        Some(progress) => {
            match progress.share() {
                Some(share) => _ = ui.add(ProgressBar::new(share).desired_width(110.0).desired_height(10.0)),
                None => busy(ui, frame.dear),
            }
            ui.label(progress.to_string());
        }
        None if store.busy() => {
            busy(ui, frame.dear);
            ui.label(if store.runs.answering() { "answering" } else { "waiting for the model" });
        }
        None if store.cancelled() => _ = ui.label("cancelled"),
        None => {}
    }
}

fn model_facts(ui: &mut Ui, model: &ModelView) {
    let info = &model.info;
    fact(ui, &model.device, "Where the model runs");
    let size = count(info.parameters);
    let unused = match model.unused.len() {
        0 => String::new(),
        n => format!("\n{n} weights accepted and not used"),
    };
    let hover = format!(
        "{} parameters\nfamily {}\n{} layers of {} heads ({} for keys and values), width {}\n\
         vocabulary {}, context {}\nread from {}\nSHA-256 {}{unused}",
        info.parameters,
        info.family,
        info.n_layers,
        info.n_heads,
        info.n_kv_heads,
        info.width,
        info.vocabulary,
        info.context,
        info.sources,
        info.sha256,
    );
    let name = format!("{} · {size} parameters · {} x {} heads", info.name, info.n_layers, info.n_heads);
    fact(ui, &name, &hover);
}

fn speed(ui: &mut Ui, end: &End) {
    let t = &end.timing;
    let speed = t.tokens_per_second().map_or_else(|| "-".to_string(), |s| format!("{s:.1}"));
    let hover = format!(
        "load {:.2} s, encode {:.2} s, prefill {:.2} s, decode {:.2} s\n{}",
        t.load.as_secs_f64(),
        t.encode.as_secs_f64(),
        t.prefill.as_secs_f64(),
        t.decode.as_secs_f64(),
        end.dtype,
    );
    fact(ui, &format!("{speed} tokens/s"), &hover);
}

fn fact(ui: &mut Ui, text: &str, hover: &str) {
    ui.label(RichText::new(text).small()).on_hover_text(hover);
    ui.separator();
}

/// `2.4M`, `7.1B`.
fn count(n: usize) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1}K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_are_short() {
        assert_eq!(super::count(999), "999");
        assert_eq!(super::count(2_412_345), "2.4M");
        assert_eq!(super::count(7_063_000_000), "7.1B");
    }
}
