//! What an experiment gave, as plain data.
//!
//! Knows traces; neither tensors nor files.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    spec::experiment::Experiment,
    statistics::{finite::largest, spread::Spread},
    trace::{
        flow::SpanFlow,
        run::{KnockoutReport, Stop, Timing, Trace},
        sinks::sinks,
        tokens::visual,
    },
};

/// What an experiment gave.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub experiment: Experiment,
    /// The uncut run that the intervention is compared with; `None` where there is no intervention.
    pub uncut: Option<Trace>,
    /// The answer that was asked for: under the intervention, if there is one.
    pub answer: Trace,
    /// What the intervention did; `None` where there was none, or it was cancelled before it was known.
    pub outcome: Option<Outcome>,
}

impl Report {
    /// The run that nothing was done to.
    pub fn baseline(&self) -> &Trace {
        self.uncut.as_ref().unwrap_or(&self.answer)
    }

    /// The numbers that a repetition must give again.
    pub fn numbers(&self) -> Numbers {
        let numbers = |trace: &Trace| trace.answer.iter().map(|t| (t.id, t.logprob)).collect();
        Numbers {
            baseline: numbers(self.baseline()),
            answer: numbers(&self.answer),
            effects: self.outcome.as_ref().map(|o| o.effects.iter().map(|e| [e.delta, e.kl]).collect()),
            control: self
                .outcome
                .as_ref()
                .and_then(|o| o.control.as_ref())
                .map(|c| [c.delta.mean, c.kl.mean]),
        }
    }
}

/// What an intervention did to an uncut answer, and what it made of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Where it started; `None` when it touches nothing and the uncut run stands.
    pub start: Option<Start>,
    /// The uncut answer, scored under the intervention: its tokens with the log probabilities and attention
    /// that they have now.
    pub forced: Trace,
    /// One a token of the uncut answer.
    pub effects: Vec<Effect>,
    /// For each uncut token and each new token: whether it is part of what both answers share.
    pub common: (Vec<bool>, Vec<bool>),
    /// The same on random patches, where that was asked for and came to its end.
    pub control: Option<Control>,
}

/// Where a resumed run started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// First layer that ran.
    pub layer: usize,
    /// First row that ran.
    pub row: usize,
    /// Rows that ran in one pass.
    pub rows: usize,
}

/// What an intervention does to one token of the baseline's answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Natural log probability in the baseline.
    pub baseline: f32,
    /// Under the intervention.
    pub logprob: f32,
    /// `logprob - baseline`.
    pub delta: f32,
    /// How many tokens are likelier under the intervention.
    pub rank: usize,
    /// Kullback-Leibler divergence of the intervention's distribution from the baseline's, in nats.
    pub kl: f32,
}

impl Effect {
    /// Compares two rows of `[vocabulary]` log probabilities at a baseline token.
    pub fn new(p: &[f32], q: &[f32], id: u32) -> Self {
        let of = |logprobs: &[f32]| logprobs.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let (before, after) = (of(p), of(q));
        let terms = p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q)));
        Effect {
            baseline: before,
            logprob: after,
            delta: after - before,
            rank: q.iter().filter(|&&other| other > after).count(),
            kl: terms.sum::<f64>() as f32,
        }
    }
}

/// Sum of the changes in log probability, and mean divergence.
pub fn totals(effects: &[Effect]) -> (f32, f32) {
    let kl: f32 = effects.iter().map(|e| e.kl).sum();
    (effects.iter().map(|e| e.delta).sum(), kl / effects.len().max(1) as f32)
}

/// The same intervention on random patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Sum of [`Effect::delta`] over the answer: of the intervention, then of every draw.
    pub delta: Spread,
    /// Mean of [`Effect::kl`] over the answer, likewise.
    pub kl: Spread,
}

/// How a run ended: what is known of it only then. With its tokens, which were told one by one, and the
/// prompt, it makes the trace.
#[derive(Clone, Debug)]
pub struct End {
    /// Why it stopped.
    pub stop: Stop,
    /// What the knockouts did.
    pub knockouts: Vec<KnockoutReport>,
    /// Wall-clock times.
    pub timing: Timing,
    /// Which number formats were used for what.
    pub dtype: String,
    /// What each span of the answer's rows reads from each; `None` where no row ran.
    pub flow: Option<Arc<SpanFlow>>,
    /// Attention sinks of an uncut answer, by number among the visual tokens of the prompt; `None` of an
    /// intervention, and where not all attention was recorded.
    pub sinks: Option<Arc<[usize]>>,
    /// Of an intervention: for each uncut and each new token, whether both answers share it.
    pub common: Option<(Vec<bool>, Vec<bool>)>,
    /// Of an intervention: the same on random patches.
    pub control: Option<Control>,
}

/// Sinks of an answer by number among its visual tokens.
fn numbered_sinks(trace: &Trace) -> Option<Arc<[usize]>> {
    let visual = visual(&trace.prompt);
    let numbered = sinks(trace)?.into_iter().filter_map(|position| visual.binary_search(&position).ok());
    Some(numbered.collect())
}

impl From<&Report> for End {
    fn from(report: &Report) -> Self {
        let Trace { stop, knockouts, timing, dtype, flow, .. } = &report.answer;
        End {
            stop: *stop,
            knockouts: knockouts.clone(),
            timing: *timing,
            dtype: dtype.clone(),
            flow: flow.clone().map(Arc::new),
            sinks: report.outcome.is_none().then(|| numbered_sinks(&report.answer)).flatten(),
            common: report.outcome.as_ref().map(|o| o.common.clone()),
            control: report.outcome.as_ref().and_then(|o| o.control.clone()),
        }
    }
}

/// What a report is compared by. Read from a file, `null` is what JSON makes of a NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Numbers {
    /// Token ids and log probabilities of the uncut answer.
    pub baseline: Vec<(u32, f32)>,
    /// Of the answer that was asked for.
    pub answer: Vec<(u32, f32)>,
    /// Per baseline token: change in log probability, and divergence.
    pub effects: Option<Vec<[f32; 2]>>,
    /// Means of the control's draws: change in log probability, and divergence.
    pub control: Option<[f32; 2]>,
}

/// [`Numbers`] as files hold them: JSON has no NaN.
#[derive(Deserialize)]
struct Stored {
    baseline: Vec<(u32, Option<f32>)>,
    answer: Vec<(u32, Option<f32>)>,
    effects: Option<Vec<[Option<f32>; 2]>>,
    control: Option<[Option<f32>; 2]>,
}

impl From<Stored> for Numbers {
    fn from(stored: Stored) -> Self {
        let number = |value: Option<f32>| value.unwrap_or(f32::NAN);
        let tokens = |of: Vec<(u32, Option<f32>)>| of.into_iter().map(|(id, v)| (id, number(v))).collect();
        Numbers {
            baseline: tokens(stored.baseline),
            answer: tokens(stored.answer),
            effects: stored.effects.map(|of| of.into_iter().map(|pair| pair.map(number)).collect()),
            control: stored.control.map(|pair| pair.map(number)),
        }
    }
}

impl Numbers {
    /// Whether all of them are numbers.
    pub fn is_finite(&self) -> bool {
        let tokens = self.baseline.iter().chain(&self.answer).map(|(_, logprob)| logprob);
        let pairs = self.effects.iter().flatten().chain(&self.control).flatten();
        tokens.chain(pairs).all(|value| value.is_finite())
    }

    /// The largest difference between two sets of numbers, in nats; infinite where tokens differ or a
    /// part is missing.
    pub fn difference(&self, other: &Numbers) -> f32 {
        let far = |a: f32, b: f32| if a == b { 0.0 } else { (a - b).abs() };
        let tokens = |a: &[(u32, f32)], b: &[(u32, f32)]| {
            let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0);
            let differences = a.iter().zip(b).map(|(a, b)| far(a.1, b.1));
            if same { largest(differences) } else { f32::INFINITY }
        };
        let pairs = |a: &[[f32; 2]], b: &[[f32; 2]]| {
            let both = a.iter().flatten().zip(b.iter().flatten());
            if a.len() == b.len() { largest(both.map(|(a, b)| far(*a, *b))) } else { f32::INFINITY }
        };
        let effects = match (&self.effects, &other.effects) {
            (Some(a), Some(b)) => pairs(a, b),
            (None, None) => 0.0,
            _ => f32::INFINITY,
        };
        let control = match (&self.control, &other.control) {
            (Some(a), Some(b)) => pairs(&[*a], &[*b]),
            (None, None) => 0.0,
            _ => f32::INFINITY,
        };
        let (baseline, answer) =
            (tokens(&self.baseline, &other.baseline), tokens(&self.answer, &other.answer));
        largest([baseline, answer, effects, control])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(logprob: f32) -> Numbers {
        Numbers {
            baseline: vec![(3, -0.5)],
            answer: vec![(3, logprob), (4, -1.0)],
            effects: Some(vec![[logprob, 0.25]]),
            control: None,
        }
    }

    #[test]
    fn numbers_differ_by_their_largest_part_and_infinitely_in_tokens() {
        assert_eq!(numbers(-0.5).difference(&numbers(-0.5)), 0.0);
        assert_eq!(numbers(-0.5).difference(&numbers(-0.75)), 0.25);
        assert!(numbers(f32::NAN).difference(&numbers(0.0)).is_nan());
        let mut other = numbers(-0.5);
        other.answer[1].0 = 9;
        assert_eq!(numbers(-0.5).difference(&other), f32::INFINITY);
        let text = r#"{"baseline": [[3, null]], "answer": [], "effects": [[null, 0.0]], "control": null}"#;
        let read: Numbers = serde_json::from_str(text).unwrap();
        assert!(read.baseline[0].1.is_nan() && read.difference(&read).is_nan() && !read.is_finite());
        assert!(numbers(-0.5).is_finite());
        other = numbers(-0.5);
        other.effects = None;
        assert_eq!(numbers(-0.5).difference(&other), f32::INFINITY);
    }
}
