//! Context compression: how much of an image the model still needs once it has been read.
//!
//! Kaduri et al. (arXiv 2411.17491, "image re-prompting"): after one description, the keys and values
//! of all text are kept, and in every layer those of the visual tokens that the answer looked at most;
//! every key stays at its original rotation, new text continues after the original last position, and
//! new questions are asked against the short context, without the image. Agreement is measured against
//! the same questions on the whole context. Knows kept runs and prompts; plain data comes out.

use crate::{
    engine::{
        baseline::Baseline,
        check::Foreseen,
        decoding::Decoding,
        error::RunError,
        folder::ModelFolder,
        load::Engine,
        run::{Reply, reply},
        see::Seen,
    },
    model::kv_cache::KvCache,
    progress::Cancel,
    prompt::build::Prompt,
    spec::{
        span::Span,
        study::Compress,
        turn::{Turn, answered},
    },
    statistics::rank::ranked,
    trace::{
        diff::common,
        finding::{Asked, Compression},
        geometry::Geometry,
        tokens::visual,
    },
};

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    /// Share of the visual tokens kept in every layer, in percent, rounded to the nearest number.
    pub percent: f32,
    /// Whether the described answer stays in the context too.
    pub answer: bool,
}

/// A shortened context.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// Its keys and values.
    pub cache: KvCache,
    /// Per layer: absolute positions kept, ascending.
    pub kept: Vec<Vec<usize>>,
}

const WHAT: &str = "context compression";

/// Refuses what [`ask_compressed`] would refuse, as far as it is known before weights are read.
///
/// # Errors
/// [`RunError`], of the attention that is not to be recorded, or of the first question that cannot be asked.
pub fn check(foreseen: &Foreseen<'_>, questions: &[String]) -> Result<(), RunError> {
    if !foreseen.may_hold_everything() {
        return Err(needs_everything());
    }
    let images: Vec<&Geometry> = foreseen.images.iter().map(|image| &image.processed.geometry).collect();
    let turns = &foreseen.experiment.turns;
    for question in questions {
        follow_up(foreseen.folder, turns, &foreseen.prompt, question, &images)?;
    }
    Ok(())
}

fn needs_everything() -> RunError {
    let needs = "the attention of every layer, head and answer row recorded".to_string();
    RunError::Needs { what: WHAT, needs }
}

/// Refuses a share that is none, and a run whose attention was not all recorded.
fn check_share(baseline: &Baseline, percent: f32) -> Result<(), RunError> {
    if !(0.0..=100.0).contains(&percent) {
        let needs = format!("a share from 0 to 100 %, not {percent}");
        return Err(RunError::Needs { what: WHAT, needs });
    }
    if !baseline.trace.holds_everything() || baseline.trace.answer.is_empty() {
        return Err(needs_everything());
    }
    Ok(())
}

/// Questions to shorter and shorter contexts, one share a step.
#[derive(Debug)]
pub struct Compressing {
    study: Compress,
    done: usize,
}

impl Compressing {
    /// Before the first share.
    ///
    /// # Errors
    /// [`RunError`], of the first share or question that cannot be; also when there is none.
    pub fn new(
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        study: &Compress,
    ) -> Result<Compressing, RunError> {
        if study.percents.is_empty() || study.questions.is_empty() {
            let needs = "a share of the visual tokens to keep, and a question".to_string();
            return Err(RunError::Needs { what: WHAT, needs });
        }
        study.percents.iter().try_for_each(|&percent| check_share(baseline, percent))?;
        let geometries: Vec<&Geometry> = images.iter().map(|seen| &seen.geometry).collect();
        for question in &study.questions {
            follow_up(&engine.folder, &baseline.experiment.turns, &baseline.prompt, question, &geometries)?;
        }
        Ok(Compressing { study: study.clone(), done: 0 })
    }

    /// Asks with the next share; `None` when all is done.
    ///
    /// # Errors
    /// [`RunError`]; a cancelled step can be taken again.
    pub fn step(
        &mut self,
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Option<Compression>, RunError> {
        let Some(&percent) = self.study.percents.get(self.done) else { return Ok(None) };
        let keep = Keep { percent, answer: self.study.keep_answer };
        let (questions, max_new) = (&self.study.questions, baseline.experiment.max_new);
        let asked = ask_compressed(engine, baseline, keep, questions, images, max_new, cancel)?;
        self.done += 1;
        Ok(Some(asked))
    }

    /// Steps done, and in all.
    pub fn steps(&self) -> (usize, usize) {
        (self.done, self.study.percents.len())
    }
}

/// Shortens the context of a kept run.
///
/// # Errors
/// [`RunError::Needs`] when not all attention was recorded, or for a share that is none.
pub fn compress(engine: &Engine, baseline: &Baseline, keep: Keep) -> Result<Compressed, RunError> {
    check_share(baseline, keep.percent)?;
    let n_prompt = baseline.prompt.len();
    let visual = visual(&baseline.prompt.tokens);
    let n = (visual.len() as f32 * keep.percent / 100.0).round() as usize;
    let rows: Vec<_> = baseline.trace.rows().map(|(_, row)| row).collect();
    let end = if keep.answer { baseline.cache.len() } else { n_prompt };
    let layer = |layer: usize| -> Vec<usize> {
        let mut mass = vec![0.0; visual.len()];
        for row in &rows {
            let mean = row.head_mean(layer);
            mass.iter_mut().zip(&visual).for_each(|(m, &p)| *m += mean[p]);
        }
        let best = ranked(&mass).into_iter().take(n).map(|i| visual[i]);
        let is_text = |p: &usize| baseline.prompt.tokens.get(*p).is_none_or(|t| t.span != Span::Visual);
        let mut kept: Vec<usize> = (0..end).filter(is_text).chain(best).collect();
        kept.sort_unstable();
        kept
    };
    let kept: Vec<Vec<usize>> = (0..engine.info.n_layers).map(layer).collect();
    let mut cache = baseline.cache.clone();
    cache.select(&kept);
    Ok(Compressed { cache, kept })
}

/// Asks new questions against a shortened context and against the whole one.
///
/// # Errors
/// [`RunError`]; of the first question that cannot be asked.
pub fn ask_compressed(
    engine: &Engine,
    baseline: &Baseline,
    keep: Keep,
    questions: &[String],
    images: &[&Seen],
    max_new: usize,
    cancel: &Cancel,
) -> Result<Compression, RunError> {
    let short = compress(engine, baseline, keep)?;
    let full = compress(engine, baseline, Keep { percent: 100.0, ..keep })?;
    let geometries: Vec<&Geometry> = images.iter().map(|seen| &seen.geometry).collect();
    let turns = &baseline.experiment.turns;
    let mut asked = Vec::with_capacity(questions.len());
    for question in questions {
        let text = follow_up(&engine.folder, turns, &baseline.prompt, question, &geometries)?;
        let ask = |cache: &KvCache| ask_after(engine, cache.clone(), &text, max_new, cancel);
        let (whole, less) = (ask(&full.cache)?, ask(&short.cache)?);
        let shared = common(&whole.ids, &less.ids).0.iter().filter(|s| **s).count();
        asked.push(Asked {
            question: question.clone(),
            same: whole.ids == less.ids,
            agreement: shared as f32 / whole.ids.len().max(less.ids.len()).max(1) as f32,
            full: whole.text,
            compressed: less.text,
        });
    }
    let n = asked.len().max(1) as f32;
    let is_visual = |p: &&usize| baseline.prompt.tokens.get(**p).is_some_and(|t| t.span == Span::Visual);
    let first = short.kept.first().map_or(&[][..], Vec::as_slice);
    Ok(Compression {
        percent: keep.percent,
        tokens: short.cache.len(),
        visual: first.iter().filter(is_visual).count(),
        full_tokens: full.cache.len(),
        same: asked.iter().filter(|a| a.same).count() as f32 / n,
        agreement: asked.iter().map(|a| a.agreement).sum::<f32>() / n,
        questions: asked,
    })
}

/// Token ids of the user's next turn, as the template writes it after an answer.
fn follow_up(
    folder: &ModelFolder,
    turns: &[Turn],
    prompt: &Prompt,
    question: &str,
    images: &[&Geometry],
) -> Result<Vec<u32>, RunError> {
    // The answer itself stands in the context, or was dropped from it. Templates read a turn's first part: there is one,
    // of no words but those that it was given to begin with.
    let mut turns = answered(turns, "");
    turns.push(Turn::ask(0, question));
    let both = folder.prompt(&turns, images)?.ids();
    let same = both.iter().zip(prompt.ids()).take_while(|(a, b)| **a == *b).count();
    if same < prompt.len() {
        let needs = "a chat template whose second turn continues the first".to_string();
        return Err(RunError::Needs { what: "a further question", needs });
    }
    Ok(both[same..].to_vec())
}

fn ask_after(
    engine: &Engine,
    cache: KvCache,
    text: &[u32],
    max_new: usize,
    cancel: &Cancel,
) -> Result<Reply, RunError> {
    let next = cache.next_positions(1)[0].into_iter().max().unwrap_or(0) as usize;
    let used = next + text.len();
    if used >= engine.info.context {
        let expected = format!("below the context's {}", engine.info.context);
        return Err(RunError::Spec { what: "the position after the question", found: used, expected });
    }
    let rows = cache.len() + text.len() + max_new;
    let decoding = Decoding::from_cache(&engine.vlm, &[], rows, cancel, cache)?;
    let rest = decoding.text(engine.vlm.decoder.embed(text));
    reply(engine, decoding, rest, max_new.min(engine.info.context - used))
}
