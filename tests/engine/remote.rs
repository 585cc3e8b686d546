//! The inference thread with a device elsewhere: a connection that breaks is told, and loading again makes it anew, in
//! the same process and with the same numbers.
#![allow(clippy::unwrap_used)]

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::{address::Address, open as device},
    spec::{experiment::Experiment, picture::ImageSource},
    trace::pattern::PatternRow,
    worker::{
        protocol::{Connection, Event, Request, RunId, ToldRow},
        thread::Worker,
    },
};

use crate::common::served::Served;

/// The token is taken from the environment, which is one for all tests of a process: runs a test in a process of its
/// own that has one. Whether this is that process.
fn has_token(test: &str) -> bool {
    if env::var_os("SIGHTLINE_TOKEN").is_some() {
        return true;
    }
    let mut own = Command::new(env::current_exe().unwrap());
    own.args(["--exact", &format!("remote::{test}"), "--nocapture"]).env("SIGHTLINE_TOKEN", "of#a test");
    assert!(own.status().unwrap().success());
    false
}

/// What an answer told: its tokens, and their attention.
type Answer = Vec<(u32, PatternRow)>;

/// Loads the bundled model; how it stood with the device meanwhile.
fn load(worker: &Worker) -> (Result<(), String>, Vec<Connection>) {
    worker.send(Request::LoadModel(bundled::model()));
    let mut states = Vec::new();
    loop {
        match worker.wait().unwrap() {
            Event::Connection(state) => states.push(state),
            Event::Model(_) => return (Ok(()), states),
            Event::Failed { id: None, error } => return (Err(error), states),
            _ => {}
        }
    }
}

/// Asks, and waits for the whole answer; how it stood with the device meanwhile.
fn ask(worker: &Worker, id: RunId) -> (Result<Answer, String>, Vec<Connection>) {
    let image = ImageSource::File(bundled::sample_image());
    let experiment = Box::new(Experiment::ask(image, bundled::PROMPT, 8));
    worker.send(Request::Run { id, slot: 0, experiment });
    let (mut answer, mut states) = (Vec::new(), Vec::new());
    loop {
        match worker.wait().unwrap() {
            Event::Token { id: of, token, row: ToldRow::New(row) } if of == id => {
                assert!(row.resident.is_none(), "it lies on no window's device");
                answer.push((token.id, row.pattern));
            }
            Event::Connection(state) => states.push(state),
            Event::Done { id: of, .. } if of == id => return (Ok(answer), states),
            Event::Failed { id: Some(of), error } if of == id => return (Err(error), states),
            _ => {}
        }
    }
}

fn alike(here: &Answer, there: &Answer) {
    assert!(!here.is_empty() && here.len() == there.len());
    for ((a, row), (b, other)) in here.iter().zip(there) {
        assert_eq!((a, row.data.len()), (b, other.data.len()));
        let apart = row.data.iter().zip(other.data.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 5e-5, "attention of token {a}: {apart}");
    }
}

#[test]
fn a_broken_connection_is_told_and_loading_again_makes_it_anew() {
    if !has_token("a_broken_connection_is_told_and_loading_again_makes_it_anew") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let served = Served::begin(home.path(), 0);
    let (port, address) = (served.port(), served.address.parse::<Address>().unwrap());
    let worker = Worker::spawn(device::cpu(), WeightDtype::F32, |_| {});
    assert!(load(&worker).0.is_ok());
    let here = ask(&worker, 1).0.unwrap();

    worker.send(Request::Place(Some(address)));
    assert_eq!(load(&worker), (Ok(()), vec![Connection::Calling, Connection::Up]));
    alike(&here, &ask(&worker, 2).0.unwrap());

    served.kill();
    let begun = Instant::now();
    let (lost, states) = ask(&worker, 3);
    let error = lost.unwrap_err();
    assert!(error.contains(&format!("the connection to 127.0.0.1:{port} broke")), "{error}");
    assert_eq!(states, [Connection::Down]);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());

    // Nobody is there yet; the thread lives on.
    let (nobody, states) = load(&worker);
    let error = nobody.unwrap_err();
    assert!(error.contains(&port.to_string()) && error.contains("sightline serve"), "{error}");
    assert_eq!(states, [Connection::Calling, Connection::Down]);

    let served = Served::begin(home.path(), port);
    assert!((0..4).any(|_| load(&worker).0.is_ok()), "it is connected again");
    alike(&here, &ask(&worker, 4).0.unwrap());

    // An orderly end is told at once.
    served.end();
    let begun = Instant::now();
    assert!(ask(&worker, 5).0.unwrap_err().contains("broke"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // And this machine is still there.
    worker.send(Request::Place(None));
    assert!(load(&worker).0.is_ok());
    alike(&here, &ask(&worker, 6).0.unwrap());
}
