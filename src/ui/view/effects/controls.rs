//! What an effect map is to be measured of, and how: taken away by a cut or by overwriting, from which size of blocks
//! on, in which layers. Starting it, stopping it, and how far it is.
//!
//! Keeps the choices; knows the selection and the grid of the image.

use egui::{Button, ComboBox, Label, ProgressBar, RichText, Ui};

use crate::{
    spec::{
        sets::Numbers,
        study::{PatchEffect, Study, StudyKind, Taking},
    },
    trace::{
        geometry::{Geometry, Place},
        tokens::{AnswerToken, said},
    },
    ui::{
        frame::Frame,
        store::{
            command::Command,
            run::Run,
            store::Store,
            studies::{State, StudyRun},
        },
        theme,
    },
};

/// Patches along the side of the first blocks, where nothing else was chosen.
const COARSEST: usize = 4;

/// See the module.
pub struct EffectsControls {
    how: Taking,
    coarsest: usize,
    /// Whether blocks are cut in the layers of the active cut rather than in all.
    as_active: bool,
}

impl Default for EffectsControls {
    fn default() -> Self {
        EffectsControls { how: Taking::Cut, coarsest: COARSEST, as_active: false }
    }
}

/// What would be measured.
pub struct About {
    /// The letter of the uncut run.
    pub name: String,
    /// What of its answer, in words: “camera”.
    pub words: String,
}

/// What would be measured now, or why nothing can be.
///
/// # Errors
/// In words, with what to do.
pub fn about(store: &Store) -> Result<About, String> {
    if store.model.is_none() {
        return Err("Open a model first: effects are measured by running it.".to_string());
    }
    let slot = store.selection.slot;
    let Some(run) = store.runs.lane(slot).view() else {
        return Err("Ask a question first: effects are those on an answer.".to_string());
    };
    if let Some(base) = run.base {
        let base = store.runs.slot_showing(base).map(|slot| store.runs.name(slot)).unwrap_or_default();
        return Err(format!(
            "Effects are measured on an uncut run, and {} is under a cut. Click a word of run {base}.",
            store.runs.name(slot)
        ));
    }
    if run.end.is_none() {
        return Err("Wait for the answer to be complete.".to_string());
    }
    Ok(About { name: store.runs.name(slot), words: phrase(run, &store.selection.tokens) })
}

/// Some tokens of an answer in words; none means all of it.
pub fn phrase(run: &Run, tokens: &[usize]) -> String {
    if tokens.is_empty() {
        return "the whole answer".to_string();
    }
    let tokens: Vec<&AnswerToken> = tokens.iter().filter_map(|&at| run.answer.get(at)).collect();
    match said(tokens.iter().copied()) {
        text if text.is_empty() && tokens.iter().any(|token| token.end) => {
            "the end of the answer".to_string()
        }
        text => format!("“{text}”"),
    }
}

/// What a study measured, in words.
pub fn studied(store: &Store, study: &StudyRun) -> String {
    let Study::Patches(of) = &study.study else { return String::new() };
    let phrase = match store.runs.get(study.base) {
        Some(run) => phrase(run, &of.tokens),
        None => "an answer".to_string(),
    };
    let how = match (of.how, &of.layers) {
        (Taking::Mean, _) => "every block overwritten with the mean visual embedding".to_string(),
        (Taking::Cut, Numbers::All) => "every block cut in all layers".to_string(),
        (Taking::Cut, layers) => format!("every block cut in layers {layers}"),
    };
    format!("{phrase} of run {}, {how}", study.base_name)
}

impl EffectsControls {
    /// Draws them.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let grids = store.image_shown().map(|held| grids(&held.view.geometry)).unwrap_or_default();
        let about = about(store);
        ui.horizontal_wrapped(|ui| {
            self.choices(ui, store, &grids);
            let going = store.studies.get(StudyKind::Patches).filter(|study| study.state == State::Running);
            if going.is_some() {
                let stop = ui.button("Stop").accessible_name("stop the effect map");
                if stop.on_hover_text("What was measured stays").clicked() {
                    frame.ask(Command::DropStudy(StudyKind::Patches));
                }
            }
            let coarsest = self.coarsest(&grids);
            let start = ui.add_enabled(about.is_ok() && !grids.is_empty(), Button::new("Measure"));
            let start = start.accessible_name("measure the effect map").on_hover_text(format!(
                "Takes {} blocks of patches away, one after another, and scores the answer under each",
                n_blocks(&grids, coarsest)
            ));
            frame.place("measure effects", start.rect);
            if start.clicked() {
                let (tokens, how) = (store.selection.tokens.clone(), self.how);
                let layers = if how == Taking::Cut { self.layers(store) } else { Numbers::All };
                let study = Study::Patches(PatchEffect { tokens, how, layers, coarsest });
                frame.ask(Command::Study(Box::new(study)));
            }
            match &about {
                Ok(About { name, words }) => {
                    ui.label(RichText::new(format!("of {words}, run {name}")).small().weak());
                }
                Err(why) => _ = ui.add(Label::new(RichText::new(why).small().weak()).wrap()),
            }
        });
    }

    fn choices(&mut self, ui: &mut Ui, store: &Store, grids: &[(usize, usize)]) {
        for (how, name, tooltip) in [
            (Taking::Cut, "cut", "No position outside a block can look at it"),
            (Taking::Mean, "mean", "A block is overwritten with the mean visual embedding of the prompt"),
        ] {
            let label = ui.selectable_label(self.how == how, RichText::new(name).small());
            if label.accessible_name(format!("take away: {name}")).on_hover_text(tooltip).clicked() {
                self.how = how;
            }
        }
        let text = |side: usize| format!("from {side} × {side}");
        let sides = ComboBox::from_id_salt("coarsest").width(84.0).selected_text(text(self.coarsest(grids)));
        let sides = sides.show_ui(ui, |ui| {
            for side in choices(longest(grids)) {
                ui.selectable_value(&mut self.coarsest, side, text(side));
            }
        });
        sides.response.accessible_name("coarsest blocks").on_hover_text(
            "Size of the first blocks, in patches; then each size is halved, down to single patches",
        );
        let active = store.cut.active().and_then(|item| item.change.knockout());
        if let Some(knockout) = active.filter(|_| self.how == Taking::Cut) {
            for (as_active, name) in
                [(false, "all layers".to_string()), (true, format!("layers {}", knockout.layers))]
            {
                let label = ui.selectable_label(self.as_active == as_active, RichText::new(&name).small());
                let label = label.accessible_name(format!("measure in {name}"));
                if label
                    .on_hover_text("Layers in which blocks are cut: all, or those of the active cut")
                    .clicked()
                {
                    self.as_active = as_active;
                }
            }
        }
    }

    fn layers(&self, store: &Store) -> Numbers {
        let active = store.cut.active().and_then(|item| item.change.knockout());
        active.filter(|_| self.as_active).map(|knockout| knockout.layers.clone()).unwrap_or_default()
    }

    /// The size of the first blocks on these grids.
    fn coarsest(&self, grids: &[(usize, usize)]) -> usize {
        choices(longest(grids)).into_iter().rfind(|side| *side <= self.coarsest).unwrap_or(1)
    }
}

/// How far the study is, and whether it is of what is on show.
pub fn progress(ui: &mut Ui, store: &Store, study: &StudyRun) {
    let base = store.base_of(store.selection.slot).map(|run| run.id);
    let Study::Patches(of) = &study.study else { return };
    let stale = theme::stale_color(ui.visuals());
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(studied(store, study)).small());
        let (done, all) = study.steps;
        match &study.state {
            State::Running => {
                let share = done as f32 / all.max(1) as f32;
                ui.add(ProgressBar::new(share).desired_width(90.0).desired_height(8.0));
                ui.label(RichText::new(format!("{done} of {all} steps")).small());
            }
            State::Whole => _ = ui.label(RichText::new(format!("{all} steps, complete")).small().weak()),
            State::Dropped => {
                ui.label(RichText::new(format!("stopped at {done} of {all} steps")).small().color(stale));
            }
            State::Failed(why) => {
                let why = RichText::new(format!("it failed: {why}")).small();
                ui.add(Label::new(why.color(theme::cut_color(ui.visuals()))).wrap());
            }
        }
        if base != Some(study.base) {
            let text = format!("not of the run on show, but of run {}", study.base_name);
            ui.label(RichText::new(text).small().color(stale));
        } else if of.tokens != store.selection.tokens {
            ui.label(
                RichText::new("other words are pinned now: measure again for them").small().color(stale),
            );
        }
    });
}

/// Rows and columns of every grid of patches: of all tiles together, then of the view of the whole.
pub fn grids(geometry: &Geometry) -> Vec<(usize, usize)> {
    let tile = geometry.views.iter().find(|view| matches!(view.place, Place::Tile { .. }));
    let tiles = tile.map(|view| (geometry.rows * view.grid.rows, geometry.cols * view.grid.cols));
    let wholes = geometry.views.iter().filter(|view| view.place == Place::Whole);
    let all = tiles.into_iter().chain(wholes.map(|view| (view.grid.rows, view.grid.cols)));
    all.filter(|(rows, cols)| *rows > 0 && *cols > 0).collect()
}

fn longest(grids: &[(usize, usize)]) -> usize {
    grids.iter().map(|(rows, cols)| *rows.max(cols)).max().unwrap_or(0)
}

/// Sizes of the first blocks that there can be: powers of 2 up to the grid.
fn choices(longest: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |side| Some(side * 2)).take_while(|side| *side <= longest.max(1)).collect()
}

/// Blocks of all sizes from the coarsest down to single patches.
fn n_blocks(grids: &[(usize, usize)], coarsest: usize) -> usize {
    let sides = std::iter::successors(Some(coarsest), |side| Some(side / 2)).take_while(|side| *side > 0);
    let of = |side: usize| -> usize {
        grids.iter().map(|(rows, cols)| rows.div_ceil(side) * cols.div_ceil(side)).sum()
    };
    sides.map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::{Grid, View};

    #[test]
    fn sizes_are_powers_of_two_up_to_the_grid() {
        assert_eq!(choices(12), [1, 2, 4, 8]);
        assert_eq!(choices(16), [1, 2, 4, 8, 16]);
        assert_eq!(choices(0), [1]);
        let controls = EffectsControls { coarsest: 8, ..EffectsControls::default() };
        assert_eq!((controls.coarsest(&[(12, 12)]), controls.coarsest(&[(5, 3)])), (8, 4));
        assert_eq!(n_blocks(&[(12, 12)], 4), 9 + 36 + 144);
        assert_eq!(n_blocks(&[(3, 5)], 2), 6 + 15);
    }

    #[test]
    fn tiles_are_one_grid_and_the_whole_is_another() {
        let grid = Grid { rows: 2, cols: 3 };
        let tile = |col: usize| View { place: Place::Tile { row: 0, col }, rect: [0.0; 4], grid, lead: 0 };
        let whole = View { place: Place::Whole, rect: [0.0; 4], grid, lead: 1 };
        let tiled = Geometry { source: (9, 9), rows: 1, cols: 2, views: vec![tile(0), tile(1), whole] };
        assert_eq!(grids(&tiled), [(2, 6), (2, 3)]);
        let plain = Geometry { source: (9, 9), rows: 0, cols: 0, views: vec![whole] };
        assert_eq!(grids(&plain), [(2, 3)]);
    }
}
