//! TODO(knockout).

use crate::{
    studies::survey::{
        bench::Bench,
        error::SurveyError,
        findings::{ImageRows, Panel},
        kind::Kind,
        settings::Settings,
    },
    trace::run::ModelInfo,
};

/// The study.
pub const KIND: Kind = Kind {
    name: "knockout",
    about: "",
    source: "",
    cost: "",
    columns: &["image"],
    settings: &[],
    plain: true,
    measure,
    panels,
};

fn measure(_: &mut Bench<'_>) -> Result<(), SurveyError> {
    Ok(())
}

fn panels(_: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    Vec::new()
}
