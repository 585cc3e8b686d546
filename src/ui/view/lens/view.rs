//! The lens: what every layer would say if it were the last, row by row.
//!
//! It shows what a study has told so far, layer by layer as it comes. A cell's click looks at its layer and selects
//! its row everywhere; the patch of a row under the pointer is marked on every image, and the row of a patch in the
//! table. Knows places, words and readings; how they are measured is the study's.

use std::sync::Arc;

use egui::{Id, Label, Rect, RichText, Sense, Ui, UiBuilder, vec2};

use crate::{
    spec::study::{LensAt, Study, StudyKind},
    trace::{
        finding::LensReading,
        offer::{Format, Offer},
    },
    ui::{
        frame::Frame,
        store::{command::Command, images::Held, run::Run, store::Store, studies::StudyRun, view_id::ViewId},
        view::{
            lens::asking::{Asking, Due, TOP},
            lens::choices::Choices,
            lens::lines::{self, Chart, Trajectory},
            lens::map::{Peaks, Shown, WordMap},
            lens::offers::Given,
            lens::places::{Place, Places},
            lens::popup::popup,
            lens::table::{self, Hit, LensTable, Look, Shows, Told},
            lens::words::{Followed, toggle_spellings},
            pane::View,
        },
        widgets::{
            export_menu::export_menu,
            section::{scrolling, section, still},
        },
    },
    worker::protocol::Slot,
};

/// Below this height the view scrolls.
const LOW: f32 = 230.0;
/// Least height of table and lines.
const LEAST: f32 = 120.0;
/// Width from which lines stand beside the table, and its share of that.
const BESIDE: (f32, f32) = (620.0, 0.62);
/// Height from which lines stand below it, and its share of that.
const BELOW: (f32, f32) = (280.0, 0.66);
/// What the lens is.
const WHAT: &str = "What would every layer say if it were the last? The lens puts a layer's output through the \
                    model's own last norm and head (nostalgebraist's logit lens; on visual tokens Neo et al., arXiv \
                    2410.07149).";

/// Where it reads in a model that adds features of the image after its first layers.
const DEEPSTACK: &str = "This model adds deepstack features of the image after its first layers: the lens reads a \
                         layer's output before they are added.";

/// What a frame is drawn from.
struct Now<'a> {
    store: &'a Store,
    /// The study, if its run is still held.
    study: Option<&'a StudyRun>,
    /// The run that the table is of.
    run: &'a Run,
    /// Its image.
    held: Option<&'a Held>,
    /// Where it stands.
    slot: Option<Slot>,
    /// The rows of the table.
    places: Arc<[Place]>,
    /// Positions of its visual tokens, by number.
    visual: Arc<[usize]>,
    /// Whether it is another run than the one on show.
    stale: bool,
}

impl<'a> Now<'a> {
    /// What the study was told to read.
    fn at(&self) -> Option<&'a LensAt> {
        match &self.study?.study {
            Study::Lens(at) => Some(at),
            _ => None,
        }
    }

    fn word(&self) -> Option<&'a str> {
        self.at()?.word.as_deref()
    }

    fn top(&self) -> usize {
        self.at().map_or(TOP, |at| at.top)
    }

    fn reading(&self, layer: usize, position: usize) -> Option<&'a LensReading> {
        self.study?.found.lens.get(&layer)?.get(&position)
    }

    /// The word over the image, where there is one to show.
    fn over_image(&self) -> Option<Shown<'_>> {
        let (study, held, slot, word) = (self.study?, self.held?, self.slot?, self.word()?);
        let layer = self.store.selection.looked_at().0;
        Some(Shown { study, held, slot, visual: &self.visual, layer, word, top: self.top() })
    }

    fn given(&self) -> Option<Given<'_>> {
        let (study, run, places) = (self.study?, self.run, &self.places[..]);
        Some(Given { study, run, places, word: self.word(), top: self.top() })
    }
}

/// The view.
#[derive(Default)]
pub struct LensView {
    choices: Choices,
    /// Rows of the run on show, and of the run that was read where that is another.
    places: [Places; 2],
    asking: Asking,
    /// Position and layer of the pinned cell.
    pinned: Option<(usize, usize)>,
    /// Row and layer that keys have reached.
    cursor: Option<(usize, usize)>,
    followed: Vec<Followed>,
    lines: lines::Kept,
    peaks: Peaks,
    word_map: WordMap,
    /// The visual token under the pointer, here.
    hovered: Option<usize>,
    /// The locked patch that was brought into sight.
    sought: Option<usize>,
}

impl View for LensView {
    fn title(&self, _store: &Store) -> String {
        "Lens".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        if ui.available_height() < LOW {
            scrolling(ui, "lens", |ui, _| self.body(ui, store, frame));
        } else {
            still(ui, |ui| self.body(ui, store, frame));
        }
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        let Some(now) = self.now(store) else { return Vec::new() };
        let Some(given) = now.given() else { return Vec::new() };
        let mut offers = vec![Offer::Table(given.table())];
        if let Some(position) = self.position(&now, None) {
            let lines = self.trajectories(&now, position, None);
            let chart = self.chart(store, &lines);
            offers.push(Offer::Figure(chart.figure(format!("{}, row {position}", given.title()))));
        }
        if let Some(shown) = now.over_image().filter(|_| self.choices.map) {
            let (values, range) = self.word_map.values(&shown);
            let lines = self.word_map.lines(&shown);
            let map = given.sheet(store, shown.held, shown.layer, (&values, range), lines);
            offers.push(Offer::Map(Box::new(map)));
        }
        offers.push(given.tensors());
        offers
    }
}

impl LensView {
    fn body(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        section(ui, "Lens", frame, |ui, frame| {
            let formats = [Format::Csv, Format::Svg, Format::Png, Format::Npz, Format::Safetensors];
            export_menu(ui, frame, ViewId::Lens, &formats);
        });
        let Some(now) = self.now(store) else {
            let why =
                if store.busy() { "The lens reads an answer once it is there." } else { "No answer yet." };
            explained(ui, store, why);
            return;
        };
        let entered = ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(5.0, 3.0);
            let entered = self.choices.show(ui);
            if now.study.is_some() {
                self.look(&now).legend(ui);
            }
            entered
        });
        let due = self.due(entered.inner);
        self.asking.show(ui, store, due, frame);
        if now.study.is_none() {
            explained(ui, store, "");
        }
        if now.places.is_empty() {
            let hint = "Nothing is selected: pin a word of the answer, click a token of the question, or lock a patch.";
            ui.add(Label::new(RichText::new(hint).small()).wrap());
        }
        self.parts(ui, &now, frame);
    }

    /// What is to be read: the rows on show, and all of the image where the word is shown over it.
    fn due(&self, entered: bool) -> Due {
        let (places, map) = (&self.places[0], self.choices.map);
        let positions = if map { places.with_image.clone() } else { places.positions.clone() };
        Due { positions, word: self.choices.word.clone(), entered, serial: (places.serial, map) }
    }

    /// What is there to be drawn; `None` before there is a run.
    fn now<'a>(&mut self, store: &'a Store) -> Option<Now<'a>> {
        let slot = store.selection.slot;
        let on_show = store.runs.lane(slot).view()?;
        let rows = self.choices.rows;
        self.places[0].follow(on_show, held(store, on_show), rows, &store.selection);
        let study = store.studies.get(StudyKind::Lens);
        let read = study.and_then(|study| Some((study, store.runs.get(study.base)?)));
        // What was read of another run stays until this one is read.
        let read = read.filter(|(study, run)| run.id == on_show.id || !study.found.lens.is_empty());
        let (study, run) = read.map_or((None, on_show), |(study, run)| (Some(study), run));
        let held = held(store, run);
        let stale = run.id != on_show.id;
        if stale {
            self.places[1].follow(run, held, rows, &store.selection);
        }
        let Places { all, visual, .. } = &self.places[usize::from(stale)];
        let slot = if stale { store.runs.slot_showing(run.id) } else { Some(slot) };
        Some(Now { store, study, run, held, slot, places: all.clone(), visual: visual.clone(), stale })
    }

    /// Table or map, and lines beside or below.
    fn parts(&mut self, ui: &mut Ui, now: &Now<'_>, frame: &mut Frame) {
        let size = vec2(ui.available_width(), ui.available_height().max(LEAST));
        let (room, _) = ui.allocate_exact_size(size, Sense::hover());
        let (main, lines) = divided(room, table::width(now.store.n_layers()));
        let mut told = Told::default();
        let over = now.over_image().filter(|_| self.choices.map);
        let hovered = if let Some(shown) = over {
            self.word_map.show(ui, main, &shown, now.store, frame)
        } else {
            let mut part = ui.new_child(UiBuilder::new().max_rect(main).id_salt("lens table"));
            told = self.table(&mut part, now, frame);
            told.hovered.and_then(|hit| now.places.get(hit.row)?.patch)
        };
        if hovered != self.hovered {
            self.hovered = hovered;
            frame.ask(Command::HoverPatch(hovered));
        }
        if let Some(lines) = lines {
            let mut part = ui.new_child(UiBuilder::new().max_rect(lines).id_salt("lens lines"));
            self.trajectory(&mut part, now, told.hovered.or(told.cursor), frame);
        }
    }

    /// The table, and what follows from what people did to it.
    fn table(&mut self, ui: &mut Ui, now: &Now<'_>, frame: &mut Frame) -> Told {
        if now.places.is_empty() {
            return Told::default();
        }
        let store = now.store;
        let table = LensTable {
            places: &now.places,
            lens: now.study.map(|study| &study.found.lens),
            n_layers: store.n_layers(),
            layer: store.selection.looked_at().0,
            look: self.look(now),
            pinned: self.pinned,
            cursor: self.cursor.filter(|(row, layer)| *row < now.places.len() && *layer < store.n_layers()),
            selection: &store.selection,
            slot: now.slot,
            stale: now.stale,
            scroll: self.sought(now),
        };
        let told = table.show(ui, frame);
        self.cursor = if told.focused { told.moved.or(self.cursor) } else { None };
        if told.moved.is_some() {
            ui.ctx().request_repaint();
        }
        if let Some(layer) = told.layer {
            frame.ask(Command::Layer(layer));
        }
        if let Some((hit, shift)) = told.clicked {
            self.click(now, hit, shift, frame);
        }
        if let (Some(hit), Some(id)) = (told.hovered.or(told.cursor), told.id) {
            tell(ui, now, hit, id);
        }
        told
    }

    /// The row of a locked patch that has come under the pointer on an image.
    fn sought(&mut self, now: &Now<'_>) -> Option<usize> {
        let selection = &now.store.selection;
        let patch =
            selection.patch.filter(|patch| self.hovered.is_none() && selection.patches.contains(patch));
        let before = std::mem::replace(&mut self.sought, patch);
        let patch = patch.filter(|patch| before != Some(*patch))?;
        now.places.iter().position(|place| place.patch == Some(patch))
    }

    /// A click pins a cell and selects its row, a second one lets both go; with Shift the spellings of its word are
    /// followed as one.
    fn click(&mut self, now: &Now<'_>, hit: Hit, shift: bool, frame: &mut Frame) {
        let Some(place) = now.places.get(hit.row) else { return };
        let layer = hit.layer.unwrap_or(now.store.selection.layer);
        let said = now.reading(layer, place.position).and_then(|reading| reading.top.first());
        if shift {
            if let Some(said) = said {
                toggle_spellings(&mut self.followed, &said.text);
            }
            self.pinned = self.pinned.or(Some((place.position, layer)));
            return;
        }
        let cell = Some((place.position, layer));
        let again = self.pinned == cell;
        self.pinned = cell.filter(|_| !again);
        self.followed.retain(|followed| matches!(followed, Followed::Spellings(_)));
        if let Some(said) = said.filter(|_| !again) {
            self.followed.push(Followed::Token { id: said.id, text: said.text.clone() });
        }
        frame.ask(Command::Layer(layer));
        if place.is_selected(&now.store.selection, now.slot) != again {
            return;
        }
        match (&place.next, place.patch, now.slot) {
            (_, Some(patch), _) => frame.ask(Command::Lock(patch)),
            (Some(next), None, Some(slot)) => frame.ask(Command::Pin(slot, next.token)),
            (Some(_), None, None) => {}
            (None, None, _) => frame.ask(Command::Position(place.position)),
        }
    }

    /// The words at the row that is looked at, through the layers.
    fn trajectory(&mut self, ui: &mut Ui, now: &Now<'_>, hit: Option<Hit>, frame: &mut Frame) {
        let Some(position) = self.position(now, hit) else {
            let hint = "Hover a cell to see its word through the layers; click pins it, Shift-click follows all \
                        spellings of its word as one line.";
            ui.add(Label::new(RichText::new(hint).small().weak()).wrap());
            return;
        };
        let lines = self.trajectories(now, position, hit);
        ui.horizontal_wrapped(|ui| {
            let of = now.places.iter().find(|place| place.position == position);
            let of = of.map_or(format!("row {position}"), Place::told);
            ui.add(Label::new(RichText::new(of).small()).truncate());
            self.choices.measures(ui);
        });
        let chart = self.chart(now.store, &lines);
        let dropped = chart.legend(ui, &self.followed);
        chart.show(ui, ui.available_height().max(60.0), frame);
        self.followed.retain(|followed| dropped.as_ref() != Some(followed));
    }

    /// The row whose words are drawn: the one under the pointer, else the pinned one.
    fn position(&self, now: &Now<'_>, hit: Option<Hit>) -> Option<usize> {
        now.study?;
        let hit = hit.and_then(|hit| now.places.get(hit.row)).map(|place| place.position);
        // Of another run or choice, a pinned row may not be there.
        let there =
            |position: &usize| now.places.binary_search_by_key(position, |place| place.position).is_ok();
        hit.or_else(|| self.pinned.map(|(position, _)| position).filter(there))
    }

    /// What is followed at a row: what was clicked, the word of the cell under the pointer, the token that the row
    /// predicts, and the word that was typed.
    fn trajectories(&mut self, now: &Now<'_>, position: usize, hit: Option<Hit>) -> Arc<[Trajectory]> {
        let Some(study) = now.study else { return Arc::default() };
        let mut followed = self.followed.clone();
        let mut add = |more: Followed| {
            if !followed.contains(&more) {
                followed.push(more);
            }
        };
        let layer = hit.and_then(|hit| hit.layer);
        let said = layer.and_then(|layer| now.reading(layer, position)?.top.first());
        if let Some(said) = said {
            add(Followed::Token { id: said.id, text: said.text.clone() });
        }
        let place = now.places.iter().find(|place| place.position == position);
        if let Some(next) = place.and_then(|place| place.next.as_ref()) {
            add(Followed::Token { id: next.id, text: next.text.clone() });
        }
        if let Some(word) = now.word() {
            add(Followed::Typed(word.to_string()));
        }
        self.lines.lines(study, position, followed)
    }

    fn chart<'a>(&self, store: &Store, lines: &'a [Trajectory]) -> Chart<'a> {
        let (n_layers, layer) = (store.n_layers(), store.selection.looked_at().0);
        Chart { lines, n_layers, layer, measure: self.choices.measure }
    }

    fn look(&mut self, now: &Now<'_>) -> Look {
        let shows = self.choices.shows;
        let high = match now.study {
            Some(study) if shows == Shows::Probability => self.peaks.high(study, |_| true),
            _ => 1.0,
        };
        let vocabulary = now.store.model_info().map_or(0, |info| info.vocabulary);
        Look { shows, high, vocabulary, colormap: now.store.map.colormap }
    }
}

/// The image of a run.
fn held<'a>(store: &'a Store, run: &Run) -> Option<&'a Held> {
    store.images.get(&run.experiment.images.first()?.image)
}

/// Room of the table, and of the lines where there is some: beside a table that can spare it, else
/// below.
fn divided(room: Rect, table: f32) -> (Rect, Option<Rect>) {
    let wide = room.width() >= BESIDE.0;
    let below = room.height() >= BELOW.0;
    if wide && table <= room.width() * BESIDE.1 {
        // The last layer is the model's own answer: a table that fits is never cut.
        let (main, lines) = room.split_left_right_at_fraction(BESIDE.1);
        (main.with_max_x(main.right() - 8.0), Some(lines))
    } else if below {
        let (main, lines) = room.split_top_bottom_at_fraction(BELOW.1);
        (main.with_max_y(main.bottom() - 6.0), Some(lines))
    } else {
        (room, None)
    }
}

/// What the lens is, and why nothing of it is there.
fn explained(ui: &mut Ui, store: &Store, why: &str) {
    ui.add(Label::new(RichText::new(WHAT).small().weak()).wrap());
    if store.model_info().is_some_and(|model| model.deepstack > 0) {
        ui.add(Label::new(RichText::new(DEEPSTACK).small().weak()).wrap());
    }
    if !why.is_empty() {
        ui.add(Label::new(RichText::new(why).small()).wrap());
    }
}

/// Lists what is likeliest in a cell, beside it: the same box for every cell.
fn tell(ui: &Ui, now: &Now<'_>, hit: Hit, id: Id) {
    let Some((layer, place)) = hit.layer.zip(now.places.get(hit.row)) else { return };
    if let Some(reading) = now.reading(layer, place.position) {
        let own = layer + 1 == now.store.n_layers();
        let title =
            format!("layer {layer}{}: {}", if own { ", the model's own answer" } else { "" }, place.told());
        popup(ui, id, hit.rect, &title, reading, now.word(), now.store.map.colormap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_where_there_is_room() {
        let room = |x: f32, y: f32| Rect::from_min_size(egui::Pos2::ZERO, vec2(x, y));
        let lines = |x, y, table| divided(room(x, y), table).1;
        assert!(lines(1000.0, 400.0, 500.0).is_some_and(|lines| lines.height() == 400.0), "beside");
        assert!(
            lines(1000.0, 400.0, 900.0).is_some_and(|lines| lines.width() == 1000.0),
            "below a wide table"
        );
        assert_eq!(lines(1000.0, 150.0, 900.0), None, "it is low, and the table needs all of it");
        assert_eq!(lines(300.0, 150.0, 500.0), None, "the table alone");
    }
}
