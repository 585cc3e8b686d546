//! Which map is drawn and how: layer, head, colours, range, opacity.

use egui::{ComboBox, Slider, Ui};

use crate::{trace::palette::Colormap, ui::{layout::Draft, store::state::{Action, State}}};

/// Draws the controls, in two lines.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft, actions: &mut Vec<Action>) {
    let (n_layers, n_heads) = (state.n_layers(), state.n_heads());
    let mut map = state.map;
    ui.add_enabled_ui(n_layers > 0, |ui| {
        ui.horizontal(|ui| {
            ui.label("Layer");
            let mut layer = state.selection.layer;
            ui.spacing_mut().slider_width = (ui.available_width() - 240.0).clamp(80.0, 420.0);
            let slider = Slider::new(&mut layer, 0..=n_layers.saturating_sub(1));
            let slider = ui.name_inputs("Layer", |ui| ui.add(slider));
            draft.place("layer", slider.rect);
            if slider.changed() {
                actions.push(Action::Layer(layer));
            }
            ui.label("Head");
            let name =
                |head: Option<usize>| head.map_or_else(|| format!("mean of {n_heads}"), |h| h.to_string());
            let heads = ComboBox::from_id_salt("head").width(96.0).selected_text(name(state.selection.head));
            let heads = heads.show_ui(ui, |ui| {
                for head in std::iter::once(None).chain((0..n_heads).map(Some)) {
                    if ui.selectable_label(state.selection.head == head, name(head)).clicked() {
                        actions.push(Action::Head(head));
                    }
                }
            });
            heads.response.accessible_name("Head");
        });
        ui.horizontal_wrapped(|ui| {
            ui.checkbox(&mut map.visible, "Map");
            ui.spacing_mut().slider_width = 90.0;
            ui.label("opacity");
            ui.add(Slider::new(&mut map.opacity, 0.0..=1.0).show_value(false)).accessible_name("opacity");
            let colours = ComboBox::from_id_salt("colours").width(80.0).selected_text(map.colormap.name());
            let colours = colours.show_ui(ui, |ui| {
                for choice in Colormap::ALL {
                    ui.selectable_value(&mut map.colormap, choice, choice.name());
                }
            });
            colours.response.accessible_name("colours");
            ui.checkbox(&mut map.fade, "fade low").on_hover_text("Low values let more of the image through");
            ui.checkbox(&mut map.shared_range, "one range for all layers").on_hover_text(
                "On: colours mean the same in every layer of this word, from 0 to the largest value.\n\
                 Off: each map uses all colours, from its own smallest to its own largest value.",
            );
            if state.image.as_ref().is_some_and(|image| image.global.iter().any(|g| *g != image.global[0])) {
                ui.selectable_value(&mut map.tiles, true, "tiles");
                ui.selectable_value(&mut map.tiles, false, "whole view");
            }
        });
    });
    if map != state.map {
        actions.push(Action::Map(map));
    }
}
