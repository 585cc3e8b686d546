//! A conversation, turn by turn.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The person who asks.
    User,
    /// The model, in an earlier turn.
    Assistant,
}

impl Role {
    /// The name that templates know.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// Images and text, in order.
    pub content: Vec<Content>,
}

impl Turn {
    /// The usual question: images, then text.
    pub fn ask(images: usize, text: impl Into<String>) -> Turn {
        let mut content = vec![Content::Image; images];
        content.push(Content::Text(text.into()));
        Turn { role: Role::User, content }
    }

    /// A message of nothing but text.
    pub fn of(role: Role, text: impl Into<String>) -> Turn {
        Turn { role, content: vec![Content::Text(text.into())] }
    }

    /// Its texts, joined.
    pub fn text(&self) -> String {
        self.content.iter().filter_map(Content::text).collect()
    }
}

/// The conversation without what its answer was given to begin with: up to the last question.
pub fn asked(turns: &[Turn]) -> &[Turn] {
    match turns.split_last() {
        Some((last, before)) if last.role == Role::Assistant => before,
        _ => turns,
    }
}

/// What the answer was given to begin with.
pub fn begun(turns: &[Turn]) -> Option<String> {
    turns.last().filter(|turn| turn.role == Role::Assistant).map(Turn::text)
}

/// The conversation once it is answered: `said` is what came of the model, blanks included.
pub fn answered(turns: &[Turn], said: &str) -> Vec<Turn> {
    let whole = match begun(turns) {
        Some(begun) => begun + said,
        None => said.trim().to_string(),
    };
    asked(turns).iter().cloned().chain([Turn::of(Role::Assistant, whole)]).collect()
}

/// Part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// The next image.
    Image,
    /// Text.
    Text(String),
}

impl Content {
    /// Its text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Content::Image => None,
            Content::Text(text) => Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_on_behind_its_beginning() {
        let plain = [Turn::of(Role::System, "brief"), Turn::ask(1, "what?")];
        assert_eq!((asked(&plain), begun(&plain)), (&plain[..], None));
        assert_eq!(answered(&plain, " a dog.")[2], Turn::of(Role::Assistant, "a dog."));
        let given = [&plain[..], &[Turn::of(Role::Assistant, "It is")]].concat();
        assert_eq!((asked(&given), begun(&given).as_deref()), (&plain[..], Some("It is")));
        let whole = answered(&given, " a dog.");
        assert_eq!((whole.len(), whole[2].text().as_str()), (3, "It is a dog."));
    }
}
