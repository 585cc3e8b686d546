//! What runs where, how fast, and what is going on.

use egui::{ProgressBar, RichText, Ui};

use crate::ui::store::state::{Action, State};

/// Draws the bar.
pub fn show(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    ui.add_space(2.0);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        match &state.model {
            None => {
                ui.label(RichText::new("no model yet").weak());
            }
            Some(model) => {
                let info = &model.info;
                fact(ui, &model.device, "Where the model runs");
                let size = count(info.parameters);
                let hover = format!(
                    "{} parameters\nfamily {}\n{} layers of {} heads ({} for keys and values), width {}\n\
                     vocabulary {}, context {}\nSHA-256 {}{}",
                    info.parameters,
                    info.family,
                    info.n_layers,
                    info.n_heads,
                    info.n_kv_heads,
                    info.width,
                    info.vocabulary,
                    info.context,
                    info.sha256,
                    match model.unused.len() {
                        0 => String::new(),
                        n => format!("\n{n} weights accepted and not used"),
                    },
                );
                let name =
                    format!("{} · {size} parameters · {} x {} heads", info.name, info.n_layers, info.n_heads);
                fact(ui, &name, &hover);
            }
        }
        if let Some(image) = &state.image {
            fact(ui, &image.geometry, "What was done to the image");
        }
        if let Some(view) = state.runs.baseline.view()
            && let Some(outcome) = &view.outcome
        {
            let t = &outcome.timing;
            let speed = t.tokens_per_second().map_or_else(|| "-".to_string(), |s| format!("{s:.1}"));
            let hover = format!(
                "load {:.2} s, encode {:.2} s, prefill {:.2} s, decode {:.2} s\n{}",
                t.load.as_secs_f64(),
                t.encode.as_secs_f64(),
                t.prefill.as_secs_f64(),
                t.decode.as_secs_f64(),
                outcome.dtype,
            );
            fact(ui, &format!("{speed} tokens/s"), &hover);
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if state.busy() && ui.button("Cancel").clicked() {
                actions.push(Action::Cancel);
            }
            match &state.progress {
                Some((what, Some(share))) => {
                    ui.add(ProgressBar::new(*share).desired_width(110.0).desired_height(10.0));
                    ui.label(what);
                }
                Some((what, None)) => {
                    ui.spinner();
                    ui.label(what);
                }
                None if state.busy() => {
                    ui.spinner();
                    ui.label("answering");
                }
                None => {}
            }
        });
    });
    ui.add_space(2.0);
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
