//! From a conversation to token ids, each with its span.
//!
//! Knows the chat template, the tokenizer and spans; knows nothing of pixels, tensors or windows. How
//! many tokens an image takes comes in as plain numbers.
//!
//! Spans are known by construction. The template says which bytes of the text are the user's
//! ([`chat_template`]); image placeholders are expanded only in the template's own text; and the
//! expanded text is encoded as a whole, as the reference does, with byte offsets that lead every token
//! back to where it came from. Nothing is found by looking at ids.
//!
//! - A token that covers bytes of several parts (merges may cross borders) belongs to the first of:
//!   image, user's text, markers, the rest.
//! - What a user types is text: a special token's name in it (`<image>`, `</s>`, ..) is encoded letter
//!   by letter, where the reference would make it that token.
//! - Earlier answers, and system messages, are `system`: neither the user's words nor this answer.

pub mod chat_template;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokenizers::tokenizer::normalizer::Range as StringRange;
use tokenizers::{
    Encoding, Model, ModelWrapper, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token, Tokenizer,
};

use crate::{spec::span::Span, trace::run::{Cell, PromptToken, VisualRef}};
use chat_template::{ChatTemplate, Rendered};

/// LLaVA-1.5's conversation format, for folders that come without a template.
const LLAVA_TEMPLATE: &str = "{% for message in messages %}\
    {% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}\
    {% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}\
    {% for content in message['content'] if content['type'] == 'text' %}{{ content['text'] + ' ' }}\
    {% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

// ---------------------------------------------------------------------------------- what goes in

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
    fn text(&self) -> Option<&str> {
        match self {
            Content::Image => None,
            Content::Text(text) => Some(text),
        }
    }
}

/// How a model's images become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageTokens {
    /// The id of the image token (`image_token_index`, `image_token_id`).
    pub id: u32,
    /// Rows and columns of the token grid of one tile.
    pub grid: (usize, usize),
    /// What surrounds them.
    pub layout: ImageLayout,
}

/// What surrounds the visual tokens of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageLayout {
    /// Nothing: one tile.
    Llava {
        /// Whether the encoder's class token comes first (`vision_feature_select_strategy` `full`).
        class_token: bool,
    },
    /// A marker before each tile, a line break after each row of tiles, the global view last.
    Idefics3,
}

/// The tile grid of one image, as the image processor cut it: 0 x 0 for a single tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageGrid {
    /// Rows of tiles.
    pub rows: usize,
    /// Columns of tiles.
    pub cols: usize,
}

// --------------------------------------------------------------------------------- what comes out

/// A conversation as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// One per position.
    pub tokens: Vec<PromptToken>,
    /// The text that was encoded, image placeholders expanded.
    pub text: String,
}

impl Prompt {
    /// Token ids, one per position.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|t| t.id).collect()
    }

    /// Spans, one per position.
    pub fn spans(&self) -> Vec<Span> {
        self.tokens.iter().map(|t| t.span).collect()
    }

    /// Number of positions, to be compared with the model's context.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never so for a prompt that was built.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Why there is no prompt.
#[derive(Debug, Error)]
pub enum PromptError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not JSON, or not what it should hold.
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
    #[error("the conversation must end with a message of the user")]
    NoQuestion,
    /// The numbers of images do not agree.
    #[error("the conversation has {turns} images, {given} were given, and the chat template places {placed}")]
    ImageCount {
        /// Images in the turns.
        turns: usize,
        /// Tile grids.
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
    /// The processor and the model disagree.
    #[error(
        "{path}: `image_seq_len` is {found}; the model's config makes {expected} visual tokens of one tile"
    )]
    ImageSeqLen {
        /// The processor file.
        path: PathBuf,
        /// Its value.
        found: u64,
        /// The model's value.
        expected: usize,
    },
}

// -------------------------------------------------------------------------------------- building

/// Turns conversations into prompts for one model, and answers back into text.
#[derive(Debug)]
pub struct PromptBuilder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    images: ImageTokens,
    image_token: String,
    bos: Option<(String, u32)>,
    eos_ids: Vec<u32>,
    unknown_id: Option<u32>,
    /// An ordinary token and its text, see [`PromptBuilder::token_text`].
    anchor: Option<(u32, String)>,
}

/// Where a stretch of the expanded text comes from.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// The template's own words.
    Template,
    /// A person's words, or an earlier answer's, with the span they get.
    Typed(Span),
    /// What surrounds visual tokens.
    Marker,
    /// One visual token.
    Visual(VisualRef),
}

/// The expanded text and, for each stretch of it, its end and origin.
#[derive(Default)]
struct Expanded {
    text: String,
    stretches: Vec<(usize, Origin)>,
}

impl Expanded {
    fn push(&mut self, text: &str, origin: Origin) {
        if !text.is_empty() {
            self.text.push_str(text);
            self.stretches.push((self.text.len(), origin));
        }
    }

    /// Origins of the bytes `range`; of the byte at its start, if it is empty.
    fn origins(&self, range: Range<usize>) -> impl Iterator<Item = Origin> + '_ {
        let first = self.stretches.partition_point(|&(end, _)| end <= range.start);
        let mut start = range.start;
        self.stretches[first..].iter().map_while(move |&(end, origin)| {
            let covered = start < range.end || start == range.start;
            start = end;
            covered.then_some(origin)
        })
    }

    /// Maximal stretches that are typed, or that are not.
    fn runs(&self, typed: bool) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for &(end, origin) in &self.stretches {
            if matches!(origin, Origin::Typed(_)) == typed {
                match runs.last_mut() {
                    Some(run) if run.end == start => run.end = end,
                    _ => runs.push(start..end),
                }
            }
            start = end;
        }
        runs
    }
}

impl PromptBuilder {
    /// Reads the tokenizer, the chat template and the special tokens of a Hugging Face folder.
    pub fn from_dir(dir: &Path, images: ImageTokens) -> Result<PromptBuilder, PromptError> {
        let file = dir.join("tokenizer.json");
        let bytes =
            std::fs::read(&file).map_err(|source| PromptError::Read { path: file.clone(), source })?;
        refuse_charsmap(&bytes).map_err(|reason| PromptError::File { path: file.clone(), reason })?;
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(bytes))
            .map_err(|reason| PromptError::File { path: file.clone(), reason })?;
        // Limits of batches that someone once tokenized have no place here.
        tokenizer
            .with_padding(None)
            .with_truncation(None)
            .map_err(|e| PromptError::File { path: file.clone(), reason: e.to_string() })?;
        // What the post-processor adds to every text should not fail only once there is a question.
        guarded(|| tokenizer.encode("", true)).map_err(|reason| PromptError::File { path: file, reason })?;

        let settings = read_json(&dir.join("tokenizer_config.json"))?;
        let processor_file = dir.join("processor_config.json");
        let processor = read_json(&processor_file)?;
        if let (ImageLayout::Idefics3, Some(found)) = (images.layout, processor["image_seq_len"].as_u64()) {
            let expected = images.grid.0 * images.grid.1;
            if found != expected as u64 {
                return Err(PromptError::ImageSeqLen { path: processor_file, found, expected });
            }
        }
        let special = |key: &str| special_token(&settings[key]);
        let with_id = |token: String| tokenizer.token_to_id(&token).map(|id| (token, id));
        let bos = special("bos_token").and_then(with_id);
        let eos_token = special("eos_token");
        let source = match template_source(dir, &processor, &settings)? {
            Some(source) => source,
            None if images.layout != ImageLayout::Idefics3 => LLAVA_TEMPLATE.to_owned(),
            None => return Err(PromptError::NoTemplate { dir: dir.to_path_buf() }),
        };
        let bos_text = bos.as_ref().map_or("", |(text, _)| text);
        let template = ChatTemplate::new(&source, bos_text, eos_token.as_deref().unwrap_or(""))?;

        let image_token =
            tokenizer.id_to_token(images.id).ok_or(PromptError::NoImageToken { id: images.id })?;
        let eos_ids = eos_ids(dir, eos_token.and_then(with_id).map(|(_, id)| id))?;
        let unknown_id = unknown_token(tokenizer.get_model()).and_then(|t| tokenizer.token_to_id(t));
        let anchor = guarded(|| tokenizer.encode("a", false)).ok().and_then(|e| e.get_ids().last().copied());
        let mut prompts = PromptBuilder {
            tokenizer,
            template,
            images,
            image_token,
            bos,
            eos_ids,
            unknown_id,
            anchor: None,
        };
        prompts.anchor = anchor.map(|id| (id, prompts.decode_with_special(&[id])));
        Ok(prompts)
    }

    /// The prompt for a conversation; `images` has one grid per image, in order of appearance.
    pub fn build(&self, turns: &[Turn], images: &[ImageGrid]) -> Result<Prompt, PromptError> {
        match turns.last() {
            Some(turn) if turn.role == Role::User => {
                if turn.content.iter().filter_map(Content::text).all(|text| text.trim().is_empty()) {
                    return Err(PromptError::Empty);
                }
            }
            Some(_) => return Err(PromptError::NoQuestion),
            None => return Err(PromptError::Empty),
        }
        let rendered = self.template.render(turns)?;
        // transformers adds the tokenizer's BOS unless the template has written one.
        let add_special = !self.bos.as_ref().is_some_and(|(bos, _)| rendered.text.starts_with(bos));
        let expanded = self.expand(turns, &rendered, images)?;
        let encoding = self.encode(&expanded, add_special)?;
        let tokens = self.with_spans(&expanded, &encoding)?;
        Ok(Prompt { tokens, text: expanded.text })
    }

    /// Replaces the template's image placeholders by the tokens of each image.
    fn expand(
        &self,
        turns: &[Turn],
        rendered: &Rendered,
        images: &[ImageGrid],
    ) -> Result<Expanded, PromptError> {
        let spans: Vec<Span> = turns
            .iter()
            .flat_map(|turn| {
                let span = if turn.role == Role::User { Span::Question } else { Span::System };
                turn.content.iter().filter_map(Content::text).map(move |_| span)
            })
            .collect();
        let mut out = Expanded::default();
        let mut placed = 0;
        let mut own = |out: &mut Expanded, text: &str| {
            for (i, part) in text.split(&self.image_token).enumerate() {
                if i > 0 {
                    if let Some(grid) = images.get(placed) {
                        self.expand_image(out, placed, *grid);
                    }
                    placed += 1;
                }
                out.push(part, Origin::Template);
            }
        };
        let mut at = 0;
        for (range, index) in &rendered.typed {
            own(&mut out, &rendered.text[at..range.start]);
            out.push(&rendered.text[range.clone()], Origin::Typed(spans[*index]));
            at = range.end;
        }
        own(&mut out, &rendered.text[at..]);
        let asked = turns.iter().flat_map(|t| &t.content).filter(|c| **c == Content::Image).count();
        if asked != images.len() || asked != placed {
            return Err(PromptError::ImageCount { turns: asked, given: images.len(), placed });
        }
        Ok(out)
    }

    /// `LlavaProcessor.replace_image_token` and `Idefics3Processor.replace_image_token`.
    fn expand_image(&self, out: &mut Expanded, image: usize, grid: ImageGrid) {
        const AROUND: &str = "<fake_token_around_image>";
        let (rows, cols) = self.images.grid;
        let cells = |out: &mut Expanded, tile: usize| {
            for cell in 0..rows * cols {
                let cell = Some(Cell { row: cell / cols, col: cell % cols });
                out.push(&self.image_token, Origin::Visual(VisualRef { image, tile, cell }));
            }
        };
        match self.images.layout {
            ImageLayout::Llava { class_token } => {
                if class_token {
                    out.push(&self.image_token, Origin::Visual(VisualRef { image, tile: 0, cell: None }));
                }
                cells(out, 0);
            }
            ImageLayout::Idefics3 => {
                for row in 0..grid.rows {
                    for col in 0..grid.cols {
                        let marker = format!("{AROUND}<row_{}_col_{}>", row + 1, col + 1);
                        out.push(&marker, Origin::Marker);
                        cells(out, row * grid.cols + col);
                    }
                    out.push("\n", Origin::Marker);
                }
                if grid.rows > 0 {
                    out.push("\n", Origin::Marker);
                }
                out.push(&format!("{AROUND}<global-img>"), Origin::Marker);
                cells(out, grid.rows * grid.cols);
                out.push(AROUND, Origin::Marker);
            }
        }
    }

    /// Encodes the text as a whole. Only if that made a special token of something typed, it is encoded
    /// again with the typed text as mere text.
    fn encode(&self, expanded: &Expanded, add_special: bool) -> Result<Encoding, PromptError> {
        let text = expanded.text.as_str();
        let failed = |reason| PromptError::Encode { reason };
        let encoding = guarded(|| self.tokenizer.encode(text, add_special)).map_err(failed)?;
        let typed = expanded.runs(true);
        let hit = encoding.get_ids().iter().zip(encoding.get_offsets()).any(|(&id, &(start, end))| {
            typed.iter().any(|run| start < run.end && run.start < end)
                && self.special_at(id, text, start..end).is_some_and(|found| {
                    typed.iter().any(|run| found.start < run.end && run.start < found.end)
                })
        });
        if !hit {
            return Ok(encoding);
        }
        guarded(|| self.encode_typed_as_text(expanded, add_special)).map_err(failed)
    }

    /// The bytes of the special token `id`, if that is what made the token at `range`: a model may give
    /// the same id for another reason (`<unk>`), and some special tokens swallow whitespace around them.
    fn special_at(&self, id: u32, text: &str, range: Range<usize>) -> Option<Range<usize>> {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id)?;
        let covered = text.get(range.clone())?;
        if !added.special || covered.trim() != added.content.trim() {
            return None;
        }
        let start = range.start + (covered.len() - covered.trim_start().len());
        Some(start..start + added.content.trim().len())
    }

    /// What `Tokenizer::encode` does, but that special tokens are only looked for outside the typed
    /// text.
    fn encode_typed_as_text(&self, expanded: &Expanded, add_special: bool) -> tokenizers::Result<Encoding> {
        let text = expanded.text.as_str();
        let mut special: Vec<(Range<usize>, u32)> = Vec::new();
        for run in expanded.runs(false) {
            let alone = self.tokenizer.encode(&text[run.clone()], false)?;
            for (&id, &(start, end)) in alone.get_ids().iter().zip(alone.get_offsets()) {
                if self.special_at(id, &text[run.clone()], start..end).is_some() {
                    special.push((run.start + start..run.start + end, id));
                }
            }
        }
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, whole| {
            let slice = |range: Range<usize>| whole.slice(StringRange::Original(range));
            let mut out = Vec::new();
            let mut at = 0;
            for (range, id) in &special {
                out.extend(slice(at..range.start).map(|s| (s, None)));
                let token = Token::new(*id, text[range.clone()].to_owned(), (0, range.len()));
                out.extend(slice(range.clone()).map(|s| (s, Some(vec![token]))));
                at = range.end;
            }
            out.extend(slice(at..text.len()).map(|s| (s, None)));
            Ok(out)
        })?;
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            pieces.normalize(|piece| normalizer.normalize(piece))?;
        }
        if let Some(splitter) = self.tokenizer.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut pieces)?;
        }
        let model = self.tokenizer.get_model();
        pieces.tokenize(|piece| model.tokenize(piece.get()))?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::Byte)?;
        self.tokenizer.post_process(encoding, None, add_special)
    }

    fn with_spans(&self, expanded: &Expanded, encoding: &Encoding) -> Result<Vec<PromptToken>, PromptError> {
        let (ids, offsets) = (encoding.get_ids(), encoding.get_offsets());
        // Added by the tokenizer's post-processor: no part of the text.
        let inserted = |position: usize| {
            let (start, end) = offsets[position];
            start == end && encoding.get_special_tokens_mask().get(position) == Some(&1)
        };
        let mut tokens = Vec::with_capacity(ids.len());
        let (mut visual_found, mut written) = (0, 0);
        for (position, (&id, &(start, end))) in ids.iter().zip(offsets).enumerate() {
            let inserted_here = inserted(position);
            let (mut span, mut visual) = (Span::System, None);
            if !inserted_here {
                let rank = |span: Span| match span {
                    Span::Visual => 3,
                    Span::Question => 2,
                    Span::Markers => 1,
                    _ => 0,
                };
                for origin in expanded.origins(start..end) {
                    let (candidate, place) = match origin {
                        Origin::Template => (Span::System, None),
                        Origin::Typed(span) => (span, None),
                        Origin::Marker => (Span::Markers, None),
                        Origin::Visual(place) => (Span::Visual, Some(place)),
                    };
                    if rank(candidate) > rank(span) {
                        (span, visual) = (candidate, place);
                    }
                }
            }
            let is_bos = self.bos.as_ref().is_some_and(|&(_, bos)| bos == id);
            if position == 0 && is_bos && span == Span::System {
                span = Span::Bos;
            }
            visual_found += usize::from(span == Span::Visual && id == self.images.id);
            let text = if inserted_here {
                self.tokenizer.id_to_token(id).unwrap_or_default()
            } else {
                // Up to the next token: a character of several tokens belongs to the last of them, and
                // so does the letter after a space that the tokenizer invents.
                let next = (position + 1..ids.len()).find(|&p| !inserted(p)).map_or(end, |p| offsets[p].0);
                let end = end.min(next.max(start));
                let text = expanded.text.get(start.max(written)..end).unwrap_or_default().to_owned();
                written = written.max(end);
                text
            };
            tokens.push(PromptToken { position, id, text, span, visual });
        }
        let visual = tokens.iter().filter(|t| t.span == Span::Visual).count();
        let expected = expanded.stretches.iter().filter(|(_, o)| matches!(o, Origin::Visual(_))).count();
        if visual_found != expected || visual != expected {
            let token = self.image_token.clone();
            return Err(PromptError::ImageTokenSplit { token, expected, found: visual_found });
        }
        match tokens.last_mut() {
            None => return Err(PromptError::Empty),
            Some(last) if last.span == Span::Visual => {
                let reason = "the prompt ends with an image, so no row of text predicts the answer";
                return Err(PromptError::Template { reason: reason.to_owned() });
            }
            Some(last) => last.span = Span::Last,
        }
        Ok(tokens)
    }

    /// Ids that end an answer.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// The largest id that the tokenizer makes: of its vocabulary, its added tokens, and what its
    /// post-processor puts around every text, which need be neither.
    pub fn largest_id(&self) -> Option<u32> {
        let around = guarded(|| self.tokenizer.encode("", true)).ok();
        let around = around.iter().flat_map(|e| e.get_ids().iter().copied());
        self.tokenizer.get_vocab(true).into_values().chain(around).max()
    }

    /// An answer as text, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        guarded(|| self.tokenizer.decode(ids, true)).unwrap_or_default()
    }

    /// Ids as text, special tokens by name.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        guarded(|| self.tokenizer.decode(ids, false)).unwrap_or_default()
    }

    /// The tokens of a word as it stands inside a sentence; empty where the tokenizer has none for it.
    pub fn word_ids(&self, word: &str) -> Vec<u32> {
        let encode = |text: &str| -> Vec<u32> {
            guarded(|| self.tokenizer.encode(text, false)).map(|e| e.get_ids().to_vec()).unwrap_or_default()
        };
        let word = word.trim();
        // Byte-level vocabularies have a token for the word with its blank; others add the blank
        // themselves, and would get a second one.
        let (blank, bare) = (encode(&format!(" {word}")), encode(word));
        let ids = if bare.len() < blank.len() { bare } else { blank };
        if ids.iter().any(|&id| Some(id) == self.unknown_id) { Vec::new() } else { ids }
    }

    /// The tokens of a text, without special ones.
    ///
    /// # Errors
    /// [`PromptError::Encode`].
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        let encoding = guarded(|| self.tokenizer.encode(text, false));
        Ok(encoding.map_err(|reason| PromptError::Encode { reason })?.get_ids().to_vec())
    }

    /// What one token adds to a text, its leading space included. A token that holds only part of a
    /// character shows as U+FFFD.
    pub fn token_text(&self, id: u32) -> String {
        // Decoders drop the space before the first word, so the token is decoded after another one.
        if let Some((anchor, alone)) = &self.anchor
            && let Some(text) = self.decode_with_special(&[*anchor, id]).strip_prefix(alone)
        {
            return text.to_owned();
        }
        self.decode_with_special(&[id])
    }

    /// The words of a text that the model has no token for, once each, in order: the tokenizer makes
    /// them all the same unknown token.
    pub fn unknown_words(&self, text: &str) -> Vec<String> {
        let Some(unknown) = self.unknown_id else { return Vec::new() };
        let mut typed = Expanded::default();
        typed.push(text, Origin::Typed(Span::Question));
        let Ok(encoding) = self.encode(&typed, false) else { return Vec::new() };
        let mut words: Vec<String> = Vec::new();
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let word = text.get(start..end).unwrap_or_default().trim();
            if id == unknown && !word.is_empty() && !words.iter().any(|w| w == word) {
                words.push(word.to_owned());
            }
        }
        words
    }
}

/// The tokenizers crate panics over some broken files where it could return an error.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("tokenizer.json is not whole: download it again".to_owned()),
    }
}

// ------------------------------------------------------------------------------------ the folder

/// Refuses SentencePiece's compiled normalizer, which no supported model has: the tokenizers crate
/// follows its table without looking, out of bounds if it is broken.
fn refuse_charsmap(tokenizer: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        normalizer: Value,
    }
    fn holds(value: &Value) -> bool {
        match value {
            Value::Object(map) => map.contains_key("precompiled_charsmap") || map.values().any(holds),
            Value::Array(list) => list.iter().any(holds),
            _ => value == "Precompiled",
        }
    }
    match serde_json::from_slice::<Part>(tokenizer) {
        Ok(part) if !holds(&part.normalizer) => Ok(()),
        Ok(_) => {
            Err("the normalizer `Precompiled` is not supported, expected Llama's or GPT-2's kind".to_owned())
        }
        Err(e) => Err(format!("not a tokenizer: {e}")),
    }
}

/// A JSON file; `null` if there is no such file.
fn read_json(path: &Path) -> Result<Value, PromptError> {
    match read_text(path)? {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(&text)
            .map_err(|e| PromptError::File { path: path.to_path_buf(), reason: format!("not JSON: {e}") }),
    }
}

fn read_text(path: &Path) -> Result<Option<String>, PromptError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PromptError::Read { path: path.to_path_buf(), source }),
    }
}

/// The template, from the first place that has one, in the order in which transformers looks.
fn template_source(dir: &Path, processor: &Value, tokenizer: &Value) -> Result<Option<String>, PromptError> {
    if let Some(source) = read_text(&dir.join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    let json = read_json(&dir.join("chat_template.json"))?;
    let found = [&json, processor, tokenizer].into_iter().find_map(|file| match &file["chat_template"] {
        Value::String(source) => Some(source.clone()),
        // Several, by name.
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        Value::Object(named) => named.get("default").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    });
    Ok(found)
}

/// A special token of tokenizer_config.json: its text, or an object with its text.
fn special_token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// The ids that end generation: those of generation_config.json, as transformers takes them; without
/// that file, config.json's and the tokenizer's.
fn eos_ids(dir: &Path, tokenizer: Option<u32>) -> Result<Vec<u32>, PromptError> {
    let ids = |value: &Value| -> Vec<u32> {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        list.iter().filter_map(|v| u32::try_from(v.as_u64()?).ok()).collect()
    };
    let generation = ids(&read_json(&dir.join("generation_config.json"))?["eos_token_id"]);
    if !generation.is_empty() {
        return Ok(generation);
    }
    let config = read_json(&dir.join("config.json"))?;
    let all = ids(&config["eos_token_id"])
        .into_iter()
        .chain(ids(&config["text_config"]["eos_token_id"]))
        .chain(tokenizer);
    Ok(all.collect::<BTreeSet<u32>>().into_iter().collect())
}

/// The token that stands for everything a vocabulary lacks.
fn unknown_token(model: &ModelWrapper) -> Option<&str> {
    match model {
        ModelWrapper::WordLevel(model) => Some(&model.unk_token),
        ModelWrapper::WordPiece(model) => Some(&model.unk_token),
        ModelWrapper::BPE(model) => model.unk_token.as_deref(),
        ModelWrapper::Unigram(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker thread builds prompts.
    #[test]
    fn builders_can_move_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<PromptBuilder>();
    }

    /// The way around the tokenizer's own search for special tokens must not change anything else.
    #[test]
    fn typed_text_is_encoded_as_the_tokenizer_would() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/smolvlm-tokenizer");
        let images = ImageTokens { id: 49190, grid: (8, 8), layout: ImageLayout::Idefics3 };
        let builder = PromptBuilder::from_dir(&dir, images).unwrap();
        for text in ["What is it?", "  two\n\nlines \u{1F600} 12.5 ", "<notatoken> caf\u{E9}"] {
            let turns = [Turn::ask(2, text), Turn::ask(0, text)];
            let rendered = builder.template.render(&turns).unwrap();
            let grids = [ImageGrid { rows: 2, cols: 3 }, ImageGrid::default()];
            let expanded = builder.expand(&turns, &rendered, &grids).unwrap();
            let whole = builder.tokenizer.encode(expanded.text.as_str(), true).unwrap();
            let around = builder.encode_typed_as_text(&expanded, true).unwrap();
            assert_eq!(whole.get_ids(), around.get_ids(), "{text}");
            assert_eq!(whole.get_offsets(), around.get_offsets(), "{text}");
        }
    }
}
