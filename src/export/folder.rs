//! The folder that `run` writes: which files are in it, and how they are called.

use std::path::Path;

use crate::files::{
    error::WriteError,
    name,
    output::{Layout, Output},
};

/// What the model said, and where it looked.
pub const TRACE: &str = "trace.json";
/// Its numbers.
pub const TENSORS: &str = "trace.safetensors";
/// The flow chart.
pub const FLOW: &str = "flow.svg";
/// What was run. Written last: where it is, all else is.
pub const SESSION: &str = "session.json";

static LAYOUT: Layout = Layout { folders: &[], seals: &[SESSION], leaves, durable: true };

/// Takes hold of a run's folder, as [`Output::open`].
///
/// # Errors
/// As there.
pub fn open(dir: &Path) -> Result<Output, WriteError> {
    Output::open(dir, &LAYOUT)
}

/// The picture of an answer token: its place, its text, and the layer that is drawn.
pub fn token_picture(token: usize, text: &str, layer: usize) -> String {
    let word: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    format!("token_{token:02}_{}_layer_{layer}.png", name::part(&word))
}

/// The picture of a phrase that begins at a token of the answer.
pub fn phrase_picture(token: usize, text: &str, layer: usize) -> String {
    format!("phrase_{token:02}_{}_layer_{layer}.png", name::part(text))
}

/// The same picture of another image of the conversation than the first.
pub fn of_image(picture: &str, image: usize) -> String {
    match (image, picture.strip_suffix(".png")) {
        (1.., Some(stem)) => format!("{stem}_image_{image}.png"),
        _ => picture.to_string(),
    }
}

/// Whether an earlier run may have left a file of this name: pictures are many, and not the same ones every time.
fn leaves(name: &str) -> bool {
    let picture = ["token_", "phrase_"].into_iter().find_map(|kind| name.strip_prefix(kind));
    let is_picture = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(".png");
    [TRACE, TENSORS, FLOW].contains(&name) || picture.is_some_and(is_picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_picture_is_known_by_its_name_and_nothing_else_is() {
        let long = "字 ".repeat(300);
        for name in
            [token_picture(3, " duck", 5), phrase_picture(120, &long, 31), token_picture(0, "/../", 0)]
        {
            assert!(leaves(&name) && name.len() <= 143 && !name.contains(['/', ' ']), "{name}");
        }
        let second = of_image(&token_picture(3, "duck", 5), 1);
        assert!(leaves(&second) && second == "token_03_duck_layer_5_image_1.png", "{second}");
        assert_eq!(of_image("token_0.png", 0), "token_0.png");
        assert!(leaves(TRACE) && leaves(TENSORS) && leaves(FLOW));
        for name in ["token_duck.png", "photo.png", "token_1.txt", "notes.json", SESSION] {
            assert!(!leaves(name), "{name}");
        }
    }
}
