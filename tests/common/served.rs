//! `sightline serve` on this machine, as another process.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

/// A server, killed when it is dropped.
pub struct Served {
    child: Child,
    /// `remote:ID@127.0.0.1:PORT`.
    pub address: String,
}

impl Served {
    /// Starts one with its secrets in `home`, on a port, any free one for 0.
    pub fn begin(home: &Path, port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sightline"))
            .args(["serve", "--device", "cpu", "--port", &port.to_string()])
            .env("SIGHTLINE_STATE_DIR", home)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let address = line.split_whitespace().last()?;
            (address.starts_with("remote:") && address.contains("@127.0.0.1:")).then(|| address.to_string())
        });
        // Nothing of what it prints may stop it.
        thread::spawn(move || lines.for_each(drop));
        Served { child, address: address.unwrap() }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Tells it to end, and waits until it did.
    pub fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "it ends in good order");
    }

    /// Ends it with no time for a word.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
