//! The logic: events and commands in, requests out.

use sightline::{
    checkpoint::weights::WeightDtype,
    progress::{Progress, Stage},
    spec::{
        picture::ImageSource,
        turn::{Role, Turn},
    },
    ui::store::{
        command::Command,
        selection::{BASELINE, CUT},
        settings::Asking,
        store::Store,
        talk::Talk,
    },
    worker::protocol::{Event, Request},
};

use crate::{
    bench::{QUESTION, answered, cancelled, cut, only_run, opened, tell, typed},
    made_up::{self, done, started, token, whole},
};

fn serial_of(store: &Store) -> u64 {
    store.images.last().expect("an image").serial
}

fn image_event(source: ImageSource) -> Event {
    Event::Image(made_up::image(source))
}

#[test]
fn an_opened_image_is_asked_about_at_once() {
    let (store, _, experiment) = opened();
    assert_eq!(experiment.question(), QUESTION);
    assert!(experiment.intervention.is_empty() && experiment.images[0].image == made_up::source());
    assert!(store.busy());
}

#[test]
fn tokens_stream_in_and_stay() {
    let (mut store, id, experiment) = opened();
    store.event(started(id, &experiment));
    for s in 0..3 {
        store.event(token(id, &experiment, s));
    }
    assert_eq!(store.runs.baseline().answer_text(), "a red ball");
    assert!(store.runs.baseline().row(2).is_some_and(|(_, fresh)| fresh));
    for s in 3..15 {
        store.event(token(id, &experiment, s));
    }
    store.event(done(id, &experiment));
    assert!(store.runs.baseline().answer_text().ends_with("on sand ."));
    assert!(!store.busy());
}

#[test]
fn events_of_a_superseded_run_are_ignored() {
    let (mut store, old, asked) = opened();
    store.event(started(old, &asked));
    store.apply(Command::Asking(Asking { max_new: 5, ..store.asking }));
    let (new, asked_anew) = only_run(store.apply(Command::Ask("how many ?".to_string())));
    store.event(token(old, &asked, 0));
    store.event(done(old, &asked));
    store.event(Event::Failed { id: Some(old), error: "late".into() });
    assert!(store.runs.baseline().tokens().is_empty());
    assert!(store.error.is_none() && store.runs.baseline().busy());
    tell(&mut store, whole(new, &asked_anew));
    assert_eq!(store.runs.baseline().tokens().len(), 5);
    assert_eq!(store.runs.len(), 1, "runs that nothing names are dropped");
}

#[test]
fn an_answer_stays_until_the_next_has_something_to_show() {
    let mut store = answered();
    let answer = store.runs.baseline().answer_text();
    let (id, asked) = only_run(store.apply(Command::Ask("why ?".to_string())));
    store.event(started(id, &asked));
    assert_eq!(store.runs.baseline().answer_text(), answer);
    assert!(store.runs.baseline().stale());
    store.event(token(id, &asked, 0));
    assert_eq!(store.runs.baseline().answer_text(), "a");
}

#[test]
fn a_failure_keeps_what_was_there() {
    let mut store = answered();
    let answer = store.runs.baseline().answer_text();
    let (id, asked) = only_run(store.apply(Command::Ask("why ?".to_string())));
    store.event(started(id, &asked));
    store.event(token(id, &asked, 0));
    store.event(Event::Failed { id: Some(id), error: "the prompt is longer than the context".into() });
    assert_eq!(store.runs.baseline().answer_text(), answer);
    assert!(store.error.as_deref().is_some_and(|e| e.contains("context")) && !store.busy());
    store.apply(Command::OpenImage(ImageSource::File("broken.png".into())));
    store.event(Event::Failed { id: None, error: "broken.png: unexpected end of file".into() });
    assert_eq!(store.runs.baseline().answer_text(), answer);
    assert!(store.image().is_some() && !store.busy());
    store.apply(Command::DismissError);
    assert!(store.error.is_none());
}

#[test]
fn a_cut_waits_for_its_baseline_and_the_latest_wins() {
    let (mut store, id, experiment) = opened();
    assert!(store.apply(cut((2, 3))).is_empty(), "the baseline comes first");
    let (first, first_asked) = only_run(tell(&mut store, whole(id, &experiment)));
    assert_eq!(first_asked.intervention.knockouts[0].to_string(), "answer -> visual @ 2-3");
    let (second, second_asked) = only_run(store.apply(cut((2, 6))));
    tell(&mut store, whole(first, &first_asked));
    assert!(store.runs.cut().tokens().is_empty(), "superseded");
    tell(&mut store, whole(second, &second_asked));
    assert_eq!(store.runs.cut().answer_text(), "a duck at the top on sand .");
    assert!(store.apply(cut((2, 6))).is_empty(), "nothing changed, nothing is asked");
}

#[test]
fn a_stale_cut_stays_on_show_and_is_marked() {
    let mut store = answered();
    let (id, asked) = only_run(store.apply(cut((2, 6))));
    tell(&mut store, whole(id, &asked));
    let (id, asked) = only_run(store.apply(cut((2, 3))));
    assert!(store.runs.cut().stale());
    store.event(started(id, &asked));
    store.event(token(id, &asked, 0));
    let fresh: Vec<bool> = store.runs.cut().tokens().iter().map(|(_, fresh)| *fresh).collect();
    assert!(fresh[0] && !fresh[1] && fresh.len() > 2);
    let lane = store.runs.cut();
    assert!(lane.row(0).is_some_and(|(_, f)| f) && lane.row(1).is_some_and(|(_, f)| !f));
    // Back to the range that is complete already: no need to run it again.
    let requests = store.apply(cut((2, 6)));
    assert!(matches!(requests[..], [Request::Cancel]), "{requests:?}");
    assert!(!store.runs.cut().stale());
}

#[test]
fn words_are_marked_as_changed_only_once_the_cut_is_complete() {
    let mut store = answered();
    assert!(store.changed().is_none());
    let (id, asked) = only_run(store.apply(cut((2, 3))));
    store.event(started(id, &asked));
    for s in 0..15 {
        store.event(token(id, &asked, s));
        assert!(store.changed().is_none(), "half an answer differs in nothing but its end");
    }
    store.event(done(id, &asked));
    let (lost, new) = store.changed().expect("both are complete");
    let at: Vec<usize> = (0..15).filter(|&at| lost[at]).collect();
    assert_eq!(at, [9], "blue is gone");
    assert!(new[9] && new.iter().filter(|n| **n).count() == 1);
    // Another uncut answer: what the cut changed of the last one says nothing of it.
    store.apply(Command::Ask("why ?".to_string()));
    assert!(store.changed().is_none());
}

#[test]
fn an_answer_shares_the_rows_that_were_scored() {
    let mut store = answered();
    let (id, asked) = only_run(store.apply(cut((2, 3))));
    store.event(started(id, &asked));
    store.event(Event::Scoring { id, start: None });
    store.event(made_up::scored(id, &asked, 0));
    let (first, _) = made_up::steps(&asked).swap_remove(0);
    store.event(Event::Token { id, token: first, row: sightline::worker::protocol::ToldRow::AsScored });
    let run = store.runs.cut().view().expect("a run");
    let (shown, scored) = (run.rows[0].as_ref().unwrap(), run.scored[0].row.as_ref().unwrap());
    assert!(std::sync::Arc::ptr_eq(shown, scored));
    assert_eq!(run.mean.rows, 1);
}

#[test]
fn switching_the_cut_off_removes_it() {
    let mut store = answered();
    let (id, asked) = only_run(store.apply(cut((2, 6))));
    tell(&mut store, whole(id, &asked));
    store.apply(Command::Show(CUT));
    assert_eq!(store.selection.slot, CUT);
    store.apply(Command::SwitchCut(0));
    assert!(!store.runs.has(CUT));
    assert_eq!(store.selection.slot, BASELINE);
}

#[test]
fn lines_of_the_list_are_checked_in_place_and_do_not_hold_up_the_others() {
    let mut store = answered();
    for (line, (text, part)) in
        [("answer -> visual @ 99", "layer 99"), ("all -> bos @ 0 # 9", "head 9")].into_iter().enumerate()
    {
        assert!(store.apply(typed(text)).is_empty());
        assert!(store.line_error(line).is_some_and(|e| e.contains(part)), "{text}: {:?}", store.cut_error());
    }
    let (_, asked) = only_run(store.apply(typed("last -> visual[0-9] @ all")));
    assert_eq!(asked.intervention.knockouts.len(), 1);
    assert!(store.line_error(2).is_none() && store.line_error(0).is_some());
    store.apply(Command::SwitchCut(0));
    store.apply(Command::RemoveCut(1));
    assert!(store.cut_error().is_none());
}

#[test]
fn a_refused_cut_is_told_once_and_not_asked_again() {
    let mut store = answered();
    let (id, _) = only_run(store.apply(cut((0, 7))));
    let requests = store.event(Event::Failed { id: Some(id), error: "nothing left to look at".into() });
    assert!(requests.is_empty() && store.error.is_none());
    assert_eq!(store.cut_error(), Some("nothing left to look at"));
    assert!(store.apply(Command::Layer(3)).is_empty());
    let (id, asked) = only_run(store.apply(cut((0, 6))));
    assert!(store.cut_error().is_none(), "its cause went");
    tell(&mut store, whole(id, &asked));
    store.apply(Command::ClearCuts);
    assert!(store.cut_error().is_none());
}

#[test]
fn cancelling_keeps_a_partial_answer_and_forgets_what_has_not_begun() {
    let (mut store, id, experiment) = opened();
    assert!(matches!(store.apply(Command::Cancel)[..], [Request::Cancel]));
    assert!(!store.busy() && store.cancelled());
    assert!(store.event(Event::Stopped { id: Some(id) }).is_empty());
    store.event(done(id, &experiment));
    assert!(store.runs.baseline().tokens().is_empty() && store.runs.baseline().cancelled());

    let (id, asked) = only_run(store.apply(Command::Ask(QUESTION.to_string())));
    assert!(!store.cancelled(), "something else happens");
    store.event(started(id, &asked));
    store.event(token(id, &asked, 0));
    store.apply(Command::Cancel);
    assert!(store.busy(), "its end is still to come");
    store.event(cancelled(id, &asked));
    assert_eq!(store.runs.baseline().answer_text(), "a");
    assert!(store.cancelled());

    only_run(store.apply(cut((2, 3))));
    assert!(matches!(store.apply(Command::Cancel)[..], [Request::Cancel]));
    assert!(store.apply(Command::Layer(1)).is_empty(), "a cancelled cut is not asked for again");
}

#[test]
fn a_run_that_is_stopped_gives_the_old_answer_back() {
    for end_it in [|id, _: &_| Event::Stopped { id: Some(id) }, |id, asked: &_| cancelled(id, asked)] {
        let mut store = answered();
        let answer = store.runs.baseline().answer_text();
        let (id, asked) = only_run(store.apply(Command::Ask("why ?".to_string())));
        store.event(started(id, &asked));
        assert!(store.event(end_it(id, &asked)).is_empty());
        assert_eq!(store.runs.baseline().answer_text(), answer);
        assert!(!store.busy() && !store.runs.baseline().stale());
    }
}

#[test]
fn a_question_that_is_cancelled_gives_the_cut_back_too() {
    let mut store = answered();
    let (id, asked) = only_run(store.apply(cut((2, 6))));
    tell(&mut store, whole(id, &asked));
    let (answer, under_cut) = (store.runs.baseline().answer_text(), store.runs.cut().answer_text());
    let (id, asked) = only_run(store.apply(Command::Ask("why ?".to_string())));
    store.event(started(id, &asked));
    assert_eq!(store.runs.cut().answer_text(), under_cut, "until the next answer has something to show");
    store.apply(Command::Cancel);
    assert!(store.event(Event::Stopped { id: Some(id) }).is_empty());
    assert_eq!(store.runs.baseline().answer_text(), answer);
    assert_eq!(store.runs.cut().answer_text(), under_cut);

    let (id, asked) = only_run(store.apply(Command::Ask("why ?".to_string())));
    store.event(started(id, &asked));
    store.event(token(id, &asked, 0));
    assert!(!store.runs.has(CUT), "it is another answer's");
    store.apply(Command::Cancel);
    assert!(store.event(cancelled(id, &asked)).is_empty(), "nor is a cut of half an answer asked for");
    only_run(store.apply(cut((2, 5))));
}

#[test]
fn asking_the_same_again_while_a_cut_runs_runs_the_cut_again() {
    let mut store = answered();
    let (_, first) = only_run(store.apply(cut((2, 6))));
    let requests = store.apply(Command::AskAgain);
    let [Request::Cancel, Request::Run { id, experiment, .. }] = &requests[..] else {
        panic!("{requests:?}")
    };
    let (_, again) = only_run(tell(&mut store, whole(*id, experiment)));
    assert_eq!(again, first);
}

#[test]
fn a_cut_that_waits_is_cancelled_with_what_it_waits_for() {
    let mut store = answered();
    let (id, _) = only_run(store.apply(Command::Ask("why ?".to_string())));
    assert!(store.apply(cut((2, 6))).is_empty());
    assert!(matches!(store.apply(Command::Cancel)[..], [Request::Cancel]));
    assert!(store.event(Event::Stopped { id: Some(id) }).is_empty());
    assert!(store.event(Event::Idle).is_empty());
    assert_eq!(store.cut_error(), Some("cancelled"));
}

#[test]
fn after_a_cancel_nothing_is_outstanding() {
    let mut store = answered();
    let other = ImageSource::File("other.png".into());
    store.apply(Command::OpenImage(other.clone()));
    only_run(store.event(image_event(other.clone())));
    store.event(Event::Progress(Progress::of(Stage::Encode, 1, 3)));
    store.apply(Command::Cancel);
    // Asked for once while the image was encoded, then once more: that one request is all there is.
    let (id, asked) = only_run(store.apply(Command::Ask(QUESTION.to_string())));
    for late in [
        Event::Progress(Progress::of(Stage::Encode, 2, 3)),
        Event::Stopped { id: None },
        image_event(other.clone()),
        image_event(made_up::source()),
        Event::Idle,
        image_event(other),
        Event::Progress(Progress::begun(Stage::Open)),
    ] {
        let text = format!("{late:?}");
        assert!(store.event(late).is_empty(), "{text:.80}");
    }
    tell(&mut store, whole(id, &asked));
    assert!(store.runs.baseline().done().is_some_and(|run| run.id == id));
}

#[test]
fn an_image_that_was_cancelled_takes_nothing_away() {
    let mut store = answered();
    let answer = store.runs.baseline().answer_text();
    let other = ImageSource::File("other.png".into());
    store.apply(Command::OpenImage(other.clone()));
    assert!(store.busy());
    assert!(matches!(store.apply(Command::Cancel)[..], [Request::Cancel]));
    assert!(store.event(image_event(other)).is_empty());
    assert!(store.event(Event::Stopped { id: None }).is_empty());
    assert_eq!(store.images.source(), Some(&made_up::source()));
    assert_eq!(store.runs.baseline().answer_text(), answer);
    assert!(store.cancelled());
}

#[test]
fn a_question_asked_while_an_image_is_opened_is_about_that_image() {
    let mut store = answered();
    let other = ImageSource::File("other.png".into());
    store.apply(Command::OpenImage(other.clone()));
    assert!(store.apply(Command::Ask("how many ?".to_string())).is_empty());
    let (_, asked) = only_run(store.event(image_event(other.clone())));
    assert_eq!((asked.question().as_str(), &asked.images[0].image), ("how many ?", &other));
}

#[test]
fn an_image_told_again_only_updates_the_view() {
    let mut store = answered();
    let answer = store.runs.baseline().answer_text();
    let serial = serial_of(&store);
    assert!(store.event(image_event(made_up::source())).is_empty());
    assert!(serial_of(&store) > serial);
    assert_eq!(store.runs.baseline().answer_text(), answer);
}

#[test]
fn a_model_that_comes_late_is_told_of_the_image_that_waits() {
    let mut store = Store::new(QUESTION.to_string(), 32);
    store.apply(Command::LoadModel("nowhere".into()));
    store.apply(Command::OpenImage(made_up::source()));
    store.event(Event::Failed { id: None, error: "nowhere: no such folder".into() });
    store.event(Event::Failed { id: None, error: "no model is loaded".into() });
    assert!(store.error.as_deref().is_some_and(|e| e.contains("nowhere")), "the first is the cause");
    store.apply(Command::LoadModel("model".into()));
    let requests = store.event(Event::Model(made_up::model()));
    assert!(matches!(&requests[..], [Request::OpenImage(source)] if *source == made_up::source()));
    only_run(store.event(image_event(made_up::source())));
}

#[test]
fn another_model_forgets_answers_and_fits_the_selection() {
    let mut store = answered();
    store.apply(Command::Layer(7));
    store.apply(Command::Head(Some(3)));
    store.apply(Command::LoadModel("other".into()));
    let mut model = made_up::model();
    (model.info.n_layers, model.info.n_heads) = (2, 2);
    assert!(store.event(Event::Model(model)).is_empty(), "the image comes first, as this model sees it");
    assert!(store.runs.baseline().view().is_none());
    assert!(store.selection.layer < 2 && store.selection.head.is_none());
    assert!(store.runs.kept().is_empty());
    assert!(store.notices[0].starts_with("Run A belonged to made-up"), "{:?}", store.notices);
    only_run(store.event(image_event(made_up::source())));
}

#[test]
fn the_same_model_on_another_device_keeps_its_runs_and_its_conversation() {
    let mut store = answered();
    let said = store.runs.baseline().answer_text();
    let (id, asked) = only_run(store.apply(Command::GoOn("where ?".to_string())));
    tell(&mut store, whole(id, &asked));
    store.apply(Command::RunAt(None));
    let mut model = made_up::model();
    model.device = "another".to_string();
    assert!(store.event(Event::Model(model.clone())).is_empty());
    assert_eq!(store.notices, ["Runs A to B stay: they ran on CPU (burn-flex), the next runs on another."]);
    let (again, anew) = only_run(store.event(image_event(made_up::source())));
    assert_eq!(anew.turns, asked.turns, "the question is asked there, after the same answer");
    tell(&mut store, whole(again, &anew));
    let kept = store.runs.kept();
    let names: Vec<String> = kept.iter().map(|slot| store.runs.name(*slot)).collect();
    assert_eq!((names, store.runs.name(BASELINE)), (vec!["A".into(), "B".into()], "C".to_string()));
    assert_eq!(store.runs.lane(kept[0]).answer_text(), said);
    // In another precision its numbers are others.
    model.dtype = WeightDtype::F16;
    store.event(Event::Model(model));
    assert!(store.runs.is_empty() && store.notices[1].starts_with("Runs A to C belonged to made-up"));
}

#[test]
fn progress_ends_when_nothing_goes_on() {
    let mut store = answered();
    store.event(Event::Progress(Progress::of(Stage::Load, 1, 2)));
    assert!(store.busy());
    store.event(Event::Idle);
    assert!(!store.busy() && store.progress.is_none());
}

#[test]
fn an_answer_is_kept_as_a_turn_and_nothing_is_asked() {
    let (mut store, id, experiment) = opened();
    store.apply(Command::FollowUp);
    assert!(store.talk.is_plain(), "there is no answer to keep");
    tell(&mut store, whole(id, &experiment));
    assert!(store.apply(Command::FollowUp).is_empty() && !store.busy());
    let kept = [Turn::ask(1, QUESTION), Turn::of(Role::Assistant, store.runs.baseline().answer_text())];
    assert_eq!(store.talk.earlier, kept);
    assert!(store.apply(Command::FollowUp).is_empty(), "it is kept once");
    assert_eq!(store.talk.earlier, kept);
    // A cut meanwhile is one of the question that was asked.
    let (cut_id, cut_run) = only_run(store.apply(cut((0, 3))));
    assert_eq!(cut_run.turns, experiment.turns);
    tell(&mut store, whole(cut_id, &cut_run));
    assert!(store.runs.cut().done().unwrap().setup.talk.is_plain());
    store.apply(Command::ClearCuts);
    let (_, next) = only_run(store.apply(Command::Ask("where ?".to_string())));
    assert_eq!(next.turns, [&kept[..], &[Turn::ask(0, "where ?")]].concat());
}

#[test]
fn the_last_question_is_asked_again_as_it_was() {
    let (mut store, id, experiment) = opened();
    tell(&mut store, whole(id, &experiment));
    store.apply(Command::FollowUp);
    let (_, again) = only_run(store.apply(Command::AskAgain));
    assert_eq!(again.turns, experiment.turns, "and not after its own answer");
}

#[test]
fn a_system_text_that_was_typed_stays_and_begins_the_conversation_anew() {
    let (mut store, id, experiment) = opened();
    tell(&mut store, whole(id, &experiment));
    store.apply(Command::Talk(Talk { system: "Be brief.".to_string(), ..Talk::default() }));
    store.apply(Command::FollowUp);
    assert_eq!((store.talk.system.as_str(), store.talk.earlier.len()), ("Be brief.", 2));
    assert!(store.notices.is_empty(), "nothing was asked yet");
    let (next, asked) = only_run(store.apply(Command::Ask("where ?".to_string())));
    assert_eq!(asked.turns[0], Turn::of(Role::System, "Be brief."));
    assert_eq!((asked.turns.len(), store.notices.len()), (4, 1));
    assert!(store.notices[0].contains("begins the conversation anew"));
    tell(&mut store, whole(next, &asked));
    only_run(store.apply(Command::GoOn("why ?".to_string())));
    assert_eq!((store.talk.system.as_str(), store.notices.len()), ("Be brief.", 1), "it is told once");
}

#[test]
fn a_question_after_an_answer_goes_on_with_the_conversation() {
    let (mut store, id, experiment) = opened();
    let on = |store: &mut Store| store.apply(Command::GoOn("where ?".to_string()));
    assert!(on(&mut store).is_empty() && store.prompt == QUESTION, "there is no answer to go on from");
    tell(&mut store, whole(id, &experiment));
    let said = store.runs.baseline().answer_text();
    store.apply(Command::Talk(Talk { system: "Be brief.".to_string(), ..Talk::default() }));
    let (id, asked) = only_run(store.apply(Command::Ask(QUESTION.to_string())));
    assert_eq!(asked.turns, [Turn::of(Role::System, "Be brief."), Turn::ask(1, QUESTION)]);
    tell(&mut store, whole(id, &asked));
    let (next, further) = only_run(on(&mut store));
    let both = [Turn::of(Role::Assistant, said.as_str()), Turn::ask(0, "where ?")];
    assert_eq!(further.turns, [&asked.turns[..], &both].concat());
    assert!(further.goes_on_from(&asked) && further.images == asked.images);
    tell(&mut store, whole(next, &further));
    // Asked in its place, another question follows the same answer; the state before is the first question alone.
    let (last, again) = only_run(store.apply(Command::Ask("why ?".to_string())));
    assert_eq!((again.turns.len(), again.question().as_str()), (4, "why ?"));
    tell(&mut store, whole(last, &again));
    // Started over, it is the first again; so it is about another picture.
    let mut talk = store.talk.clone();
    talk.earlier.clear();
    store.apply(Command::Talk(talk));
    let (_, first) = only_run(store.apply(Command::Ask("why ?".to_string())));
    assert_eq!(first.turns, [Turn::of(Role::System, "Be brief."), Turn::ask(1, "why ?")]);
}
