//! What the list of cuts stands for, checked once for every change: what of it can be in force.
//!
//! Knows the list and a prompt's spans; nothing of runs under way.

use crate::{
    spec::{
        experiment::Intervention,
        resolve::{Patches, Scope},
        span::Span,
    },
    trace::run::ModelInfo,
    ui::store::{
        cut_list::{Change, CutSettings},
        run::Run,
    },
    worker::protocol::RunId,
};

/// What the list was checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    settings: CutSettings,
    /// Layers and heads.
    model: Option<(usize, usize)>,
    /// The uncut run whose prompt they were checked against.
    prompt: Option<RunId>,
}

/// What is in force.
#[derive(Debug, Default)]
pub struct Cuts {
    source: Option<Source>,
    intervention: Intervention,
    /// One a line of the list: why it cannot be in force.
    errors: Vec<Option<String>>,
}

impl Cuts {
    /// What is in force: of the lines that are on, those that mean something in this model and prompt.
    pub fn intervention(&self) -> &Intervention {
        &self.intervention
    }

    /// Why a line cannot be in force.
    pub fn error(&self, line: usize) -> Option<&str> {
        self.errors.get(line)?.as_deref()
    }

    /// The first reason of any line.
    pub fn first_error(&self) -> Option<&str> {
        self.errors.iter().flatten().next().map(String::as_str)
    }

    /// Follows list, model and prompt; costs nothing where they are what they were.
    pub fn follow(&mut self, settings: &CutSettings, model: Option<&ModelInfo>, uncut: Option<&Run>) {
        let sizes = model.map(|info| (info.n_layers, info.n_heads));
        let prompt = uncut.map(|run| run.id);
        let same = |source: &Source| {
            source.model == sizes && source.prompt == prompt && source.settings == *settings
        };
        if self.source.as_ref().is_some_and(same) {
            return;
        }
        let lines = settings.items.iter();
        self.errors = lines.map(|item| error(&item.change, sizes, uncut).filter(|_| item.on)).collect();
        let mut sound = settings.clone();
        for (item, error) in sound.items.iter_mut().zip(&self.errors) {
            item.on &= error.is_none() && sizes.is_some();
        }
        self.intervention = sound.intervention();
        self.source = Some(Source { settings: settings.clone(), model: sizes, prompt });
    }
}

/// Why a change means nothing in this model and, once known, this prompt.
fn error(change: &Change, sizes: Option<(usize, usize)>, uncut: Option<&Run>) -> Option<String> {
    let (n_layers, n_heads) = sizes?;
    let Change::Knockout(knockout) = change else { return None };
    if let Err(error) = knockout.check_model(n_layers, n_heads) {
        return Some(error.to_string());
    }
    let run = uncut?;
    // Where patches lie is known on the worker: it checks what needs it.
    if knockout.query.needs_patches() || knockout.key.needs_patches() {
        return None;
    }
    let spans: Vec<Span> = run.prompt.iter().map(|t| t.span).collect();
    let max_new = run.experiment.max_new;
    let scope = Scope { spans: &spans, patches: &Patches::default(), max_new, n_layers, n_heads };
    knockout.resolve(&scope).err().map(|error| error.to_string())
}
