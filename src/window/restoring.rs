//! A session that is opened: its runs are asked one after the other, and compared with the numbers that it holds.
//!
//! A run is asked when the one before it is there. Knows the store by what it shows; returns commands, and at its end a
//! sentence.

use std::{collections::VecDeque, path::PathBuf};

use crate::{
    spec::{experiment::Experiment, picture::ImageSource, sets::PatchSet},
    studies::session::{Entry, Session, TOLERANCE},
    trace::report::Numbers,
    ui::store::{
        command::Command,
        cut_list::CutSettings,
        run::Run,
        selection::{BASELINE, CUT},
        settings::Asking,
        setup::Setup,
        store::Store,
        talk::Talk,
    },
    window::session::{View, cuts_of, numbers},
    worker::protocol::ModelView,
};

/// One run to ask.
#[derive(Clone, Debug)]
struct Step {
    /// Its name in the session.
    name: String,
    setup: Setup,
    experiment: Experiment,
    numbers: Option<Numbers>,
}

/// A session on its way.
#[derive(Debug)]
pub struct Restoring {
    /// The model that it was made with: its folder, and the weights' sum.
    model: (PathBuf, String),
    waiting: VecDeque<Step>,
    /// The run that was asked for last.
    asked: Option<Step>,
    view: View,
    all: usize,
    /// Runs that are there again.
    done: usize,
    /// Those whose numbers were compared, and the largest difference.
    compared: (usize, f32),
    /// What went wrong.
    troubles: Vec<String>,
    /// What it came to, once it is at its end.
    outcome: Option<String>,
}

impl Restoring {
    /// Begins with a session. Returns the commands to do at once: its model, and its first run.
    ///
    /// # Errors
    /// In words: nothing in it can be asked in a window.
    pub fn begin(session: Session, store: &Store) -> Result<(Self, Vec<Command>), String> {
        let Session { model, sha256, entries, view, .. } = session;
        let view: View = view.and_then(|view| serde_json::from_value(view).ok()).unwrap_or_default();
        let (mut troubles, mut waiting) = (Vec::new(), VecDeque::new());
        for (at, entry) in entries.into_iter().enumerate() {
            match step(at, entry, &view) {
                Ok(step) => waiting.push_back(step),
                Err(why) => troubles.push(why),
            }
        }
        let Some(first) = waiting.pop_front() else {
            return Err(format!("nothing of this session can be asked here: {}", troubles.join("; ")));
        };
        let model = (model, sha256);
        let load = (!holds(store, &model)).then(|| Command::LoadModel(model.0.clone()));
        let visit = Command::Visit(Box::new(first.setup.clone()));
        let all = waiting.len() + 1;
        let restoring = Restoring {
            model,
            waiting,
            asked: Some(first),
            view,
            all,
            done: 0,
            compared: (0, 0.0),
            troubles,
            outcome: None,
        };
        Ok((restoring, load.into_iter().chain([visit]).collect()))
    }

    /// What it came to, once it is at its end.
    pub fn outcome(&self) -> Option<&str> {
        self.outcome.as_deref()
    }

    /// What is to be done now; nothing as long as something goes on.
    pub fn advance(&mut self, store: &Store) -> Vec<Command> {
        if store.asking_goes_on() || self.outcome.is_some() {
            return Vec::new();
        }
        if store.cancelled() {
            self.outcome = Some(format!(
                "Opening the session was cancelled: {} of {} runs are here.",
                self.done, self.all
            ));
            return Vec::new();
        }
        if !holds(store, &self.model) {
            let why = store.error.as_deref().unwrap_or("another model was opened meanwhile");
            self.outcome = Some(format!("The session was not opened: its model is not there ({why})."));
            return Vec::new();
        }
        let mut commands = Vec::new();
        if let Some(step) = self.asked.take() {
            let was_cut = !step.experiment.intervention.is_empty();
            let there = self.take(step, store);
            // The next cut would take its place.
            if there && was_cut && !self.waiting.is_empty() {
                commands.push(Command::Keep);
            }
        }
        match self.waiting.pop_front() {
            Some(next) => {
                commands.push(ask(&next, store));
                self.asked = Some(next);
            }
            None => {
                commands.extend(self.look());
                self.outcome = Some(self.sentence(store));
            }
        }
        commands
    }

    /// Compares a run with what the session holds of it. Returns whether it is there.
    fn take(&mut self, step: Step, store: &Store) -> bool {
        let Some(run) = found(&step, store) else {
            let why = store.error.as_deref().or(store.cut_error()).unwrap_or("it gave no answer");
            self.troubles.push(format!("run {}: {why}", step.name));
            return false;
        };
        self.done += 1;
        if let (Some(stored), Some(now)) = (&step.numbers, numbers(store, run)) {
            let (count, largest) = self.compared;
            self.compared = (count + 1, largest.max(stored.difference(&now)));
        }
        true
    }

    /// Looks at what was looked at.
    fn look(&self) -> Vec<Command> {
        let View { layer, head, map, tint, cut, .. } = &self.view;
        if self.view == View::default() {
            return Vec::new();
        }
        let mut map = *map;
        map.mend();
        let mut commands =
            vec![Command::Layer(*layer), Command::Head(*head), Command::Map(map), Command::Tint(*tint)];
        // What was out of force is put back into the list; what was in force is in it already.
        let in_force = self.asked_last_cut(cut);
        commands.extend(in_force.then(|| Command::Cut(cut.clone())));
        commands
    }

    /// Whether the list of cuts of the session does what its last run does.
    fn asked_last_cut(&self, cut: &CutSettings) -> bool {
        let last = self.view.runs.last().map(|named| named.setup.cut.intervention());
        last.is_some_and(|last| last == cut.intervention())
    }

    fn sentence(&self, store: &Store) -> String {
        let runs = if self.all == 1 { "run" } else { "runs" };
        let mut text = format!("Session opened: {} of {} {runs} asked again", self.done, self.all);
        text += &match self.compared {
            (0, _) => ".".to_string(),
            (_, largest) if largest.is_infinite() => "; answers differ from those stored.".to_string(),
            (_, largest) if largest > TOLERANCE => {
                format!("; numbers differ from those stored by up to {largest:.2e} nats.")
            }
            (_, 0.0) => "; same numbers as stored, largest difference 0.".to_string(),
            (_, largest) => format!("; same numbers as stored, largest difference {largest:.1e} nats."),
        };
        let (_, sum) = &self.model;
        if !sum.is_empty() && store.model.as_ref().is_some_and(|held| held.info.sha256 != *sum) {
            text += " The model's weights are others than the session's.";
        }
        for trouble in &self.troubles {
            text += &format!(" Not asked: {trouble}.");
        }
        text
    }
}

/// Whether the model in use is this one: of its folder, or with the same weights.
fn holds(store: &Store, (folder, sum): &(PathBuf, String)) -> bool {
    let is_it = |held: &ModelView| held.folder == *folder || !sum.is_empty() && held.info.sha256 == *sum;
    store.model.as_ref().is_some_and(is_it)
}

/// How a run is asked for: by its cut alone, where its uncut run is on show.
fn ask(step: &Step, store: &Store) -> Command {
    let uncut = store.runs.baseline().complete();
    match uncut.is_some_and(|run| run.setup.same_question(&step.setup)) {
        true => Command::Cut(step.setup.cut.clone()),
        false => Command::Visit(Box::new(step.setup.clone())),
    }
}

/// The run that a step asked for, where it is there.
fn found<'a>(step: &Step, store: &'a Store) -> Option<&'a Run> {
    let slot = if step.experiment.intervention.is_empty() { BASELINE } else { CUT };
    let run = store.runs.lane(slot).complete()?;
    let (asked, experiment) = (&step.experiment, &run.experiment);
    let same = asked.intervention == experiment.intervention
        && asked.images == experiment.images
        && asked.turns.len() == experiment.turns.len()
        && asked.question().trim() == experiment.question().trim();
    same.then_some(run)
}

/// An entry as a window asks it.
fn step(at: usize, entry: Entry, view: &View) -> Result<Step, String> {
    let Entry { mut experiment, numbers } = entry;
    let named = view.runs.get(at);
    let name = named.map_or_else(|| (at + 1).to_string(), |named| named.name.clone());
    let fail = |why: &str| Err(format!("run {name}: {why}; `sightline replay` takes it"));
    if experiment.images.len() != 1 || Talk::of(&experiment.turns).is_none() {
        return fail("the window asks about one image, which stands before the first question");
    }
    if experiment.forced_answer.is_some() {
        return fail("its answer was given, and the window lets the model answer");
    }
    if experiment.intervention.patch_sets().contains(&PatchSet::Object) {
        return fail("it names the set `object`, whose mask only the command line takes");
    }
    // A mask that no set names changes nothing.
    experiment.images.iter_mut().for_each(|picture| picture.object = None);
    let image = experiment.images.first().map(|picture| picture.image.clone());
    let own = named.map(|named| Setup { image: image.clone(), ..named.setup.clone() });
    let plain = plain(&experiment, image.clone());
    // It knows more, such as what was painted; but what was asked is what the entry says.
    let fits = |setup: &Setup| {
        let cuts = setup.cut.intervention() == experiment.intervention;
        let controls = experiment.intervention.is_empty() || setup.cut.control == experiment.control;
        cuts && controls && setup.same_question(&plain)
    };
    let setup = own.filter(fits).unwrap_or(plain);
    Ok(Step { name, setup, experiment, numbers })
}

/// The state that an experiment is asked in, where nothing else is known of it.
fn plain(experiment: &Experiment, image: Option<ImageSource>) -> Setup {
    let Experiment { max_new, sampling, seed, top, .. } = *experiment;
    Setup {
        image,
        prompt: experiment.question().trim().to_string(),
        talk: Talk::of(&experiment.turns).map(|(talk, _)| talk).unwrap_or_default(),
        asking: Asking { max_new, sampling, seed, top },
        cut: cuts_of(experiment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{
            ablation::Ablation,
            turn::{Role, Turn},
        },
        window::session::Named,
    };

    fn entry(change: impl FnOnce(&mut Experiment)) -> Entry {
        let mut experiment = Experiment::ask(ImageSource::File("/a.png".into()), "what ?", 8);
        change(&mut experiment);
        Entry { experiment, numbers: None }
    }

    #[test]
    fn an_entry_of_the_command_line_becomes_a_state() {
        let ablation: Ablation = "visual[3] = mean".parse().unwrap();
        let asked = entry(|experiment| {
            experiment.intervention.knockouts = vec!["answer -> visual @ 1-2".parse().unwrap()];
            experiment.intervention.ablations = vec![ablation];
            (experiment.control, experiment.seed) = (5, 7);
        });
        let experiment = asked.experiment.clone();
        let Step { name, setup, .. } = step(0, asked, &View::default()).unwrap();
        assert_eq!((name.as_str(), setup.prompt.as_str()), ("1", "what ?"));
        assert_eq!(setup.cut.intervention(), experiment.intervention);
        assert_eq!((setup.cut.control, setup.asking.seed, setup.asking.top), (5, 7, 5));
        assert_eq!(setup.image, Some(ImageSource::File("/a.png".into())));
    }

    #[test]
    fn a_state_that_is_not_the_entrys_is_passed_over() {
        let mut named = Named::default();
        named.setup.prompt = "what ?".to_string();
        named.setup.asking = Asking { max_new: 8, top: 5, ..Asking::default() };
        named.setup.cut.rings = 3;
        let rings = |named: &Named| {
            let view = View { runs: vec![named.clone()], ..View::default() };
            step(0, entry(|_| {}), &view).unwrap().setup.cut.rings
        };
        assert_eq!(rings(&named), 3, "it knows more than the entry");
        named.setup.asking.max_new = 99;
        assert_eq!(rings(&named), 0, "the entry was changed by hand");
    }

    #[test]
    fn what_a_window_cannot_ask_is_told_by_name() {
        let view = View::default();
        let fails = |entry: Entry| step(2, entry, &view).unwrap_err();
        assert!(fails(entry(|e| e.forced_answer = Some(vec![3]))).contains("run 3: its answer was given"));
        assert!(fails(entry(|e| e.images.clear())).contains("about one image"));
        let two = [Turn::ask(1, "what ?"), Turn::of(Role::Assistant, "a dog"), Turn::ask(0, "where ?")];
        let Step { setup, .. } = step(0, entry(|e| e.turns = two.to_vec()), &view).unwrap();
        assert_eq!((setup.prompt.as_str(), &setup.talk.earlier[..]), ("where ?", &two[..2]));
        assert!(fails(entry(|e| e.turns = vec![Turn::ask(2, "which ?")])).contains("about one image"));
        let object: Ablation = "object = mean".parse().unwrap();
        assert!(fails(entry(|e| e.intervention.ablations = vec![object])).contains("the set `object`"));
    }
}
