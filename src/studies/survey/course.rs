//! A study on its way through the images: one after the other, each on disk before the next begins.
//!
//! A study that is started again goes on with the first image that its record does not hold; shards of one study are
//! put together from their records. What everything leaves is made from the record alone, so that it is the same to the
//! byte whichever way it came about. Knows the record and the engine; not what a study measures.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    engine::load::Engine,
    files::sum,
    image::open,
    progress::Cancel,
    statistics::finite::all_finite,
    studies::survey::{
        bench::{Bench, Found, LeftOut},
        error::SurveyError,
        findings::{ImageRows, Panel},
        kind::Kind,
        kinds,
        record::{self, Header, Measured, Record, differences},
        settings::Settings,
        subjects::{Pixels, Subjects},
    },
    trace::{
        run::ModelInfo,
        table::{Table, Value},
    },
};

/// What is to be done.
#[derive(Debug)]
pub struct Course {
    /// Which study.
    pub kind: &'static Kind,
    /// What was chosen.
    pub settings: Settings,
    /// The images of the whole study.
    pub subjects: Subjects,
    /// Which part of them is measured: a number from 1, and of how many parts.
    pub shard: [usize; 2],
    /// Whether the first image that cannot be measured ends it.
    pub stop_on_error: bool,
}

/// What a study tells on its way.
#[derive(Debug)]
pub enum Told<'a> {
    /// So many images were measured before.
    GoesOn(usize),
    /// One more image is measured.
    Image(&'a Measured),
}

/// A study as study.json holds it.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// The form of the file.
    pub format: &'static str,
    /// Its name.
    pub study: String,
    /// What it measures.
    pub about: &'static str,
    /// Where its method comes from.
    pub source: &'static str,
    /// The model.
    pub model: ModelInfo,
    /// The formats in which it ran.
    pub dtype: String,
    /// What was chosen.
    pub settings: Settings,
    /// SHA-256 over the images, their masks and what is asked of them.
    pub images: String,
    /// How many images there are.
    pub n_images: usize,
    /// How many of them gave rows.
    pub n_measured: usize,
    /// What its rows say.
    pub results: Vec<Panel>,
    /// What was not measured, and why.
    pub left_out: Vec<Omission>,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Omission {
    /// On which image.
    pub image: String,
    /// What, and why.
    #[serde(flatten)]
    pub left_out: LeftOut,
}

impl Course {
    /// Of what its record is.
    ///
    /// # Errors
    /// [`SurveyError::Stored`]: an image or a mask cannot be read.
    pub fn header(&self, engine: &Engine) -> Result<Header, SurveyError> {
        Ok(Header::new(Header {
            format: String::new(),
            study: self.kind.name.to_string(),
            model: engine.info.clone(),
            dtype: engine.vlm.dtype_text(),
            settings: self.settings.clone(),
            images: content(&self.subjects)?,
            n_images: self.subjects.all.len(),
            shard: self.shard,
        }))
    }

    /// Places of the images that are this shard's.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        let [number, of] = self.shard;
        (0..self.subjects.all.len()).filter(move |n| n % of.max(1) == number.saturating_sub(1))
    }

    /// Measures what the record in `dir` does not hold yet, and gives all that it holds then. `on` hears of every
    /// image.
    ///
    /// # Errors
    /// [`SurveyError`]; what was measured before is on disk. Of the first image, where none can be measured.
    pub fn run(
        &self,
        engine: &Engine,
        dir: &Path,
        cancel: &Cancel,
        on: &mut dyn FnMut(Told<'_>),
    ) -> Result<(Header, Vec<Measured>), SurveyError> {
        let header = self.header(engine)?;
        let (mut record, mut measured) = Record::open(dir, &header)?;
        if !measured.is_empty() {
            on(Told::GoesOn(measured.len()));
        }
        let done: Vec<usize> = measured.iter().map(|m| m.number).collect();
        let mut first = None;
        for number in self.numbers().filter(|n| !done.contains(n)) {
            let found = match self.measure(engine, number, cancel) {
                Ok(found) => found,
                Err(e) if e.is_cancelled() || self.stop_on_error || !e.is_of_one_image() => return Err(e),
                Err(e) => {
                    let why = self.subjects.without_place(&e.to_string());
                    first.get_or_insert(e);
                    Found { left_out: vec![LeftOut { what: String::new(), why }], ..Found::default() }
                }
            };
            let one = Measured::new(number, &self.subjects.all[number].name, found);
            record.add(&one)?;
            on(Told::Image(&one));
            measured.push(one);
        }
        match first {
            Some(error) if measured.iter().all(|m| m.rows.is_empty()) => Err(error),
            _ => Ok((header, measured)),
        }
    }

    /// Measures one image.
    ///
    /// # Errors
    /// [`SurveyError`]; also when cancelled.
    pub fn measure(&self, engine: &Engine, number: usize, cancel: &Cancel) -> Result<Found, SurveyError> {
        let subject = &self.subjects.all[number];
        let of_image = |source| SurveyError::Run { image: subject.image.clone(), source: Box::new(source) };
        let pixels = open::open(&subject.image)?;
        let processed = engine.folder.process(&pixels).map_err(of_image)?;
        let seen = engine.see(&processed, cancel, &mut |_| {}).map_err(of_image)?;
        let mut bench = Bench::new(engine, &self.settings, &self.subjects, subject, seen, cancel);
        (self.kind.measure)(&mut bench)?;
        checked(self.kind, &subject.image, bench.found)
    }
}

/// Refuses rows that are not the study's, and rows and facts that hold a number that is none.
fn checked(kind: &Kind, image: &Path, found: Found) -> Result<Found, SurveyError> {
    let columns = &kind.columns[1..];
    let none = |what: &str, number: f32| SurveyError::Stored {
        file: image.to_path_buf(),
        why: format!("`{what}` came out as {number}, which is no number"),
    };
    for row in &found.rows {
        debug_assert_eq!(row.len(), columns.len(), "{}", kind.name);
        for (value, column) in row.iter().zip(columns) {
            if let Value::Number(number) = value
                && !all_finite(&[*number])
            {
                return Err(none(column, *number));
            }
        }
    }
    if let Some(fact) = found.facts.iter().find(|fact| !all_finite(&[fact.value])) {
        return Err(none(&fact.name, fact.value));
    }
    Ok(found)
}

/// SHA-256 over the names and contents of images and masks, and over what is asked.
fn content(subjects: &Subjects) -> Result<String, SurveyError> {
    let mut all = String::new();
    for subject in &subjects.all {
        let of = |file: &Path| {
            let fail =
                |e| SurveyError::Stored { file: file.to_path_buf(), why: format!("cannot be read ({e})") };
            sum::of_file(file).map_err(fail)
        };
        // An image that is not there is left out when its turn comes, and not told of here.
        let image = of(&subject.image).unwrap_or_default();
        all += &format!("{}\0{image}\0{:?}\0{:?}\n", subject.name, subject.questions, subject.description);
        let mut masks: Vec<&PathBuf> = Vec::new();
        for object in &subject.objects {
            all += &object.class;
            match &object.pixels {
                Some(Pixels::Value(file, value)) => {
                    all += &format!("\0{value}\n");
                    if !masks.contains(&file) {
                        masks.push(file);
                    }
                }
                Some(Pixels::Drawn(shape)) => all += &format!("\0{shape:?}\n"),
                None => all.push('\n'),
            }
        }
        for mask in masks {
            all += &of(mask).unwrap_or_default();
        }
    }
    Ok(sum::of_bytes(all.as_bytes()))
}

/// Puts shards of one study together.
///
/// # Errors
/// [`SurveyError::Stored`]: they are not of one study, two hold the same image, or one is missing.
pub fn merge(dirs: &[PathBuf]) -> Result<(Header, Vec<Measured>), SurveyError> {
    let mut all: Vec<Measured> = Vec::new();
    let mut first: Option<(Header, &Path)> = None;
    for dir in dirs {
        let fail = |why: String| SurveyError::Stored { file: dir.join(record::RECORD), why };
        let (header, measured) = record::read(dir)?;
        let (of, place) = first.get_or_insert_with(|| (header.whole(), dir));
        if *of != header.whole() {
            let apart = differences(&header.whole(), of).join("; ");
            return Err(fail(format!("is not of the same study as {}: {apart}", place.display())));
        }
        for one in measured {
            if all.iter().any(|other| other.number == one.number) {
                return Err(fail(format!("`{}` is measured in another of these folders too", one.image)));
            }
            all.push(one);
        }
    }
    let Some((header, place)) = first else {
        return Err(SurveyError::Choice("nothing to merge: name the folders of the shards".to_string()));
    };
    all.sort_by_key(|one| one.number);
    if let Some(missing) = (0..header.n_images).find(|n| all.get(*n).is_none_or(|one| one.number != *n)) {
        let why = format!(
            "of {} images {} are measured; number {} is the first that is in none of these folders: finish the other shards and name them all",
            header.n_images,
            all.len(),
            missing + 1
        );
        return Err(SurveyError::Stored { file: place.join(record::RECORD), why });
    }
    Ok((header, all))
}

/// What a record's rows are of.
pub fn rows(kind: &'static Kind, measured: &[Measured]) -> Vec<ImageRows> {
    let mut measured: Vec<&Measured> = measured.iter().collect();
    measured.sort_by_key(|one| one.number);
    let of = |one: &Measured| ImageRows {
        image: one.image.clone(),
        columns: &kind.columns[1..],
        rows: one.rows.clone(),
        facts: one.facts.clone(),
    };
    measured.into_iter().map(of).collect()
}

/// The table of all rows: rows.csv.
pub fn table(kind: &'static Kind, measured: &[Measured]) -> Table {
    let mut table = Table::new("rows", kind.columns.iter().copied());
    for image in rows(kind, measured) {
        for row in image.rows {
            let values: Vec<Value> = std::iter::once(Value::from(image.image.as_str())).chain(row).collect();
            table.push(values);
        }
    }
    table
}

/// What a record says: study.json.
///
/// # Errors
/// [`SurveyError::Choice`]: a study that this program does not know.
pub fn study(header: &Header, measured: &[Measured]) -> Result<Study, SurveyError> {
    let kind = kinds::of(&header.study)
        .ok_or_else(|| SurveyError::Choice(format!("there is no study `{}`", header.study)))?;
    let images = rows(kind, measured);
    let mut sorted: Vec<&Measured> = measured.iter().collect();
    sorted.sort_by_key(|one| one.number);
    let left_out = sorted
        .iter()
        .flat_map(|one| one.left_out.iter().map(move |left_out| (one, left_out)))
        .map(|(one, left_out)| Omission { image: one.image.clone(), left_out: left_out.clone() });
    Ok(Study {
        format: "sightline-study-1",
        study: header.study.clone(),
        about: kind.about,
        source: kind.source,
        model: header.model.clone(),
        dtype: header.dtype.clone(),
        settings: header.settings.clone(),
        images: header.images.clone(),
        n_images: header.n_images,
        n_measured: measured.iter().filter(|one| !one.rows.is_empty()).count(),
        results: (kind.panels)(&images, &header.settings, &header.model),
        left_out: left_out.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studies::survey::bench::Fact;

    #[test]
    fn a_fact_that_is_no_number_is_refused_by_name() {
        let found = |value: f32| {
            let fact = Fact { name: "share".to_string(), layer: Some(1), head: None, value };
            Found { facts: vec![fact], ..Found::default() }
        };
        let checked = |value: f32| checked(&kinds::ALL[0], Path::new("a.png"), found(value));
        assert!(checked(0.5).is_ok());
        for none in [f32::NAN, f32::NEG_INFINITY] {
            let error = checked(none).unwrap_err().to_string();
            assert!(error.contains("a.png") && error.contains("`share`"), "{error}");
        }
    }
}
