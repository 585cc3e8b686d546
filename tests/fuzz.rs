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
    sync::atomic::{AtomicU64, Ordering},
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
        config::VlmConfig,
        weights::{WeightDtype, Weights},
    },
    device::open as device,
    engine::load::Engine,
    image::{process as pixels, process::ImageProcessor},
    model::vlm::Vlm,
    progress::Cancel,
    prompt::build::{Content, ImageGrid, ImageLayout, ImageTokens, PromptBuilder, Role, Turn},
    spec::{
        ablation::Ablation,
        experiment::{Pattern, RunSpec},
        knockout::Knockout,
        sets::{Name, PatchSet, Patches, Scope, Spot},
        span::Span,
    },
    studies::{
        eval::folder::{Folder, FolderOptions},
        session::{Entry, Experiment, FORMAT, Session},
        verify::verify,
    },
};

mod common;
use common::{copy_of, copy_of_folder, fixture};

// ----------------------------------------------------------------------------------------- memory

const MB: usize = 1 << 20;

/// Counts what the program holds. Beyond [`memory::CEILING`] an allocation fails, which ends the program
/// with a message: a runaway must not take the machine with it.
mod memory {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        ptr::null_mut,
        sync::{
            Mutex, MutexGuard, PoisonError,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    pub const CEILING: usize = 3 << 30;

    static HELD: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    /// Notes an allocation, unless it would go beyond the ceiling.
    fn take(size: usize) -> bool {
        let held = HELD.fetch_add(size, Relaxed).saturating_add(size);
        if held > CEILING {
            HELD.fetch_sub(size, Relaxed);
            return false;
        }
        PEAK.fetch_max(held, Relaxed);
        true
    }

    // SAFETY: every call is passed on to the system's allocator unchanged, or fails as the contract
    // allows, by a null pointer; counting touches nothing but two numbers.
    #[allow(unsafe_code)]
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promises are passed on.
            if take(layout.size()) { unsafe { System.alloc(layout) } } else { null_mut() }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            if take(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { null_mut() }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            HELD.fetch_sub(layout.size(), Relaxed);
            // SAFETY: as above.
            unsafe { System.dealloc(at, layout) }
        }

        unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // What is moved is held twice for a moment; if it fails, the old one stays.
            if !take(size) {
                return null_mut();
            }
            // SAFETY: as above.
            let new = unsafe { System.realloc(at, layout, size) };
            HELD.fetch_sub(if new.is_null() { size } else { layout.size() }, Relaxed);
            new
        }
    }

    /// Keeps the other tests waiting: the counts are the whole program's.
    pub fn alone() -> MutexGuard<'static, ()> {
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the work returns, and the most that was held at once for it, in bytes.
    pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        let done = work();
        (done, PEAK.load(Relaxed).saturating_sub(before))
    }
}

// ----------------------------------------------------------------------------------------- trying

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
    let done = std::sync::Arc::new(AtomicU64::new(0));
    let watched = std::sync::Arc::clone(&done);
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

// ---------------------------------------------------------------------------------- broken inputs

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

// ---------------------------------------------------------------------------------------- knockouts

/// Visual tokens in rows of two, some sets of them, and one set that is not known.
fn patches(spans: &[Span]) -> Patches {
    let visual: Vec<usize> = (0..spans.len()).filter(|&p| spans[p] == Span::Visual).collect();
    let spot =
        |(i, &position): (usize, &usize)| Spot { position, image: 0, whole: i > 1, row: i / 2, col: i % 2 };
    let some = visual.iter().rev().copied().collect::<Vec<_>>();
    let sets = PatchSet::ALL.map(|set| match set {
        PatchSet::Sink => (set, Err("there is none".to_string())),
        PatchSet::Object => (set, Ok(some[..some.len().min(1)].to_vec())),
        PatchSet::Register => (set, Ok(Vec::new())),
        _ => (set, Ok(some.clone())),
    });
    Patches { spots: visual.iter().enumerate().map(spot).collect(), sets: sets.into() }
}

/// Everything that a knockout may be resolved on here.
fn resolve_everywhere(knockout: &Knockout) {
    use Span::{Bos, Last, Markers, Question, System, Visual};
    let short = [Bos, System, Visual, Visual, Question, Last];
    let tiles = [Bos, System, Markers, Visual, Visual, Visual, Visual, Markers, Question, System, Last];
    for spans in [&short[..], &tiles[..], &[Last], &[]] {
        for (max_new, n_layers, n_heads) in [(4, 4, 2), (0, 1, 1), (1, 0, 0), (1000, 32, 32)] {
            let patches = patches(spans);
            let scope = Scope { spans, patches: &patches, max_new, n_layers, n_heads };
            let Some(cut) = outcome(knockout.resolve(&scope)) else { continue };
            assert_eq!((cut.layers.len(), cut.heads.len()), (n_layers, n_heads));
            let blocked = |row: usize| (0..spans.len() + 3).filter(|&key| cut.blocks(row, key)).count();
            (0..spans.len() + 3).map(blocked).for_each(drop);
        }
    }
}

fn parse(text: &str) -> Option<Knockout> {
    let knockout: Knockout = outcome(text.parse())?;
    let printed = knockout.to_string();
    let again: Knockout = printed.parse().unwrap_or_else(|e| panic!("`{text}` prints as `{printed}`: {e}"));
    assert_eq!(again, knockout, "`{text}` prints as `{printed}`");
    resolve_everywhere(&knockout);
    Some(knockout)
}

#[test]
fn knockouts_typed_at_random() {
    let _alone = memory::alone();
    const PIECES: &str = "answer|visual|bos|system|markers|question|last|decode|all|pos|->|@|#|[|]|+|-|,|~|!|:| |\
        whole|lastrow|object|register|sink|gradient|random|\
        0|1|2|7|30|4294967295|4294967296|99999999999999999999|-1|all|ALL|\u{130}|\u{2192}|\t|->->|@@|[[|]]";
    let pieces: Vec<String> = PIECES.split('|').map(str::to_string).collect();
    let from_pieces = proptest::collection::vec(select(pieces), 0..24).prop_map(|p| p.concat());
    let near = (grammatical(), damages(3))
        .prop_map(|(text, d)| String::from_utf8_lossy(&damaged(text.into_bytes(), &d)).into_owned());
    let inputs = prop_oneof![any::<String>(), from_pieces, near];
    try_all("knockout texts", 1, 2 * MB, inputs, |text| _ = parse(&text));
}

/// A text that follows the grammar.
fn grammatical() -> impl Strategy<Value = String> {
    let heads = prop_oneof![Just(String::new()), numbers().prop_map(|n| format!(" # {n}"))];
    (set(), set(), numbers(), heads)
        .prop_map(|(query, key, layers, heads)| format!("{query} -> {key} @ {layers}{heads}"))
}

fn range() -> impl Strategy<Value = String> {
    (0usize..12, 0usize..6, 0usize..4).prop_map(|(from, more, kind)| match kind {
        0 => from.to_string(),
        1 => format!("{from}-{}", from + more),
        2 => format!("{from}-"),
        _ => format!("{from}~{more}"),
    })
}

fn numbers() -> impl Strategy<Value = String> {
    (proptest::collection::vec(range(), 1..4), 0usize..6).prop_map(|(ranges, kind)| match kind {
        0 => "all".to_string(),
        1 => format!("!{}", ranges.join(",")),
        _ => ranges.join(","),
    })
}

fn set() -> impl Strategy<Value = String> {
    let named = Name::WORDS.split(", ").filter(|word| *word != "pos").collect::<Vec<_>>();
    let cell = (0usize..3, 0usize..3).prop_map(|(row, col)| format!("{row}:{col}-{}", col + 1));
    let places =
        proptest::collection::vec(prop_oneof![3 => range(), 1 => cell], 1..4).prop_map(|p| p.join(","));
    let term = prop_oneof![
        2 => select(named.clone()).prop_map(str::to_string),
        2 => (select(named.clone()), places.clone()).prop_map(|(name, p)| format!("{name}[{p}]")),
        1 => (select(named), 0usize..4).prop_map(|(name, rings)| format!("{name}~{rings}")),
        1 => places.prop_map(|p| format!("pos[{p}]")),
    ]
    .boxed();
    let more = proptest::collection::vec((any::<bool>(), term.clone()), 0..3);
    (term, more).prop_map(|(first, more)| {
        let sign = |minus: bool| if minus { " - " } else { " + " };
        more.into_iter().fold(first, |text, (minus, term)| text + sign(minus) + &term)
    })
}

#[test]
fn knockouts_print_what_they_are() {
    let _alone = memory::alone();
    try_all("knockouts by the grammar", 1, 2 * MB, grammatical(), |text| {
        assert!(parse(&text).is_some(), "`{text}` is not read");
    });
}

#[test]
fn ablations_and_recordings() {
    let _alone = memory::alone();
    let fill = select(vec!["mean", "zero", "mean:/a/B c", "image:x=y.png", "grey", "mean:", ""]);
    let ablation = (set(), fill).prop_map(|(set, fill)| format!("{set} = {fill}"));
    let recording = (numbers(), numbers(), numbers())
        .prop_map(|(rows, layers, heads)| format!("answer[{rows}] @ {layers} # {heads}"));
    let whole = prop_oneof![ablation, recording, any::<String>()];
    let inputs = (whole, prop_oneof![Just(Vec::new()), damages(3)])
        .prop_map(|(text, d)| String::from_utf8_lossy(&damaged(text.into_bytes(), &d)).into_owned());
    try_all("ablations and recordings", 1, 2 * MB, inputs, |text| {
        if let Some(ablation) = outcome(text.parse::<Ablation>()) {
            assert_eq!(ablation.to_string().parse::<Ablation>().unwrap(), ablation);
        }
        if let Some(pattern) = outcome(text.parse::<Pattern>()) {
            assert_eq!(pattern.to_string().parse::<Pattern>().unwrap(), pattern);
            for (layers, heads, rows) in [(0, 0, 0), (1, 1, 1), (32, 32, 300)] {
                outcome(pattern.resolve(layers, heads, rows));
            }
        }
    });
}

#[test]
fn session_files() {
    let _alone = memory::alone();
    let engine = Engine::load(&bundled::model(), &device::cpu(), WeightDtype::F32).unwrap();
    let image = bundled::sample_image();
    let (_, seen) = engine.look(&image, None, &Cancel::default(), &mut |_, _| {}).unwrap();
    let spec = RunSpec::ask("what is the background?", 2);
    let cut = spec.clone().with_knockouts(vec!["answer -> random[0-9]~1 @ 1-".parse().unwrap()]);
    let experiment = |spec: RunSpec| Experiment { object: None, spec, control: 1 };
    let whole = Session {
        format: FORMAT.to_string(),
        model: bundled::model(),
        sha256: engine.info.sha256.clone(),
        dtype: "f32".to_string(),
        entries: [spec, cut]
            .map(|spec| {
                let report =
                    engine.experiment(&experiment(spec.clone()), &seen, &Cancel::default(), &mut |_| {});
                let numbers = Some(report.unwrap().numbers());
                Entry { image: image.clone(), experiment: experiment(spec), numbers }
            })
            .to_vec(),
    };
    let (dir, ran) = (tempfile::tempdir().unwrap(), Cell::new(0));
    let file = dir.path().join("session.json");
    try_all("session files", 2, 300 * MB, broken(vec![serde_json::to_value(&whole).unwrap()]), |bytes| {
        fs::write(&file, bytes).unwrap();
        let Some(session) = outcome(Session::read(&file)) else { return };
        for entry in &session.entries {
            // As `replay` does, but for a control of a million draws, which is only slow.
            let experiment =
                Experiment { control: entry.experiment.control.min(2), ..entry.experiment.clone() };
            let report = engine.experiment(&experiment, &seen, &Cancel::default(), &mut |_| {});
            if let (Some(report), Some(numbers)) = (outcome(report), &entry.numbers) {
                ran.set(ran.get() + 1);
                _ = numbers.difference(&report.numbers());
            }
        }
    });
    assert!(ran.get() > 0, "no session was whole enough to be run");
    println!("session files: {} experiments ran", ran.get());
}

// ------------------------------------------------------------------------------------------ config

fn configs() -> Vec<Value> {
    let llava_7b = json!({
        "image_token_index": 32000, "model_type": "llava", "vision_feature_layer": [-2, 3], "torch_dtype": "float16",
        "text_config": { "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "vocab_size": 32064,
            "rope_scaling": null, "num_key_value_heads": 8, "eos_token_id": [2, 3] },
        "vision_config": { "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
            "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14 },
    });
    let bundled = bundled::model().join("config.json");
    let tiny = ["tiny-llava", "tiny-idefics3"].map(|name| read(&fixture(name).join("config.json")));
    [llava_7b, read(&bundled)].into_iter().chain(tiny).collect()
}

#[test]
fn config_files() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    try_all("config.json", 1, 2 * MB, broken(configs()), |bytes| {
        fs::write(&file, bytes).unwrap();
        let Some(config) = outcome(
            VlmConfig::from_dir(dir.path())
                .inspect_err(|e| assert!(e.to_string().contains("config.json"), "{e}")),
        ) else {
            return;
        };
        let (t, v) = (&config.text, &config.vision);
        assert!(t.n_heads.is_multiple_of(t.n_kv_heads) && t.head_dim.is_multiple_of(2));
        assert!(v.width.is_multiple_of(v.n_heads) && v.grid() >= 1 && config.tokens_per_tile() >= 1);
        assert!((config.image_token_id as usize) < t.vocabulary);
        for number in [t.eps, t.rope_theta, v.eps] {
            assert!((number as f32).is_normal() && number > 0.0, "{number}");
        }
        let largest = [t.vocabulary, t.width, t.intermediate, t.n_heads * t.head_dim, v.width, v.image_size];
        assert!(largest.iter().all(|&n| n < 1 << 41), "{largest:?}");
    });
}

/// A folder that loads is a model that runs.
fn load_and_run(dir: &Path) {
    let device = device::cpu().device;
    let Some(vlm) = outcome(Vlm::load(dir, &device, WeightDtype::F32)) else { return };
    let side = vlm.config.vision.image_size;
    let embeds = vlm.encode_tile(&vec![0.5; 3 * side * side], &Cancel::default()).unwrap();
    assert_eq!(embeds.dims(), [vlm.config.tokens_per_tile(), vlm.config.text.width]);
    let cancel = Cancel::default();
    let mut decoding = sightline::engine::decoding::Decoding::new(&vlm, &[], 4, &cancel).unwrap();
    assert_eq!(decoding.logits(vlm.decoder.embed(&[0, 1])).unwrap().len(), vlm.config.text.vocabulary);
}

#[test]
fn config_files_beside_weights() {
    let _alone = memory::alone();
    for name in ["tiny-llava", "tiny-idefics3"] {
        let dir = copy_of(name);
        let file = dir.path().join("config.json");
        let inputs = broken(vec![read(&file)]);
        try_all("config.json beside weights", 20, 64 * MB, inputs, |bytes| {
            fs::write(&file, bytes).unwrap();
            load_and_run(dir.path());
        });
    }
}

// ----------------------------------------------------------------------------------------- weights

fn small_header() -> Value {
    json!({
        "a.weight": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] },
        "b": { "dtype": "F16", "shape": [4], "data_offsets": [24, 32] },
        "c": { "dtype": "BF16", "shape": [1, 2], "data_offsets": [32, 36] },
        "__metadata__": { "format": "pt" },
    })
}

/// A safetensors file: the header's length, the header, the data.
fn safetensors(header: &[u8], length: u64, data: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], header, &vec![0x3C; data]].concat()
}

fn open_weights(dir: &Path) {
    let Some(weights) = outcome(Weights::open(dir, &device::cpu().device, WeightDtype::F16)) else { return };
    outcome(weights.matrix("a.weight", [2, 3]));
    outcome(weights.vector("b", 4));
    outcome(weights.matrix("c", [1, 2]));
    outcome(weights.excuse_copy("b", "c", [1, 2]));
    outcome(weights.finish());
    outcome(sightline::checkpoint::weights::sha256(dir));
}

#[test]
fn safetensors_headers() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let length = prop_oneof![
        6 => Just(None),
        1 => any::<u64>().prop_map(Some),
        1 => (0u64..400).prop_map(Some),
        1 => select(vec![u64::MAX, 1 << 63, 100_000_000, 100_000_001, u64::MAX - 7]).prop_map(Some),
    ];
    let data = prop_oneof![4 => Just(36usize), 1 => 0usize..80];
    let inputs = (broken(vec![small_header()]), length, data, damages(2));
    try_all("safetensors headers", 1, 4 * MB, inputs, |(header, length, data, damages)| {
        let whole = safetensors(&header, length.unwrap_or(header.len() as u64), data);
        fs::write(&file, damaged(whole, &damages)).unwrap();
        open_weights(dir.path());
    });
}

#[test]
fn safetensors_that_ask_for_too_much() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let one = |dtype: &str, shape: Value, offsets: [u64; 2]| json!({ "a.weight": { "dtype": dtype, "shape": shape, "data_offsets": offsets } });
    let overlapping = json!({
        "a.weight": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] },
        "b": { "dtype": "F32", "shape": [2], "data_offsets": [20, 28] },
    });
    for (header, data) in [
        (one("F32", json!([2, 3]), [0, 1 << 40]), 24),
        (one("F32", json!([1u64 << 40, 1u64 << 40]), [0, 24]), 24),
        (one("F32", json!([u64::MAX, 2]), [0, 24]), 24),
        (one("F32", json!([2, 3]), [24, 0]), 24),
        (one("F32", json!([2, 3]), [8, 32]), 32),
        (one("F64", json!([2, 3]), [0, 24]), 24),
        (one("F4", json!([2, 3]), [0, 24]), 24),
        (one("F32", json!([2, 3]), [0, 24]), 23),
        (one("F32", json!([2, 3]), [0, 24]), 25),
        (overlapping, 28),
    ] {
        let text = header.to_string();
        let file = dir.path().join("model.safetensors");
        fs::write(&file, safetensors(text.as_bytes(), text.len() as u64, data)).unwrap();
        let (error, peak) = memory::peak_of(|| {
            Weights::open(dir.path(), &device::cpu().device, WeightDtype::F32).err().map(|e| e.to_string())
        });
        let error = error.unwrap_or_else(|| panic!("{header} was accepted"));
        assert!(error.contains("model.safetensors") && peak < MB, "{peak}: {error}");
    }
}

#[test]
fn weights_of_a_small_model() {
    let _alone = memory::alone();
    let dir = copy_of("tiny-idefics3");
    let file = dir.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    // In the header as often as in the megabyte of numbers after it.
    let inputs = (any::<bool>(), damages(4));
    try_all("weights of a small model", 20, 64 * MB, inputs, |(in_header, damages)| {
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let bytes = match in_header {
            true => [damaged(whole[..header].to_vec(), &damages), whole[header..].to_vec()].concat(),
            false => damaged(whole.clone(), &damages),
        };
        fs::write(&file, bytes).unwrap();
        load_and_run(dir.path());
    });
}

#[test]
fn indices_of_shards() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let text = small_header().to_string();
    fs::write(dir.path().join("one.safetensors"), safetensors(text.as_bytes(), text.len() as u64, 36))
        .unwrap();
    fs::create_dir(dir.path().join("folder.safetensors")).unwrap();
    let index = json!({
        "metadata": { "total_size": 36 },
        "weight_map": { "a.weight": "one.safetensors", "b": "one.safetensors", "c": "folder.safetensors" },
    });
    let good = json!({ "weight_map": { "a.weight": "one.safetensors", "b": "one.safetensors" } });
    try_all("model.safetensors.index.json", 1, 2 * MB, broken(vec![index, good]), |bytes| {
        fs::write(dir.path().join("model.safetensors.index.json"), bytes).unwrap();
        open_weights(dir.path());
    });
}

// ------------------------------------------------------------------------------------------ images

fn image_settings() -> Vec<Value> {
    vec![
        json!({
            "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 56 }, "resample": 3,
            "crop_size": { "height": 56, "width": 56 }, "do_center_crop": true, "do_rescale": true,
            "rescale_factor": 0.00392156862745098, "do_normalize": true, "do_resize": true,
            "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
        }),
        json!({
            "image_processor_type": "Idefics3ImageProcessor", "size": { "longest_edge": 128 }, "resample": 1,
            "max_image_size": { "longest_edge": 64 }, "do_image_splitting": true, "do_resize": true,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098,
        }),
        json!({ "feature_extractor_type": "CLIPFeatureExtractor", "size": 56, "crop_size": 56 }),
    ]
}

#[test]
fn image_processor_settings() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("preprocessor_config.json");
    // 32 million input pixels are allowed: 0.4 GB, and the resized image beside them.
    try_all("preprocessor_config.json", 4, 700 * MB, broken(image_settings()), |bytes| {
        fs::write(&file, bytes).unwrap();
        let Some(processor) = outcome(ImageProcessor::from_dir(dir.path())) else { return };
        for (width, height) in [(1, 1), (7, 3), (1, 400)] {
            let picture = image::RgbImage::from_pixel(width, height, image::Rgb([9, 99, 199]));
            let Some(seen) = outcome(processor.process(&picture)) else { continue };
            let (w, h) = seen.tile_size;
            for tile in &seen.tiles {
                assert_eq!(tile.pixels.len(), 3 * w as usize * h as usize);
                assert!(
                    tile.pixels.iter().all(|p| p.is_finite())
                        && tile.source_rect.iter().all(|p| p.is_finite())
                );
            }
        }
    });
}

/// Small images in every format: made here, and the fixtures.
fn images() -> Vec<(String, Vec<u8>)> {
    use image::{DynamicImage, ImageFormat};
    let rgb =
        image::RgbImage::from_fn(13, 9, |x, y| image::Rgb([(x * 19) as u8, (y * 28) as u8, (x * y) as u8]));
    let rgb = DynamicImage::from(rgb);
    let kinds = [
        ("rgb", rgb.clone()),
        ("rgba", rgb.to_rgba8().into()),
        ("grey", rgb.to_luma8().into()),
        ("rgb16", rgb.to_rgb16().into()),
        ("grey16", rgb.to_luma16().into()),
    ];
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ];
    let mut all = Vec::new();
    for (kind, picture) in &kinds {
        for format in formats {
            let mut bytes = std::io::Cursor::new(Vec::new());
            // Not every format holds every kind.
            if picture.write_to(&mut bytes, format).is_ok() {
                all.push((format!("{kind} {format:?}"), bytes.into_inner()));
            }
        }
    }
    let made: std::collections::BTreeSet<&str> =
        all.iter().map(|(n, _)| n.split_once(' ').unwrap().1).collect();
    assert_eq!(made.len(), formats.len(), "{made:?}");
    let mut files: Vec<_> =
        fs::read_dir(fixture("processing/formats")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    all.extend(files.iter().map(|f| (f.display().to_string(), fs::read(f).unwrap())));
    all
}

/// Sets the checksums of a PNG's chunks right, so that decoders look inside.
fn mend_png(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(crc) = bytes.get(at + 4..end).map(crc32) else { break };
        let Some(stored) = bytes.get_mut(end..end + 4) else { break };
        stored.copy_from_slice(&crc.to_be_bytes());
        at = end + 4;
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// What decoding may hold: 8 bytes for each of the pixels allowed, the same as RGB, and small change.
const DECODING: usize = pixels::MAX_PIXELS as usize * 11 + 128 * MB;

fn decode(bytes: &[u8]) {
    let Some(picture) = outcome(pixels::decode(bytes, "picture")) else { return };
    let (width, height) = picture.dimensions();
    assert!(width <= pixels::MAX_SIDE && height <= pixels::MAX_SIDE);
    assert!(u64::from(width) * u64::from(height) <= pixels::MAX_PIXELS);
}

#[test]
fn image_files() {
    let _alone = memory::alone();
    let inputs = (select(images()), damages(6), any::<bool>());
    try_all("image files", 1, DECODING, inputs, |((name, whole), damages, mend)| {
        let bytes = damaged(whole, &damages);
        let is_png = name.ends_with("Png") || name.ends_with(".png");
        decode(&if is_png && mend { mend_png(bytes) } else { bytes });
    });
}

#[test]
fn image_headers_that_declare_too_much() {
    let _alone = memory::alone();
    let all = images();
    let made = |name: &str| all.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let with = |mut bytes: Vec<u8>, at: usize, new: &[u8]| {
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    let side = 40_000u32;
    let (big, little) = (side.to_be_bytes(), side.to_le_bytes());
    let png = mend_png(with(with(made("rgb Png"), 16, &big), 20, &big));
    let wide = mend_png(with(made("rgb Png"), 16, &70_000u32.to_be_bytes()));
    let bmp = with(with(made("rgb Bmp"), 18, &little), 22, &little);
    let gif = with(with(made("rgb Gif"), 6, &little[..2]), 8, &little[..2]);
    let jpeg = made("rgb Jpeg");
    let frame = find(&jpeg, &[0xFF, 0xC0]);
    let jpeg = with(with(jpeg, frame + 5, &big[2..]), frame + 7, &big[2..]);
    // A TIFF's header is its list of tags: width, height, bits, no compression, RGB, one strip of 3 bytes.
    let tags = [
        (256u16, side),
        (257, side),
        (258, 8),
        (259, 1),
        (262, 2),
        (273, 8),
        (277, 3),
        (278, side),
        (279, 3),
    ];
    let mut tiff = [b"II\x2A\0\x0C\0\0\0abc\0", &(tags.len() as u16).to_le_bytes()[..]].concat();
    for (tag, value) in tags {
        tiff.extend(tag.to_le_bytes().into_iter().chain([4, 0, 1, 0, 0, 0]).chain(value.to_le_bytes()));
    }
    tiff.extend([0; 4]);
    let webp = made("rgb WebP");
    let lossless = find(&webp, b"VP8L") + 9; // 14 bits of width - 1, 14 bits of height - 1
    let webp = with(webp, lossless, &(10_000u32 | 10_000 << 14).to_le_bytes());
    let pnm = b"P6\n40000 40000\n255\nabc".to_vec();
    for (name, bytes) in [
        ("png", png),
        ("wide png", wide),
        ("bmp", bmp),
        ("gif", gif),
        ("jpeg", jpeg),
        ("tiff", tiff),
        ("webp", webp),
        ("pnm", pnm),
    ] {
        let (error, peak) = memory::peak_of(|| pixels::decode(&bytes, name).err().map(|e| e.to_string()));
        let error = error.unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(error.contains(name) && error.contains("the limit is 65535 on a side"), "{error}");
        assert!(peak < 4 * MB, "{name}: {peak} bytes");
    }
}

// ------------------------------------------------------------------------- tokenizers and templates

/// Small tokenizers of every kind that model folders have.
fn tokenizers() -> Vec<Value> {
    let added: Vec<Value> = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let words = [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "<image>",
        "user",
        ":",
        "what",
        "is",
        "it",
        "?",
        "assistant",
        "\u{2581}",
        "w",
        "h",
        "a",
        "t",
        "wh",
        "at",
        "##t",
    ];
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.to_string(), json!(id))).collect();
    let scores: Vec<Value> = words.iter().enumerate().map(|(i, word)| json!([word, -(i as f64)])).collect();
    let template = json!({ "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } });
    let tokenizer = |normalizer: Value, pre: Value, post: Value, decoder: Value, model: Value| {
        json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model })
    };
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    vec![
        read(&bundled::model().join("tokenizer.json")),
        tokenizer(
            json!({ "type": "Lowercase" }),
            json!({ "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" }, { "type": "Punctuation", "behavior": "Isolated" } ] }),
            template.clone(),
            json!(null),
            json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" }),
        ),
        tokenizer(
            json!({ "type": "Sequence", "normalizers": [ { "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" } ] }),
            json!(null),
            template,
            json!({ "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }, { "type": "ByteFallback" },
                { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] }),
            json!({ "type": "BPE", "vocab": vocab, "merges": ["w h", ["a", "t"]], "unk_token": "<unk>", "dropout": null,
                "fuse_unk": true, "byte_fallback": true, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "ignore_merges": false }),
        ),
        tokenizer(
            json!({ "type": "NFKC" }),
            json!({ "type": "Sequence", "pretokenizers": [ { "type": "Digits", "individual_digits": true },
                { "type": "Split", "pattern": { "Regex": "\\s+" }, "behavior": "MergedWithNext", "invert": false },
                byte_level ] }),
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true }),
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
            json!({ "type": "BPE", "vocab": vocab, "merges": [["w", "h"], ["a", "t"]], "unk_token": null }),
        ),
        tokenizer(
            json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true }),
            json!({ "type": "BertPreTokenizer" }),
            json!({ "type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1] }),
            json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
            json!({ "type": "WordPiece", "vocab": vocab, "unk_token": "<unk>", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100 }),
        ),
        tokenizer(
            json!({ "type": "Strip", "strip_left": false, "strip_right": true }),
            json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true }),
            json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": true,
                "add_prefix_space": false }),
            json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true }),
            json!({ "type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": false }),
        ),
    ]
}

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% for c in m.content %}\
    {% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}\
    {% if add_generation_prompt %} assistant:{% endif %}";

const IMAGES: ImageTokens =
    ImageTokens { id: 4, grid: (2, 3), layout: ImageLayout::Llava { class_token: false } };

/// Builds prompts as a run would, and reads tokens back.
fn converse(dir: &Path) {
    let Some(builder) = outcome(PromptBuilder::from_dir(dir, IMAGES)) else { return };
    builder.largest_id();
    let answer = Turn { role: Role::Assistant, content: vec![Content::Text(" ".to_string())] };
    let conversations = [
        vec![Turn::ask(1, "What is it? \u{E9}\u{1F600}<image></s>")],
        vec![Turn::ask(1, "  "), answer, Turn::ask(0, "what\n\nis it?")],
    ];
    for turns in conversations {
        let Some(prompt) = outcome(builder.build(&turns, &[ImageGrid::default()])) else { continue };
        assert!(prompt.tokens.iter().enumerate().all(|(i, t)| t.position == i));
        assert_eq!(prompt.spans().iter().filter(|s| **s == Span::Visual).count(), 6);
        assert_eq!(prompt.spans().last(), Some(&Span::Last));
        for id in prompt.ids().into_iter().chain([0, 1, 19, 1 << 20, u32::MAX]).take(64) {
            builder.token_text(id);
        }
        builder.decode(&prompt.ids());
    }
    builder.unknown_words("what zebra?");
}

#[test]
fn tokenizer_files() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } }).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    // A panic of the tokenizers crate is caught; reporting it reads the debug symbols.
    try_all("tokenizer.json", 1, 128 * MB, broken(tokenizers()), |bytes| {
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        converse(dir.path());
    });
}

/// A folder with a small tokenizer.
fn folder_with_tokenizer() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizers()[1].to_string()).unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    dir
}

#[test]
fn files_beside_the_tokenizer() {
    let _alone = memory::alone();
    let dir = folder_with_tokenizer();
    fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let files = [
        (
            "tokenizer_config.json",
            json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" }, "chat_template": [] }),
        ),
        ("processor_config.json", json!({ "image_seq_len": 6, "chat_template": "x" })),
        ("generation_config.json", json!({ "eos_token_id": [2, 3] })),
        ("config.json", json!({ "eos_token_id": 2, "text_config": { "eos_token_id": [3] } })),
        ("chat_template.json", json!({ "chat_template": TEMPLATE })),
    ];
    for (name, document) in files {
        try_all(name, 4, 4 * MB, broken(vec![document.clone()]), |bytes| {
            fs::write(dir.path().join(name), bytes).unwrap();
            converse(dir.path());
        });
        fs::write(dir.path().join(name), document.to_string()).unwrap();
    }
}

#[test]
fn chat_templates() {
    let _alone = memory::alone();
    const PIECES: &[&str] = &[
        "{% for m in messages %}",
        "{% endfor %}",
        "{{ m.content }}",
        "{{ m['content'][0].text }}",
        "{{ bos_token }}",
        "{%",
        "%}",
        "{{",
        "}}",
        "{#",
        "#}",
        "{% if m %}",
        "{% else %}",
        "{% endif %}",
        "{% generation %}",
        "{% endgeneration %}",
        "{%- generation -%}",
        "<image>",
        "\n",
        " ",
        "x",
        "{% set ns = namespace(v=[]) %}",
        "{% set ns.v = [ns.v] %}",
        "{{ ns.v }}",
        "{{ ns.v | tojson }}",
        "{% for i in range(99999) %}",
        "{% set ns.v = ns.v ~ 'xy' %}",
        "{{ messages | tojson }}",
        "{{ messages[0].content[1].text.strip() }}",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "{{ f(f) }}",
        "{{ 'a'.split('') | length }}",
        "{{ 'aa'.replace('a', 'bb') }}",
        "{{ ','.join(['a', 'b']) }}",
        "{{ strftime_now('%Y%') }}",
        "{{ raise_exception('no') }}",
        "{{ 2 ** 999 }}",
        "{{ 1 / 0 }}",
        "{{ 'x' * 99999999999 }}",
        "{% break %}",
        "{% continue %}",
        "{{ loop.index }}",
        "{{ messages.x.y }}",
        "{{ m.items() }}",
        "{{ 'aB'.title().upper().capitalize().lower() }}",
        "{{ 'a'.startswith(1) }}",
        "{{ m.get() }}",
    ];
    let pieces = proptest::collection::vec(select(PIECES), 0..16).prop_map(|p| p.concat().into_bytes());
    let bundled = fs::read(bundled::model().join("chat_template.jinja")).unwrap();
    let smolvlm =
        read(&fixture("smolvlm-tokenizer/chat_template.json"))["chat_template"].as_str().unwrap().into();
    let whole = select(vec![bundled, smolvlm, TEMPLATE.as_bytes().to_vec()]);
    let inputs = prop_oneof![
        3 => pieces,
        2 => (whole, damages(4)).prop_map(|(text, d)| damaged(text, &d)),
        1 => any::<String>().prop_map(String::into_bytes),
    ];
    let dir = folder_with_tokenizer();
    try_all("chat templates", 1, 256 * MB, inputs, |bytes| {
        fs::write(dir.path().join("chat_template.jinja"), bytes).unwrap();
        converse(dir.path());
    });
}

#[test]
fn chat_templates_that_mean_harm() {
    let _alone = memory::alone();
    // `n` times the body, which makes `ns.v` larger or deeper, and then an expression.
    let grow = |n: usize, body: &str, then: &str| {
        format!(
            "{{% set ns = namespace(v='xy') %}}{{% for i in range({n}) %}}{body}{{% endfor %}}{{{{ {then} }}}}"
        )
    };
    let set = |value: &str| format!("{{% set ns.v = {value} %}}");
    let print = |expression: &str| format!("{{{{ {expression} }}}}");
    let captured = "{% set v %}{{ ns.v }}{{ ns.v }}{% endset %}{% set ns.v = v %}";
    let loops = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}";
    // What grows has no end that could be waited for.
    let growing = [
        ("an endless loop", loops.to_string()),
        ("a doubled text", grow(60, &set("ns.v ~ ns.v"), "ns.v")),
        ("an added text", grow(60, &set("ns.v + ns.v"), "ns.v")),
        ("a captured text", grow(60, captured, "ns.v")),
        ("a replaced text", grow(60, &set("ns.v.replace('x', ns.v)"), "ns.v")),
        ("a joined text", grow(60, &set("ns.v.join([ns.v, ns.v])"), "ns.v")),
        ("many pieces", grow(60, &set("ns.v ~ ns.v"), "ns.v.split('')")),
        ("a multiplied text", print("'x' * 99999999")),
        ("a multiplied list", print("([0] * 99999999) | list")),
        ("a long number", print("'%0999999999d' | format(1)")),
        ("a deep indent", print("'x\ny' | indent(999999999)")),
        ("many slices", print("[1] | slice(999999999) | list")),
        ("a long batch", print("[1] | batch(999999999, 'x') | list")),
        ("a nested list, as JSON", grow(60, &set("[ns.v, ns.v]"), "ns.v | tojson")),
        ("a deep list, as JSON", grow(10_000, &set("[ns.v]"), "ns.v | tojson")),
        ("a deeper list", grow(99_999, &set("[ns.v]"), "1")),
        ("a macro that calls itself", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".to_string()),
        ("a template that includes itself", "{% include 'chat' %}".to_string()),
        ("a template that extends itself", "{% extends 'chat' %}".to_string()),
        ("the text, again and again", grow(5000, "{{ messages[0].content[0].text }}", "1")),
        ("a tag without an end", "{%}".to_string()),
        ("too long a template", "x".repeat(70_000)),
        ("many brackets", print(&format!("{}1{}", "(".repeat(30_000), ")".repeat(30_000)))),
        ("many lists", print(&format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)))),
        ("many conditions", "{% if true %}".repeat(5000)),
        ("many attributes", print(&format!("a{}", ".b".repeat(32_000)))),
        ("many calls", print(&format!("a{}", "()".repeat(32_000)))),
    ];
    // What is deep is computed, if there is stack for it.
    let deep = [
        ("a deep list, printed", grow(10_000, &set("[ns.v]"), "ns.v")),
        ("deep lists, compared", grow(5000, &set("[ns.v]"), "ns.v == [ns.v]")),
        ("many negations", print(&format!("{}1", "not ".repeat(16_000)))),
        ("many minuses", print(&format!("{}1", "-".repeat(65_000)))),
        ("many sums", print(&format!("1{}", " + 1".repeat(16_000)))),
        ("many filters", print(&format!("'a'{}", "|upper".repeat(10_000)))),
        ("many cases", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(5000))),
        ("many alternatives", print(&format!("{}1", "1 if 0 else ".repeat(5000)))),
    ];
    let dir = folder_with_tokenizer();
    let refused = growing.len();
    for (n, (what, template)) in growing.iter().chain(&deep).enumerate() {
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        let start = Instant::now();
        let (result, peak) = memory::peak_of(|| {
            let builder = PromptBuilder::from_dir(dir.path(), IMAGES)?;
            builder.build(&[Turn::ask(0, "What is it?")], &[])
        });
        let took = start.elapsed();
        let error = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        println!("{what}: {} kB, {took:?}, {error:.150}", peak / 1024);
        outcome(result);
        assert!(peak < 32 * MB, "{what}: {} MB", peak / MB);
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
        assert!(n >= refused || error.contains("template failed"), "{what} was accepted");
    }
}

// -------------------------------------------------------------------------------------- references

#[test]
fn references_of_verify() {
    let _alone = memory::alone();
    let dir = copy_of("tiny-llava");
    let facts = dir.path().join("reference.json");
    let whole = fs::read(&facts).unwrap();
    let check = || {
        let report = outcome(verify(dir.path(), &device::cpu()));
        report.inspect(|r| assert!(r.to_string().contains(if r.pass { "PASS" } else { "FAIL" })))
    };
    assert!(check().is_some_and(|r| r.pass));
    try_all("reference.json", 40, 256 * MB, broken(vec![read(&facts)]), |bytes| {
        fs::write(&facts, bytes).unwrap();
        check();
    });
    fs::write(&facts, whole).unwrap();
    let tensors = dir.path().join("reference.safetensors");
    let whole = fs::read(&tensors).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let document: Value = serde_json::from_slice(&whole[8..header]).unwrap();
    let edited_header = edits().prop_map(move |e| edited(&document, &e).to_string().into_bytes());
    let inputs = (prop_oneof![2 => edited_header.prop_map(Some), 1 => Just(None)], damages(3));
    try_all("reference.safetensors", 40, 256 * MB, inputs, |(new, damages)| {
        let bytes = match new {
            Some(new) => [&(new.len() as u64).to_le_bytes()[..], &new, &whole[header..]].concat(),
            None => damaged(whole.clone(), &damages),
        };
        fs::write(&tensors, bytes).unwrap();
        check();
    });
}

// -------------------------------------------------------------------------------------- evaluation

#[test]
fn annotations_of_eval() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    for name in ["a.png", "b.png"] {
        fs::write(dir.path().join("images").join(name), "").unwrap();
    }
    let coco = json!({
        "info": {}, "licenses": [],
        "images": [{ "id": 1, "file_name": "a.png", "width": 9, "height": 9 }, { "id": 2, "file_name": "b.png" }],
        "categories": [{ "id": 1, "name": "apple", "supercategory": "food" }, { "id": 7, "name": "dog" },
            { "id": 8, "name": "cat" }],
        "annotations": [
            { "id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 0 },
            { "id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 1 },
        ],
    });
    let open = || {
        let Some(folder) = outcome(Folder::open(dir.path(), &FolderOptions::default())) else { return };
        assert!(!folder.items.is_empty() && folder.items.iter().all(|item| item.image.is_file()));
    };
    try_all("annotations.json", 1, 2 * MB, broken(vec![coco.clone()]), |bytes| {
        fs::write(dir.path().join("annotations.json"), bytes).unwrap();
        open();
    });
    fs::write(dir.path().join("annotations.json"), coco.to_string()).unwrap();
    let scene = json!({
        "file": "a.png", "objects": [{ "class": "dog", "size": "small" }], "description": "a dog.",
        "questions": [{ "type": "exists", "question": "is there a dog?", "answer": "yes" }],
    });
    let lines = proptest::collection::vec(broken(vec![scene]), 1..4).prop_map(|lines| lines.join(&b'\n'));
    try_all("scenes.jsonl", 1, 2 * MB, lines, |bytes| {
        fs::write(dir.path().join("scenes.jsonl"), bytes).unwrap();
        open();
    });
}

// ---------------------------------------------------------------------------------- whole folders

#[test]
fn files_of_a_whole_model_folder() {
    let _alone = memory::alone();
    let dir = copy_of_folder(&bundled::model());
    let picture = pixels::open(&bundled::sample_image()).unwrap();
    let cpu = device::cpu();
    let mut spec = RunSpec::ask("what is the background?", 2);
    spec.intervention.knockouts = vec!["answer -> visual @ 0".parse().unwrap()];
    let ask = || {
        let Some(engine) = outcome(Engine::load(dir.path(), &cpu, WeightDtype::F32)) else { return };
        let cancel = Cancel::default();
        let seen = engine.process(&picture).and_then(|p| engine.see(p, &cancel, &mut |_, _| {}));
        let Some(seen) = outcome(seen) else { return };
        outcome(engine.run(&spec, &[&seen], &cancel, &mut |_| {}));
    };
    let names = [
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "generation_config.json",
    ];
    for name in names {
        let file = dir.path().join(name);
        let whole = fs::read(&file).unwrap();
        try_all(name, 80, 700 * MB, broken(vec![serde_json::from_slice(&whole).unwrap()]), |bytes| {
            fs::write(&file, bytes).unwrap();
            ask();
        });
        fs::write(&file, whole).unwrap();
    }
}
