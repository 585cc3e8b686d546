//! A lens as data for others: a table, tensors, and a word over the image.
//!
//! Exactly what was read at the rows on show. Knows a study's readings; draws nothing.

use std::sync::Arc;

use crate::{
    trace::{
        finding::LensReading,
        offer::Offer,
        sheet::{MapSheet, Underlay},
        table::{Table, Value},
        tensors::NamedTensor,
    },
    ui::{
        store::{images::Held, run::Run, settings::Views, store::Store, studies::StudyRun},
        view::lens::places::Place,
    },
};

/// What is given.
pub struct Given<'a> {
    /// The study.
    pub study: &'a StudyRun,
    /// Its run.
    pub run: &'a Run,
    /// The rows on show.
    pub places: &'a [Place],
    /// The word that was followed.
    pub word: Option<&'a str>,
    /// Tokens that were listed at every place.
    pub top: usize,
}

impl Given<'_> {
    /// Its name.
    pub fn title(&self) -> String {
        format!("lens of run {}", self.study.base_name)
    }

    /// A row for every position and layer that was read.
    pub fn table(&self) -> Table {
        let mut columns: Vec<String> =
            ["layer", "position", "patch", "holds", "predicts"].map(str::to_string).to_vec();
        for rank in 0..self.top {
            columns.extend([format!("token {rank}"), format!("probability {rank}")]);
        }
        if let Some(word) = self.word {
            columns.extend([format!("rank of {word}"), format!("probability of {word}")]);
        }
        let mut table = Table { name: self.title(), columns, rows: Vec::new() };
        for (&layer, readings) in &self.study.found.lens {
            for place in self.places {
                let Some(reading) = readings.get(&place.position) else { continue };
                let predicts = place.next.as_ref().map(|next| next.text.clone());
                let mut row: Vec<Value> = vec![
                    layer.into(),
                    place.position.into(),
                    place.patch.into(),
                    place.holds.clone().into(),
                    predicts.into(),
                ];
                for rank in 0..self.top {
                    let token = reading.top.get(rank);
                    row.push(token.map(|token| token.text.clone()).into());
                    row.push(token.map(|token| token.logprob.exp()).into());
                }
                if self.word.is_some() {
                    row.push(reading.chosen.map(|(rank, _)| rank).into());
                    row.push(reading.chosen.map(|(_, probability)| probability).into());
                }
                table.push(row);
            }
        }
        table
    }

    /// `lens.probability` and `lens.rank`, `[layers, positions]`: of the word that was followed, or the probability of
    /// the likeliest token; `lens.layers` and `lens.positions` name both axes. What was not read is not a number.
    pub fn tensors(&self) -> Offer {
        let lens = &self.study.found.lens;
        let shape = [lens.len(), self.places.len()];
        let mut tensors = match self.word {
            Some(_) => {
                let probabilities = self.numbers(|reading| Some(reading.chosen?.1));
                let ranks = self.numbers(|reading| Some(reading.chosen?.0 as f32));
                vec![
                    NamedTensor::new("lens.probability", shape, probabilities),
                    NamedTensor::new("lens.rank", shape, ranks),
                ]
            }
            None => {
                let likeliest = self.numbers(|reading| Some(reading.top.first()?.logprob.exp()));
                vec![NamedTensor::new("lens.probability", shape, likeliest)]
            }
        };
        let layers: Vec<f32> = lens.keys().map(|layer| *layer as f32).collect();
        let positions: Vec<f32> = self.places.iter().map(|place| place.position as f32).collect();
        tensors.push(NamedTensor::new("lens.layers", [layers.len()], layers));
        tensors.push(NamedTensor::new("lens.positions", [positions.len()], positions));
        let of_what = self.word.map_or("the likeliest token".to_string(), |word| format!("“{word}”"));
        Offer::Tensors { name: format!("{}, {of_what}", self.title()), tensors }
    }

    /// `[layers, positions]`; NaN where nothing was read.
    fn numbers(&self, value: impl Fn(&LensReading) -> Option<f32>) -> Vec<f32> {
        let mut numbers = Vec::new();
        for readings in self.study.found.lens.values() {
            let read = self.places.iter().map(|place| readings.get(&place.position).and_then(&value));
            numbers.extend(read.map(|number| number.unwrap_or(f32::NAN)));
        }
        numbers
    }

    /// What the numbers follow from, by name.
    pub fn settings(&self, store: &Store) -> Vec<(String, String)> {
        let mut settings = vec![
            ("run".to_string(), self.study.base_name.clone()),
            ("question".to_string(), self.run.experiment.question()),
            ("seed".to_string(), self.run.experiment.seed.to_string()),
        ];
        if let Some(info) = store.model_info() {
            settings.insert(0, ("model".to_string(), format!("{} {}", info.name, info.sha256)));
        }
        let done = &self.run.experiment.intervention;
        let cuts = done.knockouts.iter().map(|knockout| ("cut".to_string(), knockout.to_string()));
        let fills = done.ablations.iter().map(|ablation| ("ablation".to_string(), ablation.to_string()));
        settings.extend(cuts.chain(fills));
        settings.extend(self.word.map(|word| ("word".to_string(), word.to_string())));
        settings
    }

    /// The word over the image. `lines`: what stands below it.
    pub fn sheet(
        &self,
        store: &Store,
        held: &Held,
        layer: usize,
        (values, range): (&Arc<Vec<f32>>, (f32, f32)),
        lines: &[String],
    ) -> MapSheet {
        let view = &held.view;
        let tiles = store.map.views != Views::Whole;
        let word = self.word.unwrap_or_default();
        let mut caption =
            vec![format!("probability of “{word}” at every patch, after layer {layer}: {}", self.title())];
        caption.extend(lines.iter().cloned());
        let mut settings = self.settings(store);
        settings.push(("image".to_string(), view.source.name()));
        settings.push(("layer".to_string(), layer.to_string()));
        MapSheet {
            colormap: store.map.colormap,
            gamma: store.map.gamma,
            smooth: store.map.smooth,
            opacity: if store.map.underlay == Underlay::Nothing { 1.0 } else { store.map.opacity },
            underlay: store.map.underlay,
            caption,
            settings,
            ..MapSheet::new(view.picture.clone(), &view.geometry, values, tiles, range)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{
            experiment::Experiment,
            picture::ImageSource,
            span::Span,
            study::{LensAt, Study, StudyKind},
        },
        trace::{
            finding::{Finding, LensPage},
            tokens::Candidate,
        },
        ui::store::studies::Studies,
    };

    fn place(position: usize) -> Place {
        Place { position, span: Span::Question, holds: "what".to_string(), next: None, patch: None }
    }

    /// Layers 0 and 1 at position 3; position 4 in layer 1 alone.
    fn studies() -> Studies {
        let mut studies = Studies::default();
        let at =
            LensAt { positions: vec![3, 4], layers: Default::default(), top: 1, word: Some("duck".into()) };
        studies.begin(5, Study::Lens(at), 1, "A".to_string());
        let reading = |position, rank, p: f32| {
            let top = vec![Candidate { id: 1, text: " bus".to_string(), logprob: 0.0 }];
            LensReading { position, top, chosen: Some((rank, p)) }
        };
        for (layer, readings) in
            [(0, vec![reading(3, 7, 0.25)]), (1, vec![reading(3, 2, 0.5), reading(4, 0, 0.75)])]
        {
            studies.found(5, Finding::Lens(LensPage { layer, readings }), (layer + 1, 2));
        }
        studies
    }

    #[test]
    fn what_was_read_is_given_and_nothing_else() {
        let (studies, places) = (studies(), [place(3), place(4)]);
        let run = Run::new(1, Experiment::ask(ImageSource::File("a.png".into()), "what", 4), None);
        let study = studies.get(StudyKind::Lens).unwrap();
        let given = Given { study, run: &run, places: &places, word: Some("duck"), top: 1 };
        let table = given.table();
        assert_eq!(table.rows.len(), 3, "layer 0 was not read at position 4");
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        let expected = [
            Value::Whole(1),
            Value::Whole(4),
            Value::Nothing,
            Value::Text("what".to_string()),
            Value::Nothing,
            Value::Text(" bus".to_string()),
            Value::Number(1.0),
            Value::Whole(0),
            Value::Number(0.75),
        ];
        assert_eq!(table.rows[2], expected.to_vec());
        let Offer::Tensors { tensors, name } = given.tensors() else { panic!("no tensors") };
        assert_eq!(name, "lens of run A, “duck”");
        assert!(tensors.iter().all(NamedTensor::is_whole));
        assert_eq!(tensors[0].shape, [2, 2]);
        let values = &tensors[0].values;
        assert!((values[0], values[2], values[3]) == (0.25, 0.5, 0.75) && values[1].is_nan(), "{values:?}");
        assert_eq!(tensors[1].values[2..], [2.0, 0.0]);
    }

    #[test]
    fn without_a_word_the_likeliest_token_is_given() {
        let (studies, places) = (studies(), [place(3)]);
        let run = Run::new(1, Experiment::ask(ImageSource::File("a.png".into()), "what", 4), None);
        let study = studies.get(StudyKind::Lens).unwrap();
        let given = Given { study, run: &run, places: &places, word: None, top: 1 };
        let Offer::Tensors { tensors, .. } = given.tensors() else { panic!("no tensors") };
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["lens.probability", "lens.layers", "lens.positions"]);
        assert_eq!(*tensors[0].values, [1.0, 1.0]);
    }
}
