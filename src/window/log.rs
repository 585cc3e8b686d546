//! What the log tells, for people and for scripts that drive the window: `scripts/drive-window` reads these
//! very lines.
//!
//! Knows the store and where things were drawn.

use egui::{Context, Rect};

use crate::{
    spec::experiment::Intervention,
    ui::{
        store::{
            selection::{BASELINE, Selection},
            store::Store,
        },
        view::cuts::view::sentence,
    },
    worker::protocol::Slot,
};

/// The target of the lines that say where things are.
const LAYOUT: &str = "sightline::layout";

/// One line for every answer that is complete, by its letter, and one for every knockout's proof.
pub fn answer(store: &Store, slot: Slot) {
    let lane = store.runs.lane(slot);
    let Some(run) = lane.complete() else { return };
    let name = store.runs.name(slot);
    if slot == BASELINE {
        log::info!("{name} answer: {}", lane.answer_text());
        return;
    }
    let cuts = list(&run.experiment.intervention);
    log::info!("{name} [{cuts}] answer: {}", lane.answer_text());
    for report in run.end.iter().flat_map(|end| &end.knockouts) {
        log::info!("{name} [{}] {}", report.text, sentence(report));
    }
}

/// One line for a study that ended.
pub fn study(name: &str, whole: bool) {
    log::info!("study {name}: {}", if whole { "whole" } else { "given up" });
}

/// One line for what the user is told.
pub fn notice(text: &str) {
    log::info!("notice: {text}");
}

/// What is done to the model, as text.
fn list(intervention: &Intervention) -> String {
    let knockouts = intervention.knockouts.iter().map(ToString::to_string);
    let ablations = intervention.ablations.iter().map(ToString::to_string);
    knockouts.chain(ablations).collect::<Vec<String>>().join("; ")
}

/// What the log has been told of a frame.
#[derive(Default)]
pub struct FrameLog {
    selection: Option<Selection>,
    places: Vec<(String, Rect)>,
}

impl FrameLog {
    /// What is selected and where things are in pixels, where that changed.
    pub fn tell(&mut self, ctx: &Context, store: &Store, places: &[(String, Rect)]) {
        if self.selection.as_ref() != Some(&store.selection) {
            self.selection = Some(store.selection.clone());
            shown(store);
        }
        if log::log_enabled!(target: LAYOUT, log::Level::Debug) && self.places != places {
            let scale = ctx.pixels_per_point();
            for (name, r) in places.iter().filter(|place| !self.places.contains(place)) {
                let [x0, y0, x1, y1] =
                    [r.min.x, r.min.y, r.max.x, r.max.y].map(|v| (v * scale).round() as i32);
                log::debug!(target: LAYOUT, "place {name} {x0} {y0} {x1} {y1}");
            }
            self.places = places.to_vec();
        }
    }
}

fn shown(store: &Store) {
    let (slot, token) = store.selection.shown();
    let (slot, lane) = (store.runs.name(slot), store.runs.lane(slot));
    let head = store.selection.head.map_or("mean".to_string(), |h| h.to_string());
    let less = store.selection.against.map(|other| format!(" less {}", store.runs.name(other)));
    let less = less.unwrap_or_default();
    let layer = store.selection.layer;
    match token {
        Some(at) => {
            let text = lane.token(at).map(|t| t.text.clone()).unwrap_or_default();
            log::info!("shown: {slot} token {at} {text:?} layer {layer} head {head}{less}");
        }
        None => log::info!("shown: {slot} whole answer layer {layer} head {head}{less}"),
    }
}
