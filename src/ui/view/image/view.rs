//! The image with the map over it, the colour bar, the tools and the controls of the map.
//!
//! Knows the selection and the image; where the numbers of a map come from is `map`'s, what pointer and keys do is
//! `image_hand`'s.

use egui::{Align, Frame as Room, Label, Layout, Margin, Panel, Rect, RichText, Ui, UiBuilder, pos2, vec2};

use crate::{
    spec::picture::ImageSource,
    trace::offer::{Format, Offer},
    ui::{
        frame::{Frame, Zoom},
        store::{command::Command, images::Held, settings::Views, store::Store, view_id::ViewId},
        theme,
        view::{
            image::apart::Apart,
            image::hand::{At, Hand},
            image::offer::offers,
            image::words::{about, n_sinks, seen_as, shortened, sink_words},
            map::Kept,
            pane::View,
        },
        widgets::{
            color_bar::ColorBar,
            export_menu::export_menu,
            heatmap::Map,
            listed,
            map_controls::{MapFacts, map_controls},
            picture::{Drawn, Picture},
            section::{section, still, title_label},
            tools::{self, tools},
        },
    },
};

/// Room for the colour bar and its numbers.
const BAR_WIDTH: f32 = 64.0;

/// Views lower than this have their tools in a line.
const HIGH: f32 = tools::HEIGHT + 230.0;

/// Views lower than this have no more than the most needed controls.
const LOW: f32 = 230.0;

/// The view.
#[derive(Debug, Default)]
pub struct ImagePane {
    kept: Kept,
    picture: Picture,
    apart: Apart,
    hand: Hand,
    /// The ends of the colours of the last map: what locking the range locks.
    range: Option<(f32, f32)>,
    /// The image that was opened last: another one is seen whole.
    opened: Option<u64>,
}

/// What the colour bar is to show.
struct Coloured {
    map: Option<Map>,
    /// Right end of what was drawn.
    right: f32,
    beyond: bool,
    mark: Option<f32>,
}

impl View for ImagePane {
    fn title(&self, _store: &Store) -> String {
        "Image".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        still(ui, |ui| match store.image_shown() {
            Some(held) => self.image(ui, store, held, frame),
            None => nothing(ui, store, frame),
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        offers(store, &mut self.kept)
    }
}

/// What stands where there is no image.
fn nothing(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    title_label(ui, "Image", frame);
    let going_on = match &store.progress {
        Some(progress) => Some(format!("{progress}…")),
        None => store.busy().then(|| "loading…".to_string()),
    };
    let room = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.add_space((room / 2.0 - 40.0).max(0.0));
        if let Some(what) = going_on {
            ui.label(RichText::new(what).weak());
            return;
        }
        if let Some(lost) = lost(store) {
            ui.label(RichText::new("The image of this run is not held any more").weak());
            if ui.button(format!("Open {} again", shortened(&lost.name(), 28))).clicked() {
                frame.ask(Command::OpenImage(lost.clone()));
            }
            return;
        }
        let cancelled = if store.cancelled() { "Cancelled. " } else { "" };
        let text = format!("{cancelled}Open an image, drop one here, or pick a sample scene");
        ui.label(RichText::new(text).weak());
        ui.add_space(4.0);
        for command in [Command::PickImage, Command::ShowGallery] {
            listed::button(ui, frame, &command);
        }
    });
}

/// The image of the run on show, where it made room for others.
fn lost(store: &Store) -> Option<&ImageSource> {
    let run = store.runs.lane(store.selection.subject().0).view()?;
    run.experiment.images.first().map(|picture| &picture.image)
}

/// Name of the image; at the right what is shown, and the menu of exports.
fn header(ui: &mut Ui, store: &Store, held: &Held, mapped: bool, frame: &mut Frame) {
    let name = shortened(&held.view.source.name(), 28);
    let run = store.subject().map(|subject| (subject.fresh, n_sinks(store)));
    section(ui, &name, frame, |ui, frame| {
        export_menu(ui, frame, ViewId::Image, &[Format::Png, Format::Csv, Format::Npz, Format::Safetensors]);
        if run.is_some_and(|(fresh, _)| !fresh) {
            ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
        }
        let words = run.map(|(_, n)| {
            let sinks = sink_words(n, store.map.without_sinks);
            // Why there is no map although there is attention.
            let none = (!mapped).then(|| "no map: the prompt holds other visual tokens".to_string());
            std::iter::once(about(store)).chain(sinks).chain(none).collect::<Vec<_>>().join(", ")
        });
        let words = words.unwrap_or_else(|| seen_as(held));
        let label = ui.add(Label::new(RichText::new(words).small()).truncate());
        label.on_hover_text(format!(
            "{}. With sinks left out, the numbers of all other patches stay what they are.",
            seen_as(held)
        ));
    });
}

impl ImagePane {
    fn image(&mut self, ui: &mut Ui, store: &Store, held: &Held, frame: &mut Frame) {
        let height = ui.available_height();
        let facts = self.facts(store, held);
        Panel::bottom("map")
            .show_separator_line(false)
            .frame(Room::new().inner_margin(Margin::symmetric(0, 4)))
            .show(ui, |ui| {
                map_controls(ui, store, facts, height < LOW, frame);
                if (LOW..HIGH).contains(&height) {
                    ui.horizontal_wrapped(|ui| tools(ui, store, &mut self.hand.tools, frame));
                }
            });
        header(ui, store, held, self.range.is_some(), frame);
        self.see_whole(store, frame);
        self.body(ui, store, held, height >= HIGH, frame);
    }

    /// Another image is seen whole, wherever the last one was looked at.
    fn see_whole(&mut self, store: &Store, frame: &mut Frame) {
        let opened = store.images.last().map(|held| held.serial);
        if self.opened != opened {
            self.opened = opened;
            frame.zoom = Zoom::default();
        }
    }

    fn facts(&self, store: &Store, held: &Held) -> MapFacts {
        let geometry = &held.view.geometry;
        let (w, h) = geometry.source;
        let plain = geometry.views.iter().all(|view| view.rect == [0.0, 0.0, w as f32, h as f32]);
        MapFacts {
            range: self.range,
            signed: store.difference().is_some(),
            views: geometry.is_tiled() || !plain || store.map.views != Views::Tiles,
            sinks: n_sinks(store),
        }
    }

    /// The image, the bar at its right, and the tools below that if `column`.
    fn body(&mut self, ui: &mut Ui, store: &Store, held: &Held, column: bool, frame: &mut Frame) {
        let area = ui.available_rect_before_wrap();
        let side = if column { tools::WIDTH + 8.0 } else { BAR_WIDTH };
        let end = pos2((area.right() - side).max(area.left() + 40.0), area.bottom().max(area.top() + 40.0));
        let room = Rect::from_min_max(area.min, end);
        let apart = store.map.views == Views::Apart && !held.view.views.is_empty();
        let coloured = match apart {
            true => self.views(ui, room, held, store, frame),
            false => self.whole(ui, room, held, store, frame),
        };
        let below = if column { tools::HEIGHT + 16.0 } else { 0.0 };
        let high = (area.height() - below).clamp(48.0, 320.0);
        let left = coloured.right + 10.0;
        if let Some(map) = &coloured.map {
            let bar = Rect::from_min_size(pos2(left, area.top()), vec2(12.0, high));
            let Map { colormap, range, gamma, opacity, uniform, .. } = *map;
            let (above, mark) = (coloured.beyond, coloured.mark);
            ColorBar { colormap, range, gamma, opacity, uniform, above, mark }.show(ui, bar);
            frame.place("colour bar", bar);
        }
        self.range = coloured.map.map(|map| map.range);
        if column {
            let place = Rect::from_min_max(pos2(left, area.top() + high + 16.0), area.max);
            let layout = Layout::top_down(Align::Min);
            let mut place = ui.new_child(UiBuilder::new().id_salt("tools").max_rect(place).layout(layout));
            tools(&mut place, store, &mut self.hand.tools, frame);
        }
    }

    /// The source image, with the views that are seen merged on it.
    fn whole(&mut self, ui: &mut Ui, room: Rect, held: &Held, store: &Store, frame: &mut Frame) -> Coloured {
        let drawn = Drawn { held, map: self.kept.map(store), numbers: None };
        let pointed = self.picture.show(ui, room, &drawn, store, frame);
        let seen = pointed.image.intersect(room);
        frame.place("image", seen);
        let picture = &self.picture;
        let mark = store.selection.patch.and_then(|number| picture.index(&drawn, number));
        let mark = mark.and_then(|at| picture.values().get(at));
        let beyond = drawn.map.as_ref().is_some_and(|map| picture.values().beyond(map.range));
        self.hand.act(ui, room, Some(At { picture, drawn: &drawn, pointed }), store, frame);
        Coloured { map: drawn.map, right: seen.right(), beyond, mark }
    }

    /// Every view by itself.
    fn views(&mut self, ui: &mut Ui, room: Rect, held: &Held, store: &Store, frame: &mut Frame) -> Coloured {
        let at = self.apart.show(ui, room, held, &mut self.kept, store, frame);
        frame.place("image", room);
        let view = at.as_ref().map_or(0, |(view, _)| *view);
        let drawn = Drawn { held, map: self.apart.map(view).cloned(), numbers: None };
        let picture = self.apart.picture(view);
        let mark = at.as_ref().and_then(|(_, pointed)| pointed.value);
        let at = at.zip(picture).map(|((_, pointed), picture)| At { picture, drawn: &drawn, pointed });
        self.hand.act(ui, room, at, store, frame);
        let beyond = self.apart.beyond();
        Coloured { map: drawn.map, right: room.right(), beyond, mark }
    }
}
