//! The effect map: how much a word depends on every patch, beside how much it looks at it.
//!
//! Blocks of patches are taken away in turn, coarse ones first, and the map grows finer as they are told. Knows a
//! study's findings by patch; how they are measured is the study's.

use std::sync::Arc;

use egui::{Label, Rect, RichText, Sense, Ui, UiBuilder, pos2, vec2};

use crate::{
    spec::study::{Study, StudyKind},
    trace::{
        offer::{Format, Offer},
        palette::Colormap,
        tokens::Cell,
    },
    ui::{
        frame::Frame,
        store::{command::Command, images::Held, run::Run, store::Store, studies::StudyRun, view_id::ViewId},
        view::{
            effects::agreement::AgreementView,
            effects::controls::{EffectsControls, phrase, progress},
            effects::mask::{fall, named, told},
            effects::offers::{self, Shown},
            map::{Kept, of_values},
            pane::View,
        },
        widgets::{
            color_bar::ColorBar,
            export_menu::export_menu,
            heatmap::Map,
            number,
            picture::{Drawn, Picture, Pointed},
            section::{scrolling, section},
        },
    },
    worker::protocol::{RunId, Slot},
};

/// Room beside a map for its colour bar and numbers.
const BAR: f32 = 66.0;
/// Room above a map for what it shows.
const CAPTION: f32 = 18.0;
/// Between two maps.
const GAP: f32 = 12.0;
/// Narrowest view in which both maps stand side by side.
const SIDE_BY_SIDE: f32 = 340.0;
/// Room that maps leave for what stands around them.
const AROUND: f32 = 190.0;

/// Effects by patch, taken once for every finding.
struct Taken {
    study: RunId,
    serial: u64,
    values: Arc<Vec<f32>>,
    /// The change that is farthest from 0.
    end: f32,
}

/// The view.
#[derive(Default)]
pub struct EffectsView {
    controls: EffectsControls,
    agreement: AgreementView,
    taken: Option<Taken>,
    /// The two pictures, of effect and of attention, and what their maps are made of.
    pictures: [Picture; 2],
    kept: [Kept; 2],
    /// The visual token under the pointer, here.
    hovered: Option<usize>,
}

impl View for EffectsView {
    fn title(&self, _store: &Store) -> String {
        "Effects".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        scrolling(ui, "effects", |ui, height| {
            section(ui, "Effects", frame, |ui, frame| {
                let formats = [Format::Png, Format::Csv, Format::Npz, Format::Safetensors];
                export_menu(ui, frame, ViewId::Effects, &formats);
            });
            self.controls.show(ui, store, frame);
            let Some(study) = store.studies.get(StudyKind::Patches) else {
                let hint = "Which patches does a word need, and are they those that it looks at? Pin a word and \
                            measure: blocks of patches are taken away one after another, coarse ones first.";
                ui.add(Label::new(RichText::new(hint).small().weak()).wrap());
                return;
            };
            progress(ui, store, study);
            self.maps(ui, store, study, height, frame);
            mask(ui, store, study, self.taken.as_ref());
            self.agreement.show(ui, store, study, frame);
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        let Some(study) = store.studies.get(StudyKind::Patches) else { return Vec::new() };
        let held = store.runs.slot_showing(study.base).and_then(|slot| store.image_of(slot));
        let Some(held) = held else { return offers::offers(store, study, None) };
        let (values, range) = self.take(study, held);
        offers::offers(store, study, Some(&Shown { held, values: &values, range }))
    }
}

impl EffectsView {
    /// Effects by patch, and the ends of their colours.
    fn take(&mut self, study: &StudyRun, held: &Held) -> (Arc<Vec<f32>>, (f32, f32)) {
        let same = |taken: &Taken| (taken.study, taken.serial) == (study.id, study.serial);
        if !self.taken.as_ref().is_some_and(same) {
            let values = Arc::new(study.found.effects(held.view.geometry.n_tokens()));
            let sizes = values.iter().filter(|value| value.is_finite()).map(|value| value.abs());
            let end = sizes.fold(0.0, f32::max);
            self.taken = Some(Taken { study: study.id, serial: study.serial, values, end });
        }
        let (values, end) = match &self.taken {
            Some(taken) => (taken.values.clone(), taken.end),
            None => (Arc::default(), 0.0),
        };
        (values, (-end, end))
    }

    /// Effect at the left, attention at the right; one below the other where the view is narrow.
    fn maps(&mut self, ui: &mut Ui, store: &Store, study: &StudyRun, height: f32, frame: &mut Frame) {
        let width = ui.available_width();
        let beside = width >= SIDE_BY_SIDE;
        let column = if beside { (width - GAP) / 2.0 } else { width };
        let side = (column - BAR).min((height - AROUND).max(110.0)).max(40.0);
        let room = vec2(column, CAPTION + side);
        let size = if beside { vec2(width, room.y) } else { vec2(width, 2.0 * room.y + GAP) };
        let (place, _) = ui.allocate_exact_size(size, Sense::hover());
        let left = Rect::from_min_size(place.min, room);
        let step = if beside { vec2(column + GAP, 0.0) } else { vec2(0.0, room.y + GAP) };
        let hovered = if ui.is_rect_visible(place) {
            let effect = self.effect(ui, store, study, left, frame);
            self.attention(ui, store, left.translate(step), frame).or(effect)
        } else {
            None
        };
        if hovered != self.hovered {
            self.hovered = hovered;
            frame.ask(Command::HoverPatch(hovered));
        }
    }

    /// Draws the effect map. Returns the visual token under the pointer.
    fn effect(
        &mut self,
        ui: &mut Ui,
        store: &Store,
        study: &StudyRun,
        room: Rect,
        frame: &mut Frame,
    ) -> Option<usize> {
        let Some((slot, held)) = shown(store, study) else {
            caption(ui, room, format!("run {} is held no longer: its image is gone", study.base_name));
            return None;
        };
        let Some(patches) = self.kept[0].numbered(store, slot) else {
            caption(ui, room, "no patch of this image is shown".to_string());
            return None;
        };
        caption(ui, room, "effect: change of log probability, nats a patch".to_string());
        let (values, range) = self.take(study, held);
        let map = of_values(values.clone(), patches, range, Colormap::Diverging, store);
        let drawn = Drawn { held, map: Some(map), numbers: None };
        let pointed = draw(ui, room, "effect map", &mut self.pictures[0], &drawn, store, frame);
        under_pointer(pointed, frame, |patch, _| effect_text(study, held, &values, patch))
    }

    /// Draws the attention map of what is selected. Returns the visual token under the pointer.
    fn attention(&mut self, ui: &mut Ui, store: &Store, room: Rect, frame: &mut Frame) -> Option<usize> {
        let (Some(subject), Some(held)) = (store.subject(), store.image_shown()) else {
            caption(ui, room, "no attention yet".to_string());
            return None;
        };
        let words = phrase(subject.run, &store.selection.subject().1);
        let (layer, _) = store.selection.looked_at();
        let head = store.selection.head_name();
        let signed = store.difference().is_some();
        let what = if signed { "difference of attention" } else { "attention" };
        let name = store.runs.name(subject.slot);
        caption(ui, room, format!("{what} of {words}, run {name}, layer {layer}, {head}"));
        let drawn = Drawn { held, map: self.kept[1].map(store), numbers: None };
        let pointed = draw(ui, room, "attention beside effect", &mut self.pictures[1], &drawn, store, frame);
        under_pointer(pointed, frame, |patch, value| {
            let written: fn(f32) -> String = if signed { number::signed } else { number::short };
            let value = value.map_or("no number".to_string(), written);
            format!("{}: {what} {value}", place_of(held, patch))
        })
    }
}

/// The run that was studied, where its image can be shown.
fn shown<'a>(store: &'a Store, study: &StudyRun) -> Option<(Slot, &'a Held)> {
    let slot = store.runs.slot_showing(study.base)?;
    Some((slot, store.image_of(slot)?))
}

/// Where a map stands within its room.
fn place(room: Rect) -> Rect {
    Rect::from_min_max(pos2(room.left(), room.top() + CAPTION), pos2(room.right() - BAR, room.bottom()))
}

/// What a map shows, above it.
fn caption(ui: &mut Ui, room: Rect, text: String) {
    let line = Rect::from_min_size(room.min, vec2(room.width(), CAPTION));
    let mut line = ui.new_child(UiBuilder::new().max_rect(line));
    line.add(Label::new(RichText::new(&text).small().weak()).truncate()).on_hover_text(text);
}

/// Draws a map and its colours. Returns what the pointer is at.
fn draw(
    ui: &mut Ui,
    room: Rect,
    name: &str,
    picture: &mut Picture,
    drawn: &Drawn<'_>,
    store: &Store,
    frame: &mut Frame,
) -> Pointed {
    let place = place(room);
    frame.place(name, place);
    let pointed = picture.show(ui, place, drawn, store, frame);
    if let Some(Map { colormap, range, gamma, opacity, uniform, .. }) = drawn.map {
        let mark = store.selection.patch.and_then(|patch| picture.values().get(picture.index(drawn, patch)?));
        let above = picture.values().beyond(range);
        let size = vec2(10.0, place.height().clamp(60.0, 220.0));
        let bar = Rect::from_min_size(pos2(place.right() + 8.0, place.top()), size);
        ColorBar { colormap, range, gamma, opacity, uniform, above, mark }.show(ui, bar);
    }
    pointed
}

/// Says what lies under the pointer, by visual token and number; a click locks it.
fn under_pointer(
    pointed: Pointed,
    frame: &mut Frame,
    text: impl FnOnce(usize, Option<f32>) -> String,
) -> Option<usize> {
    let Pointed { patch, value, response, .. } = pointed;
    let patch = patch.filter(|_| response.hovered())?;
    if response.clicked() {
        frame.ask(Command::Lock(patch));
    }
    response.on_hover_text_at_pointer(text(patch, value));
    Some(patch)
}

/// A patch by its number and place.
fn place_of(held: &Held, patch: usize) -> String {
    match held.view.geometry.cell_of(patch) {
        Some((_, Cell { row, col })) => format!("patch {patch}, row {row}, column {col}"),
        None => format!("patch {patch}"),
    }
}

/// The effect of a patch, and of the smallest block that it was measured in.
fn effect_text(study: &StudyRun, held: &Held, values: &[f32], patch: usize) -> String {
    let place = place_of(held, patch);
    let blocks = study.found.blocks.iter().rev();
    let smallest = blocks.filter(|block| block.patches.binary_search(&patch).is_ok()).min_by_key(|b| b.side);
    match (values.get(patch).filter(|value| !value.is_nan()), smallest) {
        (Some(value), Some(block)) if block.patches.len() > 1 => format!(
            "{place}: {} nats a patch, measured in a block of {} patches that changes the log probability by {} nats",
            number::signed(*value),
            block.patches.len(),
            number::signed(block.delta)
        ),
        (Some(value), _) => {
            format!("{place}: without it the log probability changes by {} nats", number::signed(*value))
        }
        (None, _) => format!("{place}: not measured yet"),
    }
}

/// How much of the fall lies on the object that the word names, where that is known.
fn mask(ui: &mut Ui, store: &Store, study: &StudyRun, taken: Option<&Taken>) {
    let Some(taken) = taken.filter(|taken| taken.study == study.id) else { return };
    let text = shown(store, study).and_then(|(_, held)| {
        let Study::Patches(of) = &study.study else { return None };
        let run: &Run = store.runs.get(study.base)?;
        let object = named(run, &of.tokens, held.view.objects.as_deref()?)?;
        Some(told(fall(&taken.values, object)?, object))
    });
    if let Some(text) = text {
        ui.add(Label::new(RichText::new(text).small()).wrap());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{
            picture::ImageSource,
            study::{PatchEffect, Taking},
        },
        trace::{
            finding::{Block, Finding},
            geometry::{Geometry, Grid, Place, View as Seen},
        },
        ui::store::{saved::blank_picture, studies::Studies},
        worker::protocol::ImageView,
    };

    fn held() -> Held {
        let grid = Grid { rows: 2, cols: 2 };
        let seen = |lead| Seen { place: Place::Whole, rect: [0.0, 0.0, 8.0, 8.0], grid, lead };
        let view = ImageView {
            source: ImageSource::File("a.png".into()),
            picture: blank_picture(8, 8),
            geometry: Geometry { source: (8, 8), rows: 0, cols: 0, views: vec![seen(0), seen(1)] },
            description: String::new(),
            views: Vec::new(),
            objects: None,
        };
        Held { view, serial: 1 }
    }

    #[test]
    fn the_smallest_block_of_a_patch_is_told() {
        let mut studies = Studies::default();
        let study = PatchEffect { tokens: vec![], how: Taking::Cut, layers: Default::default(), coarsest: 2 };
        studies.begin(3, Study::Patches(study), 1, "A".to_string());
        for (patches, side, delta) in [(vec![0, 1, 2, 3], 2, -4.0), (vec![1], 1, -0.5)] {
            studies.found(3, Finding::Block(Block { patches, side, delta }), (1, 9));
        }
        let (study, held) = (studies.get(StudyKind::Patches).unwrap(), held());
        let mut view = EffectsView::default();
        let (values, range) = view.take(study, &held);
        assert_eq!((values.len(), range), (9, (-1.0, 1.0)));
        let text = |patch: usize| effect_text(study, &held, &values, patch);
        assert!(
            text(0).starts_with("patch 0, row 0, column 0: -1.00 nats a patch, measured in a block of 4")
        );
        assert_eq!(text(1), "patch 1, row 0, column 1: without it the log probability changes by -0.50 nats");
        assert!(text(4).starts_with("patch 4: not measured"), "a class token has no place");
        assert!(text(8).starts_with("patch 8, row 1, column 1: not measured"));
    }
}
