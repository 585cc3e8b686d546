//! Files and texts that are not as they should be, by the hundred. Whatever is in them, the answer is a
//! value or an error with a message, within seconds and a stated memory, and never a panic. What a model
//! answers is not looked at.
//!
//! `PROPTEST_CASES` says how many inputs a fast test tries (default 400; slow tests try a fixed share of
//! it), `PROPTEST_RNG_SEED` which ones. Every test prints what it tried: see it with `--nocapture`.
#![allow(clippy::unwrap_used)]

use std::{
    cell::Cell,
    fmt::{Debug, Display},
    fs,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, RngSeed, TestError, TestRunner},
};
use serde_json::{Value, json};
use sightline::{
    bundled,
    checkpoint::{
        end_tokens::end_tokens,
        json::{Section, read as read_json},
        shards::{Watch, sha256},
        weight_error::WeightError,
        weights::{WeightDtype, Weights},
    },
    device::open as device,
    engine::decoding::Decoding,
    export,
    image::{
        error::{MAX_PIXELS, MAX_SIDE},
        open as pixels,
        plan::ImageProcessor,
    },
    model::{
        encoder::Pixels,
        families::{family::Family, registry},
        hooks,
        vlm::Vlm,
    },
    progress::{Cancel, Progress},
    prompt::build::PromptBuilder,
    spec::{
        ablation::Ablation,
        experiment::Experiment,
        knockout::Knockout,
        record::Pattern,
        resolve::{Patches, Scope, Spot},
        sets::{Name, PatchSet},
        span::Span,
        turn::{Content, Role, Turn},
    },
    studies::{
        eval::folder::{Folder, FolderOptions},
        session::{Entry, FORMAT, Session},
        verify::verify,
    },
    trace::{
        geometry::{View, spots},
        words,
    },
};

#[path = "../common/mod.rs"]
mod common;
mod memory;

mod files;
mod images;
mod models;
mod prompts;
mod saved;
mod texts;

use common::{ask, copy_of, copy_of_folder, families, fixture, load, load_as};

const MB: usize = 1 << 20;

/// No input may take longer.
const SLOWEST: Duration = Duration::from_secs(20);

/// Tries `1 / share` of the inputs that are asked for; none may hold more than `limit` bytes at once.
fn try_all<S: Strategy<Value: Debug>>(
    what: &'static str,
    share: u32,
    limit: usize,
    inputs: S,
    try_one: impl Fn(S::Value),
) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let cases = (number("PROPTEST_CASES").unwrap_or(400) as u32 / share).max(4);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(1)),
        ..Config::default()
    };
    let (tried, most, slowest) = (Cell::new(0u64), Cell::new(0), Cell::new(Duration::ZERO));
    let done = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&done);
    // An input that never ends cannot be failed from inside.
    std::thread::spawn(move || {
        let mut last = (0, Instant::now());
        while watched.load(Ordering::Relaxed) != u64::MAX {
            let now = watched.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
            if last.1.elapsed() > 4 * SLOWEST {
                eprintln!("{what}: input {now} does not come to an end");
                std::process::exit(1);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let result = TestRunner::new(config).run(&inputs, |input| {
        tried.set(tried.get() + 1);
        done.store(tried.get(), Ordering::Relaxed);
        let start = Instant::now();
        let ((), peak) = memory::peak_of(|| try_one(input));
        most.set(most.get().max(peak));
        slowest.set(slowest.get().max(start.elapsed()));
        assert!(peak <= limit, "it took {} MB, the limit is {}", peak / MB, limit / MB);
        assert!(start.elapsed() < SLOWEST, "it took {:?}", start.elapsed());
        Ok(())
    });
    done.store(u64::MAX, Ordering::Relaxed);
    println!(
        "{what}: {} inputs tried, at most {} kB each, the slowest {:?}",
        tried.get(),
        most.get() / 1024,
        slowest.get()
    );
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{what}: {why}\ninput: {input:?}"),
        Err(TestError::Abort(why)) => panic!("{what}: {why}"),
    }
}

/// An error that a person can read.
fn readable(error: &dyn Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 3000, "{} bytes: {text:.300}", text.len());
}

/// The value, or nothing and a readable error.
fn outcome<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|e| readable(e)).ok()
}

/// Numbers that JSON's writers and readers disagree on, written as they stand.
const RAW: [&str; 6] = ["NaN", "-Infinity", "1e999", "-0.0", "123456789012345678901234567890", "1e-400"];

/// Values that no key expects.
fn odd_values() -> impl Strategy<Value = Value> {
    let fixed = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(3),
        json!(0.5),
        json!(1e-300),
        json!(1e300),
        json!(1u64 << 20),
        json!(1u64 << 32),
        json!(1u64 << 40),
        json!(1_000_000_000_000u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(65_535),
        json!(""),
        json!("NaN"),
        json!("0"),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!([1, -2, 3e40]),
        json!("\u{0}"),
        json!("x".repeat(1000)),
    ];
    let raw = RAW.map(|text| json!(format!("RAW {text}"))).to_vec();
    prop_oneof![
        6 => select(fixed),
        1 => select(raw),
        1 => any::<i64>().prop_map(|n| json!(n)),
        2 => (-4i64..300).prop_map(|n| json!(n)),
        1 => any::<f64>().prop_map(|n| json!(n)),
        1 => any::<String>().prop_map(|s| json!(s)),
        1 => any_json(),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        any::<String>().prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// What happens to one place of a document.
#[derive(Clone, Debug)]
enum Edit {
    Remove,
    Set(Value),
    /// A copy of another place.
    Copy(Index),
    Rename(String),
}

fn edits() -> impl Strategy<Value = Vec<(Index, Edit)>> {
    let edit = prop_oneof![
        2 => Just(Edit::Remove),
        6 => odd_values().prop_map(Edit::Set),
        1 => any::<Index>().prop_map(Edit::Copy),
        1 => any::<String>().prop_map(Edit::Rename),
    ];
    proptest::collection::vec((any::<Index>(), edit), 1..4)
}

/// Every place of a document but its root, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut visit = |key: String, inner: &Value| {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(inner, &place, found);
        found.push(place);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| visit(key.clone(), inner)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, inner)| visit(i.to_string(), inner)),
        _ => {}
    }
}

fn edited(document: &Value, edits: &[(Index, Edit)]) -> Value {
    let mut document = document.clone();
    for (index, edit) in edits {
        let mut all = Vec::new();
        places(&document, "", &mut all);
        if all.is_empty() {
            break;
        }
        let place = &all[index.index(all.len())];
        let (parent, key) = place.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        let new = match edit {
            Edit::Copy(from) => document.pointer(&all[from.index(all.len())]).cloned(),
            Edit::Set(value) => Some(value.clone()),
            Edit::Rename(_) | Edit::Remove => None,
        };
        match (document.pointer_mut(parent).unwrap(), new, edit) {
            (Value::Object(map), Some(new), _) => _ = map.insert(key, new),
            (Value::Array(list), Some(new), _) => list[key.parse::<usize>().unwrap()] = new,
            (Value::Object(map), None, Edit::Rename(name)) => {
                let old = map.remove(&key).unwrap();
                map.insert(name.clone(), old);
            }
            (Value::Object(map), None, _) => _ = map.remove(&key),
            (Value::Array(list), None, _) => _ = list.remove(key.parse::<usize>().unwrap()),
            _ => unreachable!("a place has a parent"),
        }
    }
    document
}

/// What happens to a file on its way.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    /// Four bytes become a number, little or big end first.
    Word(Index, u32, bool),
    Delete(Index, u8),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
    Truncate(Index),
}

fn damages(most: usize) -> impl Strategy<Value = Vec<Damage>> {
    let word = prop_oneof![
        select(vec![0, 1, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 10_000, 40_000]),
        any::<u32>()
    ];
    let damage = prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        3 => (any::<Index>(), word, any::<bool>()).prop_map(|(at, word, big)| Damage::Word(at, word, big)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, n)| Damage::Delete(at, n)),
        1 => (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        1 => any::<Index>().prop_map(Damage::Truncate),
    ];
    proptest::collection::vec(damage, 0..most)
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match damage {
            Damage::Flip(at, bits) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= (*bits).max(1);
                }
            }
            Damage::Word(at, word, big) => {
                let at = place(at);
                if let Some(bytes) = bytes.get_mut(at..at + 4) {
                    bytes.copy_from_slice(&if *big { word.to_be_bytes() } else { word.to_le_bytes() });
                }
            }
            Damage::Delete(at, n) => {
                let at = place(at);
                let end = (at + usize::from(*n)).min(bytes.len());
                bytes.drain(at..end);
            }
            Damage::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let (from, to) = (place(from), place(to));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(to..to, piece);
            }
            Damage::Truncate(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}

/// One of the documents, broken: mostly still JSON, sometimes not even text.
fn broken(documents: Vec<Value>) -> impl Strategy<Value = Vec<u8>> {
    let text = |value: &Value| {
        RAW.iter().fold(value.to_string(), |text, raw| text.replace(&format!("\"RAW {raw}\""), raw))
    };
    let document = (select(documents), edits()).boxed();
    prop_oneof![
        8 => document.clone().prop_map(move |(d, e)| text(&edited(&d, &e)).into_bytes()),
        2 => (document, damages(4)).prop_map(move |((d, e), b)| damaged(text(&edited(&d, &e[..1])).into_bytes(), &b)),
        1 => any_json().prop_map(|v| v.to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}
