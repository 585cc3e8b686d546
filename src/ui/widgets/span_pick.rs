//! A set of positions as chips: each name is left out, taken in or taken away.
//!
//! Parts that are more than a whole name are chips that can be taken off. Knows the grammar's sets; nothing of prompts.

use egui::{Button, RichText, Ui};

use crate::{
    spec::sets::{Name, Places, Set, Term},
    ui::theme,
};

/// Longest text of a chip, in characters.
const LONGEST: usize = 30;

/// A set to change.
#[derive(Clone, Copy, Debug)]
pub struct SpanPick<'a> {
    /// What it is the set of, for screen readers: "query".
    pub name: &'a str,
    /// The set.
    pub set: &'a Set,
    /// Names that stand as chips.
    pub offered: &'a [Name],
    /// Names that stand in a menu behind them.
    pub more: &'a [Name],
}

impl SpanPick<'_> {
    /// Draws it, within a line that wraps. Returns the set that it became.
    pub fn show(&self, ui: &mut Ui) -> Option<Set> {
        let mut changed = None;
        let here = |name: &Name| self.offered.contains(name) || self.place(*name).is_some();
        let all = self.offered.iter().chain(self.more.iter().filter(|name| !self.offered.contains(name)));
        for name in all.filter(|name| here(name)) {
            changed = self.chip(ui, *name).or(changed);
        }
        for (at, term) in self.set.0.iter().enumerate().filter(|(_, term)| !is_whole(term)) {
            changed = self.part(ui, at, term).or(changed);
        }
        let rest: Vec<Name> = self.more.iter().copied().filter(|name| !here(name)).collect();
        if !rest.is_empty() {
            changed = self.menu(ui, &rest).or(changed);
        }
        changed
    }

    /// Where a whole name stands in the set.
    fn place(&self, name: Name) -> Option<usize> {
        self.set.0.iter().position(|term| term.name == name && is_whole(term))
    }

    fn chip(&self, ui: &mut Ui, name: Name) -> Option<Set> {
        let word = whole(name).to_string();
        let place = self.place(name);
        let minus = place.and_then(|at| self.set.0.get(at)).is_some_and(|term| term.minus);
        let text = RichText::new(if minus { format!("−{word}") } else { word.clone() }).small();
        let text = if minus { text.color(theme::cut_color(ui.visuals())) } else { text };
        let next = self.toggled(name);
        let chip = ui.add_enabled(next.is_some(), Button::selectable(place.is_some(), text));
        let chip = chip
            .accessible_name(format!("{}: {word}", self.name))
            .on_hover_text("In, taken away from what stands before it, or left out")
            .on_disabled_hover_text("Without it nothing would be left");
        if chip.clicked() { next } else { None }
    }

    /// A part of the set that no chip stands for.
    fn part(&self, ui: &mut Ui, at: usize, term: &Term) -> Option<Set> {
        let sign = if term.minus { "−" } else { "" };
        let word = term.to_string();
        let next = self.without(at);
        let text = RichText::new(format!("{sign}{} ×", shortened(&word))).small();
        let chip = ui.add_enabled(next.is_some(), Button::selectable(true, text));
        let chip = chip
            .accessible_name(format!("{}: take {word} off", self.name))
            .on_hover_text(format!("{word}: a click takes it off"))
            .on_disabled_hover_text(format!("{word}: without it nothing would be left"));
        if chip.clicked() { next } else { None }
    }

    fn menu(&self, ui: &mut Ui, names: &[Name]) -> Option<Set> {
        let menu = ui.menu_button(RichText::new("patches…").small(), |ui| {
            let mut chosen = None;
            for name in names {
                if ui.button(whole(*name).to_string()).clicked() {
                    chosen = self.toggled(*name);
                    ui.close();
                }
            }
            chosen
        });
        menu.response.accessible_name(format!("{}: sets of patches", self.name)).on_hover_text(
            "Sets of patches that are computed: of the object's mask, of attention sinks, at random",
        );
        menu.inner.flatten()
    }

    /// The set after a click on a name: taken in, then taken away, then left out again.
    fn toggled(&self, name: Name) -> Option<Set> {
        let mut terms = self.set.0.clone();
        match self.place(name) {
            None => terms.push(whole(name)),
            Some(at) => match terms.get_mut(at) {
                Some(term) if at > 0 && !term.minus => term.minus = true,
                _ => return self.without(at),
            },
        }
        Some(Set(terms))
    }

    /// The set without one of its parts; `None` where nothing would be left. What was taken away from it goes with
    /// it.
    fn without(&self, at: usize) -> Option<Set> {
        let mut terms = self.set.0.clone();
        if at < terms.len() {
            terms.remove(at);
        }
        let first = terms.iter().position(|term| !term.minus)?;
        terms.drain(..first);
        Some(Set(terms))
    }
}

fn whole(name: Name) -> Term {
    Term { minus: false, name, places: Places::All, rings: 0 }
}

fn is_whole(term: &Term) -> bool {
    term.places == Places::All && term.rings == 0
}

/// A text, cut short where it is long.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{parse::parse_set, sets::PatchSet, span::Span};

    fn after(text: &str, name: Name) -> Option<String> {
        let set = parse_set(text).unwrap();
        let pick = SpanPick { name: "key", set: &set, offered: &[], more: &[] };
        let toggled = pick.toggled(name);
        // What is built is what could be typed.
        toggled.map(|set| {
            assert_eq!(parse_set(&set.to_string()).unwrap(), set);
            set.to_string()
        })
    }

    #[test]
    fn a_name_is_taken_in_then_away_then_left_out() {
        let visual = Name::Span(Span::Visual);
        assert_eq!(after("all", visual).unwrap(), "all + visual");
        assert_eq!(after("all + visual", visual).unwrap(), "all - visual");
        assert_eq!(after("all - visual", visual).unwrap(), "all");
        assert_eq!(after("visual + last", visual).unwrap(), "last", "the first is never taken away");
    }

    #[test]
    fn something_is_always_left() {
        assert_eq!(after("all - visual", Name::All), None);
        assert_eq!(after("answer", Name::Span(Span::Answer)), None);
        let left = after("all - visual + last", Name::All).unwrap();
        assert_eq!(left, "last", "what was taken away from it goes with it");
        let sink = Name::Patches(PatchSet::Sink);
        assert_eq!(after("visual[3-5]~1", sink).unwrap(), "visual[3-5]~1 + sink");
    }

    #[test]
    fn a_part_of_a_name_is_not_the_name() {
        assert_eq!(after("visual[3]", Name::Span(Span::Visual)).unwrap(), "visual[3] + visual");
        let set = parse_set("visual[3] + last").unwrap();
        let pick = SpanPick { name: "key", set: &set, offered: &[], more: &[] };
        assert_eq!(pick.without(0).unwrap().to_string(), "last");
        assert!(shortened(&"visual[1,3,5,7]".repeat(9)).ends_with('…') && shortened("last") == "last");
    }
}
