//! Numbers on the command line: what is out of range is told before any file is opened.

use sightline::spec::{experiment::Sampling, parse::parse_numbers, picture, sets::Numbers};

/// A number of things, one at least.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("expected at least 1".to_string()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("expected a whole number from 1 on ({e})")),
    }
}

/// A number of layers with one in the middle.
pub fn window(text: &str) -> Result<usize, String> {
    let n = count(text)?;
    match n.is_multiple_of(2) {
        true => Err(format!("is {n}, expected an odd number of layers: one in the middle")),
        false => Ok(n),
    }
}

/// Some of what is numbered from 0 on.
pub fn numbers(text: &str) -> Result<Numbers, String> {
    parse_numbers(&text.to_lowercase())
}

/// How many tokens an answer may have.
pub fn length(text: &str) -> Result<usize, String> {
    count(text).map_err(|why| format!("the answer's length: {why}"))
}

/// What logits are divided by.
pub fn temperature(text: &str) -> Result<f32, String> {
    let temperature = number(text)?;
    Sampling { temperature, top_p: 1.0 }.check().map(|()| temperature)
}

/// The probability that the tokens drawn from reach together.
pub fn top_p(text: &str) -> Result<f32, String> {
    let top_p = number(text)?;
    Sampling { temperature: 1.0, top_p }.check().map(|()| top_p)
}

/// The share of a patch past which it counts as covered.
pub fn share(text: &str) -> Result<f32, String> {
    picture::share(number(text)?)
}

/// The attention at the upper end of the colours.
pub fn attention(text: &str) -> Result<f32, String> {
    within(text, |n| n > 0.0 && n <= 1.0, "an attention above 0, at most 1")
}

/// The part of the visual tokens that stays.
pub fn percent(text: &str) -> Result<f32, String> {
    within(text, |n| (0.0..=100.0).contains(&n), "a share from 0 to 100 %")
}

/// A size in GB.
pub fn gigabytes(text: &str) -> Result<f64, String> {
    let size = text.parse::<f64>().map_err(|e| format!("not a number ({e})"))?;
    if size > 0.0 { Ok(size) } else { Err(format!("is {size}, expected a number above 0")) }
}

/// `LAYER:HEAD`.
pub fn layer_and_head(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(':').and_then(|(l, h)| Some((l.parse().ok()?, h.parse().ok()?)));
    parts.ok_or_else(|| format!("`{text}` is not LAYER:HEAD, for example 3:0"))
}

fn within(text: &str, holds: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    let n = number(text)?;
    if holds(n) { Ok(n) } else { Err(format!("is {n}, expected {expected}")) }
}

fn number(text: &str) -> Result<f32, String> {
    text.parse::<f32>().map_err(|e| format!("not a number ({e})"))
}
