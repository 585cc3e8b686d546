//! All runs, word by word: the uncut one and the one under the cut, then those that are kept.
//!
//! The stripe under a word is its attention to the image; what tints it is chosen at the top. Words that the other run
//! lacks stand out in both; words that are not up to date are dim. Keeps where words stand, and what the pointer
//! has been shown to do.

use std::collections::BTreeMap;

use egui::{ComboBox, Event, Label, RichText, ScrollArea, Ui, scroll_area::ScrollBarVisibility};

use crate::{
    trace::offer::{Format, Offer},
    ui::{
        frame::Frame,
        store::{
            command::Command,
            selection::{BASELINE, CUT},
            settings::Tint,
            store::Store,
            view_id::ViewId,
        },
        theme,
        view::{
            pane::View,
            runs::compare::{self, Compared, Pair},
            runs::facts,
            runs::list,
            runs::strip::{Over, Strip, Words},
            runs::table,
            runs::tint,
        },
        widgets::{
            export_menu::export_menu,
            section::{section, still},
            sweep::Sweep,
        },
    },
    worker::protocol::Slot,
};

/// Room for the line about the word on show, and for the hint under it.
const LINE: f32 = 17.0;

/// Below this height the hint gives way.
const LOW: f32 = 130.0;

/// The view.
#[derive(Default)]
pub struct AnswerView {
    /// Words of the runs that show them.
    strips: BTreeMap<Slot, Strip>,
    /// Which words the two compared runs lack.
    compared: Compared,
    /// The token that this view last asked to preview.
    previewed: Option<(Slot, usize)>,
    tooltip: Sweep,
    learned: Learned,
}

/// What people have done here: hints about it are of no more use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Learned {
    hovered: bool,
    pinned: bool,
    phrase: bool,
}

impl Learned {
    /// What to try next.
    fn hint(self) -> Option<&'static str> {
        match self {
            Learned { hovered: false, .. } | Learned { pinned: false, .. } => {
                Some("Hover a word to see where it looked; click to pin it.")
            }
            Learned { phrase: false, .. } => {
                Some("Drag over words to take a phrase; Esc shows the whole answer.")
            }
            _ => None,
        }
    }
}

impl View for AnswerView {
    fn title(&self, _store: &Store) -> String {
        "Runs".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let mut over = None;
        still(ui, |ui| {
            section(ui, "Runs", frame, |ui, frame| {
                let formats = [Format::Csv, Format::Svg, Format::Npz, Format::Safetensors];
                export_menu(ui, frame, ViewId::Answer, &formats);
                tints(ui, store, frame);
            });
            let height = ui.available_height();
            let hint = self.learned.hint().filter(|_| height > LOW);
            let lines = if hint.is_some() { 2.0 } else { 1.0 };
            let foot = lines * (LINE + ui.spacing().item_spacing.y);
            let scroll = ScrollArea::vertical().id_salt("runs").auto_shrink([false, false]);
            // Its bar has its room whether it is needed or not: nothing moves aside when it is.
            let scroll = scroll.scroll_bar_visibility(ScrollBarVisibility::AlwaysVisible);
            let scroll = scroll.max_height((height - foot).max(LINE));
            over = scroll.show(ui, |ui| self.runs(ui, store, frame)).inner;
            if let Some(text) = facts::line(store) {
                ui.add(Label::new(RichText::new(&text).small()).truncate()).on_hover_text(
                    "A word is predicted by the row of the position before it: its attention is that row's",
                );
            }
            if let Some(hint) = hint {
                ui.add(Label::new(RichText::new(hint).small().weak()).truncate());
            }
            self.tell(ui, store, over.as_ref());
        });
        self.preview(ui, store, frame, over.map(|(slot, over)| (slot, over.token)));
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        table::offers(store)
    }
}

impl AnswerView {
    /// All runs. Returns the word under the pointer.
    fn runs(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) -> Option<(Slot, Over)> {
        let pair = compare::pair(store);
        self.compared.follow(store, pair);
        let open = open(store);
        self.strips.retain(|slot, _| open.contains(slot));
        // What was refused has a line of its own, and no words.
        for slot in open.iter().filter(|slot| **slot == BASELINE || store.runs.has(**slot)) {
            self.strips.entry(*slot).or_default().looks.follow(store, *slot);
        }
        // The same for all runs: their tints can be compared.
        let highest = self.strips.values().filter_map(|strip| strip.looks.highest());
        let highest = highest.map(|(_, share)| share).reduce(f32::max);
        let effects = pair.map(|pair| (pair, compare::effects(store, pair))).filter(|(_, e)| !e.is_empty());
        let bars = effects.map(|(pair, _)| store.runs.name(pair.other));
        let legend = tint::legend(store, highest, bars.as_deref());
        if !legend.is_empty() && store.runs.has(BASELINE) {
            ui.add(Label::new(RichText::new(&legend).small().weak()).truncate());
        }
        let words = |slot: Slot| {
            let effects =
                effects.filter(|(pair, _)| pair.base == slot).map_or(&[][..], |(_, effects)| effects);
            (effects, highest.unwrap_or(0.0))
        };
        let mut over = None;
        let kept = store.runs.kept();
        for slot in open.iter().copied().filter(|slot| *slot <= CUT).chain(kept) {
            match slot <= CUT {
                true => list::heading(ui, store, frame, slot),
                false => list::kept(ui, store, frame, slot),
            }
            let (effects, high) = words(slot);
            if let Some(strip) = self.strips.get_mut(&slot) {
                let changed = self.compared.of(slot, pair);
                let words = Words { slot, changed, effects, high };
                over = strip.show(ui, store, frame, words).map(|word| (slot, word)).or(over);
                ui.add_space(4.0);
            }
            if slot == CUT {
                self.difference(ui, store, pair);
            }
        }
        if !store.runs.has(CUT) {
            self.difference(ui, store, pair);
        }
        if let Some(why) = nonsense(store) {
            ui.add(Label::new(RichText::new(why).small().color(theme::stale_color(ui.visuals()))).wrap());
        }
        over
    }

    /// How the two compared runs differ, in words.
    fn difference(&self, ui: &mut Ui, store: &Store, pair: Option<Pair>) {
        let Some(pair) = pair.filter(|_| self.compared.whole) else { return };
        let text = compare::sentence(&self.compared.gone, &self.compared.new, compare::effects(store, pair));
        let text = match pair {
            Pair { base: BASELINE, other: CUT } => text,
            Pair { base, other } => {
                format!("{} beside {}: {text}", store.runs.name(other), store.runs.name(base))
            }
        };
        ui.add(Label::new(RichText::new(text).small()).wrap());
    }

    /// Asks for a preview of the word under the pointer, and ends it when the pointer has left.
    fn preview(&mut self, ui: &Ui, store: &Store, frame: &mut Frame, over: Option<(Slot, usize)>) {
        self.learned.hovered |= over.is_some();
        self.learned.phrase |= store.selection.tokens.len() > 1;
        let clicked = ui.input(|i| i.pointer.any_click());
        self.learned.pinned |= clicked && over.is_some();
        // A word under a pointer that rests previews nothing anew: keys may have moved on from there.
        let moved = ui.input(|i| i.events.iter().any(|event| matches!(event, Event::PointerMoved(_))));
        let shown = store.selection.hovered;
        // What another view previews is its own.
        let ours = self.previewed.is_some() && self.previewed == shown;
        if over.is_some() && moved && over != shown || over.is_none() && ours {
            frame.ask(Command::Hover(over));
        }
        if moved || over.is_none() {
            self.previewed = over;
        }
    }

    /// The tooltip of the word under the pointer.
    fn tell(&mut self, ui: &Ui, store: &Store, over: Option<&(Slot, Over)>) {
        let owner = over.map_or_else(|| ui.unique_id(), |(_, over)| over.owner);
        let strips = &self.strips;
        self.tooltip.show(ui, owner, over.map(|(_, over)| over.rect), |ui| {
            let Some((slot, over)) = over else { return };
            let pair = compare::pair(store).filter(|pair| pair.base == *slot);
            let name = pair.map(|pair| store.runs.name(pair.other)).unwrap_or_default();
            let effects = pair.map_or(&[][..], |pair| compare::effects(store, pair));
            let word = facts::Word {
                slot: *slot,
                tokens: over.first..=over.token,
                effect: effects.get(over.token).map(|scored| (scored, name.as_str())),
                on_patches: strips.get(slot).and_then(|strip| strip.looks.of(over.token)),
            };
            word.show(ui, store);
        });
    }
}

/// The runs whose words are shown: the live ones, and of the kept ones those on show or compared.
fn open(store: &Store) -> Vec<Slot> {
    let refused = store.runs.cut().refusal().is_some();
    let cut = (store.runs.has(CUT) || refused).then_some(CUT);
    let selection = &store.selection;
    let chosen = |slot: &Slot| *slot == selection.slot || Some(*slot) == selection.against;
    let kept = store.runs.kept().into_iter().filter(chosen);
    std::iter::once(BASELINE).chain(cut).chain(kept).collect()
}

/// What tints words.
fn tints(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let name = |tint: Tint| RichText::new(format!("tint: {}", tint.name())).small();
    let menu = ComboBox::from_id_salt("tint").width(60.0).selected_text(name(store.tint));
    let menu = menu.show_ui(ui, |ui| {
        for tint in Tint::ALL {
            if ui.selectable_label(store.tint == tint, tint.name()).clicked() {
                frame.ask(Command::Tint(tint));
            }
        }
    });
    frame.place("tint", menu.response.rect);
    menu.response.accessible_name("tint of words").on_hover_text("What words are tinted by");
}

/// Why an answer is not to be taken seriously.
fn nonsense(store: &Store) -> Option<&'static str> {
    let bundled = store.model.as_ref().is_some_and(|model| model.bundled);
    let foreign = store.image().is_some_and(|image| image.objects.is_none());
    (bundled && foreign).then_some(
        "The bundled model knows the sample scenes and nothing else: of this picture it talks nonsense. Open \
         another model for pictures of your own.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_go_with_what_they_teach() {
        let mut learned = Learned::default();
        assert!(learned.hint().unwrap().starts_with("Hover"));
        learned.hovered = true;
        assert!(learned.hint().unwrap().contains("click to pin"));
        learned.pinned = true;
        assert!(learned.hint().unwrap().contains("phrase"));
        learned.phrase = true;
        assert_eq!(learned.hint(), None);
    }

    #[test]
    fn an_uncut_run_has_its_place_before_it_is_there() {
        let store = Store::default();
        assert_eq!(open(&store), [BASELINE]);
    }
}
