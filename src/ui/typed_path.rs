//! A path as people type or paste it: quoted by a shell or a file manager, as a `file://` address, from the home
//! folder. Knows text; not what lies there.

use std::path::PathBuf;
#[cfg(unix)]
use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use percent_encoding::percent_decode_str;

/// Endings of the names of images.
const IMAGES: [&str; 11] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm"];

/// Whether a name is that of an image.
pub fn is_image(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| IMAGES.contains(&ending.to_ascii_lowercase().as_str()))
}

/// Whether a name is that of a file that the window opens, rather than that of a folder.
pub fn is_file(name: &str) -> bool {
    is_image(name) || name.to_ascii_lowercase().ends_with(".json")
}

/// Whether a text reads like a path rather than like words: it has a folder or an address in it, or ends as files do.
pub fn is_path(text: &str) -> bool {
    let text = unquoted(text.trim());
    let begins = ["/", "~/", "./", "../", "\\\\", ".\\", "..\\"];
    let drive = text.get(1..3).is_some_and(|rest| rest == ":\\" || rest == ":/");
    let address = text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file://"));
    let begun = begins.iter().any(|begin| text.starts_with(begin) && text.len() > begin.len());
    address || drive || begun || is_file(text)
}

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
        for path in ["/a", "~/a b", "./x", "../models/m", "C:\\x", "a.PNG", "'a b.jpeg'", "runs/session.json"]
        {
            assert!(is_path(path), "{path}");
        }
        for words in ["", "/", "layer 12", "what is this?", "cut image -> text", "1.5", "e.g. this"] {
            assert!(!is_path(words), "{words}");
        }
        assert_eq!(typed_path("it's.png"), PathBuf::from("it's.png"));
        assert_eq!(typed_path("'"), PathBuf::from("'"));
        assert_eq!(typed_path("b%20c.png"), PathBuf::from("b%20c.png"), "no address, no escapes");
        assert_eq!(typed_path("~/x.png"), std::env::home_dir().unwrap().join("x.png"));
    }
}
