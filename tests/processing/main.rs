//! Image processing and prompts against the references of transformers: tile grids, sizes, pixel
//! values, expanded prompts, token ids.

#![allow(clippy::unwrap_used)] // in helpers of tests too, a panic is how to fail

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sightline::checkpoint::json::Section;
use sightline::image::open as pixels;
use sightline::image::plan::{ImageProcessor, Processed};
use sightline::image::resample::{self, Filter};
use sightline::prompt::build::{Prompt, PromptBuilder};
use sightline::spec::span::Span;
use sightline::spec::turn::{Content, Role, Turn};
use sightline::trace::geometry::{Grid, Piece, Place, View};
use sightline::trace::tokens::{Cell, VisualRef};

#[path = "../common/mod.rs"]
mod common;
mod images;
mod internvl;
mod prompts;
mod qwen;
mod tokenizers;

use common::{families, models};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn reference() -> Value {
    let text = std::fs::read_to_string(fixtures().join("processing/processing.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn folder_with(files: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn smolvlm_file(name: &str) -> String {
    std::fs::read_to_string(fixtures().join("smolvlm-tokenizer").join(name)).unwrap()
}

/// What holds for every prompt, whatever the model.
fn assert_sound(prompt: &Prompt) {
    let spans = prompt.spans();
    assert_eq!(*spans.last().unwrap(), Span::Last);
    assert_eq!(spans.iter().filter(|s| **s == Span::Last).count(), 1);
    assert!(!spans.contains(&Span::Answer));
    assert!(spans.iter().skip(1).all(|s| *s != Span::Bos));
    for token in &prompt.tokens {
        assert_eq!(token.visual.is_some(), token.span == Span::Visual, "{token:?}");
    }
    let text: String = prompt.tokens.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(text, prompt.text, "the tokens' texts add up to the prompt");
}

/// The texts of all positions of one span, joined.
fn text_of(prompt: &Prompt, span: Span) -> String {
    prompt.tokens.iter().filter(|t| t.span == span).map(|t| t.text.as_str()).collect()
}

fn count(prompt: &Prompt, span: Span) -> usize {
    prompt.tokens.iter().filter(|t| t.span == span).count()
}
