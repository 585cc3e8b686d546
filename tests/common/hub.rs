//! A hub on the loopback: the part of the hub's interface that a download needs, and the faults that networks have.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The model that is served.
pub const MODEL: &str = "org/name";

/// Two commits.
pub const COMMIT: &str = "00000000000000000000000000000000000000aa";
pub const LATER: &str = "00000000000000000000000000000000000000bb";

/// What goes wrong with a request.
#[derive(Clone)]
pub enum Fault {
    /// Another status, with headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// A byte of the body is another.
    Damaged,
    /// So many bytes at the end of the file are missing, and the length says so.
    Short(usize),
    /// So many bytes that the file does not have follow it.
    Long(usize),
    /// The file lies elsewhere: below /cdn, of this server by its path alone, or by its whole address.
    Moved { whole_address: bool },
    /// Parts cannot be asked for: all of it comes.
    NoParts,
    /// Pieces of so many bytes come one after the other, with a wait after each.
    Drip(usize, Duration),
    /// The branch `main` moves to the later commit after this answer.
    BranchMoves,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// What is served: names and contents by commit, and where `main` stands.
struct State {
    commits: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    main: &'static str,
    /// Part of a method and path, what goes wrong, and how often.
    faults: Vec<(String, Fault, usize)>,
    asked: Vec<Asked>,
    address: String,
}

/// See the module. It serves until the test ends.
pub struct Server {
    state: Arc<Mutex<State>>,
    pub address: String,
}

impl Server {
    /// Serves the files of a folder.
    pub fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            files.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
        Self::with(files)
    }

    /// Serves files by name and contents.
    pub fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            commits: BTreeMap::from([(COMMIT, files)]),
            main: COMMIT,
            faults: Vec::new(),
            asked: Vec::new(),
            address: address.clone(),
        };
        let state = Arc::new(Mutex::new(state));
        let serving = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = serving.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Server { state, address }
    }

    /// Also has a later commit, to which `main` does not stand yet.
    pub fn add_later(&self, files: BTreeMap<String, Vec<u8>>) {
        self.state.lock().unwrap().commits.insert(LATER, files);
    }

    /// Something goes wrong with the next so many requests whose method and path have this in them.
    pub fn fail(&self, part: &str, fault: Fault, times: usize) {
        self.state.lock().unwrap().faults.push((part.to_string(), fault, times));
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The requests that came since this was last asked.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

/// Answers one request, and closes the connection.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(asked) = read(&stream) else { return };
    let line = format!("{} {}", asked.method, asked.path);
    let (fault, answer) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let at = state.faults.iter().position(|(part, _, times)| *times > 0 && line.contains(part.as_str()));
        let fault = at.map(|at| {
            state.faults[at].2 -= 1;
            state.faults[at].1.clone()
        });
        let answer = answer(&state, &asked);
        if matches!(fault, Some(Fault::BranchMoves)) {
            state.main = LATER;
        }
        (fault, answer)
    };
    let address = state.lock().unwrap().address.clone();
    // Whoever asked may have gone.
    let _ = write(&mut stream, &asked, answer, fault, &address);
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut asked = Asked { method, path, range: None, token: None };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { return Some(asked) };
        match name.to_lowercase().as_str() {
            "range" => asked.range = Some(value.to_string()),
            "authorization" => asked.token = Some(value.to_string()),
            _ => {}
        }
    }
}

/// What there is at a path; a status and the hub's word for it where there is nothing.
fn answer(state: &State, asked: &Asked) -> Result<Vec<u8>, (u16, &'static str)> {
    let path = asked.path.split('?').next().unwrap_or_default().replace("%2F", "/");
    let path = path.strip_prefix("/cdn").unwrap_or(&path);
    let of = |revision: &str| {
        let commit = if revision == "main" { state.main } else { revision };
        let found = state.commits.iter().find(|(name, _)| **name == commit);
        found.ok_or((404, "RevisionNotFound"))
    };
    let within = |base: String| path.strip_prefix(&base);
    if let Some(revision) = within(format!("/api/models/{MODEL}/revision/")) {
        let (commit, files) = of(revision)?;
        return Ok(description(commit, files).to_string().into_bytes());
    }
    if let Some(revision) = within(format!("/api/models/{MODEL}/tree/")) {
        return Ok(listing(of(revision)?.1).to_string().into_bytes());
    }
    if let Some((revision, name)) = within(format!("/{MODEL}/resolve/")).and_then(|rest| rest.split_once('/'))
    {
        return of(revision)?.1.get(name).cloned().ok_or((404, "EntryNotFound"));
    }
    Err((404, "RepoNotFound"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// As the hub describes a model: sums of large files alone, by the name `sha256`.
fn description(commit: &str, files: &BTreeMap<String, Vec<u8>>) -> Value {
    let siblings = files.iter().map(|(name, bytes)| match is_large(name) {
        true => json!({"rfilename": name, "size": bytes.len(),
            "lfs": {"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134}}),
        false => json!({"rfilename": name, "size": bytes.len()}),
    });
    json!({"_id": "1", "id": MODEL, "sha": commit, "private": false, "gated": false,
        "cardData": {"license": "apache-2.0"}, "siblings": siblings.collect::<Vec<_>>()})
}

/// As the hub lists a tree: sums of large files by the name `oid`, which hf-hub does not read.
fn listing(files: &BTreeMap<String, Vec<u8>>) -> Value {
    let entries = files.iter().map(|(name, bytes)| {
        let oid = small_sum(bytes);
        match is_large(name) {
            true => json!({"type": "file", "path": name, "size": bytes.len(), "oid": oid,
                "lfs": {"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134}}),
            false => json!({"type": "file", "path": name, "size": bytes.len(), "oid": oid}),
        }
    });
    let folder = json!({"type": "directory", "path": "onnx", "oid": "0".repeat(40)});
    Value::Array(std::iter::once(folder).chain(entries).collect())
}

/// Stands for git's sum: any 40 digits that follow from the contents.
pub fn small_sum(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_string()
}

fn write(
    stream: &mut TcpStream,
    asked: &Asked,
    answer: Result<Vec<u8>, (u16, &'static str)>,
    fault: Option<Fault>,
    address: &str,
) -> std::io::Result<()> {
    let mut head = |status: u16, headers: &[(&str, String)]| {
        let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all((text + "\r\n").as_bytes())
    };
    let empty = ("Content-Length", "0".to_string());
    match &fault {
        Some(Fault::Status(status, headers)) => return head(*status, &[&headers[..], &[empty]].concat()),
        Some(Fault::Moved { whole_address }) => {
            let host = if *whole_address { address } else { "" };
            return head(302, &[("Location", format!("{host}/cdn{}", asked.path)), empty]);
        }
        _ => {}
    }
    let mut body = match answer {
        Ok(body) => body,
        Err((status, code)) => return head(status, &[("X-Error-Code", code.to_string()), empty]),
    };
    match &fault {
        Some(Fault::Damaged) => body[0] ^= 1,
        Some(Fault::Short(bytes)) => body.truncate(body.len() - bytes),
        Some(Fault::Long(bytes)) => body.extend(vec![0; *bytes]),
        _ => {}
    }
    let from = asked.range.as_ref().filter(|_| !matches!(fault, Some(Fault::NoParts)));
    let from: Option<usize> = from.map(|range| {
        range.trim_start_matches("bytes=").split('-').next().unwrap_or_default().parse().unwrap_or_default()
    });
    let status = match from {
        Some(from) if from >= body.len() => return head(416, &[empty]),
        Some(from) => {
            body.drain(..from);
            206
        }
        None => 200,
    };
    head(status, &[("Content-Length", body.len().to_string())])?;
    if asked.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::CutAfter(bytes)) => stream.write_all(&body[..bytes.min(body.len())])?,
        Some(Fault::Drip(bytes, wait)) => {
            for piece in body.chunks(bytes) {
                stream.write_all(piece)?;
                stream.flush()?;
                thread::sleep(wait);
            }
        }
        _ => stream.write_all(&body)?,
    }
    stream.flush()
}
