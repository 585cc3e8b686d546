//! A study as data for others: its figure, its rows, and, once it is whole, its study.json.
//!
//! The same that `sightline study` writes. Knows rows; draws nothing itself.

use crate::{
    studies::survey::{chart, course},
    trace::offer::Offer,
    ui::{
        store::surveys::SurveyRun,
        view::studies::drawn::{panels, title},
    },
};

/// Everything that there is of a study.
pub fn offers(run: &SurveyRun) -> Vec<Offer> {
    if run.measured.is_empty() {
        return Vec::new();
    }
    let title = title(run, run.measured.len());
    let mut figure = chart::figure(&title, &panels(run));
    let settings = serde_json::to_string(&run.survey.settings).unwrap_or_default();
    figure.settings = [
        ("study", run.kind.name.to_string()),
        ("model", format!("{} {}", run.model.name, run.model.sha256)),
        ("settings", settings),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec();
    let mut table = course::table(run.kind, &run.measured);
    table.name = format!("rows of {title}");
    let study = run.header.as_ref().and_then(|header| {
        let study = course::study(header, &run.measured).ok()?;
        serde_json::to_string_pretty(&study).ok()
    });
    let study = study.map(|text| Offer::Json { name: format!("study {title}"), text: text + "\n" });
    [Offer::Figure(figure), Offer::Table(table)].into_iter().chain(study).collect()
}
