//! Taking changes back, and making them again.
//!
//! Knows the part of the store that the user can change back and forth; nothing of the runs that follow.

use std::collections::BTreeSet;

use undo::{Merged, Record};

use crate::{
    ui::store::{
        cut_list::CutSettings,
        settings::{MapSettings, Tint},
    },
    worker::protocol::Slot,
};

/// Changes that can be taken back.
const KEPT: usize = 200;

/// What can be changed back and forth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changeable {
    /// The run on show.
    pub slot: Slot,
    /// Pinned tokens.
    pub tokens: Vec<usize>,
    /// Locked visual tokens.
    pub patches: BTreeSet<usize>,
    /// Positions that the lens reads.
    pub positions: BTreeSet<usize>,
    /// Which answer `slot` and `tokens` are of; not to be taken back.
    pub answer: u64,
    /// Layer on show.
    pub layer: usize,
    /// Head on show.
    pub head: Option<usize>,
    /// The run that is compared with.
    pub against: Option<Slot>,
    /// What tints words.
    pub tint: Tint,
    /// How maps are drawn.
    pub map: MapSettings,
    /// What is cut.
    pub cut: CutSettings,
}

impl Changeable {
    /// Copies what differs between `from` and `to`, and leaves the rest as it is.
    fn take(&mut self, from: &Changeable, to: &Changeable) {
        fn take<T: PartialEq + Clone>(at: &mut T, from: &T, to: &T) {
            if from != to {
                to.clone_into(at);
            }
        }
        // A pin of an earlier answer would be another word of this one.
        if self.answer == from.answer && from.answer == to.answer {
            take(&mut self.slot, &from.slot, &to.slot);
            take(&mut self.tokens, &from.tokens, &to.tokens);
            take(&mut self.patches, &from.patches, &to.patches);
            take(&mut self.positions, &from.positions, &to.positions);
            take(&mut self.against, &from.against, &to.against);
        }
        take(&mut self.layer, &from.layer, &to.layer);
        take(&mut self.head, &from.head, &to.head);
        take(&mut self.tint, &from.tint, &to.tint);
        take(&mut self.map, &from.map, &to.map);
        take(&mut self.cut, &from.cut, &to.cut);
    }
}

/// A change in a few words, by what it came to: "cut answer -> visual @ 0-2", "layer 3".
fn named(before: &Changeable, after: &Changeable) -> String {
    /// Characters of a cut that are shown.
    const LONGEST: usize = 40;
    if before.cut != after.cut {
        let new = after.cut.items.iter().find(|item| !before.cut.items.contains(item));
        let text = match new {
            Some(item) if item.painted.is_some() => return "painted patches".to_string(),
            Some(item) if item.on => item.change.to_string(),
            Some(_) => return "cut out of force".to_string(),
            None if after.cut.items.len() < before.cut.items.len() => return "fewer cuts".to_string(),
            None => return "settings of cuts".to_string(),
        };
        let short: String = text.chars().take(LONGEST).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        return format!("cut {short}{more}");
    }
    if before.map != after.map {
        return "map settings".to_string();
    }
    if before.layer != after.layer {
        return format!("layer {}", after.layer);
    }
    if before.head != after.head {
        return after.head.map_or("mean of heads".to_string(), |head| format!("head {head}"));
    }
    let selected = [
        (before.tokens != after.tokens, "pinned words"),
        (before.patches != after.patches, "locked patches"),
        (before.positions != after.positions, "positions"),
        (before.against != after.against, "comparison"),
        (before.tint != after.tint, "tint"),
    ];
    let found = selected.into_iter().find(|(differs, _)| *differs);
    found.map_or("run on show", |(_, name)| name).to_string()
}

/// What a change moves, where it is moved in small steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handle {
    Layer,
    Opacity,
    Gamma,
    /// Layers of a cut, or painted patches.
    Cut,
}

/// One change.
#[derive(Clone, Debug)]
struct Edit {
    before: Changeable,
    after: Changeable,
    /// The one slider or handle that moved, if that is all.
    handle: Option<Handle>,
}

impl Handle {
    /// What moved between two states.
    fn of(a: &Changeable, b: &Changeable) -> Option<Handle> {
        let [mut rest, before] = [b, a].map(Clone::clone);
        (rest.layer, rest.map, rest.cut) = (before.layer, before.map, before.cut.clone());
        if rest != before {
            return None;
        }
        let opacity = MapSettings { opacity: b.map.opacity, ..a.map } == b.map;
        let gamma = MapSettings { gamma: b.map.gamma, ..a.map } == b.map;
        // Whatever a drag does to one line of the list, or adds to it in the beginning, is one change.
        let (a_lines, b_lines) = (a.cut.items.len(), b.cut.items.len());
        match (a.layer != b.layer, a.map != b.map, a.cut != b.cut) {
            (true, false, false) => Some(Handle::Layer),
            (false, true, false) if opacity => Some(Handle::Opacity),
            (false, true, false) if gamma => Some(Handle::Gamma),
            (false, false, true) if a_lines.abs_diff(b_lines) <= 1 => Some(Handle::Cut),
            _ => None,
        }
    }
}

impl undo::Edit for Edit {
    type Target = Changeable;
    type Output = ();

    fn edit(&mut self, target: &mut Changeable) {
        target.take(&self.before, &self.after);
    }

    fn undo(&mut self, target: &mut Changeable) {
        target.take(&self.after, &self.before);
    }

    fn merge(&mut self, other: Self) -> Merged<Self> {
        if self.handle.is_none() || self.handle != other.handle {
            return Merged::No(other);
        }
        self.after = other.after;
        if self.before == self.after { Merged::Annul } else { Merged::Yes }
    }
}

/// All changes so far.
#[derive(Debug)]
pub struct History {
    record: Record<Edit>,
}

impl Default for History {
    fn default() -> Self {
        History { record: Record::builder().limit(KEPT).build() }
    }
}

impl History {
    /// Notes a change that was made.
    pub fn note(&mut self, before: Changeable, after: Changeable) {
        if before != after {
            let mut target = after.clone();
            let handle = Handle::of(&before, &after);
            self.record.edit(&mut target, Edit { before, after, handle });
        }
    }

    /// The hand let go: what follows is another change, even of the same handle.
    pub fn release(&mut self) {
        // A record takes nothing more into a change that was saved.
        self.record.set_saved();
    }

    /// Whether there is a change to take back, or to make again.
    pub fn can(&self, back: bool) -> bool {
        if back { self.record.can_undo() } else { self.record.can_redo() }
    }

    /// The change that would be taken back, in a few words.
    pub fn last(&self) -> Option<String> {
        let entry = self.record.get_entry(self.record.head().checked_sub(1)?)?;
        let edit: &Edit = entry.as_ref();
        Some(named(&edit.before, &edit.after))
    }

    /// Takes the last change back that `target` can still see. Returns whether there was one.
    pub fn undo(&mut self, target: &mut Changeable) -> bool {
        let before = target.clone();
        while *target == before && self.record.undo(target).is_some() {}
        self.release();
        *target != before
    }

    /// Makes it again. Returns whether there was one.
    pub fn redo(&mut self, target: &mut Changeable) -> bool {
        let before = target.clone();
        while *target == before && self.record.redo(target).is_some() {}
        self.release();
        *target != before
    }

    /// Forgets everything: another model has other layers and heads.
    pub fn clear(&mut self) {
        self.record.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Changeable {
        Changeable { layer: 4, ..Changeable::default() }
    }

    fn at(layer: usize) -> Changeable {
        Changeable { layer, ..start() }
    }

    #[test]
    fn one_drag_is_one_step_and_two_are_two() {
        let mut history = History::default();
        history.note(at(4), at(5));
        history.note(at(5), at(6));
        history.release();
        history.note(at(6), at(7));
        let mut now = at(7);
        assert!(history.undo(&mut now));
        assert_eq!(now, at(6));
        assert!(history.undo(&mut now));
        assert_eq!(now, at(4));
        assert!(!history.undo(&mut now));
        assert!(history.redo(&mut now) && history.redo(&mut now) && !history.redo(&mut now));
        assert_eq!(now, at(7));
    }

    #[test]
    fn what_would_be_taken_back_is_named() {
        let mut history = History::default();
        assert_eq!(history.last(), None);
        history.note(at(4), at(5));
        assert_eq!(history.last().as_deref(), Some("layer 5"));
        let mut cut = at(5);
        cut.cut.cut_layers((0, 2));
        history.note(at(5), cut.clone());
        history.release();
        assert_eq!(history.last().as_deref(), Some("cut answer -> visual @ 0-2"));
        history.note(cut, at(5));
        assert_eq!(history.last().as_deref(), Some("fewer cuts"));
        history.undo(&mut at(5));
        assert_eq!(history.last().as_deref(), Some("cut answer -> visual @ 0-2"));
    }

    #[test]
    fn a_drag_there_and_back_leaves_nothing_to_take_back() {
        let mut history = History::default();
        history.note(at(4), at(5));
        history.note(at(5), at(4));
        assert!(!history.undo(&mut at(4)));
    }

    #[test]
    fn pins_of_an_earlier_answer_are_passed_over() {
        let mut history = History::default();
        history.note(at(4), at(5));
        history.note(at(5), Changeable { tokens: vec![1], ..at(5) });
        history.note(Changeable { tokens: vec![1], ..at(5) }, at(5));
        let mut now = Changeable { answer: 1, ..at(5) };
        assert!(history.undo(&mut now));
        assert_eq!(now, Changeable { answer: 1, ..at(4) });
        assert!(!history.undo(&mut now));
    }

    #[test]
    fn taking_back_touches_only_what_was_changed() {
        let mut history = History::default();
        history.note(at(4), at(5));
        let mut now = Changeable { tokens: vec![3], ..at(5) };
        history.undo(&mut now);
        assert_eq!(now, Changeable { tokens: vec![3], ..at(4) });
    }
}
