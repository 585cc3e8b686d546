//! What the user is looking at: one value, shared by every panel.

/// Which of the two traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Which {
    /// The run without knockouts.
    #[default]
    Baseline,
    /// The run under the knockouts in force.
    Cut,
}

impl Which {
    /// Name to show.
    pub fn name(self) -> &'static str {
        match self {
            Which::Baseline => "baseline",
            Which::Cut => "cut",
        }
    }
}

/// Which answer token, layer and head the maps and charts show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The trace on show while nothing is hovered.
    pub which: Which,
    /// Token that a click pinned; `None` shows the mean of the whole answer.
    pub pinned: Option<usize>,
    /// Token under the pointer, and its trace: a preview.
    pub hovered: Option<(Which, usize)>,
    /// Decoder layer.
    pub layer: usize,
    /// Query head, or `None` for the mean of all.
    pub head: Option<usize>,
}

impl Selection {
    /// The trace and token to draw: what is hovered, else what is pinned.
    pub fn shown(&self) -> (Which, Option<usize>) {
        match self.hovered {
            Some((which, token)) => (which, Some(token)),
            None => (self.which, self.pinned),
        }
    }

    /// Moves the pin by `by`, staying inside an answer of `len` tokens; pins an end if none was.
    pub fn step_token(&mut self, by: isize, len: usize) {
        let Some(last) = len.checked_sub(1) else { return };
        self.pinned = Some(match self.pinned {
            Some(at) => at.saturating_add_signed(by).min(last),
            None if by < 0 => last,
            None => 0,
        });
    }

    /// Moves the layer by `by`, staying inside a model of `n_layers`.
    pub fn step_layer(&mut self, by: isize, n_layers: usize) {
        self.layer = self.layer.saturating_add_signed(by).min(n_layers.saturating_sub(1));
    }

    /// Keeps layer and head inside another model's bounds, and forgets tokens.
    pub fn fit(&mut self, n_layers: usize, n_heads: usize) {
        self.layer = self.layer.min(n_layers.saturating_sub(1));
        self.head = self.head.filter(|&h| h < n_heads);
        (self.pinned, self.hovered, self.which) = (None, None, Which::Baseline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hovering_previews_and_leaving_returns_to_the_pin() {
        let mut s = Selection { pinned: Some(2), ..Default::default() };
        s.hovered = Some((Which::Cut, 5));
        assert_eq!(s.shown(), (Which::Cut, Some(5)));
        s.hovered = None;
        assert_eq!(s.shown(), (Which::Baseline, Some(2)));
    }

    #[test]
    fn steps_stay_inside() {
        let mut s = Selection::default();
        s.step_token(1, 3);
        assert_eq!(s.pinned, Some(0));
        s.step_token(-1, 3);
        assert_eq!(s.pinned, Some(0));
        s.step_token(9, 3);
        assert_eq!(s.pinned, Some(2));
        s.step_token(1, 0);
        assert_eq!(s.pinned, Some(2));
        s.step_layer(-1, 8);
        assert_eq!(s.layer, 0);
        s.step_layer(100, 8);
        assert_eq!(s.layer, 7);
    }
}
