//! Which map is drawn and how: head, colours, range, opacity, and, in a menu, what is wanted less often.

use egui::{
    Button, Checkbox, ComboBox, DragValue, PopupCloseBehavior, Slider, Ui,
    containers::menu::{MenuButton, MenuConfig},
};

use crate::{
    trace::{palette::Colormap, sheet::Underlay},
    ui::{
        frame::Frame,
        store::{
            command::Command,
            settings::{ColorRange, MapSettings, Views},
            store::Store,
        },
        widgets::number,
    },
};

/// What the controls need to know of the map on show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MapFacts {
    /// The ends of its colours; `None` before there is one.
    pub range: Option<(f32, f32)>,
    /// Whether it is a difference: its colours are the diverging ones.
    pub signed: bool,
    /// Whether the model sees the image otherwise than it is: tiled, cropped or padded.
    pub views: bool,
    /// Attention sinks that were found.
    pub sinks: usize,
}

/// Draws the controls, in one line that wraps. `few`: where there is little room, the most needed ones.
pub fn map_controls(ui: &mut Ui, store: &Store, facts: MapFacts, few: bool, frame: &mut Frame) {
    let mut map = store.map;
    ui.add_enabled_ui(store.n_layers() > 0, |ui| {
        ui.horizontal_wrapped(|ui| {
            heads(ui, store, frame);
            ui.add(Checkbox::new(&mut map.visible, "Map"))
                .on_hover_text("Draws the map over the image, or does not (V)");
            if !few {
                ground(ui, &mut map);
                colours(ui, &mut map, facts.signed);
                color_range(ui, &mut map.range, facts);
            }
            if facts.views {
                views(ui, &mut map.views);
            }
            more(ui, &mut map, facts);
        });
    });
    if map != store.map {
        frame.ask(Command::Map(map));
    }
}

fn heads(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let n_heads = store.n_heads();
    let name = |head: Option<usize>| {
        head.map_or_else(|| format!("mean of {n_heads}"), |head| format!("head {head}"))
    };
    let heads = ComboBox::from_id_salt("head").width(112.0).selected_text(name(store.selection.head));
    let heads = heads.show_ui(ui, |ui| {
        for head in std::iter::once(None).chain((0..n_heads).map(Some)) {
            if ui.selectable_label(store.selection.head == head, name(head)).clicked() {
                frame.ask(Command::Head(head));
            }
        }
    });
    heads
        .response
        .accessible_name("Head")
        .on_hover_text("Which head of the layer is looked at, or the mean of all (. and ,)");
}

/// What lies under the map, and how much of it is seen.
fn ground(ui: &mut Ui, map: &mut MapSettings) {
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
}

fn colours(ui: &mut Ui, map: &mut MapSettings, signed: bool) {
    let shown = if signed { Colormap::Diverging } else { map.colormap };
    ui.add_enabled_ui(!signed, |ui| {
        let colours = ComboBox::from_id_salt("colours").width(76.0).selected_text(shown.name());
        let colours = colours.show_ui(ui, |ui| {
            for choice in Colormap::ALL {
                ui.selectable_value(&mut map.colormap, choice, choice.name());
            }
        });
        colours
            .response
            .accessible_name("colours")
            .on_hover_text("Colours of maps")
            .on_disabled_hover_text("A difference has the diverging colours: they stand around 0");
    });
}

/// Which numbers the colours stand for; a locked end can be typed and dragged.
fn color_range(ui: &mut Ui, chosen: &mut ColorRange, facts: MapFacts) {
    let name = match chosen {
        ColorRange::Layers => "all layers",
        ColorRange::Map => "this map",
        ColorRange::Locked(_) => "locked",
    };
    let ranges = ComboBox::from_id_salt("range").width(84.0).selected_text(name);
    let ranges = ranges.show_ui(ui, |ui| {
        ui.selectable_value(chosen, ColorRange::Layers, "all layers of this word").on_hover_text(
            "Colours mean the same in every layer of this word, from 0 to the largest value; of a difference, as far\n\
             below 0 as above it",
        );
        ui.selectable_value(chosen, ColorRange::Map, "this map")
            .on_hover_text("Each map uses all colours, from its own smallest to its own largest value");
        let locked = matches!(chosen, ColorRange::Locked(_));
        let high = facts.range.map(|(_, high)| high).filter(|&high| high > 0.0 && high <= 1.0);
        let lock = ui.add_enabled(high.is_some(), Button::selectable(locked, "locked"));
        let lock = lock.on_hover_text(
            "Colours mean the same whatever is shown: words, layers, heads, runs, tiles and the view of the whole",
        );
        if let (true, false, Some(high)) = (lock.clicked(), locked, high) {
            *chosen = ColorRange::Locked(high);
        }
    });
    ranges.response.accessible_name("range").on_hover_text("Which numbers the colours stand for");
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

fn views(ui: &mut Ui, chosen: &mut Views) {
    let views = ComboBox::from_id_salt("views").width(128.0).selected_text(chosen.name());
    let views = views.show_ui(ui, |ui| {
        for choice in Views::ALL {
            ui.selectable_value(chosen, choice, choice.name());
        }
    });
    views.response.accessible_name("views").on_hover_text(
        "Tiles where they lie on the image, the view of the whole, or every view by itself as it enters the\n\
         encoder: resized, cropped and padded",
    );
}

/// What is wanted less often. The menu stays open while things in it are changed.
fn more(ui: &mut Ui, map: &mut MapSettings, facts: MapFacts) {
    let stays = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let menu = MenuButton::new("More").config(stays).ui(ui, |ui| {
        ui.spacing_mut().slider_width = 110.0;
        ui.horizontal(|ui| {
            ui.label("gamma");
            let gamma = Slider::new(&mut map.gamma, 0.2..=5.0).logarithmic(true).max_decimals(2);
            let gamma = ui.name_inputs("gamma", |ui| ui.add_enabled(!facts.signed, gamma));
            gamma
                .on_hover_text("Below 1 small values stand out, above 1 large ones; the bar shows which are which")
                .on_disabled_hover_text("The diverging colours have none: their middle must stay at 0");
            if map.gamma != 1.0 && ui.small_button("1").on_hover_text("Back to even colours").clicked() {
                map.gamma = 1.0;
            }
        });
        ui.checkbox(&mut map.smooth, "Smooth")
            .on_hover_text("Colours run from the middle of a patch to that of the next, or each patch has one");
        ui.checkbox(&mut map.grid, "Patch grid").on_hover_text("Draws the borders of patches");
        ui.checkbox(&mut map.marks, "Masks and peak")
            .on_hover_text("Outlines objects whose masks are known, and crosses the largest value");
        let sinks = match facts.sinks {
            0 => "Leave out attention sinks (none found)".to_string(),
            1 => "Leave out 1 attention sink".to_string(),
            n => format!("Leave out {n} attention sinks"),
        };
        ui.checkbox(&mut map.without_sinks, sinks).on_hover_text(
            "Patches that every word looks at alike are not drawn and have no say in the range. The numbers of all\n\
             others stay what they are: nothing is divided anew.",
        );
    });
    menu.0.on_hover_text("Gamma, smooth colours, patch grid, masks, attention sinks");
}
