//! Why there is no prompt.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::json::JsonError;

/// Why there is no prompt.
#[derive(Debug, Error)]
pub enum PromptError {
    /// A settings file.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A file that cannot be read, or is not what it should hold.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer failed on a text.
    #[error("the tokenizer cannot encode the prompt: {reason}")]
    Encode {
        /// What it says.
        reason: String,
    },
    /// No file of the folder is a tokenizer's.
    #[error(
        "{dir} has no tokenizer: expected tokenizer.json, or vocab.json with merges.txt, or SentencePiece's \
         tokenizer.model. Download the folder again with all its files, or let transformers write tokenizer.json \
         (AutoTokenizer.from_pretrained(..).save_pretrained(..))"
    )]
    NoTokenizer {
        /// The model folder.
        dir: PathBuf,
    },
    /// No file of the folder has a chat template, and the model family has no usual one.
    #[error(
        "{dir} has no chat template: expected chat_template.jinja, chat_template.json, or a chat_template in \
         processor_config.json or tokenizer_config.json"
    )]
    NoTemplate {
        /// The model folder.
        dir: PathBuf,
    },
    /// The template does not compile or run.
    #[error("the chat template failed: {reason}")]
    Template {
        /// What the template engine says.
        reason: String,
    },
    /// The template changes the text beyond stripping it, so that its place is not known.
    #[error("the chat template rewrites the text of the conversation, so its tokens cannot be told apart")]
    TextRewritten,
    /// Nothing was asked.
    #[error("the prompt is empty: type a question or an instruction")]
    Empty,
    /// The conversation does not end with a question.
    #[error(
        "the conversation must end with a message of the user, or with the beginning of an answer to one"
    )]
    NoQuestion,
    /// The beginning of the answer has no text.
    #[error("the beginning of the answer is empty: type one, or leave it out")]
    EmptyBeginning,
    /// The template leaves out what an answer begins with.
    #[error("the chat template does not write down an answer that is begun, so none can be given")]
    NotBegun,
    /// The numbers of images do not agree.
    #[error("{}", images_differ(*turns, *given, *placed))]
    ImageCount {
        /// Images in the turns.
        turns: usize,
        /// Images given.
        given: usize,
        /// Placeholders in the rendered template.
        placed: usize,
    },
    /// The tokenizer has no image token.
    #[error("the tokenizer has no token {id}, which the model's config names as its image token")]
    NoImageToken {
        /// The id in the config.
        id: u32,
    },
    /// The image token is not encoded as itself.
    #[error(
        "the tokenizer encodes {expected} image tokens as {found}: `{token}` must be one of its special tokens"
    )]
    ImageTokenSplit {
        /// The image token's text.
        token: String,
        /// Image tokens in the text.
        expected: usize,
        /// Of these, how many became the image token.
        found: usize,
    },
}

/// Which numbers of images do not agree, and what to do.
fn images_differ(turns: usize, given: usize, placed: usize) -> String {
    let images = |n: usize| if n == 1 { "1 image".to_string() } else { format!("{n} images") };
    if turns == given {
        return format!(
            "the conversation has {}, and the model's chat template makes room for {placed}: this model cannot be asked so",
            images(turns)
        );
    }
    let was = if given == 1 { "was" } else { "were" };
    format!(
        "the conversation has {}, and {} {was} given: give one for every \"image\" in it, and no more",
        images(turns),
        images(given)
    )
}
