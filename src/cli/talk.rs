//! The conversation that `run` and `lens` are about: a question, or turns; what the answer is to begin with.

use std::{error::Error, path::Path};

use serde_json::Value;
use sightline::{
    files::input,
    spec::turn::{Content, Role, Turn, asked, begun},
};

/// How a conversation is written.
const LIKE: &str = r#"[{"role": "user", "content": ["image", {"text": "what is this?"}]}, {"role": "assistant", "content": [{"text": "a dog"}]}, {"role": "user", "content": [{"text": "which one?"}]}]"#;

#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct TalkArgs {
    /// What to ask, about all images.
    #[arg(long, value_name = "TEXT", required_unless_present = "turns")]
    pub prompt: Option<String>,
    /// Instructions before the conversation.
    #[arg(long, value_name = "TEXT", conflicts_with = "turns")]
    pub system: Option<String>,
    /// The whole conversation instead of a question: JSON, or a file of it. A list of turns, each with its role
    /// (system, user, assistant) and content: texts, and an "image" wherever the next --image stands. The last turn is
    /// the question, or behind it what the answer is to begin with.
    #[arg(long, value_name = "FILE|JSON", conflicts_with = "prompt")]
    pub turns: Option<String>,
    /// Begin the answer with this text; the model goes on from there.
    #[arg(long, value_name = "TEXT", conflicts_with = "turns")]
    pub prefix: Option<String>,
}

impl TalkArgs {
    /// A question and nothing else.
    pub fn ask(prompt: String) -> Self {
        TalkArgs { prompt: Some(prompt), ..TalkArgs::default() }
    }

    /// The turns, of a conversation about so many images.
    ///
    /// # Errors
    /// What is wrong, and how it would be right.
    pub fn turns(&self, images: usize) -> Result<Vec<Turn>, Box<dyn Error>> {
        if let Some(given) = &self.turns {
            return given_turns(given);
        }
        let system = self.system.iter().map(|text| Turn::of(Role::System, text.as_str()));
        let question = Turn::ask(images, self.prompt.clone().unwrap_or_default());
        let begun = self.prefix.iter().map(|text| Turn::of(Role::Assistant, text.as_str()));
        Ok(system.chain([question]).chain(begun).collect())
    }
}

fn given_turns(given: &str) -> Result<Vec<Turn>, Box<dyn Error>> {
    let is_text = given.trim_start().starts_with('[');
    let (text, what) = match is_text {
        true => (given.to_string(), "--turns".to_string()),
        false => {
            let unread = |e| format!("--turns {given}: cannot be read ({e})");
            (input::read_text(Path::new(given)).map_err(unread)?, format!("--turns {given}"))
        }
    };
    let wrong = |why: String| format!("{what}: {why}; expected a list of turns like {LIKE}");
    let found: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("is no JSON ({e})")))?;
    let turns: Vec<Turn> = serde_json::from_value(found.clone()).map_err(|e| wrong(e.to_string()))?;
    // A key that is none of a turn's would change nothing.
    if serde_json::to_value(&turns)? != found {
        return Err(wrong("it has other keys than `role`, `content` and `text`".to_string()).into());
    }
    Ok(turns)
}

/// What people wrote in a conversation, and what the answer is to begin with.
pub fn typed(turns: &[Turn]) -> Vec<String> {
    let users = asked(turns).iter().filter(|turn| turn.role != Role::Assistant);
    let texts = users.flat_map(|turn| turn.content.iter().filter_map(Content::text));
    texts.map(str::to_string).chain(begun(turns)).collect()
}
