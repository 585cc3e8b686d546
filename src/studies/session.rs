//! Session files: experiments as values that can be written down and run again, with the numbers that they
//! gave. docs/formats.md has the layout.
//!
//! Files are named by absolute paths, and known by what is in them: a session can be run from anywhere, and on nothing
//! else than what it was made with. A path that is written relative is meant from the session's own folder.
//!
//! Knows experiments and files; not what a command line or a window shows.

use std::{
    collections::{BTreeMap, btree_map},
    io, mem,
    path::{Path, PathBuf, absolute},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    checkpoint::weights::WeightDtype,
    files::{input, output::was_stopped, sum},
    hub::place::Place,
    image::files::image_files,
    spec::{ablation::Fill, experiment::Experiment, picture::ImageSource},
    trace::{report::Numbers, run::Sources},
};

/// The name that session files of this layout carry.
pub const FORMAT: &str = "sightline-session-2";
/// The layout before it, which is still read.
const FORMAT_1: &str = "sightline-session-1";
/// Largest session file that is read.
const MAX_BYTES: u64 = 256 << 20;
/// Log probabilities of two runs on like machines agree within this, in nats.
pub const TOLERANCE: f32 = 2e-4;

/// What a session file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// [`FORMAT`].
    pub format: String,
    /// Model folder, or `org/name[@revision]` of the hub.
    pub model: PathBuf,
    /// Of its weights, as traces state it; empty of a session that was written before they were read.
    pub sha256: String,
    /// Which files of the model's folder it was read from. Unknown in files of before.
    #[serde(default)]
    pub sources: Sources,
    /// Number format of weights, as on the command line; `auto` where they have several.
    pub dtype: String,
    /// SHA-256 of every file that its experiments read; of a folder, that of its images. None in files of before, and
    /// where it was written in haste.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, String>,
    /// What was run, in order.
    pub entries: Vec<Entry>,
    /// How a window showed it: names of runs, layer, cuts. What is in it is the window's; it changes no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Value>,
}

/// One experiment of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What was done.
    #[serde(flatten)]
    pub experiment: Experiment,
    /// What came out.
    #[serde(default)]
    pub numbers: Option<Numbers>,
}

/// A session file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct SessionError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// A file that is another now.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{}: is not what the session was made with (its sha256 was {expected}, now it is {found}): put the old file back, or run anew",
    file.display()
)]
pub struct Changed {
    /// Which.
    pub file: PathBuf,
    /// Its sum in the session.
    pub expected: String,
    /// Its sum now.
    pub found: String,
}

impl Session {
    /// The session of experiments that are still to be run: without numbers, and without the weights' sum.
    ///
    /// # Errors
    /// [`SessionError`], of a file that cannot be written down, or cannot be read.
    pub fn begin(model: &Path, dtype: WeightDtype, experiments: &[Experiment]) -> Result<Self, SessionError> {
        let mut session = Self::quick(model, dtype, experiments)?;
        for file in session.entries.iter().flat_map(|entry| read_by(&entry.experiment)) {
            if let btree_map::Entry::Vacant(place) = session.files.entry(file) {
                let unread = |e: io::Error| SessionError::new(place.key(), format!("cannot be read ({e})"));
                let sum = sum_of(place.key()).map_err(unread)?;
                place.insert(sum);
            }
        }
        Ok(session)
    }

    /// The same without the sums of files, which take long where images are large: for what is written again and
    /// again. When it is run again nothing is compared, so it runs on whatever its files hold then.
    ///
    /// # Errors
    /// [`SessionError`], of a path that cannot be written down.
    pub fn quick(model: &Path, dtype: WeightDtype, experiments: &[Experiment]) -> Result<Self, SessionError> {
        let whole = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let mut experiments = experiments.to_vec();
        for place in experiments.iter_mut().flat_map(places) {
            *place = whole(place);
        }
        let model = whole(model);
        // A path that is no text would be refused when all work is done, or be changed in silence.
        let paths = experiments.iter().flat_map(read_by).chain([model.clone()]);
        if let Some(odd) = paths.into_iter().find(|path| path.to_str().is_none()) {
            let why =
                "its path is not UTF-8, which session.json cannot hold: give it or its folder another name";
            return Err(SessionError::new(&odd, why.to_string()));
        }
        let entry = |experiment| Entry { experiment, numbers: None };
        Ok(Session {
            format: FORMAT.to_string(),
            model,
            sha256: String::new(),
            sources: Sources::default(),
            dtype: dtype.typed().to_string(),
            files: BTreeMap::new(),
            entries: experiments.into_iter().map(entry).collect(),
            view: None,
        })
    }

    /// Reads a session file.
    ///
    /// # Errors
    /// [`SessionError`]: unreadable, too large, not a session, or without an entry.
    pub fn read(file: &Path) -> Result<Self, SessionError> {
        let fail = |why: String| SessionError::new(file, why);
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unread = |e: io::Error| match e.kind() == io::ErrorKind::NotFound && was_stopped(folder) {
            true => {
                fail("is not there: the run that wrote this folder was stopped before it was done".into())
            }
            false => fail(format!("cannot be read ({e})")),
        };
        let size = input::size(file).map_err(unread)?;
        if size > MAX_BYTES {
            return Err(fail(format!("is {size} bytes long; a session has at most {MAX_BYTES}")));
        }
        let text = input::read_text(file).map_err(unread)?;
        let mut session = Self::parse(&text).map_err(fail)?;
        session.stand_in(&absolute(folder).unwrap_or_else(|_| folder.to_path_buf()));
        Ok(session)
    }

    /// Takes relative paths from a folder on.
    fn stand_in(&mut self, folder: &Path) {
        let beside = folder.join(&self.model);
        // A name of the hub stays what it is.
        if !matches!(Place::of(&self.model), Place::Hub(_)) || beside.exists() {
            self.model = beside;
        }
        self.files = self.files.iter().map(|(file, sum)| (folder.join(file), sum.clone())).collect();
        for entry in &mut self.entries {
            places(&mut entry.experiment).into_iter().for_each(|place| *place = folder.join(&*place));
        }
    }

    /// Those of its files that are others now. What cannot be read is left to those who need it.
    pub fn changed(&self) -> Vec<Changed> {
        let changed = |(file, expected): (&PathBuf, &String)| {
            let found = sum_of(file).ok().filter(|found| found != expected)?;
            Some(Changed { file: file.clone(), expected: expected.clone(), found })
        };
        self.files.iter().filter_map(changed).collect()
    }

    /// Reads a session from its text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = |e: serde_json::Error| format!("is no session file ({e})");
        let mut found: Value = serde_json::from_str(text).map_err(refused)?;
        match found["format"].as_str() {
            Some(FORMAT) => {}
            Some(FORMAT_1) => upgrade(&mut found),
            Some(other) => return Err(format!("has format `{other}`, expected `{FORMAT}`")),
            None => return Err(format!("is no session file (it has no `format`, expected `{FORMAT}`)")),
        }
        // Nothing, however it is written.
        if let Some(map) = found.as_object_mut()
            && map.get("view").is_some_and(Value::is_null)
        {
            map.remove("view");
        }
        let session: Session = serde_json::from_value(found.clone()).map_err(refused)?;
        if session.entries.is_empty() {
            return Err("has no entries: there is nothing to run".to_string());
        }
        // A misspelt key would otherwise be an experiment that differs from the one written down.
        let known = serde_json::to_value(&session).map_err(refused)?;
        match unknown(&found, &known) {
            Some(key) => Err(format!("has `{key}`, which is none of a session's keys")),
            None => Ok(session),
        }
    }

    /// The text of its file; one with what is no number among its numbers has none.
    ///
    /// # Errors
    /// Of such numbers, or of an image that lies in no file.
    pub fn text(&self) -> Result<String, String> {
        if self.entries.iter().flat_map(|entry| &entry.numbers).any(|numbers| !numbers.is_finite()) {
            return Err("the session is not written: NaN or an infinity is among its numbers".to_string());
        }
        serde_json::to_string_pretty(self).map_err(|e| e.to_string())
    }
}

impl SessionError {
    fn new(file: &Path, why: String) -> Self {
        SessionError { file: file.to_path_buf(), why }
    }
}

/// Every path in an experiment.
fn places(experiment: &mut Experiment) -> Vec<&mut PathBuf> {
    let mut places = Vec::new();
    for picture in &mut experiment.images {
        if let ImageSource::File(file) = &mut picture.image {
            places.push(file);
        }
        places.extend(picture.object.as_mut().map(|object| &mut object.file));
    }
    for ablation in &mut experiment.intervention.ablations {
        if let Fill::MeanOf(place) | Fill::Image(place) = &mut ablation.fill {
            places.push(place);
        }
    }
    places
}

/// The files and folders that an experiment reads.
pub(super) fn read_by(experiment: &Experiment) -> Vec<PathBuf> {
    places(&mut experiment.clone()).into_iter().map(mem::take).collect()
}

/// Of a file, its SHA-256; of a folder, that of its images' names and sums.
fn sum_of(place: &Path) -> io::Result<String> {
    if !place.is_dir() {
        return sum::of_file(place);
    }
    let mut all = Vec::new();
    for file in image_files(place)? {
        all.extend_from_slice(file.file_name().unwrap_or_default().as_encoded_bytes());
        all.push(0);
        all.extend_from_slice(sum::of_file(&file)?.as_bytes());
    }
    Ok(sum::of_bytes(&all))
}

/// Makes a file of the first layout one of the second: it had one image and one question an entry.
fn upgrade(session: &mut Value) {
    session["format"] = FORMAT.into();
    for entry in session["entries"].as_array_mut().into_iter().flatten() {
        let Some(entry) = entry.as_object_mut() else { continue };
        let mut take = |key: &str| entry.remove(key).unwrap_or_default();
        let (image, object, prompt) = (take("image"), take("object"), take("prompt"));
        entry.insert("images".into(), json!([{ "image": image, "object": object }]));
        let content = json!(["image", { "text": prompt }]);
        entry.insert("turns".into(), json!([{ "role": "user", "content": content }]));
    }
}

/// Where `found` has a key that `known` lacks.
fn unknown(found: &Value, known: &Value) -> Option<String> {
    let below = |at: String, key: Option<String>| key.map(|key| format!("{at}.{key}"));
    match (found, known) {
        (Value::Object(found), Value::Object(known)) => found.iter().find_map(|(key, value)| {
            let Some(known) = known.get(key) else { return Some(key.clone()) };
            below(key.clone(), unknown(value, known))
        }),
        (Value::Array(found), Value::Array(known)) => (found.iter().zip(known).enumerate())
            .find_map(|(i, (found, known))| below(i.to_string(), unknown(found, known))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::spec::picture::ObjectMask;

    #[test]
    fn sessions_survive_their_file_and_others_are_refused_with_reasons() {
        let mut experiment = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4)
            .with_knockouts(vec!["last -> visual @ 1".parse().unwrap()]);
        experiment.images[0].object =
            Some(ObjectMask { file: "mask.png".into(), value: Some(2), share: 0.25 });
        experiment.control = 3;
        let session = Session {
            format: FORMAT.to_string(),
            model: "m".into(),
            sha256: "00".to_string(),
            sources: Sources { weights: "w.safetensors".to_string(), ..Sources::default() },
            dtype: "f32".to_string(),
            files: BTreeMap::from([("/a/b.png".into(), "00".to_string())]),
            entries: vec![Entry {
                experiment,
                numbers: Some(Numbers {
                    baseline: vec![(3, -0.5)],
                    answer: vec![(3, -0.125)],
                    effects: None,
                    control: None,
                }),
            }],
            view: Some(json!({ "layer": 3, "runs": [{ "name": "A", "eye": null }] })),
        };
        let text = serde_json::to_string(&session).unwrap();
        assert_eq!(Session::parse(&text).unwrap(), session);
        for (text, part) in [
            (text.replace("session-2", "session-9"), "has format `sightline-session-9`"),
            (text.replace("last -> visual", "last => visual"), "there is no `->`"),
            (text.replace("\"control\"", "\"controls\""), "has `entries.0.controls`, which is none of"),
            (text.replace("\"share\"", "\"chare\""), "has `entries.0.images.0.object.chare`"),
            ("{".to_string(), "no session file"),
            (serde_json::to_string(&Session { entries: vec![], ..session }).unwrap(), "no entries"),
        ] {
            let error = Session::parse(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_a_window_keeps_is_its_own_and_may_be_missing() {
        let experiment = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4);
        let session = Session::quick(Path::new("m"), WeightDtype::F16, &[experiment]).unwrap();
        let plain = session.text().unwrap();
        assert!(!plain.contains("view"), "{plain}");
        assert_eq!(Session::parse(&plain).unwrap(), session);
        let with = |view: &str| plain.replacen('{', &format!("{{\"view\": {view},"), 1);
        assert_eq!(Session::parse(&with("null")).unwrap(), session);
        for view in ["{\"whatever\": [1, {\"deep\": null}], \"layer\": 3}", "[]", "0.5", "\"text\""] {
            let read = Session::parse(&with(view)).unwrap();
            assert_eq!(read.view, Some(serde_json::from_str(view).unwrap()));
            assert_eq!(Session::parse(&read.text().unwrap()).unwrap(), read, "written and read again");
            assert_eq!(Session { view: None, ..read }, session, "it changes nothing else");
        }
        let error = Session::parse(&with("1").replace("\"view\"", "\"veiw\"")).unwrap_err();
        assert!(error.contains("has `veiw`"), "{error}");
    }

    #[test]
    fn files_of_the_first_layout_are_read_as_those_of_the_second() {
        let text = r#"{"format": "sightline-session-1", "model": "m", "sha256": "00", "dtype": "f32", "entries": [
            {"image": "a.png", "object": null, "prompt": "what?", "knockouts": ["answer -> visual @ 1"],
             "ablations": [], "forced_answer": null, "max_new": 4, "top": 5, "sampling": null, "seed": 0,
             "record": {"pattern": "answer @ all", "residuals_every": 1, "half": false, "limit": 8589934592},
             "control": 0, "numbers": null}]}"#;
        let session = Session::parse(text).unwrap();
        let expected = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4)
            .with_knockouts(vec!["answer -> visual @ 1".parse().unwrap()]);
        assert_eq!(session.entries[0].experiment, expected);
        let misspelt = text.replace("\"top\"", "\"tap\"");
        assert!(Session::parse(&misspelt).is_err());
    }

    #[test]
    fn a_session_names_its_files_wherever_it_lies_and_knows_them_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("many")).unwrap();
        for name in ["a.png", "mask.png", "donor.png", "many/b.png"] {
            std::fs::write(at(name), name).unwrap();
        }
        let mut experiment = Experiment::ask(ImageSource::File(at("a.png")), "what?", 4);
        experiment.images[0].object = Some(ObjectMask { file: at("mask.png"), value: None, share: 0.0 });
        let fills = [format!("visual[0:0] = image:{}", at("donor.png").display())];
        let fills = fills.into_iter().chain([format!("visual[0:1] = mean:{}", at("many").display())]);
        experiment.intervention.ablations = fills.map(|fill| fill.parse().unwrap()).collect();
        let begin = |experiments: &[Experiment]| Session::begin(dir.path(), WeightDtype::F32, experiments);
        let mut session = begin(&[experiment.clone(), experiment.uncut()]).unwrap();
        assert_eq!(session.files.len(), 4);
        let entries: Vec<&Experiment> = session.entries.iter().map(|entry| &entry.experiment).collect();
        assert_eq!(entries, [&experiment, &experiment.uncut()]);
        assert!(session.changed().is_empty());
        let quick = Session::quick(dir.path(), WeightDtype::F32, from_ref(&experiment)).unwrap();
        assert_eq!((&quick.entries[..], quick.files.len()), (&session.entries[..1], 0));

        // Written relative, and read from its folder: the same.
        let text = session.text().unwrap().replace(&format!("{}/", dir.path().display()), "");
        std::fs::write(at("session.json"), text).unwrap();
        let read = Session::read(&at("session.json")).unwrap();
        assert_eq!((&read.entries, &read.files), (&session.entries, &session.files));

        for name in ["donor.png", "many/b.png", "many/new.png"] {
            std::fs::write(at(name), "another").unwrap();
            let changed = session.changed();
            let [Changed { file, .. }] = &changed[..] else { panic!("{name}: {changed:?}") };
            assert!(at(name).starts_with(file), "{name}: {}", file.display());
            session.files.insert(file.clone(), changed[0].found.clone());
        }
        std::fs::remove_file(at("mask.png")).unwrap();
        assert!(session.changed().is_empty(), "what is missing is told by who needs it");
        assert!(begin(&[experiment]).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_that_no_session_can_hold_is_told_before_the_run() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.png"));
        std::fs::write(&odd, "x").unwrap();
        let experiment = Experiment::ask(ImageSource::File(odd), "what?", 4);
        for begin in [Session::begin, Session::quick] {
            let error = begin(dir.path(), WeightDtype::F32, from_ref(&experiment)).unwrap_err().to_string();
            assert!(error.contains("not UTF-8"), "{error}");
        }
    }
}
