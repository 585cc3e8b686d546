//! SHA-256 sums, in hex.

use std::{
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::files::input;

/// Of some bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(Sha256::new().chain_update(bytes))
}

/// Of a file's bytes.
///
/// # Errors
/// As [`input::open`].
pub fn of_file(file: &Path) -> io::Result<String> {
    let mut reader = BufReader::with_capacity(1 << 20, input::open(file)?);
    let mut hasher = Sha256::new();
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(hex(hasher));
        }
        hasher.update(piece);
        let read = piece.len();
        reader.consume(read);
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
