//! A further question in a conversation, from the kept run of the question before.

use sightline::{
    bundled,
    spec::turn::{Role, Turn, answered},
    trace::tokens::written,
};

use super::*;

/// The question after an answer.
fn further(before: &Baseline, question: &str) -> Experiment {
    let mut turns = answered(&before.experiment.turns, &written(&before.trace.answer));
    turns.push(Turn::ask(0, question));
    Experiment { turns, ..before.experiment.clone() }
}

fn after(engine: &Engine, seen: &Seen, before: Option<&Baseline>, asked: &Experiment) -> Baseline {
    engine.run_after(before, asked, &[seen], &Cancel::default(), &mut |_| {}).unwrap().0
}

/// Asserts that two kept runs are the same to the last bit, but for sums of attention over spans, which are added up
/// in another order.
fn same_but_for_sums(mut a: Trace, b: &Trace, what: &str) {
    let (flow, other) = (a.flow.take().unwrap(), b.flow.as_ref().unwrap());
    assert_eq!((flow.rows, flow.data.len()), (other.rows, other.data.len()), "{what}");
    let largest = flow.data.iter().zip(&other.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-5, "{what}: {largest}");
    a.flow = b.flow.clone();
    same(&a, b, what);
}

#[test]
fn a_further_question_takes_over_what_was_run() {
    let tiled = tiled_seen(&TILED.1);
    let (_dir, spread, spread_seen) = spread_engine();
    for (engine, seen) in [(&*ENGINE, &*SEEN), (&TILED.1, &tiled), (&spread, &spread_seen)] {
        let mut before = keep(engine, seen, &ask(SHORT, 6)).unwrap();
        let cut = intervention(&["answer -> visual @ 0-1"], &["visual[3] = zero"]);
        for question in [LEFT, "what is it?"] {
            let asked = further(&before, question);
            assert!(asked.goes_on_from(&before.experiment) && !before.experiment.goes_on_from(&asked));
            let fresh = after(engine, seen, None, &asked);
            let kept = after(engine, seen, Some(&before), &asked);
            // Everything that ran of the conversation so far, where its tokens are those of its text.
            let old: Vec<u32> = before.trace.prompt.iter().map(|t| t.id).chain(before.trace.ids()).collect();
            let new = kept.prompt.ids();
            let alike = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
            assert_eq!((fresh.reused, kept.reused), (0, alike.min(before.n_rows())), "{question}");
            assert!(kept.reused >= before.prompt.len(), "{} of {}", kept.reused, before.prompt.len());
            same_but_for_sums(kept.trace.clone(), &fresh.trace, question);
            assert_eq!(kept.logits, fresh.logits);
            // Interventions start from it as from any other.
            let [one, other] = [&kept, &fresh].map(|base| intervene(engine, seen, base, &cut).unwrap());
            same_but_for_sums(one.free, &other.free, question);
            let changes =
                |i: &[Effect]| i.iter().map(|e| [e.delta.to_bits(), e.kl.to_bits()]).collect::<Vec<_>>();
            assert_eq!(changes(&one.outcome.effects), changes(&other.outcome.effects));
            before = kept;
        }
    }
}

/// A run about another picture that claims to be about this one: its rows must be what a further question reads.
#[test]
fn rows_that_are_taken_over_are_not_run_again() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let other = see(engine, &scene(1));
    let before = keep(engine, &other, &ask(SHORT, 6)).unwrap();
    let asked = further(&before, LEFT);
    let [kept, about_other, fresh] = [(Some(&before), seen), (None, &other), (None, seen)]
        .map(|(before, seen)| after(engine, seen, before, &asked));
    assert!(kept.reused > kept.prompt.len() / 2);
    assert_eq!(kept.logits, about_other.logits);
    assert_ne!(kept.logits, fresh.logits);
}

#[test]
fn a_run_that_does_not_fit_is_not_taken_over() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let before = keep(engine, seen, &ask(SHORT, 6)).unwrap();
    let asked = further(&before, LEFT);
    let reused = |before: &Baseline, asked: &Experiment| after(engine, seen, Some(before), asked).reused;
    assert!(reused(&before, &asked) > 0);
    // Of another image; kept otherwise; under a cut.
    let mut elsewhere = asked.clone();
    elsewhere.images[0].image = ImageSource::File(scene(1));
    assert_eq!(reused(&before, &elsewhere), 0);
    let half = Experiment { record: Record { half: true, ..Record::default() }, ..asked.clone() };
    assert_eq!(reused(&before, &half), 0);
    let cut = with(&before.experiment, &intervention(&["answer -> visual @ all"], &[]));
    assert_eq!(reused(&keep(engine, seen, &cut).unwrap(), &asked), 0);
    // Where an answer was told otherwise, up to there.
    let mut told = asked.clone();
    let at = told.turns.len() - 2;
    told.turns[at] = Turn::of(Role::Assistant, "red");
    assert!((before.prompt.len()..before.n_rows()).contains(&reused(&before, &told)));
    // The same question again is run but for its last row.
    assert_eq!(reused(&before, &before.experiment), before.prompt.len() - 1);
}

#[test]
fn a_given_beginning_is_part_of_the_answer_and_of_no_row_of_it() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let plain = keep(engine, seen, &ask(bundled::PROMPT, 6)).unwrap();
    let words: Vec<&str> = plain.trace.answer.iter().filter(|t| !t.end).map(|t| t.text.trim()).collect();
    assert!(words.len() >= 3, "{words:?}");
    let mut asked = ask(bundled::PROMPT, 6);
    asked.turns.push(Turn::of(Role::Assistant, words[..2].join(" ")));
    let begun = keep(engine, seen, &asked).unwrap();
    // The model goes on with what it would have said.
    assert_eq!(begun.prompt.len(), plain.prompt.len() + 2);
    let left: Vec<u32> = plain.trace.ids().into_iter().skip(2).collect();
    assert_eq!(begun.trace.ids()[..left.len()], left);
    let spans: Vec<Span> = begun.prompt.spans().into_iter().skip(plain.prompt.len()).collect();
    assert_eq!(spans, [Span::Answer, Span::Last]);
    assert_eq!(begun.trace.answer[0].position, begun.prompt.len());
    let row = begun.trace.pattern[0].row();
    assert_eq!(row.n_keys, begun.prompt.len(), "rows begin with the first token that was generated");
    // A cut of the answer cuts it too; its places are those that were generated.
    let pairs = |cut: &str| {
        let cut = intervention(&[cut], &[]);
        let scratch = run(engine, seen, &with(&asked, &cut)).unwrap();
        let resumed = intervene(engine, seen, &begun, &cut).unwrap();
        same(&resumed.free, &scratch, "a beginning");
        resumed.outcome.forced.knockouts[0].pairs[0]
    };
    let visual = visual(&begun.trace).len() as u64;
    let rows = (begun.trace.answer.len() as u64, 1);
    assert_eq!(pairs("answer -> visual @ 0"), (rows.0 + rows.1) * visual);
    assert_eq!(pairs("answer[0] -> visual @ 0"), visual);
    assert_eq!(pairs("decode -> visual @ 0"), (rows.0 - 1 + rows.1) * visual);
}
