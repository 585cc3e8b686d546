//! What proves to each other the two machines of a device elsewhere: the server's identity, whose public half is the
//! id in its address, and a token, which whoever connects must have.
//!
//! Both lie in files that only their owner reads. Knows files and the environment; opens no connection.

use std::{
    env, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use burn::remote::IrohIdentity;

/// The variable that holds the token, before any file.
pub const TOKEN: &str = "SIGHTLINE_TOKEN";

/// The folder of what outlives the window; the secrets lie there, too.
const STATE_DIR: &str = "SIGHTLINE_STATE_DIR";

/// What is wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no token.
    #[error(
        "no token: set {TOKEN} to the text of the file `token` that `sightline serve` names, or copy that file to {}",
        file.display()
    )]
    NoToken {
        /// Where one would be found.
        file: PathBuf,
    },
    /// Neither a home nor a folder that was named.
    #[error("there is no home folder to keep secrets in: set {STATE_DIR} to a folder")]
    NoFolder,
    /// A file that others could read.
    #[error("{}: others can read it, and would be let in: chmod 600 it, or delete it for a new one", file.display())]
    Open {
        /// Which.
        file: PathBuf,
    },
    /// A token of no character.
    #[error("{place}: the token is empty")]
    Empty {
        /// Where it was found.
        place: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// The folder of the secrets.
///
/// # Errors
/// [`SecretError::NoFolder`].
pub fn folder() -> Result<PathBuf, SecretError> {
    let named = env::var_os(STATE_DIR).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    named.or_else(|| eframe::storage_dir("sightline")).ok_or(SecretError::NoFolder)
}

/// The file of the token in a folder of secrets.
pub fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

/// Where the token lies on this machine, in words; `None` where there is no place for it.
pub fn token_place() -> Option<String> {
    folder().ok().map(|folder| token_file(&folder).display().to_string())
}

/// The token that is there: of [`TOKEN`], else of its file.
///
/// # Errors
/// [`SecretError::NoToken`] where there is none.
pub fn token() -> Result<String, SecretError> {
    match env::var(TOKEN) {
        Ok(token) => whole(&token, TOKEN),
        Err(_) => read(&token_file(&folder()?)),
    }
}

/// The token that a server asks for: the one that is there, else a new one, which stays in its file.
///
/// # Errors
/// [`SecretError`], when it can be neither read nor written.
pub fn token_or_new(folder: &Path) -> Result<String, SecretError> {
    if let Ok(token) = env::var(TOKEN) {
        return whole(&token, TOKEN);
    }
    let file = token_file(folder);
    match read(&file) {
        Err(SecretError::NoToken { .. }) => {
            let failed = |source| SecretError::File { file: file.clone(), source };
            make_folder(folder)?;
            let new = private(fs::OpenOptions::new().write(true).create_new(true));
            // As random as a secret key, which it otherwise has nothing to do with.
            let token: String =
                IrohIdentity::random().to_bytes().iter().map(|b| format!("{b:02x}")).collect();
            let written = new.open(&file).and_then(|mut to| writeln!(to, "{token}"));
            written.map_err(failed)?;
            Ok(token)
        }
        found => found,
    }
}

/// A server's identity, made at its first start.
///
/// # Errors
/// [`SecretError`], when it can be neither read nor written.
pub fn identity(folder: &Path) -> Result<IrohIdentity, SecretError> {
    make_folder(folder)?;
    let file = folder.join("server.key");
    let found = IrohIdentity::load_or_create(&file);
    let found = found.map_err(|source| SecretError::File { file: file.clone(), source })?;
    closed(&file)?;
    Ok(found)
}

fn read(file: &Path) -> Result<String, SecretError> {
    let text = fs::read_to_string(file).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SecretError::NoToken { file: file.to_path_buf() },
        _ => SecretError::File { file: file.to_path_buf(), source },
    })?;
    closed(file)?;
    whole(&text, &file.display().to_string())
}

fn whole(token: &str, place: &str) -> Result<String, SecretError> {
    match token.trim() {
        "" => Err(SecretError::Empty { place: place.to_string() }),
        token => Ok(token.to_string()),
    }
}

fn make_folder(folder: &Path) -> Result<(), SecretError> {
    let made = fs::create_dir_all(folder);
    made.map_err(|source| SecretError::File { file: folder.to_path_buf(), source })
}

/// Files that are made so are their owner's only.
#[cfg(unix)]
fn private(options: &mut fs::OpenOptions) -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600).clone()
}

/// Elsewhere a file takes its folder's permissions, and the home is its owner's.
#[cfg(not(unix))]
fn private(options: &mut fs::OpenOptions) -> fs::OpenOptions {
    options.clone()
}

/// Refuses a secret that others can read.
#[cfg(unix)]
fn closed(file: &Path) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    let seen = fs::metadata(file).map_err(|source| SecretError::File { file: file.to_path_buf(), source })?;
    match seen.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => Err(SecretError::Open { file: file.to_path_buf() }),
    }
}

#[cfg(not(unix))]
fn closed(_file: &Path) -> Result<(), SecretError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_are_their_owners() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        let id = identity(&folder).unwrap().id();
        assert_eq!(identity(&folder).unwrap().id(), id);
        if env::var_os(TOKEN).is_some() {
            return;
        }
        let token = token_or_new(&folder).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(token_or_new(&folder).unwrap(), token);
        #[cfg(unix)]
        for name in ["token", "server.key"] {
            use std::os::unix::fs::PermissionsExt as _;
            let file = folder.join(name);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        #[cfg(unix)]
        {
            assert!(matches!(token_or_new(&folder), Err(SecretError::Open { .. })));
            assert!(matches!(identity(&folder), Err(SecretError::Open { .. })));
        }
    }
}
