//! A device elsewhere, here on this machine: the same numbers as without it, and what is said when it is not there,
//! does not let one in, or goes away.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::{
    program::{asset, json, text},
    served::Served,
};

/// The program where the secrets lie in `home`.
fn program(home: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sightline"));
    for name in ["RUST_LOG", "RUST_BACKTRACE", "SIGHTLINE_TOKEN"] {
        program.env_remove(name);
    }
    program.env("SIGHTLINE_STATE_DIR", home);
    program
}

/// Runs it and returns exit code and stderr.
fn outcome(mut program: Command) -> (Option<i32>, String) {
    let done = program.output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert!(!err.contains("panicked"), "{err}");
    (done.status.code(), err)
}

fn run(home: &Path, device: &str, more: &[&str], out: &Path) {
    let image = sightline::bundled::sample_image();
    let args = ["run", "--device", device, "--image", text(&image), "--prompt", "describe this image."];
    let mut program = program(home);
    program.args(args).args(["--max-new", "6", "--out", text(out)]).args(more);
    let (code, err) = outcome(program);
    assert_eq!(code, Some(0), "{device} {more:?}: {err}");
}

/// Every number of two JSON values, and where they part.
fn alike(path: &str, a: &Value, b: &Value) {
    // What depends on where and when it ran.
    let other = ["timing", "device", "seconds", "proof", "start"];
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{path}");
            let kept = a.iter().filter(|(key, _)| !other.contains(&key.as_str()));
            kept.for_each(|(key, a)| alike(&format!("{path}.{key}"), a, &b[key]));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| alike(&format!("{path}[{i}]"), a, b));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{path}: {a} here, {b} there");
        }
        (a, b) => assert_eq!(a, b, "{path}"),
    }
}

/// Every value of two files of tensors.
fn close(a: &Path, b: &Path, tolerance: f32) {
    let (a, b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    let (a, b) = (SafeTensors::deserialize(&a).unwrap(), SafeTensors::deserialize(&b).unwrap());
    assert!(!a.names().is_empty() && a.names().len() == b.names().len());
    for (name, here) in a.tensors() {
        let there = b.tensor(&name).unwrap();
        assert_eq!((here.shape(), here.dtype()), (there.shape(), there.dtype()), "{name}");
        let values = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
        };
        for (i, (a, b)) in values(here.data()).into_iter().zip(values(there.data())).enumerate() {
            assert!((a - b).abs() <= tolerance, "{name}[{i}]: {a} here, {b} there");
        }
    }
}

#[test]
fn numbers_are_the_same_as_here() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::begin(home.path(), 0);
    let cuts: [&[&str]; 4] = [
        &[],
        // A mask, what a baseline keeps, and a run from there.
        &["--knockout", "answer -> visual @ 1", "--check"],
        // Gradients.
        &["--knockout", "last -> gradient[0-3] @ 1"],
        // 16 bits on the wire.
        &["--dtype", "f16"],
    ];
    for (n, more) in cuts.into_iter().enumerate() {
        let [here, there] = ["here", "there"].map(|place| home.path().join(format!("{place}{n}")));
        run(home.path(), "cpu", more, &here);
        run(home.path(), &served.address, more, &there);
        // burn's operators round what enters and leaves a product to halves, our kernels do not: both are off the
        // float32 numbers, by as much as burn's operators on a device here are.
        let half = more.contains(&"f16");
        let [a, b] = [&here, &there].map(|folder| json(&folder.join("trace.json")));
        if !half {
            alike("", &a, &b);
        }
        let ids = |trace: &Value| -> Vec<Value> {
            trace["answer"].as_array().unwrap().iter().map(|token| token["id"].clone()).collect()
        };
        assert!(!ids(&a).is_empty() && ids(&a) == ids(&b), "{more:?}");
        let tolerance = if half { 4e-2 } else { 5e-5 };
        close(&here.join("trace.safetensors"), &there.join("trace.safetensors"), tolerance);
    }
    let trace = json(&home.path().join("there0/trace.json")).to_string();
    assert!(trace.contains("burn-remote"), "where it ran is stated");
    served.end();
}

#[test]
fn without_the_token_nobody_is_let_in() {
    let (home, stranger) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let served = Served::begin(home.path(), 0);
    let verify = |home: &Path, address: &str, token: Option<&str>| {
        let mut program = program(home);
        program.args(["verify", "--device", address, "tests/fixtures/tiny-llava"]);
        program.current_dir(env!("CARGO_MANIFEST_DIR"));
        token.iter().for_each(|token| _ = program.env("SIGHTLINE_TOKEN", token));
        let begun = Instant::now();
        let (code, err) = outcome(program);
        assert!(begun.elapsed() < Duration::from_secs(20), "{err}");
        (code, err)
    };
    let (code, err) = verify(stranger.path(), &served.address, None);
    assert!(code == Some(2) && err.contains("no token: set SIGHTLINE_TOKEN"), "{err}");
    let (code, err) = verify(stranger.path(), &served.address, Some("wrong"));
    assert!(code == Some(2) && err.contains("refused the token"), "{err}");
    let token = fs::read_to_string(home.path().join("token")).unwrap();
    let (code, err) = verify(stranger.path(), &served.address, Some(&token));
    assert_eq!(code, Some(0), "{err}");

    // Another server's id, or nobody at all.
    let other = sightline::device::secret::identity(stranger.path()).unwrap().id();
    let host = served.address.split_once('@').unwrap().1.to_string();
    let (code, err) = verify(home.path(), &format!("remote:{other}@{host}"), None);
    assert!(code == Some(2) && err.contains(&host) && err.contains("sightline serve"), "{err}");
    let address = served.address.clone();
    served.kill();
    let (code, err) = verify(home.path(), &address, None);
    assert!(code == Some(2) && err.contains(&host) && err.contains("sightline serve"), "{err}");
}

#[test]
fn a_server_that_ends_meanwhile_ends_the_program_with_that_error() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::begin(home.path(), 0);
    let mut eval = program(home.path());
    eval.args(["eval", "--device", &served.address, "--scenes", text(&asset("scenes")), "--describe"]);
    eval.arg("describe this image.").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = eval.spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("loading ") {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "it ended before it began");
    }
    std::thread::sleep(Duration::from_secs(2));
    let port = served.port();
    served.end();
    let mut text = String::new();
    err.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{text}");
    assert!(text.contains("error: "), "{text}");
    assert!(text.contains(&format!("the connection to 127.0.0.1:{port} broke")), "{text}");
    assert!(
        !text.contains("panicked") && !text.contains("WARN"),
        "one error, and nothing that buries it: {text}"
    );
}

#[test]
fn devices_and_ports_that_cannot_be_are_told() {
    let home = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], parts: &[&str]| {
        let mut program = program(home.path());
        program.args(args);
        let (code, err) = outcome(program);
        assert_eq!(code, Some(2), "{err}");
        parts.iter().for_each(|part| assert!(err.contains(part), "`{part}` is not in:\n{err}"));
    };
    refused(&["verify", "--device", "tpu", "x"], &["auto, cpu, gpu, or remote:ID@HOST:PORT"]);
    refused(
        &["verify", "--device", "remote:gpu:7433", "x"],
        &["`gpu:7433` is no server's id", "ID@HOST:PORT"],
    );
    let id = sightline::device::secret::identity(home.path()).unwrap().id();
    let elsewhere = format!("remote:{id}@127.0.0.1:1");
    refused(&["serve", "--device", &elsewhere], &["cannot be served from here"]);
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(&["serve", "--device", "cpu", "--port", &port], &[&port, "choose another with --port"]);
}
