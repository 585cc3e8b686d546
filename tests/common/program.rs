//! The program itself, run as people run it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// What a finished program leaves.
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn sightline<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Done {
    finished(Command::new(env!("CARGO_BIN_EXE_sightline")).args(args))
}

/// What a command leaves.
pub fn finished(command: &mut Command) -> Done {
    let output = command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let done =
        Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!done.err.contains("panicked"), "{}", done.err);
    done
}

impl Done {
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    /// Unusable input: exit code 2, nothing on stdout, and a message with all of `parts` in it.
    pub fn refuses(self, parts: &[&str]) {
        assert_eq!(self.code, 2, "{}\n{}", self.out, self.err);
        assert_eq!(self.out, "");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in:\n{}", self.err);
        }
    }
}

pub fn asset(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(path)
}

pub fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
