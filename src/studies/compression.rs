//! Context compression: how much of an image the model still needs once it has been read.
//!
//! Kaduri et al. (arXiv 2411.17491, "image re-prompting"): after one description, the keys and values
//! of all text are kept, and in every layer those of the visual tokens that the answer looked at most;
//! every key stays at its original rotation, new text continues after the original last position, and
//! new questions are asked against the short context, without the image. Agreement is measured against
//! the same questions on the whole context. Knows kept runs and prompts; plain data comes out.
//!
//! Which visual tokens stay may be decided otherwise than by the answer: [`Ranking`]. Layers keep as many keys each,
//! or the cache holds what any of them keeps and further rows are cut from the rest: after the softmax a key that is
//! cut and a key that is not there are the same.

use std::sync::Arc;

use crate::{
    engine::{
        baseline::Baseline,
        check::Foreseen,
        decoding::{Decoding, host},
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
        knockout::Cut,
        resolve::{Patches, Positions, Scope},
        sets::{Name, Places, Set, Term},
        span::Span,
        study::Compress,
        turn::{Turn, answered},
    },
    statistics::rank::{ranked, shuffled},
    trace::{
        diff::common,
        finding::{Asked, Compression},
        geometry::Geometry,
        pattern::PatternRow,
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

/// By what the visual tokens that stay are chosen: those with the most of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// Attention of the answer's rows, the mean of heads and rows, in every layer by itself.
    Answer,
    /// Attention of the question's rows behind the image, likewise.
    Question,
    /// Euclidean norm of the embedding that enters the decoder, the same in every layer.
    Norm,
    /// Nothing: the first of the set `random` that this seed gives, the same in every layer.
    Random(u64),
    /// Attention of the last prompt row, the mean of heads, in the layer before this one (FastV, Chen et al., arXiv
    /// 2403.06764). The layers before this one keep every visual token, the others the same few.
    FastV(usize),
}

/// The visual tokens of a context, by how they are ranked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Per layer: absolute positions, best first.
    pub layers: Vec<Vec<usize>>,
    /// The first layer that does not keep all of them.
    pub first: usize,
}

/// Which text stays beside visual tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// None, not even the beginning of the sequence.
    Nothing,
    /// That of the prompt.
    Prompt,
    /// The answer too.
    Answer,
}

/// A shortened context.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// Its keys and values.
    pub cache: KvCache,
    /// Per layer: absolute positions kept, ascending.
    pub kept: Vec<Vec<usize>>,
    /// What parts further rows from keys that the cache holds for other layers; none where layers keep as many.
    pub cuts: Vec<Cut>,
}

impl Compressed {
    /// Keys that a layer keeps, the mean of all layers.
    pub fn tokens(&self) -> f32 {
        self.keys() as f32 / self.kept.len().max(1) as f32
    }

    /// What the kept keys and values take in memory, in bytes.
    pub fn bytes(&self, engine: &Engine) -> usize {
        let text = engine.folder.text();
        self.keys() * 2 * text.n_kv_heads * text.head_dim * engine.vlm.decoder.cache_dtype().size()
    }

    /// Keys of all layers.
    fn keys(&self) -> usize {
        self.kept.iter().map(Vec::len).sum()
    }
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

/// Refuses a share that is none.
fn check_percent(percent: f32) -> Result<(), RunError> {
    if (0.0..=100.0).contains(&percent) {
        return Ok(());
    }
    let needs = format!("a share from 0 to 100 %, not {percent}");
    Err(RunError::Needs { what: WHAT, needs })
}

/// Refuses a run whose attention was not all recorded.
fn check_recorded(baseline: &Baseline) -> Result<(), RunError> {
    match baseline.trace.holds_everything() && !baseline.trace.answer.is_empty() {
        true => Ok(()),
        false => Err(needs_everything()),
    }
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
        study.percents.iter().try_for_each(|&percent| check_percent(percent))?;
        check_recorded(baseline)?;
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

/// Shortens the context of a kept run to what its answer looked at most.
///
/// # Errors
/// [`RunError::Needs`] when not all attention was recorded, or for a share that is none.
pub fn compress(engine: &Engine, baseline: &Baseline, keep: Keep) -> Result<Compressed, RunError> {
    check_percent(keep.percent)?;
    let order = order(engine, baseline, Ranking::Answer, &Cancel::default())?;
    shorten(engine, baseline, &order, keep.percent, if keep.answer { Text::Answer } else { Text::Prompt })
}

/// Ranks the visual tokens of a kept run.
///
/// # Errors
/// [`RunError::Needs`] when not all attention was recorded, without residuals, or when no question stands behind the
/// image; [`RunError::Spec`] for a first layer that there is not, or that has none before it.
pub fn order(
    engine: &Engine,
    baseline: &Baseline,
    ranking: Ranking,
    cancel: &Cancel,
) -> Result<Order, RunError> {
    check_recorded(baseline)?;
    let (visual, n_layers) = (visual(&baseline.prompt.tokens), engine.info.n_layers);
    let everywhere = |order: Vec<usize>| vec![order; n_layers];
    let answer =
        |rows: usize| -> Vec<PatternRow> { baseline.trace.rows().take(rows).map(|(_, row)| row).collect() };
    let whole = |layers| Ok(Order { layers, first: 0 });
    match ranking {
        Ranking::Answer => whole(by_attention(&answer(usize::MAX), &visual)),
        Ranking::Question => whole(by_attention(&question_rows(engine, baseline, &visual, cancel)?, &visual)),
        Ranking::Norm => whole(everywhere(by_norm(baseline, &visual)?)),
        Ranking::Random(seed) => whole(everywhere(shuffled(&visual, seed, 0))),
        Ranking::FastV(first) => {
            let mut of_last = by_attention(&answer(1), &visual);
            let before = first.checked_sub(1).filter(|_| first < n_layers);
            let Some(before) = before.filter(|&layer| layer < of_last.len()) else {
                let what = "the first layer that keeps few visual tokens";
                let expected = match n_layers {
                    ..2 => "a model of two layers at least".to_string(),
                    n => format!("from 1 to {}", n - 1),
                };
                return Err(RunError::Spec { what, found: first, expected });
            };
            Ok(Order { layers: everywhere(of_last.swap_remove(before)), first })
        }
    }
}

/// Per layer: the visual tokens that rows give most of their head-mean attention, all rows together.
fn by_attention(rows: &[PatternRow], visual: &[usize]) -> Vec<Vec<usize>> {
    let layer = |layer: usize| -> Vec<usize> {
        let mut mass = vec![0.0; visual.len()];
        for row in rows {
            let mean = row.head_mean(layer);
            // A row between two images does not see the second.
            mass.iter_mut().zip(visual).for_each(|(m, &p)| *m += mean.get(p).copied().unwrap_or(0.0));
        }
        ranked(&mass).into_iter().map(|i| visual[i]).collect()
    };
    (0..rows.first().map_or(0, |row| row.n_layers)).map(layer).collect()
}

/// The visual tokens, the longest embedding first.
fn by_norm(baseline: &Baseline, visual: &[usize]) -> Result<Vec<usize>, RunError> {
    let (_, resid) = baseline.stored(0)?;
    let norms = host(resid.square().sum_dim(1).sqrt())?;
    let norms: Vec<f32> = visual.iter().map(|&p| norms[p]).collect();
    Ok(ranked(&norms).into_iter().map(|i| visual[i]).collect())
}

/// Attention of the question's rows behind the first visual token, of which a run records none. The keys before them
/// are in the cache and their input is kept: these rows alone go through the weights once more.
fn question_rows(
    engine: &Engine,
    baseline: &Baseline,
    visual: &[usize],
    cancel: &Cancel,
) -> Result<Vec<PatternRow>, RunError> {
    let tokens = &baseline.prompt.tokens;
    let is_question = |p: usize| tokens[p].span == Span::Question;
    let behind = visual.first().copied().unwrap_or(tokens.len())..tokens.len();
    let (first, last) = (behind.clone().find(|&p| is_question(p)), behind.rev().find(|&p| is_question(p)));
    let (Some(first), Some(end)) = (first, last.map(|last| last + 1)) else {
        let needs = "a question that stands behind the image".to_string();
        return Err(RunError::Needs { what: "a ranking by the question's attention", needs });
    };
    let (_, resid) = baseline.stored(0)?;
    let rows = baseline.rows(resid, 0);
    let mut cache = baseline.cache.clone();
    cache.truncate(first);
    let mut decoding = Decoding::from_cache(&engine.vlm, &baseline.change.cuts, end, cancel, cache)?;
    let (together, mut found) = (decoding.together(end), Vec::new());
    for start in (first..end).step_by(together) {
        let part = start..end.min(start + together);
        for (position, row) in part.clone().zip(decoding.rows(rows.part(part.clone()), part.len())?) {
            if let Some(pattern) = row.pattern.filter(|_| is_question(position)) {
                let [n_layers, n_heads, n_keys] = pattern.dims();
                found.push(PatternRow { n_layers, n_heads, n_keys, data: Arc::new(host(pattern)?) });
            }
        }
    }
    Ok(found)
}

/// Shortens the context of a kept run to the best of its visual tokens and some of its text.
///
/// # Errors
/// [`RunError::Needs`] for a share that is none, or that leaves a layer no key.
pub fn shorten(
    engine: &Engine,
    baseline: &Baseline,
    order: &Order,
    percent: f32,
    text: Text,
) -> Result<Compressed, RunError> {
    check_percent(percent)?;
    let tokens = &baseline.prompt.tokens;
    let end = match text {
        Text::Nothing => 0,
        Text::Prompt => tokens.len(),
        Text::Answer => baseline.cache.len(),
    };
    let is_text = |p: &usize| tokens.get(*p).is_none_or(|t| t.span != Span::Visual);
    let words: Vec<usize> = (0..end).filter(is_text).collect();
    let with = |visual: &[usize]| -> Vec<usize> {
        let mut kept: Vec<usize> = words.iter().chain(visual).copied().collect();
        kept.sort_unstable();
        kept
    };
    let layer = |(layer, ranked): (usize, &Vec<usize>)| -> Vec<usize> {
        let share = (ranked.len() as f32 * percent / 100.0).round() as usize;
        with(if layer < order.first { ranked } else { &ranked[..share.min(ranked.len())] })
    };
    let kept: Vec<Vec<usize>> = order.layers.iter().enumerate().map(layer).collect();
    if kept.iter().any(Vec::is_empty) {
        let needs = format!("a key to keep, which {percent} % of the visual tokens without text is not");
        return Err(RunError::Needs { what: WHAT, needs });
    }
    let mut cache = baseline.cache.clone();
    if kept.windows(2).all(|two| two[0].len() == two[1].len()) {
        cache.select(&kept);
        return Ok(Compressed { cache, kept, cuts: Vec::new() });
    }
    let held = with(&visual(tokens));
    let cuts = apart(engine, &held, &kept)?;
    cache.select(&vec![held; kept.len()]);
    Ok(Compressed { cache, kept, cuts })
}

/// What parts the rows behind the keys `held` from those that a layer does not keep.
fn apart(engine: &Engine, held: &[usize], kept: &[Vec<usize>]) -> Result<Vec<Cut>, RunError> {
    // In a cut, places count among the keys that the cache holds, whatever positions they had.
    let (n_layers, n_heads) = (kept.len(), engine.info.n_heads);
    let (spans, patches) = (vec![Span::System; held.len()], Patches::default());
    let scope = Scope { spans: &spans, patches: &patches, max_new: 1, n_layers, n_heads };
    let later = Set(vec![Term { minus: false, name: Name::Decode, places: Places::All, rings: 0 }]);
    let rows =
        later.resolve(&scope, true).map_err(|source| RunError::Choice { what: WHAT.to_string(), source })?;
    let mut cuts: Vec<Cut> = Vec::new();
    for (layer, kept) in kept.iter().enumerate() {
        let lost: Vec<usize> = (0..held.len()).filter(|&at| kept.binary_search(&held[at]).is_err()).collect();
        if lost.is_empty() {
            continue;
        }
        let keys = Positions::listed(held.len(), &lost);
        match cuts.iter_mut().find(|cut| cut.keys == keys) {
            Some(cut) => cut.layers[layer] = true,
            None => {
                let layers = (0..n_layers).map(|n| n == layer).collect();
                cuts.push(Cut { rows: rows.clone(), keys, layers, heads: vec![true; n_heads] });
            }
        }
    }
    Ok(cuts)
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
        let ask = |context: &Compressed| ask_after(engine, context, &text, max_new, cancel);
        let (whole, less) = (ask(&full)?, ask(&short)?);
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
///
/// # Errors
/// [`RunError`]: it cannot be put into a prompt, or the template does not go on behind the prompt as it was.
pub fn follow_up(
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

/// What the model answers to text that goes on behind a shortened context.
///
/// # Errors
/// [`RunError`]; of a text that the model's context has no room for.
pub fn ask_after(
    engine: &Engine,
    context: &Compressed,
    text: &[u32],
    max_new: usize,
    cancel: &Cancel,
) -> Result<Reply, RunError> {
    let cache = context.cache.clone();
    let next = cache.next_positions(1)[0].into_iter().max().unwrap_or(0) as usize;
    let used = next + text.len();
    if used >= engine.info.context {
        let expected = format!("below the context's {}", engine.info.context);
        return Err(RunError::Spec { what: "the position after the question", found: used, expected });
    }
    let rows = cache.len() + text.len() + max_new;
    let decoding = Decoding::from_cache(&engine.vlm, &context.cuts, rows, cancel, cache)?;
    let rest = decoding.text(engine.vlm.decoder.embed(text));
    reply(engine, decoding, rest, max_new.min(engine.info.context - used))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[layers, heads, keys]` of two layers and two heads.
    fn row(heads: [&[f32]; 4]) -> PatternRow {
        PatternRow { n_layers: 2, n_heads: 2, n_keys: heads[0].len(), data: heads.concat().into() }
    }

    #[test]
    fn visual_tokens_are_ranked_by_what_all_rows_give_them_layer_by_layer() {
        // Keys: bos, three visual tokens, a word. The word and bos draw most, and are not ranked.
        let first = row([
            &[0.5, 0.1, 0.2, 0.0, 0.2],
            &[0.3, 0.1, 0.0, 0.4, 0.2],
            &[0.9, 0.0, 0.0, 0.1, 0.0],
            &[0.9, 0.1, 0.0, 0.0, 0.0],
        ]);
        let second = row([
            &[0.1, 0.2, 0.3, 0.0, 0.4],
            &[0.2, 0.2, 0.2, 0.0, 0.4],
            &[0.5, 0.0, 0.3, 0.1, 0.1],
            &[0.6, 0.0, 0.3, 0.1, 0.0],
        ]);
        let visual = [1, 2, 3];
        // Layer 0: 0.1 + 0.2, 0.1 + 0.25, 0.2 + 0. Layer 1: 0.05 + 0, 0 + 0.3, 0.05 + 0.1.
        assert_eq!(by_attention(&[first.clone(), second], &visual), [[2, 1, 3], [2, 3, 1]]);
        // Of equals the earlier comes first.
        assert_eq!(by_attention(&[first], &visual), [[3, 1, 2], [1, 3, 2]]);
        // A row that stands before the third.
        let before = row([&[0.5, 0.1, 0.4], &[0.5, 0.2, 0.3], &[0.2, 0.5, 0.3], &[0.2, 0.5, 0.3]]);
        assert_eq!(by_attention(&[before], &visual), [[2, 1, 3], [1, 2, 3]]);
        assert!(by_attention(&[], &visual).is_empty());
    }
}
