//! Which map is drawn and how: layer, head, colours, range, opacity.

use egui::{Checkbox, ComboBox, Slider, Ui};

use crate::{
    trace::palette::Colormap,
    ui::{
        frame::Frame,
        store::{command::Command, settings::MapSettings, store::Store},
    },
};

/// Draws the controls, in two lines.
pub fn map_controls(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let mut map = store.map;
    ui.add_enabled_ui(store.n_layers() > 0, |ui| {
        ui.horizontal(|ui| which(ui, store, frame));
        let tiled = store.image().is_some_and(|image| image.geometry.is_tiled());
        ui.horizontal_wrapped(|ui| how(ui, &mut map, tiled));
    });
    if map != store.map {
        frame.ask(Command::Map(map));
    }
}

fn which(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let (n_layers, n_heads) = (store.n_layers(), store.n_heads());
    ui.label("Layer");
    let mut layer = store.selection.layer;
    ui.spacing_mut().slider_width = (ui.available_width() - 240.0).clamp(80.0, 420.0);
    let slider = Slider::new(&mut layer, 0..=n_layers.saturating_sub(1));
    let slider = ui.name_inputs("Layer", |ui| ui.add(slider));
    frame.place("layer", slider.rect);
    if slider.changed() {
        frame.ask(Command::Layer(layer));
    }
    ui.label("Head");
    let name = |head: Option<usize>| head.map_or_else(|| format!("mean of {n_heads}"), |h| h.to_string());
    let heads = ComboBox::from_id_salt("head").width(96.0).selected_text(name(store.selection.head));
    let heads = heads.show_ui(ui, |ui| {
        for head in std::iter::once(None).chain((0..n_heads).map(Some)) {
            if ui.selectable_label(store.selection.head == head, name(head)).clicked() {
                frame.ask(Command::Head(head));
            }
        }
    });
    heads.response.accessible_name("Head");
}

fn how(ui: &mut Ui, map: &mut MapSettings, tiled: bool) {
    ui.add(Checkbox::new(&mut map.visible, "Map"));
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
    if tiled {
        ui.selectable_value(&mut map.tiles, true, "tiles");
        ui.selectable_value(&mut map.tiles, false, "whole view");
    }
}
