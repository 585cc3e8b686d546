//! Many questions about one image: the tokens that their prompts begin with alike, the image's among
//! them, go through the decoder once, and every question goes on from there.
//!
//! Under knockouts every question runs alone: a cut may reach into the common beginning.
//!
//! Greedy answers only, and nothing is recorded; `run` is for looking inside. Knows prompts and
//! decoding, not right answers or scores.

use crate::{engine::{answer::Reply, decoding::Decoding, load::{Engine, RunError, Seen}}, model::hooks::Hooks, progress::Cancel, prompt::build::Prompt, spec::{experiment::Intervention, knockout::Knockout}};

/// What is asked, and how long the answer may be, its end token included.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The user's text.
    pub text: &'a str,
    /// Longest answer in tokens.
    pub max_new: usize,
}

/// Answers questions about one image, in order; `on_reply` hears of every one done.
///
/// # Errors
/// [`RunError`], of the first question that fails.
pub fn ask_all(
    engine: &Engine,
    seen: &Seen,
    asks: &[Ask<'_>],
    knockouts: &[Knockout],
    cancel: &Cancel,
    on_reply: &mut dyn FnMut(),
) -> Result<Vec<Reply>, RunError> {
    let prompts: Vec<Prompt> =
        asks.iter().map(|ask| engine.prompt(ask.text, &[seen])).collect::<Result<_, _>>()?;
    let Some(first) = prompts.first() else { return Ok(Vec::new()) };
    let shared = if knockouts.is_empty() { shared_prefix(&prompts) } else { 0 };
    let mut stem = Decoding::new(&engine.vlm, &[], engine.info.context, cancel)?;
    if shared > 0 {
        stem.pass(engine.embeds(first, &[seen]).narrow(0, 0, shared), Hooks::default())?;
    }
    let intervention = Intervention { knockouts: knockouts.to_vec(), ablations: Vec::new() };
    let mut replies = Vec::with_capacity(asks.len());
    for (ask, prompt) in asks.iter().zip(&prompts) {
        let rest = engine.embeds(prompt, &[seen]).narrow(0, shared, prompt.len() - shared);
        let max_new = ask.max_new.min(engine.info.context - prompt.len());
        let cuts = engine.change(&intervention, prompt, &[seen], max_new, 0, None, cancel)?.cuts;
        let decoding = if cuts.is_empty() {
            stem.fork()
        } else {
            Decoding::new(&engine.vlm, &cuts, prompt.len() + max_new - 1, cancel)?
        };
        replies.push(engine.reply(decoding, rest, max_new)?);
        on_reply();
    }
    Ok(replies)
}

/// How many first tokens all prompts have in common; one less than the shortest at most, since the
/// last row predicts the answer.
fn shared_prefix(prompts: &[Prompt]) -> usize {
    let Some((first, others)) = prompts.split_first() else { return 0 };
    let alike = |other: &Prompt| {
        first.tokens.iter().zip(&other.tokens).take_while(|(a, b)| a.id == b.id).count().min(other.len() - 1)
    };
    others.iter().map(alike).min().unwrap_or(first.len() - 1).min(first.len() - 1)
}
