//! Context compression: how much of an image the model still needs once it has been read.
//!
//! Kaduri et al. (arXiv 2411.17491, "image re-prompting"): after one description, the keys and values
//! of all text are kept, and in every layer those of the visual tokens that the answer looked at most;
//! every key stays at its original rotation, new text continues after the original last position, and
//! new questions are asked against the short context, without the image. Agreement is measured against
//! the same questions on the whole context. Knows kept runs and prompts; plain data comes out.

use burn::tensor::Tensor;
use serde::Serialize;

use crate::{engine::{answer::{Baseline, Reply}, decoding::Decoding, load::{Engine, RunError, Seen}, patches as patch_sets}, model::kv_cache::KvCache, progress::Cancel, prompt::build::{Prompt, Role, Turn}, spec::span::Span, trace::diff::common};

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

/// What became of a context, and of questions asked against it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compression {
    /// Share of visual tokens kept, in percent.
    pub percent: f32,
    /// Keys a layer.
    pub tokens: usize,
    /// Visual ones of them.
    pub visual: usize,
    /// Keys a layer of the whole context.
    pub full_tokens: usize,
    /// One a question.
    pub questions: Vec<Asked>,
    /// Share of the questions answered word for word alike.
    pub same: f32,
    /// Mean of [`Asked::agreement`].
    pub agreement: f32,
}

/// One question, asked against both contexts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The question.
    pub question: String,
    /// Against the whole context.
    pub full: String,
    /// Against the short one.
    pub compressed: String,
    /// Whether both are the same, token for token.
    pub same: bool,
    /// Tokens of the longest common subsequence, as a share of the longer answer.
    pub agreement: f32,
}

impl Engine {
    /// Shortens the context of a kept run.
    ///
    /// # Errors
    /// [`RunError::Needs`] when not all attention was recorded, [`RunError::Spec`] for a share that is
    /// none.
    pub fn compress(&self, baseline: &Baseline, keep: Keep) -> Result<Compressed, RunError> {
        let what = "context compression";
        if !(0.0..=100.0).contains(&keep.percent) {
            let needs = format!("a share from 0 to 100 %, not {}", keep.percent);
            return Err(RunError::Needs { what, needs });
        }
        let kept = &baseline.trace.kept;
        let all = (self.info.n_layers, self.info.n_heads, baseline.trace.answer.len());
        if (kept.layers.len(), kept.heads.len(), kept.rows.len()) != all || all.2 == 0 {
            let needs = "the attention of every layer, head and answer row recorded".to_string();
            return Err(RunError::Needs { what, needs });
        }
        let n_prompt = baseline.prompt.len();
        let visual = patch_sets::visual(&baseline.prompt.tokens);
        let n = (visual.len() as f32 * keep.percent / 100.0).round() as usize;
        let rows: Vec<_> = baseline.trace.rows().map(|(_, row)| row).collect();
        let end = if keep.answer { baseline.cache.len() } else { n_prompt };
        let layer = |layer: usize| -> Vec<usize> {
            let mut mass = vec![0.0; visual.len()];
            for row in &rows {
                let mean = row.head_mean(layer);
                mass.iter_mut().zip(&visual).for_each(|(m, &p)| *m += mean[p]);
            }
            let best = patch_sets::ranked(&mass).into_iter().take(n).map(|i| visual[i]);
            let is_text = |p: &usize| baseline.prompt.tokens.get(*p).is_none_or(|t| t.span != Span::Visual);
            let mut kept: Vec<usize> = (0..end).filter(is_text).chain(best).collect();
            kept.sort_unstable();
            kept
        };
        let kept: Vec<Vec<usize>> = (0..self.info.n_layers).map(layer).collect();
        let mut cache = baseline.cache.clone();
        cache.select(&kept);
        Ok(Compressed { cache, kept })
    }

    /// Asks new questions against a shortened context and against the whole one.
    ///
    /// # Errors
    /// [`RunError`]; of the first question that cannot be asked.
    pub fn ask_compressed(
        &self,
        baseline: &Baseline,
        keep: Keep,
        questions: &[String],
        images: &[&Seen],
        max_new: usize,
        cancel: &Cancel,
    ) -> Result<Compression, RunError> {
        let short = self.compress(baseline, keep)?;
        let full = self.compress(baseline, Keep { percent: 100.0, ..keep })?;
        let mut asked = Vec::with_capacity(questions.len());
        for question in questions {
            let text = self.follow_up(&baseline.prompt, &baseline.spec.prompt, question, images)?;
            let ask = |cache: &KvCache| self.ask_after(cache.clone(), &text, max_new, cancel);
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
        &self,
        prompt: &Prompt,
        first: &str,
        question: &str,
        images: &[&Seen],
    ) -> Result<Vec<u32>, RunError> {
        let grids: Vec<_> = images.iter().map(|seen| seen.grid()).collect();
        let answered = Turn { role: Role::Assistant, content: Vec::new() };
        let turns = [Turn::ask(images.len(), first), answered, Turn::ask(0, question)];
        let both = self.prompts.build(&turns, &grids)?.ids();
        let same = both.iter().zip(prompt.ids()).take_while(|(a, b)| **a == *b).count();
        if same < prompt.len() {
            let needs = "a chat template whose second turn continues the first".to_string();
            return Err(RunError::Needs { what: "a further question", needs });
        }
        Ok(both[same..].to_vec())
    }

    fn ask_after(
        &self,
        cache: KvCache,
        text: &[u32],
        max_new: usize,
        cancel: &Cancel,
    ) -> Result<Reply, RunError> {
        let used = cache.next_position() as usize + text.len();
        if used >= self.info.context {
            let expected = format!("below the context's {}", self.info.context);
            return Err(RunError::Spec { what: "the position after the question", found: used, expected });
        }
        let rows = cache.len() + text.len() + max_new;
        let decoding = Decoding::from_cache(&self.vlm, &[], rows, cancel, cache)?;
        let rest: Tensor<2> = self.vlm.decoder.embed(text);
        self.reply(decoding, rest, max_new.min(self.info.context - used))
    }
}
