//! From a conversation to token ids, each with its span.
//!
//! Knows the chat template, the tokenizer and spans; knows nothing of pixels, tensors or windows. How
//! many tokens an image takes comes in as plain numbers.
//!
//! Spans are known by construction. The template says which bytes of the text are the user's
//! (`chat_template`); image placeholders are expanded only in the template's own text; and the
//! expanded text is encoded as a whole, as the reference does, with byte offsets that lead every token
//! back to where it came from. Nothing is found by looking at ids.
//!
//! - A token that covers bytes of several parts (merges may cross borders) belongs to the first of:
//!   image, user's text or given beginning of the answer, markers, the rest.
//! - What a user types is text: a special token's name in it (`<image>`, `</s>`, ..) is encoded letter
//!   by letter, where the reference would make it that token.
//! - Earlier answers, and system messages, are `system`: neither the user's words nor this answer.
//! - What the answer is to begin with is `answer`, but for its last token, which predicts what follows: `last`.
//! - Special tokens right beside an image are `markers`, where the template writes them for images alone.

use std::{ops::Range, path::Path, sync::Arc};

use tokenizers::{
    Encoding, Model, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token, Tokenizer,
    tokenizer::normalizer::Range as StringRange,
};

use crate::{
    prompt::{
        added::Settings,
        chat_template::{ChatTemplate, Rendered},
        detokenizer::{Detokenizer, Spoken},
        error::PromptError,
        expanded::{Expanded, Origin},
        folder::{self, Template, guarded, template_source, unknown_token},
    },
    spec::{
        span::Span,
        turn::{Content, Role, Turn},
    },
    trace::{
        geometry::Piece,
        tokens::{PromptToken, VisualRef},
    },
};

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

/// Turns conversations into prompts for one model, and answers back into text.
#[derive(Debug)]
pub struct PromptBuilder {
    tokenizer: Arc<Tokenizer>,
    detokenizer: Detokenizer,
    template: ChatTemplate,
    /// The file that the template comes from.
    template_file: &'static str,
    /// The file that the tokenizer comes from.
    tokenizer_file: &'static str,
    /// The image token: its text and id.
    image: (String, u32),
    /// What the template itself writes before and behind that, and is no word of the system's.
    around: [&'static str; 2],
    bos: Option<(String, u32)>,
    unknown_id: Option<u32>,
}

impl PromptBuilder {
    /// Reads the tokenizer, the chat template and the special tokens of a Hugging Face folder.
    /// `image_token` is the id that stands for a visual token; `usual` the template of folders that come
    /// without one.
    ///
    /// # Errors
    /// [`PromptError`], naming the file.
    pub fn from_dir(dir: &Path, image_token: u32, usual: Option<&str>) -> Result<PromptBuilder, PromptError> {
        let (tokenizer, tokenizer_file) = folder::tokenizer(dir)?;
        let tokenizer = Arc::new(tokenizer);
        let settings = Settings::read(dir)?;
        let with_id = |token: String| tokenizer.token_to_id(&token).map(|id| (token, id));
        // What is told nowhere is what the tokenizer begins every text with.
        let first = || guarded(|| tokenizer.encode("", true)).ok()?.get_tokens().first().cloned();
        let bos = settings.bos.clone().or_else(first).and_then(with_id);
        let eos_token = settings.eos();
        let image_text =
            tokenizer.id_to_token(image_token).ok_or(PromptError::NoImageToken { id: image_token })?;
        let usual =
            usual.map(|text| Template { text: text.to_owned(), file: "none (the family's usual one)" });
        let bos_text = bos.as_ref().map_or("", |(text, _)| text);
        let compiled = |source: Template| {
            let template = ChatTemplate::new(&source.text, bos_text, eos_token.as_deref().unwrap_or(""));
            template.map(|template| (template, source))
        };
        let own = template_source(dir)?.map(compiled).transpose()?;
        // One that never writes the image token places no image: it is a text model's, which the family's own code
        // does not ask.
        let own = own.filter(|(_, source)| usual.is_none() || source.text.contains(&image_text));
        let chosen = own.map_or_else(|| usual.map(compiled).transpose(), |own| Ok(Some(own)))?;
        let (template, source) = chosen.ok_or_else(|| PromptError::NoTemplate { dir: dir.to_path_buf() })?;
        let unknown_id = unknown_token(tokenizer.get_model()).and_then(|t| tokenizer.token_to_id(t));
        let image = (image_text, image_token);
        let template_file = source.file;
        let detokenizer = Detokenizer::new(tokenizer.clone());
        Ok(PromptBuilder {
            tokenizer,
            detokenizer,
            template,
            template_file,
            tokenizer_file,
            image,
            around: ["", ""],
            bos,
            unknown_id,
        })
    }

    /// The same, where the family's template writes `around` an image's place: these are markers.
    pub fn with_around(self, around: [&'static str; 2]) -> PromptBuilder {
        PromptBuilder { around, ..self }
    }

    /// The prompt for a conversation; `images` says what stands for each image, in order of appearance.
    ///
    /// # Errors
    /// [`PromptError`].
    pub fn build(&self, turns: &[Turn], images: &[Vec<Piece>]) -> Result<Prompt, PromptError> {
        check(turns)?;
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
        images: &[Vec<Piece>],
    ) -> Result<Expanded, PromptError> {
        let spans = spans_of(turns);
        let mut out = Expanded::default();
        let mut placed = 0;
        let mut own = |out: &mut Expanded, text: &str| {
            let last = text.matches(&self.image.0).count();
            for (i, part) in text.split(&self.image.0).enumerate() {
                if i > 0 {
                    self.expand_image(out, placed, images.get(placed).map_or(&[], Vec::as_slice));
                    placed += 1;
                }
                self.own(out, part, [i > 0, i < last]);
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

    /// The template's own text, which may begin behind an image and end before one.
    fn own(&self, out: &mut Expanded, text: &str, [behind, before]: [bool; 2]) {
        let [lead, tail] = self.around;
        let text = match text.strip_prefix(tail).filter(|_| behind) {
            Some(rest) => {
                out.push(tail, Origin::Marker);
                rest
            }
            None => text,
        };
        match text.strip_suffix(lead).filter(|_| before) {
            Some(rest) => {
                out.push(rest, Origin::Template);
                out.push(lead, Origin::Marker);
            }
            None => out.push(text, Origin::Template),
        }
    }

    /// What stands for one image.
    fn expand_image(&self, out: &mut Expanded, image: usize, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Marker(text) => out.push(text, Origin::Marker),
                Piece::Token { view, cell } => {
                    let visual = VisualRef { image, view: *view, cell: *cell };
                    out.push(&self.image.0, Origin::Visual(visual));
                }
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
            let (mut span, visual) = match inserted_here {
                true => (Span::System, None),
                false => expanded.part(start..end),
            };
            let is_bos = self.bos.as_ref().is_some_and(|&(_, bos)| bos == id);
            if position == 0 && is_bos && span == Span::System {
                span = Span::Bos;
            }
            visual_found += usize::from(span == Span::Visual && id == self.image.1);
            let (text, partial) = if inserted_here {
                (self.tokenizer.id_to_token(id).unwrap_or_default(), false)
            } else {
                // Up to the next token: a character of several tokens belongs to the last of them, and
                // so does the letter after a space that the tokenizer invents.
                let next = (position + 1..ids.len()).find(|&p| !inserted(p)).map_or(end, |p| offsets[p].0);
                let here = end.min(next.max(start));
                // A space that the tokenizer drops belongs to the word behind it.
                let dropped = written < start && expanded.part(written..start).0 == span;
                let from = if dropped { written } else { start.max(written) };
                let text = expanded.text.get(from..here).unwrap_or_default().to_owned();
                written = written.max(here);
                let part = self.detokenizer.inside(&[id]).ends_with(char::REPLACEMENT_CHARACTER);
                (text, here < end && part)
            };
            tokens.push(PromptToken { position, id, text, span, visual, partial });
        }
        let visual = tokens.iter().filter(|t| t.span == Span::Visual).count();
        let expected = expanded.stretches.iter().filter(|(_, o)| matches!(o, Origin::Visual(_))).count();
        if visual_found != expected || visual != expected {
            let token = self.image.0.clone();
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

    /// The file of the folder that the chat template comes from, in words.
    pub fn template_file(&self) -> &'static str {
        self.template_file
    }

    /// The file of the folder that the tokenizer comes from.
    pub fn tokenizer_file(&self) -> &'static str {
        self.tokenizer_file
    }

    /// The special token that the template ends an answer with, and its name; `None` where it writes none.
    pub fn end_of_turn(&self) -> Option<(u32, String)> {
        let after = self.template.after_answer()?;
        let after = after.trim_start();
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let begins = |token: &&tokenizers::AddedToken| {
            token.special && !token.content.is_empty() && after.starts_with(&token.content)
        };
        let longest =
            added.iter().filter(|(_, token)| begins(token)).max_by_key(|(_, token)| token.content.len());
        let (&id, token) = longest?;
        let is_bos = self.bos.as_ref().is_some_and(|(_, bos)| *bos == id);
        (!is_bos && id != self.image.1).then(|| (id, token.content.clone()))
    }

    /// The largest id that the tokenizer makes of any text: of its vocabulary, and what its post-processor puts around
    /// every text. Added tokens beyond may be there for what a model was not made for (`<video>`); a prompt that has one is
    /// refused.
    pub fn largest_id(&self) -> Option<u32> {
        let around = guarded(|| self.tokenizer.encode("", true)).ok();
        let around = around.iter().flat_map(|e| e.get_ids().iter().copied());
        self.tokenizer.get_vocab(false).into_values().chain(around).max()
    }

    /// An answer as text, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut spoken = self.spoken();
        let said = ids.iter().filter(|&&id| !self.detokenizer.is_special(id));
        let mut text: String = said.map(|&id| spoken.push(id, false).text).collect();
        text.push_str(spoken.rest());
        text
    }

    /// Ids as text, special tokens by name.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.detokenizer.with_special(ids)
    }

    /// An answer that is about to begin, to be told token by token.
    pub fn spoken(&self) -> Spoken<'_> {
        self.detokenizer.begin()
    }

    /// One whose beginning is given: what follows adds to a text.
    pub fn spoken_on(&self) -> Spoken<'_> {
        self.detokenizer.go_on()
    }

    /// What one token adds to a text, its leading space included. Bytes that are no character by themselves show by
    /// value: `<0xE5>`.
    pub fn token_text(&self, id: u32) -> String {
        self.detokenizer.alone(id)
    }

    /// Text that a person typed, and nothing else: a special token's name in it is letters.
    fn typed(&self, text: &str) -> Result<Encoding, PromptError> {
        let mut typed = Expanded::default();
        typed.push(text, Origin::Typed(Span::Question));
        self.encode(&typed, false)
    }

    /// The tokens of a word as it stands inside a sentence; empty where the tokenizer has none for it.
    pub fn word_ids(&self, word: &str) -> Vec<u32> {
        let encode = |text: &str| self.text_ids(text).unwrap_or_default();
        let word = word.trim();
        // Byte-level vocabularies have a token for the word with its blank; others add the blank
        // themselves, and would get a second one.
        let (blank, bare) = (encode(&format!(" {word}")), encode(word));
        let ids = if bare.len() < blank.len() { bare } else { blank };
        if ids.iter().any(|&id| Some(id) == self.unknown_id) { Vec::new() } else { ids }
    }

    /// The tokens of a text that a person typed; none of them is a special one.
    ///
    /// # Errors
    /// [`PromptError::Encode`].
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        Ok(self.typed(text)?.get_ids().to_vec())
    }

    /// The words of a text that the model has no token for, once each, in order: the tokenizer makes
    /// them all the same unknown token.
    pub fn unknown_words(&self, text: &str) -> Vec<String> {
        let Some(unknown) = self.unknown_id else { return Vec::new() };
        let Ok(encoding) = self.typed(text) else { return Vec::new() };
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

/// Refuses a conversation that asks nothing.
fn check(turns: &[Turn]) -> Result<(), PromptError> {
    let blank =
        |turn: &Turn| turn.content.iter().filter_map(Content::text).all(|text| text.trim().is_empty());
    let asked = match turns.split_last() {
        None => return Err(PromptError::Empty),
        Some((begun, before)) if begun.role == Role::Assistant => {
            if begun.content.iter().filter_map(Content::text).all(str::is_empty) {
                return Err(PromptError::EmptyBeginning);
            }
            before.last()
        }
        Some((last, _)) => Some(last),
    };
    match asked {
        Some(turn) if turn.role == Role::User => {
            if blank(turn) {
                Err(PromptError::Empty)
            } else {
                Ok(())
            }
        }
        _ => Err(PromptError::NoQuestion),
    }
}

/// The spans of the conversation's texts, in order.
fn spans_of(turns: &[Turn]) -> Vec<Span> {
    let span = |(at, turn): (usize, &Turn)| match turn.role {
        Role::User => Span::Question,
        Role::Assistant if at + 1 == turns.len() => Span::Answer,
        Role::Assistant | Role::System => Span::System,
    };
    let texts = |turn: &Turn| turn.content.iter().filter_map(Content::text).count();
    turns.iter().enumerate().flat_map(|at| std::iter::repeat_n(span(at), texts(at.1))).collect()
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
        let builder = PromptBuilder::from_dir(&dir, 49190, None).unwrap();
        for text in ["What is it?", "  two\n\nlines \u{1F600} 12.5 ", "<notatoken> caf\u{E9}"] {
            let turns = [Turn::ask(2, text), Turn::ask(0, text)];
            let rendered = builder.template.render(&turns).unwrap();
            let image = vec![Piece::Marker("\n".into()), Piece::Token { view: 0, cell: None }];
            let images = [image.clone(), image];
            let expanded = builder.expand(&turns, &rendered, &images).unwrap();
            let whole = builder.tokenizer.encode(expanded.text.as_str(), true).unwrap();
            let around = builder.encode_typed_as_text(&expanded, true).unwrap();
            assert_eq!(whole.get_ids(), around.get_ids(), "{text}");
            assert_eq!(whole.get_offsets(), around.get_offsets(), "{text}");
        }
    }
}
