//! Studies over images: what is asked for, what is shown as images are measured, and what a click on a point asks for.

use egui::{Key, Pos2, vec2};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    spec::picture::ImageSource,
    studies::survey::{
        bench::{Found, LeftOut},
        chart, course, kinds,
        record::{Header, Measured},
        settings::Settings,
    },
    trace::{
        offer::{Format, Offer},
        table::Value,
    },
    ui::store::{
        command::Command,
        store::Store,
        studies::State,
        surveys::{ImageFolder, OF_ONE_IMAGE, SurveyChoice},
        view_id::ViewId,
    },
    worker::protocol::{Event, Over, Request, RunId, Survey},
};

use crate::{
    bench::{QUESTION, answered, cut, opened},
    cuts::{Window, shows, window},
    made_up,
};

const IMAGE: &str = "two discs.png";

fn choice(kind: &'static str) -> SurveyChoice {
    SurveyChoice { kind, limit: None, asks: false }
}

fn folder() -> ImageFolder {
    ImageFolder { dir: "scenes".into(), images: 40, objects: true }
}

fn only_survey(requests: Vec<Request>) -> (RunId, Survey) {
    match <[Request; 1]>::try_from(requests) {
        Ok([Request::Survey { id, survey }]) => (id, *survey),
        other => panic!("expected one study over images, got {other:?}"),
    }
}

/// What `windows` measures on an image: in every layer, the same path does twice as much as in the layer before.
fn measured(number: usize, image: &str, question: &str, sign: f32) -> Event {
    let row = |centre: usize, half: usize| {
        let delta = sign * 0.01 * 2.0_f32.powi(centre as i32);
        let flow = Value::from("answer -> visual");
        vec![question.into(), flow, centre.into(), half.into(), delta.into(), Value::Number(0.5 * delta)]
    };
    let rows = [0, 1].into_iter().flat_map(|half| (0..made_up::LAYERS).map(move |centre| (centre, half)));
    let left_out = vec![LeftOut { what: "flows of an object".into(), why: "no object is known".into() }];
    let rows = rows.map(|(centre, half)| row(centre, half)).collect();
    let found = Found { rows, left_out, ..Found::default() };
    Event::SurveyImage { id: 0, measured: Box::new(Measured::new(number, image, found)) }
}

/// The same of a study of this name.
fn of(id: RunId, event: Event) -> Event {
    match event {
        Event::SurveyImage { measured, .. } => Event::SurveyImage { id, measured },
        other => other,
    }
}

fn tell(store: &mut Store, event: Event) {
    assert!(store.event(event).is_empty());
}

fn begun(store: &mut Store, id: RunId, images: &[&str]) {
    tell(store, Event::SurveyBegun { id, images: images.iter().map(Into::into).collect() });
}

fn header(survey: &Survey) -> Box<Header> {
    Box::new(Header::new(Header {
        format: String::new(),
        study: survey.kind.to_string(),
        model: made_up::model().info,
        dtype: "float32".into(),
        settings: survey.settings.clone(),
        images: "0".repeat(64),
        n_images: 1,
        shard: [1, 1],
    }))
}

#[test]
fn the_image_on_show_is_asked_the_question_in_force() {
    let mut store = answered();
    let (id, survey) = only_survey(store.apply(Command::Survey(choice("windows"))));
    let settings = Settings { prompt: Some(QUESTION.to_string()), length: Some(32), ..Settings::default() };
    let expected = Survey { kind: "windows", settings, over: Over::Image(IMAGE.into()), done: vec![] };
    assert_eq!(survey, expected);
    begun(&mut store, id, &[IMAGE]);
    tell(&mut store, of(id, measured(0, IMAGE, QUESTION, -1.0)));
    let run = store.surveys.running().unwrap();
    assert_eq!((run.steps(), run.measured[0].rows.len()), ((1, 1), 2 * made_up::LAYERS));
    tell(&mut store, Event::SurveyDone { id, header: header(&survey) });
    assert_eq!(store.surveys.get().unwrap().state, State::Whole);
}

#[test]
fn a_folder_asks_its_own_questions_or_the_one_in_force_of_as_many_images_as_are_wanted() {
    let mut store = answered();
    assert!(store.apply(Command::SurveyOver(Some(folder()))).is_empty());
    assert!(store.notices.last().unwrap().contains("40 images"));
    let own = SurveyChoice { limit: Some(7), ..choice("windows") };
    let (id, survey) = only_survey(store.apply(Command::Survey(own)));
    assert_eq!(survey.over, Over::Folder { dir: "scenes".into(), limit: Some(7) });
    assert_eq!(survey.settings, Settings::default());
    assert!(store.apply(Command::Survey(own)).is_empty(), "one goes on");
    tell(&mut store, Event::Studied { id, whole: false });
    let asks = SurveyChoice { asks: true, ..choice("windows") };
    let (_, survey) = only_survey(store.apply(Command::Survey(asks)));
    assert_eq!(survey.settings.prompt.as_deref(), Some(QUESTION));
}

#[test]
fn what_stops_goes_on_with_what_is_not_measured() {
    let mut store = answered();
    store.apply(Command::SurveyOver(Some(folder())));
    let (id, first) = only_survey(store.apply(Command::Survey(choice("windows"))));
    begun(&mut store, id, &["scenes/a.png", "scenes/b.png"]);
    tell(&mut store, of(id, measured(0, "a.png", QUESTION, 1.0)));
    // Whatever is asked meanwhile leaves it alone; and so does what is cancelled.
    assert!(matches!(store.apply(cut((2, 3)))[..], [Request::Run { .. }]));
    store.apply(Command::Cancel);
    assert!(store.surveys.running().is_some());
    assert!(store.apply(Command::GoOnWithSurvey).is_empty(), "it goes on already");
    assert!(matches!(store.apply(Command::StopSurvey)[..], [Request::Drop(of)] if of == id));
    tell(&mut store, Event::Studied { id, whole: false });
    assert_eq!(store.surveys.get().unwrap().state, State::Dropped);

    let (again, survey) = only_survey(store.apply(Command::GoOnWithSurvey));
    assert_eq!(survey, Survey { done: vec!["a.png".to_string()], ..first });
    tell(&mut store, of(id, measured(1, "b.png", QUESTION, 1.0)));
    assert_eq!(store.surveys.get().unwrap().measured.len(), 1, "of the one that was stopped");
    tell(&mut store, of(again, measured(1, "b.png", QUESTION, 1.0)));
    let run = store.surveys.get().unwrap();
    let names: Vec<&str> = run.measured.iter().map(|one| one.image.as_str()).collect();
    assert_eq!(names, ["a.png", "b.png"]);
    tell(&mut store, Event::Failed { id: Some(again), error: "the device is lost".to_string() });
    assert!(store.error.is_none(), "it is said where the study is");
    let failed = State::Failed("the device is lost".to_string());
    assert_eq!(store.surveys.get().unwrap().state, failed);

    // Another model would measure something else.
    let mut model = made_up::model();
    model.info.sha256 = "1".repeat(64);
    store.event(Event::Model(model));
    assert!(store.why_not_on().unwrap().contains("Open made-up to go on"));
    assert!(store.apply(Command::GoOnWithSurvey).is_empty());
    assert_eq!(store.surveys.get().unwrap().measured.len(), 2, "what was measured stays");
}

#[test]
fn what_cannot_be_studied_says_what_to_do() {
    let windows = kinds::of("windows").unwrap();
    let empty = Store::new(QUESTION.to_string(), 32);
    assert!(empty.why_no_survey(windows).unwrap().contains("Open a model"));
    let mut store = opened().0;
    for kind in &kinds::ALL {
        let why = store.why_no_survey(kind);
        match OF_ONE_IMAGE.contains(&kind.name) {
            true if kind.plain => assert_eq!(why, None),
            true => assert!(why.unwrap().contains("objects whose pixels are known")),
            false => assert!(why.unwrap().contains("choose a folder")),
        }
    }
    store.apply(Command::SurveyOver(Some(ImageFolder { objects: false, ..folder() })));
    for kind in &kinds::ALL {
        assert_eq!(store.why_no_survey(kind).is_none(), kind.plain, "{}", kind.name);
    }
    store.apply(Command::SurveyOver(None));
    let pasted = ImageSource::Bytes(std::sync::Arc::from([]), "pasted image".to_string());
    store.apply(Command::OpenImage(pasted.clone()));
    assert!(store.why_no_survey(windows).unwrap().contains("Wait"));
    store.event(Event::Image(made_up::image(pasted)));
    assert!(store.why_no_survey(windows).unwrap().contains("lies in no file"));
    assert!(store.apply(Command::Survey(choice("windows"))).is_empty());
}

/// A window with the view of studies, in which `windows` was begun over the image on show; its name.
fn studying() -> (Harness<'static, Window>, RunId) {
    let mut harness = window(answered(), Key::Num9);
    assert!(shows(&harness, "cost: 1 image"));
    harness.get_by_label("start the study").click();
    harness.run_ok();
    let run = harness.state().store.surveys.running().unwrap();
    assert_eq!(run.kind.name, "windows");
    let id = run.id;
    (harness, id)
}

fn take(harness: &mut Harness<'static, Window>, event: Event) {
    tell(&mut harness.state_mut().store, event);
    harness.run_ok();
}

/// Where a point of the figure on screen is.
fn spot(harness: &Harness<'static, Window>, panel: usize, point: usize) -> Pos2 {
    let Window { store, layout, .. } = harness.state();
    let place = layout.places().iter().find(|(name, _)| name == "study").unwrap().1;
    let run = store.surveys.get().unwrap();
    let rows = course::rows(run.kind, &run.measured);
    let panels = (run.kind.panels)(&rows, &run.survey.settings, &run.model);
    let drawing = chart::draw("windows: made-up", &panels, place.width());
    let spot = drawing.spots.iter().find(|spot| (spot.panel, spot.point) == (panel, point)).unwrap();
    place.min + vec2(spot.at[0], spot.at[1])
}

fn click_at(harness: &mut Harness<'static, Window>, at: Pos2) {
    harness.hover_at(at);
    harness.run_ok();
    harness.drag_at(at);
    harness.run_ok();
    harness.drop_at(at);
    harness.run_ok();
}

#[test]
fn the_figure_grows_with_every_image_and_a_click_cuts_what_its_point_cut() {
    let (mut harness, id) = studying();
    take(&mut harness, Event::SurveyBegun { id, images: vec![IMAGE.into()] });
    assert!(shows(&harness, "windows: 0 of 1 images"));
    take(&mut harness, of(id, measured(0, IMAGE, QUESTION, -1.0)));
    assert!(shows(&harness, "windows: 1 of 1 images"));
    assert!(shows(&harness, "no object is known (two discs.png, flows of an object)"));

    let at = spot(&harness, 0, 3);
    harness.hover_at(at);
    harness.run_ok();
    harness.run_steps(4);
    assert!(shows(&harness, "answer -> visual, centre layer 3: -0.08000"));
    click_at(&mut harness, at);
    let store = &harness.state().store;
    let on: Vec<String> =
        store.cut.items.iter().filter(|item| item.on).map(|item| item.change.to_string()).collect();
    assert_eq!(on, ["answer -> visual @ 3~0"], "the first panel is of windows of one layer");
    assert!(store.runs.cut().done().is_some(), "it was run");
    assert_eq!(store.prompt, QUESTION);
}

#[test]
fn of_many_images_a_click_opens_the_one_where_the_cut_does_most() {
    let mut store = answered();
    store
        .apply(Command::AddCut(sightline::ui::store::cut_list::Change::parse("last -> visual @ 1").unwrap()));
    store.apply(Command::SurveyOver(Some(folder())));
    let mut harness = window(store, Key::Num9);
    assert!(shows(&harness, "cost: 40 images"));
    harness.get_by_label("start the study").click();
    harness.run_ok();
    let id = harness.state().store.surveys.running().unwrap().id;
    let images = vec!["scenes/images/a.png".into(), "scenes/images/b.png".into()];
    take(&mut harness, Event::SurveyBegun { id, images });
    take(&mut harness, of(id, measured(0, "a.png", "what is it ?", 1.0)));
    take(&mut harness, of(id, measured(1, "b.png", "where is it ?", -3.0)));
    let at = spot(&harness, 0, 5);
    click_at(&mut harness, at);
    let store = &harness.state().store;
    assert_eq!(store.recent.first(), Some(&"scenes/images/b.png".into()));
    assert_eq!(store.prompt, "where is it ?");
    let list: Vec<(bool, String)> =
        store.cut.items.iter().map(|item| (item.on, item.change.to_string())).collect();
    let expected = [(false, "last -> visual @ 1"), (true, "answer -> visual @ 5~0")];
    assert_eq!(list, expected.map(|(on, text)| (on, text.to_string())));
}

#[test]
fn a_study_is_given_away_as_figure_and_rows_and_once_it_is_whole_as_json() {
    let (mut harness, id) = studying();
    take(&mut harness, Event::SurveyBegun { id, images: vec![IMAGE.into()] });
    let offers = |harness: &mut Harness<'static, Window>| {
        let Window { store, layout, .. } = harness.state_mut();
        layout.offers(ViewId::Studies, store)
    };
    assert!(offers(&mut harness).is_empty());
    take(&mut harness, of(id, measured(0, IMAGE, QUESTION, -1.0)));
    let some = offers(&mut harness);
    let [Offer::Figure(figure), Offer::Table(table)] = &some[..] else { panic!("{some:?}") };
    assert!(figure.is_finite() && figure.title.contains("windows: made-up, 1 image"));
    let columns = ["image", "question", "flow", "centre", "half", "delta", "first_ratio"];
    assert_eq!((&table.columns[..], table.rows.len()), (&columns.map(String::from)[..], 2 * made_up::LAYERS));
    let survey = harness.state().store.surveys.get().unwrap().survey.clone();
    take(&mut harness, Event::SurveyDone { id, header: header(&survey) });
    let all = offers(&mut harness);
    let json = all.iter().find(|offer| offer.formats().contains(&Format::Json)).unwrap();
    let Offer::Json { text, .. } = json else { panic!("{json:?}") };
    let read: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!((read["study"].as_str(), read["n_measured"].as_u64()), (Some("windows"), Some(1)));
    assert_eq!(read["left_out"][0]["why"], "no object is known");
}
