//! The floors of ARCHITECTURE.md: what each room may know of the others, read off the sources themselves.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rooms of the library by floor, the highest first: a room names rooms of lower floors only.
const FLOORS: [&[&str]; 11] = [
    &["window"],
    &["ui", "export"],
    &["worker"],
    &["studies"],
    &["engine"],
    &["prompt", "model"],
    &["image"],
    &["checkpoint", "hub", "device", "scenes", "bundled"],
    &["trace"],
    &["spec"],
    &["statistics", "progress", "files"],
];

/// Every source file of the library by its module path, without the files of tests.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut sources = BTreeMap::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let parts: Vec<String> = path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        // The binary has a tree of its own, in which `sightline` is a name like any other.
        if ["cli", "main", "print", "lib"].contains(&parts[0].as_str()) || parts.last().unwrap() == "tests" {
            continue;
        }
        let parts = if parts.last().unwrap() == "mod" { &parts[..parts.len() - 1] } else { &parts[..] };
        let text = fs::read_to_string(&file).unwrap();
        // Tests at the end of a file may look wherever they like.
        let text = text.split("#[cfg(test)]\n").next().unwrap().to_string();
        sources.insert(parts.join("::"), without_comments(&text));
    }
    sources
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Every path that a file names, from the crate's root: in `use` and elsewhere.
fn named(module: &str, text: &str) -> BTreeSet<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut named = BTreeSet::new();
    for (word, base) in [("crate::", String::new()), ("super::", format!("{parent}::"))] {
        for (at, _) in text.match_indices(word) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            expand(&text[at + word.len()..], base.trim_start_matches("::"), &mut named);
        }
    }
    named
}

/// The paths of a tree such as `a::{b, c::D}` that a text begins with.
fn expand(text: &str, base: &str, named: &mut BTreeSet<String>) -> usize {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let head = &text[..end];
    if !text[end..].starts_with('{') || !head.is_empty() && !head.ends_with("::") {
        named.insert(format!("{base}{head}").trim_end_matches("::").to_string());
        return end;
    }
    let base = format!("{base}{head}");
    let mut at = end + 1;
    while at < text.len() {
        match text[at..].chars().next() {
            Some('}') => return at + 1,
            Some(c) if c.is_alphanumeric() || c == '_' || c == '{' => {
                at += expand(&text[at..], &base, named);
                // `x as y`
                let next = text[at..].find([',', '}']).unwrap_or(0);
                at += next;
            }
            Some(c) => at += c.len_utf8(),
            None => break,
        }
    }
    text.len()
}

/// The deepest file that a path lies in.
fn file_of<'a>(path: &str, sources: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let mut path = path;
    loop {
        if let Some((file, _)) = sources.get_key_value(path) {
            return Some(file);
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// Which files each file names.
fn arrows(sources: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let of = |(module, text): (&'_ String, &'_ String)| {
        let targets = named(module, text);
        targets.iter().filter_map(|path| file_of(path, sources)).filter(|target| target != module).collect()
    };
    sources.iter().map(|source| (source.0.as_str(), of(source))).collect()
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap()
}

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().position(|floor| floor.contains(&room));
    found.unwrap_or_else(|| panic!("`{room}` is on no floor: give it one here and in ARCHITECTURE.md"))
}

#[test]
fn arrows_between_rooms_go_down() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (from, targets) in arrows(&sources) {
        for to in targets {
            if room(from) != room(to) && floor(room(to)) <= floor(room(from)) {
                wrong.push(format!("{from} -> {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not go down:\n{}", wrong.join("\n"));
}

#[test]
fn no_circle_between_files() {
    let sources = sources();
    let mut arrows = arrows(&sources);
    // Files that name nothing that is left are taken away until none is.
    loop {
        let done: Vec<&str> =
            arrows.iter().filter(|(_, targets)| targets.is_empty()).map(|(file, _)| *file).collect();
        if done.is_empty() {
            break;
        }
        for file in done {
            arrows.remove(file);
            arrows.values_mut().for_each(|targets| {
                targets.remove(file);
            });
        }
    }
    assert!(arrows.is_empty(), "in or behind a circle: {arrows:#?}");
}

#[test]
fn rooms_name_only_what_is_theirs() {
    for (module, text) in sources() {
        let room = room(&module);
        let names = |word: &str| {
            text.match_indices(word).any(|(at, _)| {
                let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
                edge(text[..at].chars().next_back()) && edge(text[at + word.len()..].chars().next())
            })
        };
        let forbid = |words: &[&str], why: &str| {
            for word in words {
                assert!(!names(word), "{module} names `{word}`: {why}");
            }
        };
        if !["window", "ui", "device"].contains(&room) {
            forbid(&["egui", "eframe", "egui_plot", "egui_tiles"], "only window, ui and device know egui");
        }
        if room == "ui" {
            forbid(&["burn", "thread", "mpsc", "fs"], "ui knows neither burn, threads nor files");
        }
        if room == "model" {
            forbid(&["Span", "Knockout"], "the model gets masks and positions");
        }
        forbid(&["clap"], "only cli knows clap");
    }
}

#[test]
fn the_reader_sees_through_nested_trees() {
    let text = "use crate::{a::{self, B}, c::d as e};\nfn f() { crate::g::h() }\nuse super::{i::J};";
    let found = named("x::y", text);
    let expected = ["a::B", "a::self", "c::d", "g::h", "x::i::J"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
