//! Two runs beside each other: which words either lacks, and what the cut of one does to the answer of the other.
//!
//! Knows runs; draws nothing.

use crate::{
    statistics::finite::largest,
    trace::{diff, report::Control, run::KnockoutReport, tokens::AnswerToken},
    ui::{
        store::{
            run::ScoredToken,
            selection::{BASELINE, CUT},
            store::Store,
        },
        widgets::{number, word::shown},
    },
    worker::protocol::{RunId, Slot},
};

/// Two runs: the one that is compared with, mostly an uncut one, and the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Words of it are gone.
    pub base: Slot,
    /// Words of it are new.
    pub other: Slot,
}

/// The runs that are compared: those that the user chose, else the uncut run and the one under the cut.
pub fn pair(store: &Store) -> Option<Pair> {
    let slot = store.selection.slot;
    let Some(against) = store.selection.against.filter(|other| *other != slot && store.runs.has(*other))
    else {
        return store.runs.has(CUT).then_some(Pair { base: BASELINE, other: CUT });
    };
    // A run under a cut is compared with the uncut one, whichever is on show.
    match is_cut_of(store, slot, against) {
        true => Some(Pair { base: slot, other: against }),
        false => Some(Pair { base: against, other: slot }),
    }
}

/// Whether one run is another's under a cut.
fn is_cut_of(store: &Store, base: Slot, other: Slot) -> bool {
    let (Some(base), Some(other)) = (store.runs.lane(base).view(), store.runs.lane(other).view()) else {
        return false;
    };
    other.base == Some(base.id)
}

/// What the pair's cut does to each token of its uncut answer; empty where they are no such pair.
pub fn effects(store: &Store, Pair { base, other }: Pair) -> &[ScoredToken] {
    match (base, other) {
        // Scores of the cut before stand until the first new one.
        (BASELINE, CUT) => store.effects_on(BASELINE),
        _ if is_cut_of(store, base, other) => store.effects_on(other),
        _ => &[],
    }
}

/// Two answers, by run and number of tokens.
type Answers = [(RunId, usize); 2];

/// Which tokens either answer lacks.
#[derive(Debug, Default)]
pub struct Compared {
    /// What they were taken from.
    key: Option<Answers>,
    /// One a token of the base.
    pub gone: Vec<bool>,
    /// One a token of the other.
    pub new: Vec<bool>,
    /// Whether both are known whole.
    pub whole: bool,
}

impl Compared {
    /// Follows a pair; costs nothing where it is what it was.
    pub fn follow(&mut self, store: &Store, pair: Option<Pair>) {
        let whole = |slot: Slot| store.runs.lane(slot).complete();
        let runs = pair.and_then(|pair| Some((pair, whole(pair.base)?, whole(pair.other)?)));
        let Some((pair, base, other)) = runs else {
            *self = Compared::default();
            return;
        };
        let key = [(base.id, base.answer.len()), (other.id, other.answer.len())];
        if self.key == Some(key) {
            return;
        }
        let known = store.changed_by(pair.other).filter(|_| other.base == Some(base.id));
        let (gone, new) = known.unwrap_or_else(|| {
            let ids = |answer: &[AnswerToken]| -> Vec<u32> { answer.iter().map(|token| token.id).collect() };
            let (kept, kept_other) = diff::common(&ids(&base.answer), &ids(&other.answer));
            let lacking = |kept: Vec<bool>| kept.into_iter().map(|kept| !kept).collect();
            (lacking(kept), lacking(kept_other))
        });
        *self = Compared { key: Some(key), gone, new, whole: true };
    }

    /// Which tokens of a run the other lacks.
    pub fn of(&self, slot: Slot, pair: Option<Pair>) -> &[bool] {
        match pair {
            Some(pair) if pair.base == slot => &self.gone,
            Some(pair) if pair.other == slot => &self.new,
            _ => &[],
        }
    }
}

/// How two answers differ, in words: their tokens, and what the cut did to the probability of the uncut ones.
pub fn sentence(gone: &[bool], new: &[bool], effects: &[ScoredToken]) -> String {
    let count = |changed: &[bool]| changed.iter().filter(|c| **c).count();
    let tokens = match (count(new), count(gone)) {
        (0, 0) => "The same tokens".to_string(),
        (n, m) => format!("{n} of {} tokens are new, {m} of {} are gone", new.len(), gone.len()),
    };
    let most = effects.iter().max_by(|a, b| a.effect.delta.abs().total_cmp(&b.effect.delta.abs()));
    let Some(most) = most else { return format!("{tokens}.") };
    format!(
        "{tokens}; log probability of the uncut answer {} nats, most at “{}” ({}).",
        change(sum(effects)),
        shown(&most.token).trim(),
        change(most.effect.delta),
    )
}

/// The change of a whole answer's log probability.
pub fn sum(effects: &[ScoredToken]) -> f32 {
    effects.iter().map(|scored| scored.effect.delta).sum()
}

/// A change with its sign, as print has it: `−56.12`.
pub fn change(value: f32) -> String {
    minus(number::signed(value))
}

/// The same with one digit after the point, where there is one to show: `−56.1`.
pub fn coarse(value: f32) -> String {
    if value.abs() < 0.1 { change(value) } else { minus(format!("{value:+.1}")) }
}

fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// The proof that a cut held, in short, and whether it did.
pub fn proof(reports: &[KnockoutReport]) -> Option<(String, bool)> {
    if reports.is_empty() {
        return None;
    }
    let pairs: u64 = reports.iter().map(KnockoutReport::total_pairs).sum();
    let left = largest(reports.iter().map(|report| report.blocked_mass));
    let left_text = if left == 0.0 { "0".to_string() } else { format!("{left:e}") };
    Some((format!("{} pairs · attention left on them {left_text}", number::thousands(pairs)), left == 0.0))
}

/// What random patches do instead, in short.
pub fn control(control: &Control) -> String {
    let spread = &control.delta;
    let draws = match spread.draws.len() {
        1 => "1 draw".to_string(),
        n => format!("{n} draws"),
    };
    format!("random patches {} ± {} nats ({draws})", coarse(spread.mean), number::short(spread.sd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spec::span::Span, statistics::spread::Spread, trace::report::Effect};

    fn scored(text: &str, delta: f32) -> ScoredToken {
        let token = AnswerToken {
            position: 0,
            id: 0,
            text: text.to_string(),
            span: Span::Answer,
            logprob: 0.0,
            entropy: None,
            top: Vec::new(),
            end: false,
            partial: false,
        };
        let effect = Effect { baseline: -0.1, logprob: -0.1 + delta, delta, rank: 0, kl: 0.0 };
        ScoredToken { token, effect, row: None }
    }

    #[test]
    fn the_same_tokens_may_have_other_probabilities() {
        assert_eq!(sentence(&[false; 2], &[false; 2], &[]), "The same tokens.");
        let effects = [scored(" red", -0.25), scored(" ball", -1.5)];
        assert_eq!(
            sentence(&[false; 2], &[false; 2], &effects),
            "The same tokens; log probability of the uncut answer −1.75 nats, most at “ball” (−1.50)."
        );
        let told = sentence(&[true, false], &[true], &effects);
        assert!(told.starts_with("1 of 1 tokens are new, 1 of 2 are gone; log probability"), "{told}");
    }

    #[test]
    fn signs_are_those_of_print() {
        assert_eq!([change(-56.118), change(0.5), change(0.0)], ["−56.12", "+0.50", "0"]);
        assert_eq!([coarse(-56.118), coarse(3.0), coarse(-0.02)], ["−56.1", "+3.0", "−0.02"]);
    }

    #[test]
    fn a_proof_says_what_is_left() {
        let report =
            |pairs: Vec<u64>, blocked_mass| KnockoutReport { text: String::new(), pairs, blocked_mass };
        assert_eq!(proof(&[]), None);
        let (text, held) = proof(&[report(vec![0, 7000], 0.0), report(vec![344], 0.0)]).unwrap();
        assert!(held);
        assert_eq!(text, "7 344 pairs · attention left on them 0");
        let (text, held) = proof(&[report(vec![5], 0.25), report(vec![1], 0.0)]).unwrap();
        assert!(text.ends_with("left on them 2.5e-1") && !held);
        assert!(!proof(&[report(vec![5], f32::NAN)]).unwrap().1, "what is no number proves nothing");
    }

    #[test]
    fn a_control_tells_its_draws() {
        let spread = Spread::new(-5.0, vec![-3.0, -4.0, -2.0]);
        let told = control(&Control { delta: spread.clone(), kl: spread });
        assert_eq!(told, "random patches −3.0 ± 1.000 nats (3 draws)");
    }
}
