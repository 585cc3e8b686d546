//! What a study is: a name, what it measures, its columns, and two functions.
//!
//! Knows one image (`bench`) and what rows say (`findings`); no study by name.

use crate::{
    studies::survey::{
        bench::Bench,
        error::SurveyError,
        findings::{ImageRows, Panel},
        settings::Settings,
    },
    trace::run::ModelInfo,
};

/// One study.
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Where its method comes from.
    pub source: &'static str,
    /// What it costs an image, in words.
    pub cost: &'static str,
    /// The columns of its rows, `image` first.
    pub columns: &'static [&'static str],
    /// The settings that it reads, by their names in [`Settings`], `prompt`, `length` and `seed` aside.
    pub settings: &'static [&'static str],
    /// Whether it can be done without objects whose pixels are known.
    pub plain: bool,
    /// Measures one image.
    pub measure: fn(&mut Bench<'_>) -> Result<(), SurveyError>,
    /// What all rows say: the panels of its figure.
    pub panels: fn(&[ImageRows], &Settings, &ModelInfo) -> Vec<Panel>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({})", self.name)
    }
}
