//! What a click on a point of a study's figure asks for: the image that the point owes most to, with the cut that the
//! point is about.
//!
//! Only where rows are cuts: a path, the centre of a window of layers and its half-width. Knows rows and their columns.

use std::collections::BTreeSet;

use crate::{
    spec::picture::ImageSource,
    studies::survey::{
        course,
        findings::{At, ImageRows, Panel, Row, Series},
        settings::Flow,
    },
    ui::store::{command::Command, cut_list::Change, store::Store, surveys::SurveyRun, talk::Talk},
};

/// A cut on an image.
#[derive(Debug)]
struct Cut {
    change: Change,
    image: ImageSource,
    question: String,
}

/// Whether points are cuts.
pub fn are_cuts(run: &SurveyRun) -> bool {
    ["question", "flow", "centre", "half", "delta"].iter().all(|column| run.kind.columns.contains(column))
}

/// What a point of a curve of a panel asks for; nothing where it is no cut.
pub fn clicked(store: &Store, run: &SurveyRun, panel: &Panel, series: &Series, at: &At) -> Vec<Command> {
    let Some(cut) = cut(run, panel, series, at) else { return Vec::new() };
    let Cut { change, image, question } = cut;
    let mut asked = Vec::new();
    if !store.talk.is_plain() {
        asked.push(Command::Talk(Talk::default()));
    }
    let shown = store.images.source() == Some(&image);
    if !shown {
        asked.push(Command::OpenImage(image));
    }
    let answered = store.runs.baseline().view().is_some_and(|run| run.experiment.question() == question);
    if !shown || !answered || !store.talk.is_plain() {
        asked.push(Command::Ask(question));
    }
    let mut settings = store.cut.clone();
    settings.items.iter_mut().for_each(|item| item.on = false);
    settings.add(change);
    asked.push(Command::Cut(settings));
    asked
}

fn cut(run: &SurveyRun, panel: &Panel, series: &Series, at: &At) -> Option<Cut> {
    let At::Number(centre) = at else { return None };
    let flow: Flow = series.name.parse().ok().filter(|_| are_cuts(run))?;
    let images = course::rows(run.kind, &run.measured);
    let of = |row: &Row<'_>| row.text("flow") == series.name && row.number("centre") == Some(*centre);
    let rows: Vec<(&ImageRows, Row<'_>)> = images
        .iter()
        .flat_map(|image| image.iter().map(move |row| (image, row)))
        .filter(|(_, row)| of(row))
        .collect();
    let half = half(panel, rows.iter().filter_map(|(_, row)| row.number("half")))?;
    let of_half = rows.into_iter().filter(|(_, row)| row.number("half") == Some(half as f64));
    let sizes = of_half.filter_map(|(image, row)| Some((image, row, row.number("delta")?.abs())));
    let (image, row, _) = sizes.max_by(|a, b| a.2.total_cmp(&b.2))?;
    let knockout = flow.around(*centre as usize, half).knockouts.into_iter().next()?;
    let image = ImageSource::File(run.file(&image.image)?.to_path_buf());
    Some(Cut { change: Change::Knockout(knockout), image, question: row.text("question").to_string() })
}

/// The half-width of a panel's windows: of several, that whose number of layers its title says.
fn half(panel: &Panel, halves: impl Iterator<Item = f64>) -> Option<usize> {
    let halves: BTreeSet<usize> = halves.map(|half| half as usize).collect();
    let says = |half: &&usize| {
        let layers = (2 * **half + 1).to_string();
        let mut words = panel.title.split(|c: char| !c.is_alphanumeric());
        words.any(|word| word == layers || **half == 0 && word == "one")
    };
    halves.iter().find(says).or(halves.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_windows_a_panel_is_about_those_of_its_title() {
        let panel = |title: &str| Panel { title: title.to_string(), ..Panel::default() };
        let all = || [0.0, 1.0, 4.0].into_iter();
        assert_eq!(half(&panel("Log probability, windows of one layer"), all()), Some(0));
        assert_eq!(half(&panel("Log probability, windows of 9 layers"), all()), Some(4));
        assert_eq!(half(&panel("Log probability"), [4.0].into_iter()), Some(4));
        assert_eq!(half(&panel(""), [].into_iter()), None);
    }
}
