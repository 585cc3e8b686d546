//! Models by their name on the hub, fetched from a hub on the loopback, with what goes wrong on networks.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sightline::bundled;
use tempfile::TempDir;

use crate::common::{
    hub::{Asked, COMMIT, Fault, LATER, MODEL, Server, small_sum},
    program::{Done, asset, finished, text},
};

/// A user of a hub: a home of their own.
struct User {
    home: TempDir,
    endpoint: String,
}

impl User {
    fn of(server: &Server) -> Self {
        User { home: tempfile::tempdir().unwrap(), endpoint: server.address.clone() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.env_remove("TRANSFORMERS_OFFLINE").env_remove("RUST_LOG").env("NO_PROXY", "*");
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.endpoint).args(args);
        command
    }

    fn does(&self, args: &[&str]) -> Done {
        finished(&mut self.command(args))
    }

    fn get(&self) -> Done {
        self.does(&["models", "get", MODEL])
    }

    /// Answers with a model, in few words.
    fn runs(&self, model: &str, more: &[(&str, &str)]) -> Done {
        let out = tempfile::tempdir().unwrap();
        let image = asset("scenes/images/000000.png");
        let question = ["--image", text(&image), "--prompt", "is there a duck?", "--max-new", "2"];
        let base = ["run", "--device", "cpu", "--model", model, "--out", text(out.path())];
        finished(self.command(&[&base[..], &question].concat()).envs(more.iter().copied()))
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    fn repository(&self) -> PathBuf {
        self.cache().join("models--org--name")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    /// Files in the cache that are still on their way.
    fn parts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.repository().join("blobs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| text(path).ends_with(".incomplete")).collect()
    }
}

/// The requests for the contents of the weights.
fn for_weights(server: &Server) -> Vec<Asked> {
    let mut asked = server.take_asked();
    asked.retain(|asked| asked.method == "GET" && asked.path.ends_with("model.safetensors"));
    asked
}

const WEIGHTS: &str = "GET /org/name/resolve";

fn weights() -> Vec<u8> {
    fs::read(bundled::model().join("model.safetensors")).unwrap()
}

fn served() -> (Server, User) {
    let server = Server::of(&bundled::model());
    let user = User::of(&server);
    (server, user)
}

/// Faults that concern the weights alone.
fn on_weights(server: &Server, fault: Fault, times: usize) {
    server.fail(&format!("{WEIGHTS}/{COMMIT}/model.safetensors"), fault, times);
}

/// What is in the cache is what is served.
fn assert_whole(user: &User) {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"] {
        let read = fs::read(user.snapshot().join(name)).unwrap();
        assert_eq!(read, fs::read(bundled::model().join(name)).unwrap(), "{name}");
    }
    assert!(user.parts().is_empty());
}

#[test]
fn a_model_is_fetched_laid_out_as_python_does_and_used_without_the_network() {
    let (server, user) = served();
    let shown = user.does(&["models", "show", MODEL]).succeeds();
    assert!(
        shown.out.contains("licence: apache-2.0") && shown.out.contains("model.safetensors"),
        "{}",
        shown.out
    );
    assert!(!user.repository().join("blobs").exists(), "nothing is fetched by it");
    let done = user.runs(MODEL, &[]).succeeds();
    for part in ["licence: apache-2.0", "9.5", COMMIT] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    assert_whole(&user);
    let blobs = user.repository().join("blobs");
    assert_eq!(fs::read_to_string(user.repository().join("refs/main")).unwrap(), COMMIT);
    let config = fs::read(bundled::model().join("config.json")).unwrap();
    assert!(blobs.join(small_sum(&config)).is_file());
    assert!(!user.snapshot().join("README.md").exists(), "what is not needed is not fetched");
    #[cfg(unix)]
    {
        let link = fs::read_link(user.snapshot().join("config.json")).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(small_sum(&config)));
    }
    server.take_asked();
    user.runs(MODEL, &[]).succeeds();
    user.runs(&format!("{MODEL}@{COMMIT}"), &[("HF_HUB_OFFLINE", "1")]).succeeds();
    assert!(server.take_asked().is_empty(), "what is there is asked for no more");
    let got = user.get().succeeds();
    assert_eq!(got.out.trim(), text(&user.snapshot()));
    assert!(for_weights(&server).is_empty());
}

#[test]
fn offline_uses_the_cache_alone() {
    let (server, user) = served();
    for (name, value) in [("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_OFFLINE", "YES")] {
        user.runs(MODEL, &[(name, value)]).refuses(&[MODEL, name, text(&user.cache())]);
    }
    assert!(server.take_asked().is_empty());
}

/// A model as Python's huggingface_hub leaves it: files by their sums, and links to them.
#[cfg(unix)]
#[test]
fn a_folder_that_python_laid_out_is_used_as_it_is() {
    let (server, user) = served();
    let (blobs, snapshot) = (user.repository().join("blobs"), user.snapshot());
    for folder in [&blobs, &snapshot, &user.repository().join("refs"), &user.repository().join(".no_exist")] {
        fs::create_dir_all(folder).unwrap();
    }
    for entry in fs::read_dir(bundled::model()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        fs::copy(bundled::model().join(&name), blobs.join(format!("sum-of-{name}"))).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/sum-of-{name}"), snapshot.join(&name)).unwrap();
    }
    fs::write(user.repository().join("refs/main"), COMMIT).unwrap();
    user.runs(MODEL, &[]).succeeds();
    assert!(server.take_asked().is_empty());
    // A link that leads out of the model's own folder is not followed.
    let secret = user.home.path().join("secret.json");
    fs::write(&secret, "{}").unwrap();
    std::os::unix::fs::symlink("../../../../secret.json", snapshot.join("added_tokens.json")).unwrap();
    user.runs(MODEL, &[]).refuses(&["added_tokens.json", "secret.json", "out of the model's own folder"]);
}

#[test]
fn cut_connections_are_gone_on_with() {
    let (server, user) = served();
    on_weights(&server, Fault::CutAfter(3_000_000), 2);
    user.get().succeeds();
    assert_whole(&user);
    let ranges: Vec<Option<String>> = for_weights(&server).into_iter().map(|asked| asked.range).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!(ranges[0], None);
    // What came before the cut is not asked for again, but for what was lost with the connection.
    let begins = |range: &Option<String>| -> u64 {
        let range = range.as_ref().unwrap().strip_prefix("bytes=").unwrap();
        range.split('-').next().unwrap().parse().unwrap()
    };
    let (second, third) = (begins(&ranges[1]), begins(&ranges[2]));
    assert!(0 < second && second <= 3_000_000 && second < third && third <= 6_000_000, "{ranges:?}");
}

#[test]
fn a_server_that_knows_no_parts_sends_all_of_it() {
    let (server, user) = served();
    on_weights(&server, Fault::CutAfter(3_000_000), 1);
    on_weights(&server, Fault::NoParts, 1);
    user.get().succeeds();
    assert_whole(&user);
}

#[test]
fn a_killed_download_is_gone_on_with_by_the_next() {
    let (server, user) = served();
    on_weights(&server, Fault::Drip(100_000, Duration::from_millis(50)), 1);
    let mut child =
        user.command(&["models", "get", MODEL]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let length =
        |user: &User| user.parts().first().and_then(|part| fs::metadata(part).ok()).map_or(0, |m| m.len());
    while length(&user) < 500_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came");
        thread::sleep(Duration::from_millis(10));
    }
    // SIGKILL on Unix.
    child.kill().unwrap();
    child.wait().unwrap();
    let came = length(&user);
    assert!(came < weights().len() as u64);
    assert!(!user.snapshot().join("model.safetensors").exists(), "what is not whole is in no folder");
    user.runs(MODEL, &[("HF_HUB_OFFLINE", "1")]).refuses(&["not whole"]);
    server.mend();
    server.take_asked();
    user.get().succeeds();
    assert_whole(&user);
    let asked = for_weights(&server);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].range, Some(format!("bytes={came}-{}", weights().len() - 1)));
}

#[test]
fn a_slow_drip_comes_to_its_end() {
    let (server, user) = served();
    on_weights(&server, Fault::Drip(500_000, Duration::from_millis(100)), 1);
    user.get().succeeds();
    assert_whole(&user);
}

#[test]
fn damaged_files_are_fetched_again_and_thrown_away_in_the_end() {
    let (server, user) = served();
    on_weights(&server, Fault::Damaged, 1);
    user.get().succeeds();
    assert_whole(&user);
    assert_eq!(for_weights(&server).len(), 2);

    let user = User::of(&server);
    on_weights(&server, Fault::Damaged, 9);
    user.get().refuses(&["model.safetensors", "SHA-256", "damaged"]);
    assert!(!user.snapshot().join("model.safetensors").exists());
    assert!(user.parts().iter().all(|part| fs::metadata(part).unwrap().len() == 0), "nothing of it is kept");
}

#[test]
fn wrong_lengths_are_refused() {
    for fault in [Fault::Short(10), Fault::Long(10)] {
        let (server, user) = served();
        on_weights(&server, fault, 9);
        user.get().refuses(&["model.safetensors", "9512896"]);
        assert!(!user.snapshot().join("model.safetensors").exists());
    }
}

#[test]
fn redirects_are_followed() {
    for whole_address in [false, true] {
        let (server, user) = served();
        // Both the question for the length and that for the contents.
        server.fail(
            &format!(" /{MODEL}/resolve/{COMMIT}/model.safetensors"),
            Fault::Moved { whole_address },
            2,
        );
        user.get().succeeds();
        assert_whole(&user);
        let asked = server.take_asked();
        assert!(asked.iter().any(|asked| asked.path.starts_with("/cdn/") && asked.method == "GET"));
    }
}

#[test]
fn refusals_say_what_to_do() {
    let status = |status: u16, code: &str| {
        let (server, user) = served();
        let headers = vec![("X-Error-Code", code.to_string()), ("X-Error-Message", "so it is".to_string())];
        server.fail("/api/models", Fault::Status(status, headers), 99);
        let begun = Instant::now();
        let done = user.get();
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert!(!user.repository().exists());
        done
    };
    status(401, "RepoNotFound").refuses(&[MODEL, "401", "HF_TOKEN"]);
    status(401, "GatedRepo").refuses(&[MODEL, "accept the model's licence", "HF_TOKEN"]);
    status(403, "GatedRepo").refuses(&[MODEL, "accept the model's licence on http://127.0.0.1", "so it is"]);
    status(404, "RepoNotFound").refuses(&[MODEL, "no such model", "no such folder"]);
    status(404, "RevisionNotFound").refuses(&[MODEL, "no such revision"]);
    status(418, "").refuses(&[MODEL, "418", "so it is"]);
    status(503, "").refuses(&[MODEL, "cannot be reached", "503"]);
    let (server, user) = served();
    user.does(&["models", "get", &format!("{MODEL}@elsewhere")]).refuses(&["elsewhere", "no such revision"]);
    user.runs("org/other", &[]).refuses(&["org/other", "no such model", "no such folder"]);
    for name in ["org/name@../../x", "name", "org/../name", "/etc/passwd"] {
        let done = user.does(&["models", "get", name]);
        assert_eq!(done.code, 2, "{name}");
    }
    on_weights(&server, Fault::Status(403, Vec::new()), 1);
    user.get().refuses(&["403", "licence"]);
}

#[test]
fn nobody_at_the_other_end_is_said() {
    let user = User { home: tempfile::tempdir().unwrap(), endpoint: "http://127.0.0.1:9".to_string() };
    user.get().refuses(&[MODEL, "cannot be reached", "http://127.0.0.1:9"]);
    let user = User { home: tempfile::tempdir().unwrap(), endpoint: "no address".to_string() };
    user.get().refuses(&["HF_ENDPOINT"]);
}

#[test]
fn without_the_hub_what_is_known_is_shown_and_the_failure_told_once() {
    let user = User { home: tempfile::tempdir().unwrap(), endpoint: "http://127.0.0.1:9".to_string() };
    let done = user.does(&["models", "show", "HuggingFaceTB/SmolVLM-256M-Instruct"]).succeeds();
    assert!(done.out.contains("checked: ") && done.out.contains("licence: "), "{}", done.out);
    assert!(done.err.contains("the hub cannot be reached"), "{}", done.err);
    assert_eq!(done.err.matches("trying again").count(), 1, "{}", done.err);
    assert!(!done.err.contains("retry exhausted"), "{}", done.err);
    assert_eq!(done.err.lines().count(), 2, "{}", done.err);
    // Of what nobody knows there is nothing to show.
    user.does(&["models", "show", MODEL]).refuses(&[MODEL, "cannot be reached"]);
}

#[test]
fn servers_that_are_busy_are_asked_again() {
    let (server, user) = served();
    let later = |seconds: &str| Fault::Status(429, vec![("Retry-After", seconds.to_string())]);
    server.fail("/api/models/org/name/revision", later("2"), 1);
    server.fail("/api/models/org/name/tree", Fault::Status(503, Vec::new()), 2);
    on_weights(&server, Fault::Status(500, Vec::new()), 1);
    let begun = Instant::now();
    user.get().succeeds();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it waits as long as it is asked to");
    assert_whole(&user);

    let user = User::of(&server);
    server.fail("/api/models", later("86400"), 1);
    let begun = Instant::now();
    user.get().refuses(&["86400 s", "429"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_branch_that_moves_meanwhile_is_fetched_at_one_commit() {
    let (server, user) = served();
    let mut other = BTreeMap::from([("config.json".to_string(), b"{}".to_vec())]);
    other.insert("model.safetensors".to_string(), b"other".to_vec());
    server.add_later(other);
    server.fail("/revision/main", Fault::BranchMoves, 1);
    user.get().succeeds();
    assert_whole(&user);
    let asked = server.take_asked();
    assert!(asked.iter().all(|asked| !asked.path.contains(LATER)));
    let contents = asked.iter().filter(|asked| asked.path.contains("/resolve/"));
    assert!(contents.clone().count() > 0 && contents.into_iter().all(|asked| asked.path.contains(COMMIT)));
    // The next time, the branch is what it is then; the small files show that this is no model.
    user.get().refuses(&["model_type", "weights were not fetched"]);
    assert_eq!(
        fs::read_to_string(user.repository().join("refs/main")).unwrap(),
        COMMIT,
        "what is whole stays in use"
    );
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../../../escaped.json", "/tmp/escaped.json", "a\\..\\escaped.json", "a/../../escaped.json"]
    {
        let mut files = BTreeMap::from([("config.json".to_string(), b"{}".to_vec())]);
        files.insert(name.to_string(), b"{}".to_vec());
        let server = Server::with(files);
        let user = User::of(&server);
        user.get().refuses(&["escaped.json", "nothing of it is fetched"]);
        assert!(!user.repository().exists());
    }
    // An index that names files elsewhere is no better.
    let index = json!({"weight_map": {"a": "../../../../secret.safetensors"}}).to_string().into_bytes();
    let mut files = BTreeMap::from([("model.safetensors.index.json".to_string(), index)]);
    files.insert("config.json".to_string(), fs::read(bundled::model().join("config.json")).unwrap());
    files.insert("model-00001-of-00001.safetensors".to_string(), b"x".to_vec());
    let server = Server::with(files);
    User::of(&server).get().refuses(&["index.json", "secret.safetensors", "beside it"]);
}

#[test]
fn a_model_of_no_use_here_is_told_before_its_weights_come() {
    let config = br#"{"model_type": "gpt2"}"#.to_vec();
    let mut files = BTreeMap::from([("config.json".to_string(), config.clone())]);
    files.insert("model.safetensors".to_string(), b"x".to_vec());
    let server = Server::with(files);
    User::of(&server).get().refuses(&["gpt2", "llava", "idefics3", "weights were not fetched"]);
    assert!(for_weights(&server).is_empty());
    let mut files = BTreeMap::from([("config.json".to_string(), config)]);
    files.insert("pytorch_model.bin".to_string(), b"x".to_vec());
    let server = Server::with(files);
    User::of(&server).get().refuses(&["no safetensors weights", "pytorch_model.bin"]);
}

#[test]
fn the_token_of_the_user_is_sent() {
    let (server, user) = served();
    fs::write(user.home.path().join("token"), "hf_file\n").unwrap();
    user.does(&["models", "show", MODEL]).succeeds();
    finished(user.command(&["models", "show", MODEL]).env("HF_TOKEN", "hf_variable")).succeeds();
    let tokens: Vec<Option<String>> = server.take_asked().into_iter().map(|asked| asked.token).collect();
    let expected = ["hf_file", "hf_file", "hf_variable", "hf_variable"];
    assert_eq!(tokens, expected.map(|token| Some(format!("Bearer {token}"))));
}

#[test]
fn a_folder_wins_over_a_name_and_sessions_name_either() {
    let (server, user) = served();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("org/name")).unwrap();
    for entry in fs::read_dir(bundled::model()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(MODEL).join(entry.file_name())).unwrap();
    }
    let image = asset("scenes/images/000000.png");
    let out = dir.path().join("out");
    let question = ["--image", text(&image), "--prompt", "is there a duck?", "--max-new", "2"];
    let base = ["run", "--device", "cpu", "--model", MODEL, "--out", text(&out)];
    finished(user.command(&[&base[..], &question].concat()).current_dir(dir.path())).succeeds();
    assert!(server.take_asked().is_empty());
    let mut session: Value = serde_json::from_slice(&fs::read(out.join("session.json")).unwrap()).unwrap();
    let again = dir.path().join("elsewhere");
    fs::create_dir(&again).unwrap();
    for name in [MODEL.to_string(), text(&user.snapshot()).to_string()] {
        session["model"] = name.into();
        fs::write(again.join("session.json"), session.to_string()).unwrap();
        let replayed =
            user.does(&["replay", "--device", "cpu", text(&again.join("session.json"))]).succeeds();
        assert!(replayed.out.contains("the same numbers"), "{}", replayed.out);
        fs::remove_dir_all(user.cache()).unwrap();
    }
}

#[test]
fn the_table_is_listed_with_what_is_here() {
    let (_server, user) = served();
    let list = user.does(&["models"]).succeeds();
    for part in
        ["HuggingFaceTB/SmolVLM-256M-Instruct", "Qwen/Qwen3-VL-8B-Instruct", "llava", text(&user.cache())]
    {
        assert!(list.out.contains(part), "{part}: {}", list.out);
    }
    let rows = user.does(&["models", "--json"]).succeeds();
    let rows: Value = serde_json::from_str(&rows.out).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 20 && rows.iter().all(|row| row["cache"] == "nothing"));
    let small = rows.iter().find(|row| row["model"]["id"] == "HuggingFaceTB/SmolVLM-256M-Instruct").unwrap();
    assert_eq!(small["memory"]["f16"], 2 * 256_484_928_u64);
}
