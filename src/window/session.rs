//! The runs of a window as a session file: what was asked, what came out, and how it was looked at.
//!
//! Gathering is cheap and done on the window's thread; sums of files, pictures and text are made on another. Knows the
//! store and session files; not when one is written.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::weights::WeightDtype,
    spec::experiment::{Experiment, Intervention},
    studies::session::Session,
    trace::{
        report::Numbers,
        run::{Sources, Stop},
    },
    ui::store::{
        cut_list::{Change, CutItem, CutSettings},
        run::Run,
        selection::{BASELINE, CUT},
        settings::{MapSettings, Tint},
        setup::Setup,
        store::Store,
    },
};

/// How a window showed a session: its own part of the file. What is not there is as it is at first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// One an entry, in order.
    pub runs: Vec<Named>,
    /// Layer on show.
    pub layer: usize,
    /// Head on show.
    pub head: Option<usize>,
    /// How maps were drawn.
    pub map: MapSettings,
    /// What tinted words.
    pub tint: Tint,
    /// What was done to the model, what was put out of force included.
    pub cut: CutSettings,
}

/// A run's name, and the state that it was asked in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Its letter.
    pub name: String,
    /// The state, but for the image, which is the entry's.
    pub setup: Setup,
}

/// What a session file is made of.
#[derive(Clone, Debug)]
pub struct Gathered {
    model: PathBuf,
    dtype: WeightDtype,
    sha256: String,
    sources: Sources,
    runs: Vec<(Experiment, Option<Numbers>)>,
    view: View,
}

impl Gathered {
    /// All complete runs of a store: kept ones by their letters, then the uncut run and the one under the cut. `None`
    /// where there is none, or no model that it could be run with again.
    pub fn of(store: &Store) -> Option<Self> {
        let model = store.model.as_ref()?;
        let mut gathered = Gathered {
            model: model.folder.clone(),
            dtype: model.dtype,
            sha256: model.info.sha256.clone(),
            sources: model.info.sources.clone(),
            runs: Vec::new(),
            view: View {
                runs: Vec::new(),
                layer: store.selection.layer,
                head: store.selection.head,
                map: store.map,
                tint: store.tint,
                cut: store.cut.clone(),
            },
        };
        for slot in store.runs.kept().into_iter().chain([BASELINE, CUT]) {
            let Some(run) = store.runs.lane(slot).done().filter(|run| run.end.is_some()) else { continue };
            gathered.runs.push((run.experiment.clone(), numbers(store, run)));
            let setup = Setup { image: None, ..run.setup.clone() };
            gathered.view.runs.push(Named { name: store.runs.name(slot), setup });
        }
        (!gathered.runs.is_empty()).then_some(gathered)
    }

    /// The text of the file, whose folder gets the images that lie in no file. `quick`: without sums of files, which
    /// take long where images are large.
    ///
    /// # Errors
    /// In words.
    pub fn text(self, folder: &Path, quick: bool) -> Result<String, String> {
        let Gathered { model, dtype, sha256, sources, runs, view } = self;
        let (experiments, numbers): (Vec<Experiment>, Vec<Option<Numbers>>) = runs.into_iter().unzip();
        let session = match quick {
            true => Session::quick(&model, dtype, &experiments),
            false => Session::begin(&model, dtype, &experiments),
        };
        let mut session = session.map_err(|e| e.to_string())?;
        (session.sha256, session.sources) = (sha256, sources);
        for (entry, numbers) in session.entries.iter_mut().zip(numbers) {
            entry.numbers = numbers;
        }
        session.view = Some(serde_json::to_value(view).map_err(|e| e.to_string())?);
        session.with_pasted(folder).map_err(|e| e.to_string())?.text()
    }
}

/// The list of cuts that does to a model what an experiment does.
pub fn cuts_of(experiment: &Experiment) -> CutSettings {
    let Intervention { knockouts, ablations } = &experiment.intervention;
    let knockouts = knockouts.iter().cloned().map(Change::Knockout);
    let changes = knockouts.chain(ablations.iter().cloned().map(Change::Ablation));
    let items = changes.map(|change| CutItem { on: true, change, painted: None }).collect();
    CutSettings { items, control: experiment.control, ..CutSettings::default() }
}

/// What a repetition of a run must give again; `None` of one that was cancelled, or whose uncut run is gone.
pub fn numbers(store: &Store, run: &Run) -> Option<Numbers> {
    let end = run.end.as_ref().filter(|end| end.stop != Stop::Cancelled)?;
    let of = |run: &Run| run.answer.iter().map(|token| (token.id, token.logprob)).collect();
    let base = match run.base {
        Some(base) => store.runs.get(base)?,
        None => run,
    };
    let effects = run.scored.iter().map(|scored| [scored.effect.delta, scored.effect.kl]);
    Some(Numbers {
        baseline: of(base),
        answer: of(run),
        effects: run.base.map(|_| effects.collect()),
        control: end.control.as_ref().map(|control| [control.delta.mean, control.kl.mean]),
    })
}

/// What was gathered of runs without numbers, as tests need it.
#[cfg(test)]
pub fn gathered(model: PathBuf, dtype: WeightDtype, experiments: Vec<Experiment>) -> Gathered {
    let runs = experiments.into_iter().map(|experiment| (experiment, None)).collect();
    let (sha256, sources) = (String::new(), Sources::default());
    Gathered { model, dtype, sha256, sources, runs, view: View::default() }
}
