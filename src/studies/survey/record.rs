//! What a study has measured so far, on disk: one line an image, added as soon as it is known.
//!
//! `images.jsonl` of the study's folder: the first line says of what it is the record, and every other one holds what
//! an image gave. What is written is whole or, where the program was killed at it, cut off by the next. Everything else
//! that a study leaves is made from this. Knows rows; not what they mean.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead as _, BufReader, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    files::error::WriteError,
    studies::survey::{
        bench::{Fact, Found, LeftOut},
        error::SurveyError,
        settings::Settings,
    },
    trace::{run::ModelInfo, table::Value},
};

/// The file's name.
pub const RECORD: &str = "images.jsonl";
/// The form of the file.
const FORMAT: &str = "sightline-study-images-1";

/// Of what a record is. Two records are of one study where these are equal, shards aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The form of the file.
    pub format: String,
    /// The study's name.
    pub study: String,
    /// The model.
    pub model: ModelInfo,
    /// The formats in which it ran, in words.
    pub dtype: String,
    /// What was chosen.
    pub settings: Settings,
    /// SHA-256 over the names and contents of all images, masks and questions of the whole study.
    pub images: String,
    /// How many images there are, those of other shards too.
    pub n_images: usize,
    /// Which part of them is measured here: the shard's number, from 1, and how many there are.
    pub shard: [usize; 2],
}

/// What one image gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its place among all.
    pub number: usize,
    /// Its file's name.
    pub image: String,
    /// In the order of the study's columns after `image`.
    #[serde(with = "rows")]
    pub rows: Vec<Vec<Value>>,
    /// What the rows have no column for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// What was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

impl Measured {
    /// What an image gave.
    pub fn new(number: usize, image: &str, found: Found) -> Self {
        let Found { rows, facts, left_out } = found;
        Measured { number, image: image.to_string(), rows, facts, left_out }
    }
}

impl Header {
    /// The same of all images together.
    pub fn whole(&self) -> Header {
        Header { shard: [1, 1], ..self.clone() }
    }

    /// A header with the form of this program.
    pub fn new(header: Header) -> Header {
        Header { format: FORMAT.to_string(), ..header }
    }
}

/// A record that is open, and held by one program.
#[derive(Debug)]
pub struct Record {
    file: PathBuf,
    out: File,
}

impl Record {
    /// Goes on with the record in a folder, or begins it; also what it holds already. A last line that was not
    /// finished is taken away.
    ///
    /// # Errors
    /// [`SurveyError::Stored`]: it is of another study. [`SurveyError::Write`].
    pub fn open(dir: &Path, header: &Header) -> Result<(Record, Vec<Measured>), SurveyError> {
        let file = dir.join(RECORD);
        let refused = |source| WriteError::Refused { file: file.clone(), source };
        std::fs::create_dir_all(dir).map_err(refused)?;
        let mut out = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(refused)?;
        if let Err(TryLockError::WouldBlock) = out.try_lock() {
            return Err(WriteError::Busy { place: file.clone() }.into());
        }
        let (found, measured, len) = read_from(&file, &mut out)?;
        match found {
            Some(found) if found == *header => {}
            Some(found) => {
                let why = format!(
                    "holds another study ({}): give another folder with --out, or remove this one",
                    differences(&found, header).join("; ")
                );
                return Err(SurveyError::Stored { file: file.clone(), why });
            }
            None => {}
        }
        let mut record = Record { file, out };
        let refused = |record: &Record, source| WriteError::Refused { file: record.file.clone(), source };
        let len = if measured.is_empty() && len == 0 { 0 } else { len };
        record.out.set_len(len).map_err(|e| refused(&record, e))?;
        record.out.seek(std::io::SeekFrom::End(0)).map_err(|e| refused(&record, e))?;
        if len == 0 {
            record.line(header)?;
        }
        Ok((record, measured))
    }

    /// Adds what one image gave.
    ///
    /// # Errors
    /// [`SurveyError::Write`].
    pub fn add(&mut self, measured: &Measured) -> Result<(), SurveyError> {
        self.line(measured)
    }

    fn line<T: Serialize>(&mut self, value: &T) -> Result<(), SurveyError> {
        let encode =
            |why: serde_json::Error| SurveyError::Stored { file: self.file.clone(), why: why.to_string() };
        let text = serde_json::to_string(value).map_err(encode)? + "\n";
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.sync_data());
        Ok(written.map_err(|source| WriteError::Refused { file: self.file.clone(), source })?)
    }
}

/// Reads the record in a folder.
///
/// # Errors
/// [`SurveyError::Stored`]: there is none, or it is none of ours.
pub fn read(dir: &Path) -> Result<(Header, Vec<Measured>), SurveyError> {
    let file = dir.join(RECORD);
    let fail = |why: String| SurveyError::Stored { file: file.clone(), why };
    let mut open = crate::files::input::open(&file)
        .map_err(|e| fail(format!("cannot be read ({e}): is it a study's folder?")))?;
    let (header, measured, _) = read_from(&file, &mut open)?;
    Ok((header.ok_or_else(|| fail("is empty".to_string()))?, measured))
}

/// Header and images of a record, and how many bytes of it are whole.
fn read_from(file: &Path, from: &mut File) -> Result<(Option<Header>, Vec<Measured>, u64), SurveyError> {
    let fail = |line: usize, why: String| SurveyError::Stored {
        file: file.to_path_buf(),
        why: format!("line {}: {why}; remove it to begin anew", line + 1),
    };
    let (mut header, mut measured, mut len) = (None, Vec::<Measured>::new(), 0_u64);
    let mut lines = BufReader::new(from);
    for number in 0.. {
        let mut line = Vec::new();
        let n =
            lines.read_until(b'\n', &mut line).map_err(|e| fail(number, format!("cannot be read ({e})")))?;
        if n == 0 || line.last() != Some(&b'\n') {
            break;
        }
        if number == 0 {
            let found: Header = serde_json::from_slice(&line).map_err(|e| fail(number, e.to_string()))?;
            if found.format != FORMAT {
                return Err(fail(number, format!("its format is `{}`, expected `{FORMAT}`", found.format)));
            }
            header = Some(found);
        } else {
            measured.push(serde_json::from_slice(&line).map_err(|e| fail(number, e.to_string()))?);
        }
        len += n as u64;
    }
    Ok((header, measured, len))
}

/// In what two records are not of one study, in words.
pub fn differences(found: &Header, expected: &Header) -> Vec<String> {
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let settings = |of: &Header| serde_json::to_string(&of.settings).unwrap_or_default();
    let parts = [
        ("study", found.study.clone(), expected.study.clone()),
        ("model", found.model.name.clone(), expected.model.name.clone()),
        ("weights", found.model.sha256.clone(), expected.model.sha256.clone()),
        ("formats", found.dtype.clone(), expected.dtype.clone()),
        ("settings", settings(found), settings(expected)),
        ("number of images", text(&found.n_images), text(&expected.n_images)),
        ("images", found.images.clone(), expected.images.clone()),
        ("shard", text(&found.shard), text(&expected.shard)),
    ];
    let apart = parts.into_iter().filter(|(_, found, expected)| found != expected);
    apart.map(|(what, found, expected)| format!("{what}: {found}, not {expected}")).collect()
}

/// Values as JSON has them: text, numbers, null. A whole number stays one: 3 is no 3.0.
mod rows {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
    use serde_json::{Number, Value as Json};

    use crate::trace::table::Value;

    pub fn serialize<S: Serializer>(rows: &[Vec<Value>], to: S) -> Result<S::Ok, S::Error> {
        let json = |value: &Value| match value {
            Value::Text(text) => Json::from(text.as_str()),
            Value::Whole(number) => Json::from(*number),
            // As short as it reads back the same; a number that is none has no form here.
            Value::Number(number) => {
                let short: f64 = number.to_string().parse().unwrap_or(f64::NAN);
                Number::from_f64(short).map_or(Json::Null, Json::Number)
            }
            Value::Nothing => Json::Null,
        };
        let rows: Vec<Vec<Json>> = rows.iter().map(|row| row.iter().map(json).collect()).collect();
        rows.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<Value>>, D::Error> {
        let value = |json: Json| match json {
            Json::String(text) => Ok(Value::Text(text)),
            Json::Null => Ok(Value::Nothing),
            Json::Number(number) => Ok(match number.as_i64() {
                Some(whole) => Value::Whole(whole),
                None => Value::Number(number.as_f64().unwrap_or(f64::NAN) as f32),
            }),
            other => Err(D::Error::custom(format!("`{other}` is no value of a row"))),
        };
        let rows = Vec::<Vec<Json>>::deserialize(from)?;
        rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect()
    }
}
