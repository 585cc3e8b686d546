//! What the user is looking at: one value, shared by every view.
//!
//! Knows runs by their slot, tokens, layers, heads and patches by number; nothing of what they hold.

use std::collections::BTreeSet;

use crate::worker::protocol::Slot;

/// The slot of the run without knockouts.
pub const BASELINE: Slot = 0;
/// The slot of the run under the knockouts in force.
pub const CUT: Slot = 1;

/// Which run, answer tokens, layer, head and patches the maps and charts show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The run on show while nothing is hovered.
    pub slot: Slot,
    /// Answer tokens that clicks pinned, ascending; none shows the mean of the whole answer.
    pub tokens: Vec<usize>,
    /// The token that a phrase is taken from.
    pub anchor: Option<usize>,
    /// Token under the pointer, and its run: a preview.
    pub hovered: Option<(Slot, usize)>,
    /// Decoder layer.
    pub layer: usize,
    /// Query head, or `None` for the mean of all.
    pub head: Option<usize>,
    /// Layer and head under the pointer: a preview.
    pub preview: Option<(usize, Option<usize>)>,
    /// Visual tokens that are locked, by their number among those of the image.
    pub patches: BTreeSet<usize>,
    /// The visual token under the pointer, wherever that is.
    pub patch: Option<usize>,
    /// Absolute positions that the lens reads, beside those of the pinned tokens and the locked patches.
    pub positions: BTreeSet<usize>,
    /// The run whose maps are taken off those of the run on show.
    pub against: Option<Slot>,
    /// Which answer `tokens` are of: counts on with every question, image and model.
    pub answer: u64,
}

impl Selection {
    /// What heads maps and charts show, in words.
    pub fn head_name(&self) -> String {
        self.looked_at().1.map_or("mean of heads".to_string(), |head| format!("head {head}"))
    }

    /// Layer and head to draw: those under the pointer, else those chosen.
    pub fn looked_at(&self) -> (usize, Option<usize>) {
        self.preview.unwrap_or((self.layer, self.head))
    }

    /// The first pinned token.
    pub fn pinned(&self) -> Option<usize> {
        self.tokens.first().copied()
    }

    /// The run and token to draw: what is hovered, else the first that is pinned.
    pub fn shown(&self) -> (Slot, Option<usize>) {
        match self.hovered {
            Some((slot, token)) => (slot, Some(token)),
            None => (self.slot, self.pinned()),
        }
    }

    /// The run and tokens to draw: what is hovered, else all that are pinned; none means the whole answer.
    pub fn subject(&self) -> (Slot, Vec<usize>) {
        match self.hovered {
            Some((slot, token)) => (slot, vec![token]),
            None => (self.slot, self.tokens.clone()),
        }
    }

    /// Pins everything from the token pinned first to this one.
    pub fn pin_to(&mut self, slot: Slot, token: usize) {
        let from = self.anchor.filter(|_| self.slot == slot).unwrap_or(token);
        self.slot = slot;
        self.anchor = Some(from);
        self.tokens = (from.min(token)..=from.max(token)).collect();
    }

    /// Pins these tokens.
    pub fn pin_all(&mut self, slot: Slot, tokens: Vec<usize>) {
        self.slot = slot;
        self.anchor = tokens.first().copied();
        self.tokens = tokens;
    }

    /// Pins one token, or unpins it when it is the one that is pinned.
    pub fn pin(&mut self, slot: Slot, token: usize) {
        let again = self.slot == slot && self.tokens == [token];
        self.slot = slot;
        self.tokens = if again { Vec::new() } else { vec![token] };
        self.anchor = self.pinned();
    }

    /// Moves the pin by `by`, staying inside an answer of `len` tokens; pins an end if none was.
    pub fn step_token(&mut self, by: isize, len: usize) {
        let Some(last) = len.checked_sub(1) else { return };
        let to = match self.pinned() {
            Some(at) => at.saturating_add_signed(by).min(last),
            None if by < 0 => last,
            None => 0,
        };
        self.tokens = vec![to];
        self.anchor = Some(to);
    }

    /// Moves the layer by `by`, staying inside a model of `n_layers`.
    pub fn step_layer(&mut self, by: isize, n_layers: usize) {
        self.layer = self.layer.saturating_add_signed(by).min(n_layers.saturating_sub(1));
    }

    /// Moves the head by `by`, from the mean of heads through all of them.
    pub fn step_head(&mut self, by: isize, n_heads: usize) {
        let at = self.head.map_or(0, |head| head + 1);
        self.head = at.saturating_add_signed(by).min(n_heads).checked_sub(1);
    }

    /// Keeps layer and head inside another model's bounds, and forgets what is the answer's.
    pub fn fit(&mut self, n_layers: usize, n_heads: usize) {
        self.layer = self.layer.min(n_layers.saturating_sub(1));
        self.head = self.head.filter(|&h| h < n_heads);
        (self.slot, self.against, self.preview) = (BASELINE, None, None);
        self.forget();
    }

    /// Forgets tokens: those of another answer are others.
    pub fn another_answer(&mut self) {
        self.tokens.clear();
        self.anchor = None;
        self.answer += 1;
    }

    /// Forgets tokens and patches: those of another image are others.
    pub fn forget(&mut self) {
        self.another_answer();
        (self.hovered, self.patch) = (None, None);
        self.patches.clear();
        self.positions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hovering_previews_and_leaving_returns_to_the_pin() {
        let mut s = Selection { tokens: vec![2], ..Default::default() };
        s.hovered = Some((CUT, 5));
        assert_eq!(s.shown(), (CUT, Some(5)));
        s.hovered = None;
        assert_eq!(s.shown(), (BASELINE, Some(2)));
    }

    #[test]
    fn a_second_click_unpins() {
        let mut s = Selection::default();
        s.pin(CUT, 3);
        assert_eq!(s.shown(), (CUT, Some(3)));
        s.pin(CUT, 3);
        assert_eq!(s.shown(), (CUT, None));
    }

    #[test]
    fn a_phrase_is_taken_from_the_first_pin_both_ways() {
        let mut s = Selection::default();
        s.pin(CUT, 4);
        s.pin_to(CUT, 6);
        assert_eq!(s.tokens, [4, 5, 6]);
        s.pin_to(CUT, 2);
        assert_eq!(s.tokens, [2, 3, 4]);
        s.pin_to(BASELINE, 1);
        assert_eq!((s.slot, s.tokens.as_slice()), (BASELINE, &[1][..]));
    }

    #[test]
    fn steps_stay_inside() {
        let mut s = Selection::default();
        s.step_token(1, 3);
        assert_eq!(s.pinned(), Some(0));
        s.step_token(-1, 3);
        assert_eq!(s.pinned(), Some(0));
        s.step_token(9, 3);
        assert_eq!(s.pinned(), Some(2));
        s.step_token(1, 0);
        assert_eq!(s.pinned(), Some(2));
        s.step_layer(-1, 8);
        assert_eq!(s.layer, 0);
        s.step_layer(100, 8);
        assert_eq!(s.layer, 7);
    }
}
