//! A typed word over the image: how likely a layer finds it at every patch.
//!
//! The numbers are those of the lens, one a visual token; their range reaches from 0 to the largest of all layers.
//! Knows a study's readings by patch; how they are measured is the study's.

use std::{collections::BTreeMap, sync::Arc};

use egui::{Label, Rect, RichText, Ui, UiBuilder, pos2, vec2};

use crate::{
    trace::finding::LensReading,
    ui::{
        frame::Frame,
        store::{command::Command, images::Held, store::Store, studies::StudyRun},
        view::map::{self, of_values},
        widgets::{
            color_bar::ColorBar,
            heatmap::Map,
            number,
            picture::{Drawn, Picture, Pointed},
        },
    },
    worker::protocol::{ObjectView, RunId, Slot},
};

/// Room beside the image for the colour bar and its numbers.
const BAR: f32 = 66.0;
/// Room above it for what it shows.
const CAPTION: f32 = 18.0;
/// Room below it for a line about the objects.
const LINE: f32 = 16.0;
/// Most objects that have a line.
const OBJECTS: usize = 3;
/// Names the map among all that are on screen.
const NAME: u64 = 0x1E45;

/// The largest probability of the typed word, layer by layer: only what was read since is looked through.
#[derive(Debug, Default)]
pub struct Peaks {
    study: Option<RunId>,
    /// Readings that were looked through, and the largest of them.
    layers: BTreeMap<usize, (usize, f32)>,
}

impl Peaks {
    /// The largest so far at the positions that `counts` says yes to, always the same ones of a study; 0 before any.
    pub fn high(&mut self, study: &StudyRun, counts: impl Fn(usize) -> bool) -> f32 {
        if self.study != Some(study.id) {
            *self = Peaks { study: Some(study.id), layers: BTreeMap::new() };
        }
        for (layer, readings) in &study.found.lens {
            let known = self.layers.entry(*layer).or_default();
            if known.0 != readings.len() {
                let counted = readings.values().filter(|reading| counts(reading.position));
                let high = counted.filter_map(|reading| Some(reading.chosen?.1)).fold(0.0, f32::max);
                *known = (readings.len(), high);
            }
        }
        self.layers.values().fold(0.0, |high, (_, of_layer)| high.max(*of_layer))
    }
}

/// What is shown.
pub struct Shown<'a> {
    /// The study.
    pub study: &'a StudyRun,
    /// The image of its run.
    pub held: &'a Held,
    /// Where that run stands.
    pub slot: Slot,
    /// Positions of its visual tokens, by number.
    pub visual: &'a [usize],
    /// The layer on show.
    pub layer: usize,
    /// The word.
    pub word: &'a str,
    /// Tokens that were listed at every place.
    pub top: usize,
}

/// One layer's numbers.
struct Taken {
    study: RunId,
    layer: usize,
    /// Readings that they were taken from.
    readings: usize,
    image: u64,
    values: Arc<Vec<f32>>,
    lines: Vec<String>,
}

/// The map.
#[derive(Default)]
pub struct WordMap {
    picture: Picture,
    kept: map::Kept,
    peaks: Peaks,
    taken: Option<Taken>,
}

impl WordMap {
    /// The number of every visual token and their range.
    pub fn values(&mut self, shown: &Shown<'_>) -> (Arc<Vec<f32>>, (f32, f32)) {
        let visual = |position: usize| shown.visual.binary_search(&position).is_ok();
        let high = self.peaks.high(shown.study, visual);
        let taken = self.take(shown);
        (taken.values.clone(), (0.0, high))
    }

    /// How many patches of every object name the word.
    pub fn lines(&mut self, shown: &Shown<'_>) -> &[String] {
        &self.take(shown).lines
    }

    fn take(&mut self, shown: &Shown<'_>) -> &Taken {
        let readings = shown.study.found.lens.get(&shown.layer);
        let key = (shown.study.id, shown.layer, readings.map_or(0, BTreeMap::len), shown.held.serial);
        let held = |taken: &Taken| (taken.study, taken.layer, taken.readings, taken.image) == key;
        let taken = self.taken.take().filter(held).unwrap_or_else(|| {
            let of = |position: &usize| readings.and_then(|readings| readings.get(position));
            let tokens: Vec<Option<&LensReading>> = shown.visual.iter().map(of).collect();
            let value =
                |reading: &Option<&LensReading>| reading.and_then(|r| r.chosen).map_or(f32::NAN, |c| c.1);
            let values = Arc::new(tokens.iter().map(value).collect());
            let objects = shown.held.view.objects.as_deref().unwrap_or_default();
            let lines = shares(&tokens, objects, shown.word, shown.top);
            let (study, layer, readings, image) = key;
            Taken { study, layer, readings, image, values, lines }
        });
        self.taken.insert(taken)
    }

    /// Draws it into `room`. Returns the visual token under the pointer.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        room: Rect,
        shown: &Shown<'_>,
        store: &Store,
        frame: &mut Frame,
    ) -> Option<usize> {
        let lines = self.lines(shown).to_vec();
        let place = Rect::from_min_max(
            room.min + vec2(0.0, CAPTION),
            pos2(room.right() - BAR, (room.bottom() - LINE * lines.len() as f32).max(room.top() + CAPTION)),
        );
        let Shown { word, layer, .. } = *shown;
        line(ui, room, 0.0, &format!("probability of “{word}” at every patch, after layer {layer}"));
        for (at, text) in lines.iter().enumerate() {
            line(ui, room, place.bottom() + LINE * at as f32 - room.top(), text);
        }
        let Some(patches) = self.kept.numbered(store, shown.slot) else {
            line(ui, room, CAPTION, "no patch of this image is shown");
            return None;
        };
        let (values, range) = self.values(shown);
        let map = of_values(values.clone(), patches, range, store.map.colormap, store);
        let map = Map { slot: NAME, ..map };
        let mark = store.selection.patch.and_then(|patch| values.get(patch)).copied();
        bar(ui, place, &map, mark);
        frame.place("lens map", place);
        let drawn = Drawn { held: shown.held, map: Some(map), numbers: None };
        let Pointed { patch, response, .. } = self.picture.show(ui, place, &drawn, store, frame);
        let patch = patch.filter(|_| response.hovered())?;
        if response.clicked() {
            frame.ask(Command::Lock(patch));
        }
        response.on_hover_text_at_pointer(shown.told(patch));
        Some(patch)
    }
}

impl Shown<'_> {
    /// What the layer says of the word at a patch.
    fn told(&self, patch: usize) -> String {
        let readings = self.study.found.lens.get(&self.layer);
        let reading = self.visual.get(patch).and_then(|position| readings?.get(position));
        match reading.and_then(|reading| reading.chosen) {
            Some((rank, p)) => {
                format!(
                    "patch {patch}: “{}” {}, rank {rank}; click to lock it",
                    self.word,
                    number::percent(p)
                )
            }
            None => format!("patch {patch}: not read yet"),
        }
    }
}

/// For every object, how many of its patches name the word among the `top` likeliest tokens, and how many of the
/// others: "18 of 23 patches of camera name “camera” in the top 10; 2 of 121 others". The object of that name first.
fn shares(tokens: &[Option<&LensReading>], objects: &[ObjectView], word: &str, top: usize) -> Vec<String> {
    let mut objects: Vec<&ObjectView> = objects.iter().filter(|object| !object.patches.is_empty()).collect();
    objects.sort_by_key(|object| object.name.to_lowercase() != word.to_lowercase());
    let line = |object: &ObjectView| {
        let (mut inside, mut outside) = ([0, 0], [0, 0]);
        for (patch, reading) in tokens.iter().enumerate() {
            let Some((rank, _)) = reading.and_then(|reading| reading.chosen) else { continue };
            let within = object.patches.binary_search(&patch).is_ok();
            let count = if within { &mut inside } else { &mut outside };
            count[0] += usize::from(rank < top);
            count[1] += 1;
        }
        let ([named, of], [others, of_others]) = (inside, outside);
        let name = &object.name;
        format!(
            "{named} of {of} patches of {name} name “{word}” in the top {top}; {others} of {of_others} others"
        )
    };
    objects.into_iter().take(OBJECTS).map(line).collect()
}

/// One line of text within a room, `down` from its top.
fn line(ui: &mut Ui, room: Rect, down: f32, text: &str) {
    let rect = Rect::from_min_size(room.min + vec2(0.0, down), vec2(room.width(), CAPTION));
    let mut line = ui.new_child(UiBuilder::new().max_rect(rect));
    line.add(Label::new(RichText::new(text).small()).truncate()).on_hover_text(text);
}

fn bar(ui: &Ui, place: Rect, map: &Map, mark: Option<f32>) {
    let height = place.height().clamp(40.0, 220.0);
    let rect = Rect::from_min_size(pos2(place.right() + 8.0, place.top()), vec2(10.0, height));
    let Map { colormap, range, gamma, opacity, uniform, .. } = *map;
    ColorBar { colormap, range, gamma, opacity, uniform, above: false, mark }.show(ui, rect);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::study::{LensAt, Study, StudyKind},
        trace::finding::{Finding, LensPage},
        ui::store::studies::Studies,
    };

    fn reading(position: usize, rank: usize, probability: f32) -> LensReading {
        LensReading { position, top: Vec::new(), chosen: Some((rank, probability)) }
    }

    fn object(name: &str, patches: &[usize]) -> ObjectView {
        ObjectView { name: name.to_string(), patches: patches.to_vec(), outline: Vec::new().into() }
    }

    #[test]
    fn patches_that_name_a_word_are_counted_inside_an_object_and_outside() {
        let readings = [reading(3, 0, 0.9), reading(4, 9, 0.01), reading(5, 10, 0.01), reading(6, 2, 0.1)];
        let tokens: Vec<Option<&LensReading>> = readings.iter().map(Some).chain([None]).collect();
        let objects = [object("house", &[3]), object("nothing", &[]), object("Camera", &[0, 2, 4])];
        let lines = shares(&tokens, &objects, "camera", 10);
        assert_eq!(
            lines,
            [
                "1 of 2 patches of Camera name “camera” in the top 10; 2 of 2 others",
                "1 of 1 patches of house name “camera” in the top 10; 2 of 3 others",
            ]
        );
        assert!(shares(&tokens, &[], "camera", 10).is_empty());
    }

    #[test]
    fn the_largest_number_grows_with_what_is_read() {
        let mut studies = Studies::default();
        let at = LensAt { positions: vec![1, 2], layers: Default::default(), top: 1, word: Some("a".into()) };
        studies.begin(5, Study::Lens(at), 1, "A".to_string());
        let mut peaks = Peaks::default();
        let mut high = |studies: &Studies| peaks.high(studies.get(StudyKind::Lens).unwrap(), |at| at != 9);
        assert_eq!(high(&studies), 0.0);
        for (layer, readings, expected) in [
            (0, vec![reading(1, 0, 0.25)], 0.25),
            (1, vec![reading(9, 0, 0.75)], 0.25),
            (0, vec![reading(2, 0, 0.5)], 0.5),
        ] {
            studies.found(5, Finding::Lens(LensPage { layer, readings }), (1, 3));
            assert_eq!(high(&studies), expected);
        }
    }
}
