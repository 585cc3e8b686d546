//! The words beside an image: what is shown, what a patch is, what a run was.
//!
//! Knows the selection and geometry; draws nothing.

use crate::{
    trace::{
        geometry::{Geometry, Place},
        tokens::{AnswerToken, Cell},
    },
    ui::{
        store::{images::Held, run::Run, store::Store},
        widgets::{
            heatmap::{Map, value},
            map_values::MapValues,
            marks::objects_at,
            number,
        },
    },
};

/// Longest quotation, in characters.
const QUOTED: usize = 36;

/// What is looked at: `“camera”`, `“at the top”`, or `whole answer`.
pub fn subject(store: &Store) -> String {
    let (slot, tokens) = store.selection.subject();
    let lane = store.runs.lane(slot);
    let said: String = tokens.iter().filter_map(|at| lane.token(*at)).map(text).collect();
    match (tokens.is_empty(), said.trim()) {
        (true, _) => "whole answer".to_string(),
        (false, "") => "“·”".to_string(),
        (false, said) => format!("“{}”", shortened(said, QUOTED)),
    }
}

fn text(token: &AnswerToken) -> &str {
    if token.end { " end" } else { &token.text }
}

/// A text of at most so many characters, its end left out where it is longer.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text).trim_end()),
        None => text.to_string(),
    }
}

/// What is shown, in words: word, run or difference, layer, head.
pub fn about(store: &Store) -> String {
    let (layer, _) = store.selection.looked_at();
    format!("{}, {}, layer {layer}, {}", subject(store), runs(store), store.selection.head_name())
}

/// The run on show; of a difference, both.
pub fn runs(store: &Store) -> String {
    let own = store.runs.name(store.selection.subject().0);
    match (store.difference(), store.selection.against) {
        (Some(difference), _) => format!("{own} less {}", store.runs.name(difference.against)),
        (None, Some(other)) if store.runs.name(other) != own => {
            format!(
                "run {own} (no difference: {} has another prompt, or lacks the word)",
                store.runs.name(other)
            )
        }
        _ => format!("run {own}"),
    }
}

/// Attention sinks that are known of the run on show.
pub fn n_sinks(store: &Store) -> usize {
    store.subject().and_then(|subject| store.sinks(subject.slot)).map_or(0, <[usize]>::len)
}

/// What became of the attention sinks; `None` where there are none.
pub fn sink_words(n: usize, left_out: bool) -> Option<String> {
    let sinks = if n == 1 { "1 sink".to_string() } else { format!("{n} sinks") };
    match (n, left_out) {
        (0, _) => None,
        (_, true) => Some(format!("{sinks} left out")),
        (_, false) => Some(format!("with {sinks}")),
    }
}

/// What the model makes of the image, in words.
pub fn seen_as(held: &Held) -> String {
    let geometry = &held.view.geometry;
    let grid = geometry.views.first().map_or_else(String::new, |view| {
        let each = if geometry.is_tiled() { " a view" } else { "" };
        format!("; {} x {} visual tokens{each}", view.grid.rows, view.grid.cols)
    });
    format!("{}{grid}", held.view.description)
}

/// What is done to the model in a run, as it is written; `uncut` where nothing is.
pub fn cuts_of(run: &Run) -> String {
    let cuts = run.experiment.intervention.to_string();
    if cuts.is_empty() { "uncut".to_string() } else { cuts }
}

/// What a view of a tiled image is called; nothing of an image of one view.
pub fn view_name(geometry: &Geometry, view: usize) -> String {
    match geometry.views.get(view).map(|view| view.place) {
        Some(Place::Tile { row, col }) => format!("tile of row {row}, column {col}"),
        Some(Place::Whole) if geometry.is_tiled() => "view of the whole".to_string(),
        _ => String::new(),
    }
}

/// Where a visual token lies.
pub fn place(geometry: &Geometry, number: usize) -> String {
    let Some((view, Cell { row, col })) = geometry.cell_of(number) else {
        return format!("visual token {number}");
    };
    let name = view_name(geometry, view);
    let name = if name.is_empty() { name } else { format!("{name}: ") };
    format!("{name}row {row}, column {col}")
}

/// What there is to say of a patch: its place first, then its numbers. `at`: which of the map's patches it is.
pub fn of_patch(
    store: &Store,
    held: &Held,
    map: &Map,
    values: &MapValues,
    (number, at): (usize, usize),
) -> Vec<String> {
    let key = map.patches.get(at).map_or(0, |patch| patch.key as usize);
    let mut lines = vec![format!("{} (patch {number}, position {key})", place(&held.view.geometry, number))];
    let Some(subject) = store.subject() else { return lines };
    let (layer, head) = store.selection.looked_at();
    let own = value(subject.pattern, layer, head, key);
    lines.push(match store.difference() {
        Some(difference) => {
            let by = value(&difference.pattern, layer, head, key);
            let (a, b) = (store.runs.name(subject.slot), store.runs.name(difference.against));
            format!("{a} {own:.6}, {b} {:.6}: difference {}", own - by, number::signed(by))
        }
        None => {
            let times = number::short(own / subject.uniform.max(f32::MIN_POSITIVE));
            format!("attention {own:.6}, {times} x uniform")
        }
    });
    lines.push(match values.rank(at) {
        Some((rank, of)) => format!("rank {rank} of {of}, layer {layer}, {}", store.selection.head_name()),
        None => format!("left out of the map, layer {layer}, {}", store.selection.head_name()),
    });
    if store.sinks(subject.slot).is_some_and(|sinks| sinks.contains(&number)) {
        lines.push("an attention sink; leaving sinks out changes no other number".to_string());
    }
    let objects = objects_at(&held.view, number);
    if !objects.is_empty() {
        lines.push(format!("shows {}", objects.into_iter().collect::<Vec<_>>().join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::{Grid, View};

    fn tiled() -> Geometry {
        let view = |place| View { place, rect: [0.0; 4], grid: Grid { rows: 2, cols: 3 }, lead: 0 };
        let whole = View { lead: 1, ..view(Place::Whole) };
        Geometry {
            source: (1, 1),
            rows: 1,
            cols: 1,
            views: vec![view(Place::Tile { row: 0, col: 1 }), whole],
        }
    }

    #[test]
    fn the_view_of_the_whole_is_no_tile() {
        assert_eq!(place(&tiled(), 4), "tile of row 0, column 1: row 1, column 1");
        assert_eq!(place(&tiled(), 12), "view of the whole: row 1, column 2");
        assert_eq!(place(&tiled(), 6), "visual token 6", "a class token lies nowhere");
        let single = Geometry { views: tiled().views.split_off(1), ..tiled() };
        assert_eq!(place(&single, 1), "row 0, column 0");
    }

    #[test]
    fn sinks_are_counted_where_there_are_some() {
        assert_eq!(sink_words(0, true), None);
        assert_eq!(sink_words(1, false).as_deref(), Some("with 1 sink"));
        assert_eq!(sink_words(3, true).as_deref(), Some("3 sinks left out"));
    }

    #[test]
    fn long_texts_end_with_a_sign_that_they_go_on() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer als", 7), "größer…");
    }
}
