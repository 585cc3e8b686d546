//! Which map is drawn and how: layer, head, colours, range, opacity.

use egui::{Button, Checkbox, ComboBox, DragValue, Slider, Ui};

use crate::{
    trace::palette::Colormap,
    ui::{
        frame::Frame,
        store::{
            command::Command,
            settings::{ColorRange, MapSettings, Underlay},
            store::Store,
        },
        widgets::number,
    },
};

/// Draws the controls, in two lines. `range`: the ends of the colours now.
pub fn map_controls(ui: &mut Ui, store: &Store, range: Option<(f32, f32)>, frame: &mut Frame) {
    let mut map = store.map;
    ui.add_enabled_ui(store.n_layers() > 0, |ui| {
        ui.horizontal(|ui| which(ui, store, frame));
        let tiled = store.image().is_some_and(|image| image.geometry.is_tiled());
        ui.horizontal_wrapped(|ui| how(ui, &mut map, range, tiled));
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

fn how(ui: &mut Ui, map: &mut MapSettings, range: Option<(f32, f32)>, tiled: bool) {
    ui.add(Checkbox::new(&mut map.visible, "Map"));
    let over = ComboBox::from_id_salt("underlay").width(104.0).selected_text(map.underlay.name());
    let over = over.show_ui(ui, |ui| {
        for choice in Underlay::ALL {
            ui.selectable_value(&mut map.underlay, choice, choice.name());
        }
    });
    over.response.accessible_name("underlay").on_hover_text(
        "What lies under the map. Over the grey image every colour that is seen is the map's, as the bar\n\
         shows it; over the colour image the image's colours mix in.",
    );
    ui.spacing_mut().slider_width = 70.0;
    let opacity = Slider::new(&mut map.opacity, 0.0..=1.0).show_value(false);
    ui.add_enabled(map.underlay != Underlay::Nothing, opacity)
        .accessible_name("opacity")
        .on_hover_text("Opacity of the map, the same for every value");
    let colours = ComboBox::from_id_salt("colours").width(76.0).selected_text(map.colormap.name());
    let colours = colours.show_ui(ui, |ui| {
        for choice in Colormap::ALL {
            ui.selectable_value(&mut map.colormap, choice, choice.name());
        }
    });
    colours.response.accessible_name("colours");
    color_range(ui, &mut map.range, range);
    if tiled {
        ui.selectable_value(&mut map.tiles, true, "tiles");
        ui.selectable_value(&mut map.tiles, false, "whole view");
    }
}

/// Which numbers the colours stand for; a locked end can be typed and dragged.
fn color_range(ui: &mut Ui, chosen: &mut ColorRange, now: Option<(f32, f32)>) {
    let name = match chosen {
        ColorRange::Layers => "range of all layers",
        ColorRange::Map => "range of this map",
        ColorRange::Locked(_) => "range locked",
    };
    let ranges = ComboBox::from_id_salt("range").width(128.0).selected_text(name);
    let ranges = ranges.show_ui(ui, |ui| {
        ui.selectable_value(chosen, ColorRange::Layers, "all layers of this word")
            .on_hover_text("Colours mean the same in every layer of this word, from 0 to the largest value");
        ui.selectable_value(chosen, ColorRange::Map, "this map")
            .on_hover_text("Each map uses all colours, from its own smallest to its own largest value");
        let locked = matches!(chosen, ColorRange::Locked(_));
        let high = now.map(|(_, high)| high).filter(|&high| high > 0.0);
        let lock = ui.add_enabled(high.is_some(), Button::selectable(locked, "locked"));
        let lock = lock.on_hover_text(
            "Colours mean the same whatever is shown: words, layers, heads, runs, tiles and the view of the whole",
        );
        if let (true, false, Some(high)) = (lock.clicked(), locked, high) {
            *chosen = ColorRange::Locked(high);
        }
    });
    ranges.response.accessible_name("range");
    if let ColorRange::Locked(high) = chosen {
        let speed = *high * 0.01;
        let drag = DragValue::new(high).range(1e-6..=1.0).speed(speed);
        ui.add(drag.custom_formatter(|n, _| number::short(n as f32)))
            .accessible_name("locked range")
            .on_hover_text(
                "The number that the last colour stands for; values above it have that colour too",
            );
    }
}
