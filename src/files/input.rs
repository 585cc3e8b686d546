//! Files that people name, opened for reading: regular ones only. A pipe that nobody writes into, or a device
//! without an end, would be waited for, for ever.

use std::{
    fs::{self, File, FileType},
    io,
    path::Path,
};

/// Opens a file.
///
/// # Errors
/// The system's; also for what is no regular file, saying what it is.
pub fn open(file: &Path) -> io::Result<File> {
    size(file)?;
    File::open(file)
}

/// A file's bytes.
///
/// # Errors
/// As [`open`].
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    size(file)?;
    fs::read(file)
}

/// A file's text.
///
/// # Errors
/// As [`open`]; also when it is not UTF-8.
pub fn read_text(file: &Path) -> io::Result<String> {
    size(file)?;
    fs::read_to_string(file)
}

/// A file's length in bytes, without opening it.
///
/// # Errors
/// As [`open`].
pub fn size(file: &Path) -> io::Result<u64> {
    let found = fs::metadata(file)?;
    if found.is_file() {
        return Ok(found.len());
    }
    let why = format!("it is {}, expected a regular file", kind(found.file_type()));
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// What stands where a file should.
fn kind(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.is_fifo() {
            return "a pipe";
        }
        if found.is_socket() {
            return "a socket";
        }
    }
    if found.is_dir() { "a folder" } else { "a device" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!((read_text(&file).unwrap(), size(&file).unwrap()), ("text".to_string(), 4));
        assert_eq!(open(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let refused = |place: &Path, what: &str| {
            for error in [open(place).err(), read(place).err(), read_text(place).err()] {
                let error = error.unwrap().to_string();
                assert!(error.contains(what), "{error}");
            }
        };
        refused(dir.path(), "it is a folder");
        #[cfg(unix)]
        {
            let socket = dir.path().join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            refused(&socket, "it is a socket");
            refused(Path::new("/dev/zero"), "it is a device");
            std::os::unix::fs::symlink(&file, dir.path().join("link")).unwrap();
            assert_eq!(read(&dir.path().join("link")).unwrap(), b"text");
        }
    }
}
