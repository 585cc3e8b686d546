//! What the files of a folder say, for people.

/// The beginning of a text, for error messages that repeat what a file holds.
pub fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
