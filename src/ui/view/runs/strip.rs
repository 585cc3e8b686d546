//! The words of one run: hover previews, a click pins, shift and drag take a phrase, a double click the whole word.
//!
//! Keeps where the words stand. Knows runs and the selection; what it asks for is done elsewhere.

use egui::{
    Color32, EventFilter, Id, Key, Label, Modifiers, PointerButton, Pos2, ProgressBar, Rect, Response,
    RichText, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2,
};

use crate::{
    spec::span::Span,
    trace::{run::Stop, tokens::AnswerToken},
    ui::{
        frame::Frame,
        store::{command::Command, lane::Lane, run::ScoredToken, settings::Tint, store::Store},
        theme,
        view::runs::tint::{FULL_CHANGE, FULL_ENTROPY, Looks, Source, source},
        widgets::{
            with_shift::with_shift,
            word::{Look, answer_look, paint, pieces},
            word_flow::{Placed, WordFlow},
        },
    },
    worker::protocol::Slot,
};

/// What is known of a run's words besides the run.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The run.
    pub slot: Slot,
    /// Words that the other run lacks.
    pub changed: &'a [bool],
    /// What a cut does to them; empty where there is none.
    pub effects: &'a [ScoredToken],
    /// The share on patches at which a tint is full.
    pub high: f32,
}

/// A word under the pointer.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    /// Its first token.
    pub first: usize,
    /// The token that carries it.
    pub token: usize,
    /// Where it stands.
    pub rect: Rect,
    /// The words that it is one of.
    pub owner: Id,
}

/// Where the words of one run stand.
#[derive(Debug, Default)]
pub struct Strip {
    flow: WordFlow<Source>,
    /// How much they looked at patches.
    pub looks: Looks,
    /// The pin when it was last drawn: another one is brought into view.
    pinned: Option<usize>,
}

impl Strip {
    /// Draws it. Returns the word under the pointer.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame, words: Words<'_>) -> Option<Over> {
        let lane = store.runs.lane(words.slot);
        let tokens = lane.tokens();
        if tokens.is_empty() {
            waiting(ui, store, lane);
            return None;
        }
        let width = ui.available_width();
        let all = || pieces(tokens.iter().map(|(token, _)| *token));
        self.flow.follow(ui, (source(lane), width), &answer_look(), all);
        let (rect, _) = ui.allocate_exact_size(vec2(width, self.flow.height()), Sense::hover());
        let owner = walk(ui, store, frame, words.slot, rect);
        self.bring_into_view(ui, store, words.slot, rect);

        let clip = ui.clip_rect();
        let name = store.runs.name(words.slot);
        let (mut over, mut dragged) = (None, false);
        for placed in self.flow.visible(clip.top() - rect.top(), clip.bottom() - rect.top()) {
            let at = placed.last;
            let look = self.look(ui, store, words, &tokens, placed);
            let body = placed.body.translate(rect.min.to_vec2());
            let id = ui.scope_id().with(("word", words.slot, placed.first));
            // No stop of the Tab key: the answer as a whole is one.
            let hit = ui.interact(placed.hit.translate(rect.min.to_vec2()), id, Sense::CLICK | Sense::DRAG);
            hit.widget_info(|| WidgetInfo::selected(Role::Button, true, look.selected, placed.text.as_str()));
            paint(ui, body, &placed.text, &look);
            frame.place(format!("{name}[{at}]"), body);
            if hit.hovered() {
                over = Some(Over { first: placed.first, token: at, rect: body, owner });
            }
            dragged |= hit.dragged_by(PointerButton::Primary);
            press(ui, store, frame, words.slot, placed, &hit);
            menu(store, frame, words.slot, &hit);
        }
        if dragged {
            // What is shown meanwhile is the phrase.
            over = None;
            self.drag(ui, store, frame, words.slot, rect);
        }
        if let Some(why) =
            lane.complete().and_then(|run| run.end.as_ref()).and_then(|end| cut_short(end.stop))
        {
            ui.label(RichText::new(why).small().weak());
        }
        over
    }

    /// How a word looks.
    fn look(
        &self,
        ui: &Ui,
        store: &Store,
        words: Words<'_>,
        tokens: &[(&AnswerToken, bool)],
        placed: &Placed,
    ) -> Look {
        let (slot, at) = (words.slot, placed.last);
        let Some((token, fresh)) = tokens.get(at) else { return Look::default() };
        let (shown, preview) = store.selection.shown();
        let (layer, head) = store.selection.looked_at();
        let row = store.runs.lane(slot).row(at).map(|(row, _)| row);
        let attention = store.tint == Tint::Attention;
        let pins = &store.selection.tokens;
        let effect = words.effects.get(at).map(|scored| scored.effect.delta);
        Look {
            selected: shown == slot && preview.is_some_and(|at| placed.holds(at)),
            pinned: store.selection.slot == slot && pins.iter().any(|&at| placed.holds(at)),
            changed: words.changed.get(at).copied().unwrap_or(false),
            end: token.end,
            fresh: *fresh,
            tint: self.tint(ui, store, words, at, effect, token.entropy),
            share: row.filter(|_| attention).map(|row| row.flow.share(layer, head, Span::Visual)),
            effect: effect.map(|delta| delta / FULL_CHANGE),
        }
    }

    /// What a word is tinted with.
    fn tint(
        &self,
        ui: &Ui,
        store: &Store,
        words: Words<'_>,
        at: usize,
        effect: Option<f32>,
        entropy: Option<f32>,
    ) -> Option<Color32> {
        /// Strongest tint, under which a word can still be read.
        const STRONGEST: f32 = 0.6;
        if let Some(share) = self.looks.of(at) {
            let strength = if words.high > 0.0 { share / words.high } else { 0.0 };
            return Some(
                theme::span_color(Span::Visual).gamma_multiply(STRONGEST * strength.clamp(0.0, 1.0)),
            );
        }
        match store.tint {
            Tint::Change => effect.map(|delta| theme::signed_color(ui.visuals(), delta / FULL_CHANGE)),
            Tint::Entropy => entropy.map(|entropy| {
                let strength = (entropy / FULL_ENTROPY).clamp(0.0, 1.0);
                theme::stale_color(ui.visuals()).gamma_multiply(STRONGEST * strength)
            }),
            Tint::Attention | Tint::Nothing => None,
        }
    }

    /// A drag takes everything from where it began to the word under the pointer.
    fn drag(&self, ui: &Ui, store: &Store, frame: &mut Frame, slot: Slot, rect: Rect) {
        let nearest = |at: Option<Pos2>| at.and_then(|at| self.flow.nearest(at - rect.min.to_vec2()));
        let (from, to) = ui.input(|i| (i.pointer.press_origin(), i.pointer.latest_pos()));
        let (Some(from), Some(to)) = (nearest(from), nearest(to)) else { return };
        let selection = &store.selection;
        // The press pins; a phrase that was taken from there already goes on.
        let begun = selection.slot == slot && selection.anchor.is_some_and(|anchor| from.holds(anchor));
        if !begun {
            frame.ask(Command::Pin(slot, from.last));
        }
        let end = if to.last < from.last { to.first } else { to.last };
        let taken = [selection.tokens.first(), selection.tokens.last()];
        let wanted = [from.last.min(end), from.last.max(end)];
        if !begun || taken != [Some(&wanted[0]), Some(&wanted[1])] {
            frame.ask(Command::PinTo(slot, end));
        }
    }

    /// Arrows and commands may pin a word that is not seen.
    fn bring_into_view(&mut self, ui: &Ui, store: &Store, slot: Slot, rect: Rect) {
        let pinned = store.selection.pinned().filter(|_| store.selection.slot == slot);
        if pinned == self.pinned {
            return;
        }
        self.pinned = pinned;
        if let Some(placed) = pinned.and_then(|at| self.flow.of(at)) {
            let place = placed.hit.translate(rect.min.to_vec2());
            if !ui.clip_rect().contains_rect(place) {
                ui.scroll_to_rect(place, None);
            }
        }
    }
}

/// What clicks on a word ask for.
fn press(ui: &Ui, store: &Store, frame: &mut Frame, slot: Slot, placed: &Placed, hit: &Response) {
    let at = placed.last;
    if hit.double_clicked() {
        frame.ask(Command::PinWord(slot, at));
    } else if hit.clicked() {
        let phrase = with_shift(ui) && store.selection.slot == slot;
        let before = store.selection.anchor.is_some_and(|anchor| at < anchor);
        frame.ask(match phrase {
            true => Command::PinTo(slot, if before { placed.first } else { at }),
            false => Command::Pin(slot, at),
        });
    }
}

/// What a right click on a word offers.
fn menu(store: &Store, frame: &mut Frame, slot: Slot, hit: &Response) {
    if !hit.secondary_clicked() && !hit.context_menu_opened() {
        return;
    }
    hit.context_menu(|ui| {
        let copy = ui.button("Copy answer").on_hover_text("The whole answer, as text");
        if copy.clicked() {
            frame.ask(Command::Copy(store.said_by(slot).unwrap_or_default()));
            ui.close();
        }
    });
}

/// Makes an answer one stop of the Tab key, which arrows walk word by word from there. Returns its name.
fn walk(ui: &Ui, store: &Store, frame: &mut Frame, slot: Slot, place: Rect) -> Id {
    let id = ui.scope_id().with(("words", slot));
    let stop = ui.interact(place, id, Sense::focusable_noninteractive());
    let name = format!("words of {}", store.runs.name(slot));
    stop.widget_info(|| WidgetInfo::labeled(Role::ListBox, true, &name));
    if !stop.has_focus() {
        return id;
    }
    let arrows = EventFilter { horizontal_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(id, arrows));
    let outline = Stroke::new(1.5, theme::accent(ui.visuals()));
    ui.painter().rect_stroke(place.expand(2.0), 3.0, outline, StrokeKind::Outside);
    let presses = |key| ui.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key));
    let steps = [(Key::ArrowRight, Command::NextWord), (Key::ArrowLeft, Command::PreviousWord)];
    for (key, command) in steps {
        for _ in 0..presses(key) {
            if store.selection.slot != slot {
                frame.ask(Command::Show(slot));
            }
            frame.ask(command.clone());
        }
    }
    id
}

/// What stands where there is no answer: what goes on, and how far it is.
fn waiting(ui: &mut Ui, store: &Store, lane: Lane<'_>) {
    let text = match &store.progress {
        Some(progress) => format!("{progress}…"),
        None if lane.busy() || store.busy() => "…".to_string(),
        None if lane.cancelled() || store.cancelled() => "cancelled".to_string(),
        None if store.model.is_none() => "no answer yet: open a model".to_string(),
        None if store.image().is_none() => "no answer yet: open an image".to_string(),
        None => "no answer yet".to_string(),
    };
    ui.add(Label::new(RichText::new(text).weak()).wrap());
    if let Some(share) = store.progress.as_ref().and_then(|progress| progress.share()) {
        let width = ui.available_width().min(240.0);
        ui.add(ProgressBar::new(share).desired_width(width).desired_height(6.0)).accessible_name("progress");
    }
}

fn cut_short(stop: Stop) -> Option<&'static str> {
    match stop {
        Stop::End | Stop::Forced => None,
        Stop::MaxNew => Some("stopped at the longest answer allowed"),
        Stop::Context => Some("stopped: the context is full"),
        Stop::Cancelled => Some("cancelled"),
    }
}
