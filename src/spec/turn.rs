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

    /// Its texts, joined.
    pub fn text(&self) -> String {
        self.content.iter().filter_map(Content::text).collect()
    }
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
