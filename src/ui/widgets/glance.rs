//! Looking at a layer and head by passing over it: a preview, which goes when the pointer does.
//!
//! Every view that can be passed over keeps one. Knows the selection; nothing of what is drawn.

use egui::{Event, Ui};

use crate::ui::{
    frame::Frame,
    store::{command::Command, store::Store},
};

/// What a view previews.
#[derive(Debug, Default)]
pub struct Glance {
    /// Layer and head that it previews, if any.
    last: Option<(usize, Option<usize>)>,
    /// What was selected in the last frame.
    selected: (usize, Option<usize>),
}

impl Glance {
    /// Previews what lies under the pointer, or where keys walk. `walked`: whether a key moved there just now.
    pub fn follow(
        &mut self,
        ui: &Ui,
        store: &Store,
        frame: &mut Frame,
        now: Option<(usize, Option<usize>)>,
        walked: bool,
    ) {
        let pointed = ui.input(|i| i.events.iter().any(|event| matches!(event, Event::PointerMoved(_))));
        let selected = (store.selection.layer, store.selection.head);
        let chosen = std::mem::replace(&mut self.selected, selected) != selected;
        let next = next(self.last, now, pointed || walked, chosen);
        if next != self.last || next.is_some() && next != store.selection.preview {
            frame.ask(Command::Preview(next));
        }
        self.last = next;
    }
}

/// What is previewed from now on. `moved`: the pointer moved or a key walked; `chosen`: something was selected.
fn next(
    last: Option<(usize, Option<usize>)>,
    now: Option<(usize, Option<usize>)>,
    moved: bool,
    chosen: bool,
) -> Option<(usize, Option<usize>)> {
    match now {
        _ if moved => now,
        // Keys went on from there: a pointer that rests holds nothing back.
        Some(_) if chosen => None,
        // What moved under a resting pointer is followed; what it was sent away from is not taken up again.
        Some(_) if last.is_some() => now,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resting_pointer_lets_keys_go_on() {
        let (at, other) = (Some((3, None)), Some((4, Some(1))));
        assert_eq!(next(None, at, true, false), at, "the pointer came");
        assert_eq!(next(at, at, false, false), at, "and rests");
        assert_eq!(next(at, other, false, false), other, "something scrolled under it");
        assert_eq!(next(at, at, false, true), None, "a key chose another layer");
        assert_eq!(next(None, at, false, false), None, "and it stays chosen");
        assert_eq!(next(None, at, true, true), at, "until the pointer moves");
        assert_eq!(next(at, None, false, false), None);
        assert_eq!(next(at, None, true, false), None, "the pointer left");
    }
}
