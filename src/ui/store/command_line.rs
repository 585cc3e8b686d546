//! The command line that gives the numbers on show, without a window.
//!
//! Written for a POSIX shell. Knows the store and the options of `sightline run` and `sightline lens`; runs nothing.

use std::{collections::BTreeSet, fmt::Display, path::Path};

use serde_json::json;

use crate::{
    spec::{
        experiment::{Experiment, Sampling},
        sets::{Numbers, PatchSet},
        study::{LensAt, Study, StudyKind, Taking},
        turn::{Role, Turn, asked},
    },
    ui::store::{
        run::Run,
        settings::Running,
        store::Store,
        studies::{State, StudyRun},
    },
};

/// Candidates that the command line lists where nothing is said.
const TOP: usize = 10;

/// Why there is no such line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLine {
    /// Nothing was asked.
    #[error("there is no answer yet: a command needs one to repeat")]
    NoRun,
    /// An image that was pasted.
    #[error(
        "“{0}” lies in no file, so no command can name it: save the session, or open the image from a file"
    )]
    NoFile(String),
    /// What the lens reads has not been read.
    #[error("the lens has read nothing of this run yet: a command needs positions to read")]
    NoLens,
}

/// A command line that grows word by word.
struct Line(String);

impl Line {
    fn new(subcommand: &str) -> Self {
        Line(format!("sightline {subcommand}"))
    }

    fn flag(&mut self, name: &str) {
        self.0 += &format!(" --{name}");
    }

    fn option(&mut self, name: &str, value: impl Display) {
        self.flag(name);
        self.0 += &format!(" {}", quoted(&value.to_string()));
    }

    fn path(&mut self, name: &str, path: &Path) {
        self.option(name, path.display());
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The line that repeats the run on show, and with it the cut that is live over it, with the studies that were made
/// of it. `lens`: the line of what the lens read instead.
///
/// # Errors
/// [`NoLine`].
pub fn command_line(store: &Store, lens: bool) -> Result<String, NoLine> {
    let (slot, _) = store.selection.subject();
    let run = store.runs.lane(slot).view().ok_or(NoLine::NoRun)?;
    if lens {
        return lens_line(store, run);
    }
    // A run under a cut gives its uncut one too: both are on show.
    let cut = store.runs.cut().view().filter(|cut| cut.base == Some(run.id));
    run_line(store, cut.unwrap_or(run))
}

fn run_line(store: &Store, run: &Run) -> Result<String, NoLine> {
    let mut line = Line::new("run");
    let experiment = &run.experiment;
    subject(&mut line, store, experiment, experiment.control > 0, experiment.top)?;
    if experiment.control > 0 {
        line.option("control", experiment.control);
    }
    effects(&mut line, store, run.base.unwrap_or(run.id));
    line.option("out", "run");
    Ok(line.0)
}

fn lens_line(store: &Store, run: &Run) -> Result<String, NoLine> {
    let study = made(store, StudyKind::Lens, run.id).ok_or(NoLine::NoLens)?;
    let Study::Lens(LensAt { positions, layers, top, word }) = &study.study else {
        return Err(NoLine::NoLens);
    };
    let mut line = Line::new("lens");
    subject(&mut line, store, &run.experiment, false, *top)?;
    line.option("at", format!("pos[{}]", listed(positions)));
    if *layers != Numbers::All {
        line.option("layers", layers);
    }
    if let Some(word) = word {
        line.option("word", word);
    }
    Ok(line.0)
}

/// Model, image, question and what is done meanwhile. `random`: something else is drawn by the seed.
fn subject(
    line: &mut Line,
    store: &Store,
    experiment: &Experiment,
    random: bool,
    top: usize,
) -> Result<(), NoLine> {
    if let Some(model) = store.model.as_ref().filter(|model| !model.bundled) {
        line.path("model", &model.folder);
    }
    let Running { device, dtype } = store.running;
    let usual = Running::default();
    if device != usual.device {
        line.option("device", device);
    }
    if dtype != usual.dtype {
        line.option("dtype", dtype);
    }
    for picture in &experiment.images {
        let file = picture.image.file().ok_or_else(|| NoLine::NoFile(picture.image.name()))?;
        line.path("image", file);
    }
    talk(line, experiment);
    for knockout in &experiment.intervention.knockouts {
        line.option("knockout", knockout);
    }
    for ablation in &experiment.intervention.ablations {
        line.option("ablate", ablation);
    }
    line.option("max-new", experiment.max_new);
    if top != TOP {
        line.option("top", top);
    }
    if let Some(Sampling { temperature, top_p }) = experiment.sampling {
        line.option("temperature", temperature);
        line.option("top-p", top_p);
    }
    let drawn = experiment.sampling.is_some()
        || random
        || experiment.intervention.patch_sets().contains(&PatchSet::Random);
    if drawn && experiment.seed != 0 {
        line.option("seed", experiment.seed);
    }
    Ok(())
}

/// The question, and the conversation around it.
fn talk(line: &mut Line, experiment: &Experiment) {
    let question = Turn::ask(experiment.images.len(), experiment.question());
    let (system, rest) = match experiment.turns.split_first() {
        Some((first, rest)) if first.role == Role::System => (Some(first), rest),
        _ => (None, &experiment.turns[..]),
    };
    if asked(rest) != [question] {
        return line.option("turns", json!(experiment.turns));
    }
    if let Some(system) = system {
        line.option("system", system.text());
    }
    line.option("prompt", experiment.question());
    if let Some(begun) = experiment.begins() {
        line.option("prefix", begun);
    }
}

/// The last study of a kind, if it is about this run and found something, or still does.
fn made(store: &Store, kind: StudyKind, base: u64) -> Option<&StudyRun> {
    let sound = |run: &&StudyRun| run.base == base && !matches!(run.state, State::Failed(_));
    store.studies.get(kind).filter(sound)
}

/// The studies of what an answer depends on. All of one line are about the same tokens: the first decides.
fn effects(line: &mut Line, store: &Store, base: u64) {
    let kinds = [StudyKind::Patches, StudyKind::Edges, StudyKind::Heads];
    let mut about: Option<&[usize]> = None;
    for run in kinds.into_iter().filter_map(|kind| made(store, kind, base)) {
        let tokens = match &run.study {
            Study::Patches(study) => &study.tokens,
            Study::Edges(study) => &study.tokens,
            Study::Heads(study) => &study.tokens,
            Study::Lens(_) | Study::Compress(_) => continue,
        };
        if **about.get_or_insert(tokens) != tokens[..] {
            continue;
        }
        match &run.study {
            Study::Patches(study) => {
                line.option("effect-map", study.coarsest);
                if study.how == Taking::Mean {
                    line.option("effect-by", "mean");
                } else if study.layers != Numbers::All {
                    line.option("effect-layers", &study.layers);
                }
            }
            Study::Edges(study) => line.option("edge-effects", study.width),
            Study::Heads(_) => line.flag("head-effects"),
            Study::Lens(_) | Study::Compress(_) => {}
        }
    }
    if let Some(tokens) = about.filter(|tokens| !tokens.is_empty()) {
        line.option("effect-tokens", listed(tokens));
    }
}

/// `0-3,7`: numbers, whole runs of them as ranges.
fn listed(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers.iter().copied().collect::<BTreeSet<usize>>() {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |(first, last): (usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{parse::parse_numbers, picture::ImageSource, study::PatchEffect},
        trace::tokens::AnswerToken,
        ui::store::{settings::Asking, talk::Talk},
        worker::protocol::{Request, ToldRow},
    };

    /// A store that asked about an image, and the uncut run.
    fn asked(image: ImageSource, asking: Asking) -> (Store, u64) {
        asked_in(Talk::default(), image, asking)
    }

    /// The same in a conversation.
    fn asked_in(talk: Talk, image: ImageSource, asking: Asking) -> (Store, u64) {
        let mut store = Store::new("what's this ?".to_string(), 12);
        (store.asking, store.talk) = (asking, talk);
        let experiment = store.asking.experiment(image, &store.talk, &store.prompt);
        let requests = store.runs.ask(experiment, store.setup());
        let [Request::Run { id, .. }] = &requests[..] else { panic!("one run") };
        let id = *id;
        let token: AnswerToken = serde_json::from_value(serde_json::json!({
            "position": 3, "id": 1, "text": " a", "span": "answer", "entropy": null, "logprob": -0.5,
            "top": [], "end": false, "partial": false,
        }))
        .unwrap();
        store.runs.token(id, token, ToldRow::Nothing);
        (store, id)
    }

    fn file() -> ImageSource {
        ImageSource::File("/a b/it's.png".into())
    }

    #[test]
    fn words_survive_a_shell() {
        for (word, expected) in [
            ("plain-1.png", "plain-1.png"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$HOME", "'$HOME'"),
            ("answer -> visual @ !4", "'answer -> visual @ !4'"),
            ("~/x", "'~/x'"),
            ("é", "'é'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn a_plain_question_is_a_short_line() {
        let (store, _) = asked(file(), Asking { max_new: 12, ..Asking::default() });
        assert_eq!(
            command_line(&store, false).unwrap(),
            "sightline run --image '/a b/it'\\''s.png' --prompt 'what'\\''s this ?' --max-new 12 --out run"
        );
        assert_eq!(command_line(&store, true), Err(NoLine::NoLens));
        assert_eq!(command_line(&Store::default(), false), Err(NoLine::NoRun));
    }

    #[test]
    fn a_conversation_is_repeated_whole() {
        let asking = Asking { max_new: 12, ..Asking::default() };
        let talk = Talk { system: "Be brief.".into(), prefix: "It is".into(), ..Talk::default() };
        let (store, _) = asked_in(talk, file(), asking);
        let line = command_line(&store, false).unwrap();
        let said = " --system 'Be brief.' --prompt 'what'\\''s this ?' --prefix 'It is' --max-new";
        assert!(line.contains(said), "{line}");
        let talk = Talk::after(&[Turn::ask(1, "what ?")], "a dog");
        let (store, _) = asked_in(talk, file(), asking);
        let line = command_line(&store, false).unwrap();
        assert!(!line.contains("--prompt"), "{line}");
        let turns = json!(store.runs.baseline().view().unwrap().experiment.turns).to_string();
        assert!(line.contains(&format!(" --turns {} --max-new", quoted(&turns))), "{line}");
    }

    #[test]
    fn a_seed_is_named_where_something_is_drawn() {
        let sampling = Some(Sampling { temperature: 0.7, top_p: 0.9 });
        let (mut store, _) = asked(file(), Asking { max_new: 12, sampling, seed: 5, top: 3 });
        store.running = Running { device: "cpu", dtype: "f16" };
        let line = command_line(&store, false).unwrap();
        assert!(line.contains(" --device cpu --dtype f16 --image "), "{line}");
        assert!(line.contains(" --top 3 --temperature 0.7 --top-p 0.9 --seed 5 --out run"), "{line}");
        let (store, _) = asked(file(), Asking { max_new: 12, seed: 5, ..Asking::default() });
        assert!(!command_line(&store, false).unwrap().contains("--seed"), "it would change nothing");
    }

    #[test]
    fn what_was_pasted_has_no_line() {
        let pasted = ImageSource::Bytes([1, 2].as_slice().into(), "pasted image".to_string());
        let (store, _) = asked(pasted, Asking::default());
        let error = command_line(&store, false).unwrap_err();
        assert_eq!(error, NoLine::NoFile("pasted image".to_string()));
        assert!(error.to_string().contains("“pasted image” lies in no file"));
    }

    #[test]
    fn studies_of_the_run_go_along_and_those_of_others_do_not() {
        let (mut store, id) = asked(file(), Asking::default());
        let effect = |tokens: &[usize], how| {
            Study::Patches(PatchEffect {
                tokens: tokens.to_vec(),
                how,
                layers: parse_numbers("1-2").unwrap(),
                coarsest: 4,
            })
        };
        store.studies.begin(90, effect(&[3, 1, 2], Taking::Cut), id, "A".to_string());
        let line = command_line(&store, false).unwrap();
        assert!(
            line.ends_with(" --effect-map 4 --effect-layers 1-2 --effect-tokens 1-3 --out run"),
            "{line}"
        );
        store.studies.begin(91, effect(&[], Taking::Mean), id, "A".to_string());
        let line = command_line(&store, false).unwrap();
        assert!(line.ends_with(" --effect-map 4 --effect-by mean --out run"), "{line}");
        store.studies.begin(92, effect(&[], Taking::Mean), id + 7, "B".to_string());
        assert!(!command_line(&store, false).unwrap().contains("--effect"));
        let lens =
            LensAt { positions: vec![4, 5, 9], layers: Numbers::All, top: 10, word: Some("a b".into()) };
        store.studies.begin(93, Study::Lens(lens), id, "A".to_string());
        let line = command_line(&store, true).unwrap();
        assert!(line.starts_with("sightline lens --image "), "{line}");
        assert!(line.ends_with(" --max-new 64 --at 'pos[4-5,9]' --word 'a b'"), "{line}");
    }
}
