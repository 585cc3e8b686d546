//! The menu of devices: an address is typed, the model goes there, and comes back.

use egui::Key;
use egui_kittest::kittest::Queryable as _;
use sightline::{
    device::address::Address,
    spec::turn::{Role, Turn},
    ui::store::{command::Command, store::Store, talk::Talk},
    worker::protocol::{Connection, Event, Request},
};

use crate::{
    bench,
    whole::{Around, app_in, until},
};

const ADDRESS: &str = "remote:ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6@10.0.0.7:7433";

#[test]
fn a_model_goes_to_another_machine_and_back() {
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    harness.get_by_label("where models run").click();
    harness.run_ok();
    let field = "address of another machine";
    harness.get_by_label(field).focus();
    harness.run_ok();
    harness.get_by_label(field).type_text("remote:nowhere");
    harness.run_ok();
    let wrong = harness.query_all_by_label_contains("is no server's id").next().is_some();
    assert!(wrong, "what is wrong with it is told");
    harness.key_press_modifiers(egui::Modifiers::COMMAND, Key::A);
    harness.run_ok();
    harness.get_by_label(field).type_text(ADDRESS);
    harness.run_ok();
    asked.lock().unwrap().clear();
    harness.get_by_label("Connect").click();
    until(&mut harness, "the connection", |store| {
        store.elsewhere.as_ref().is_some_and(|far| far.is_up()) && store.runs.baseline().done().is_some()
    });
    let told = asked.lock().unwrap().join("\n");
    let (place, load) = (told.find("Place(Some(").unwrap(), told.find("LoadModel(").unwrap());
    assert!(place < load && told[load..].contains("Run {"), "the model is loaded there, and asked: {told}");
    assert!(harness.query_all_by_label_contains("where models run").next().is_some());

    harness.get_by_label("where models run").click();
    harness.run_ok();
    harness.get_by_label("This machine").click();
    until(&mut harness, "this machine", |store| store.elsewhere.is_none());
    assert!(asked.lock().unwrap().iter().any(|request| request == "Place(None)"));
}

#[test]
fn a_connection_that_broke_is_made_anew_with_the_same_model() {
    let address: Address = ADDRESS.parse().unwrap();
    let mut store = Store::default();
    store.apply(Command::LoadModel("model".into()));
    let far = Some(address);
    let asked = |requests: Vec<Request>| requests.iter().map(|r| format!("{r:?}")).collect::<Vec<_>>();
    let first = asked(store.apply(Command::RunAt(far.clone())));
    assert!(first[0].starts_with("Place(Some(") && first[1] == "LoadModel(\"model\")", "{first:?}");
    store.event(Event::Connection(Connection::Up));
    store.event(Event::Connection(Connection::Down));
    store.event(Event::Failed { id: None, error: "the connection broke".to_string() });
    assert_eq!(store.elsewhere.as_ref().unwrap().state(), "not connected");
    assert_eq!(store.error.as_deref(), Some("the connection broke"));
    assert_eq!(asked(store.apply(Command::RunAt(far))), first);
    assert_eq!((store.elsewhere.unwrap().state(), store.error), ("connecting", None));
}

#[test]
fn a_connection_that_fails_changes_nothing() {
    let mut store = bench::answered();
    let (model, recent) = (store.model.clone().unwrap().folder, store.recent.clone());
    let earlier = vec![Turn::ask(1, "what is it?"), Turn::of(Role::Assistant, "a disc")];
    store.apply(Command::Talk(Talk { earlier: earlier.clone(), ..Talk::default() }));
    store.apply(Command::LoadModel(model.clone()));
    store.event(Event::Failed { id: None, error: "it cannot be read".to_string() });
    assert_eq!(store.talk.earlier, earlier, "nor does a model that fails");

    let far: Address = ADDRESS.parse().unwrap();
    store.apply(Command::RunAt(Some(far.clone())));
    assert!(store.elsewhere.is_some());
    // Another try before the first came to anything.
    store.apply(Command::RunAt(Some(far.clone())));
    store.event(Event::Connection(Connection::Calling));
    store.event(Event::Connection(Connection::Down));
    let back = store.event(Event::Failed { id: None, error: "nobody answers".to_string() });
    assert!(matches!(back[..], [Request::Place(None), ..]), "{back:?}");
    assert_eq!((store.elsewhere.as_ref(), store.talk.earlier.clone()), (None, earlier.clone()));
    assert_eq!((store.error.as_deref(), &store.recent), (Some("nobody answers"), &recent));

    store.apply(Command::RunAt(Some(far)));
    let back = store.apply(Command::Cancel);
    assert!(matches!(back[..], [Request::Cancel, Request::Place(None)]), "{back:?}");
    assert_eq!((store.elsewhere.as_ref(), store.talk.earlier), (None, earlier));
}
