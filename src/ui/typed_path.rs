//! A path as people type or paste it: quoted by a shell or a file manager, as a `file://` address, from the home
//! folder. Knows text; not what lies there.

use std::path::PathBuf;
#[cfg(unix)]
use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use percent_encoding::percent_decode_str;

/// The path that is meant.
pub fn typed_path(text: &str) -> PathBuf {
    let text = unquoted(text.trim());
    if let Some(path) = of_address(text) {
        return path;
    }
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// The path of a `file://` address of this machine.
fn of_address(text: &str) -> Option<PathBuf> {
    let (scheme, rest) = (text.get(..7)?, text.get(7..)?);
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !scheme.eq_ignore_ascii_case("file://") || !path.starts_with('/') {
        return None;
    }
    // Windows has its drive after the slash.
    let path = if cfg!(windows) { path.trim_start_matches('/') } else { path };
    let bytes = percent_decode_str(path);
    #[cfg(unix)]
    let path = OsString::from_vec(bytes.collect());
    #[cfg(not(unix))]
    let path = bytes.decode_utf8().ok()?.into_owned();
    Some(path.into())
}

fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).map_or(text, str::trim)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_addresses_are_understood() {
        for text in [
            "/a/b c.png",
            "  /a/b c.png ",
            "\"/a/b c.png\"",
            "'/a/b c.png'",
            "file:///a/b%20c.png",
            "file://localhost/a/b%20c.png",
            "'file:///a/b%20c.png'",
            "FILE:///a/b%20c.png",
        ] {
            assert_eq!(typed_path(text), PathBuf::from("/a/b c.png"), "{text}");
        }
        assert_eq!(typed_path("it's.png"), PathBuf::from("it's.png"));
        assert_eq!(typed_path("'"), PathBuf::from("'"));
        assert_eq!(typed_path("b%20c.png"), PathBuf::from("b%20c.png"), "no address, no escapes");
        assert_eq!(typed_path("~/x.png"), std::env::home_dir().unwrap().join("x.png"));
    }
}
