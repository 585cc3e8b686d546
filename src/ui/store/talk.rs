//! The conversation around a question: what was said before it, and what its answer is to begin with.
//!
//! Plain values that a file can hold. About one image, which stands before the first question. Knows nothing of runs.

use serde::{Deserialize, Serialize};

use crate::spec::turn::{Role, Turn, answered, asked, begun};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Talk {
    /// Instructions before the conversation; empty for none.
    pub system: String,
    /// Questions and answers so far.
    pub earlier: Vec<Turn>,
    /// What the answer is to begin with; empty for nothing.
    pub prefix: String,
}

impl Talk {
    /// Whether there is nothing around the question.
    pub fn is_plain(&self) -> bool {
        *self == Talk::default()
    }

    /// The whole conversation with a question at its end.
    pub fn turns(&self, question: &str) -> Vec<Turn> {
        let some = |role, text: &str| (!text.trim().is_empty()).then(|| Turn::of(role, text));
        let ask = Turn::ask(usize::from(self.earlier.is_empty()), question);
        let before = some(Role::System, &self.system).into_iter().chain(self.earlier.iter().cloned());
        before.chain([ask]).chain(some(Role::Assistant, &self.prefix)).collect()
    }

    /// A conversation and its question; `None` of one that cannot be asked so.
    pub fn of(turns: &[Turn]) -> Option<(Talk, String)> {
        let (question, before) = asked(turns).split_last()?;
        let question = question.text();
        let talk = Talk { prefix: begun(turns).unwrap_or_default(), ..Talk::before(before) };
        (talk.turns(&question) == turns).then_some((talk, question))
    }

    /// What goes on once a conversation is answered.
    pub fn after(turns: &[Turn], said: &str) -> Talk {
        Talk::before(&answered(turns, said))
    }

    fn before(turns: &[Turn]) -> Talk {
        let (system, earlier) = match turns.split_first() {
            Some((first, rest)) if first.role == Role::System => (first.text(), rest),
            _ => (String::new(), turns),
        };
        Talk { system, earlier: earlier.to_vec(), prefix: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_taken_apart_and_put_together() {
        let first = Talk { system: "brief".into(), prefix: "It is".into(), ..Talk::default() };
        let turns = first.turns("what ?");
        assert_eq!(turns.len(), 3);
        assert_eq!(Talk::of(&turns), Some((first, "what ?".to_string())));
        let second = Talk::after(&turns, " a dog.");
        assert_eq!(second.earlier.last().map(Turn::text).as_deref(), Some("It is a dog."));
        assert_eq!((second.system.as_str(), second.prefix.as_str()), ("brief", ""));
        let turns = second.turns("why ?");
        assert_eq!((turns.len(), turns[3].clone()), (4, Turn::ask(0, "why ?")));
        assert_eq!(Talk::of(&turns), Some((second, "why ?".to_string())));
        // An image in the second question has no place in a window.
        assert_eq!(Talk::of(&[Turn::ask(1, "a"), Turn::of(Role::Assistant, "b"), Turn::ask(1, "c")]), None);
        assert_eq!(Talk::of(&[Turn::ask(2, "a")]), None);
        assert!(Talk::of(&[Turn::ask(1, "a")]).unwrap().0.is_plain());
    }
}
