//! A state that can be gone back to: which image, which question, what is done to the model.
//!
//! And the trail of such states. Knows nothing of runs.

use serde::{Deserialize, Serialize};

use crate::{
    spec::picture::ImageSource,
    ui::store::{cut_list::CutSettings, settings::Asking, talk::Talk},
};

/// Everything that a run follows from, but for the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The image.
    pub image: Option<ImageSource>,
    /// The question.
    pub prompt: String,
    /// The conversation around it.
    #[serde(default, skip_serializing_if = "Talk::is_plain")]
    pub talk: Talk,
    /// How answers are chosen.
    pub asking: Asking,
    /// What is done to the model.
    pub cut: CutSettings,
}

impl Setup {
    /// Whether both are about the same uncut answer.
    pub fn same_question(&self, other: &Setup) -> bool {
        (&self.image, &self.prompt, &self.talk, &self.asking)
            == (&other.image, &other.prompt, &other.talk, &other.asking)
    }
}

/// States that are remembered.
const KEPT: usize = 100;

/// The states that were gone through, as a browser has pages.
#[derive(Debug, Default)]
pub struct Trail {
    states: Vec<Setup>,
    /// The present one.
    at: usize,
}

impl Trail {
    /// A new state; those that were gone back from are forgotten. One that differs from the present one in its
    /// cut alone takes its place.
    pub fn note(&mut self, state: Setup) {
        match self.states.get_mut(self.at) {
            Some(present) if present.same_question(&state) => *present = state,
            _ => {
                self.states.truncate(self.at + 1);
                self.states.push(state);
                if self.states.len() > KEPT {
                    self.states.remove(0);
                }
                self.at = self.states.len() - 1;
            }
        }
    }

    /// Goes one state back, or on.
    pub fn go(&mut self, back: bool) -> Option<Setup> {
        let to = if back { self.at.checked_sub(1)? } else { self.at + 1 };
        let state = self.states.get(to)?.clone();
        self.at = to;
        Some(state)
    }

    /// Whether there is a state to go to.
    pub fn can_go(&self, back: bool) -> bool {
        if back { self.at > 0 } else { self.at + 1 < self.states.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_gone_through_both_ways() {
        let state = |prompt: &str| Setup { prompt: prompt.to_string(), ..Setup::default() };
        let mut trail = Trail::default();
        assert!(trail.go(true).is_none() && trail.go(false).is_none());
        ["a", "b", "c"].into_iter().for_each(|prompt| trail.note(state(prompt)));
        assert_eq!(trail.go(true), Some(state("b")));
        assert_eq!(trail.go(true), Some(state("a")));
        assert!(trail.go(true).is_none() && trail.can_go(false));
        assert_eq!(trail.go(false), Some(state("b")));
        trail.note(state("d"));
        assert!(trail.go(false).is_none(), "what was gone back from is another past");
        assert_eq!(trail.go(true), Some(state("b")));
    }
}
