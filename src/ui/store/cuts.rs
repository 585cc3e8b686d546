//! The knockouts that the settings stand for, read and checked once for every change.
//!
//! Knows settings and a prompt's spans; nothing of runs under way.

use crate::{
    spec::{
        knockout::{Knockout, KnockoutError},
        resolve::{Patches, Scope},
        span::Span,
    },
    trace::run::ModelInfo,
    ui::store::{run::Run, settings::CutSettings},
    worker::protocol::RunId,
};

/// What the knockouts were read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    settings: CutSettings,
    /// Layers and heads.
    model: Option<(usize, usize)>,
    /// The uncut run whose prompt they were checked against.
    prompt: Option<RunId>,
}

/// The knockouts set up.
#[derive(Debug, Default)]
pub struct Cuts {
    source: Option<Source>,
    /// The last typed ones that could be read: they stay in force until others can be.
    typed: Vec<Knockout>,
    knockouts: Vec<Knockout>,
    error: Option<String>,
}

impl Cuts {
    /// Those in force: the range, which always follows its handles, and the last typed ones that could be read.
    pub fn knockouts(&self) -> &[Knockout] {
        &self.knockouts
    }

    /// What is wrong with those set up.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Follows settings, model and prompt; costs nothing where they are what they were.
    pub fn follow(&mut self, settings: &CutSettings, model: Option<&ModelInfo>, uncut: Option<&Run>) {
        let sizes = model.map(|info| (info.n_layers, info.n_heads));
        let prompt = uncut.map(|run| run.id);
        let same = |source: &Source| {
            source.model == sizes && source.prompt == prompt && source.settings == *settings
        };
        if self.source.as_ref().is_some_and(same) {
            return;
        }
        self.source = Some(Source { settings: settings.clone(), model: sizes, prompt });
        self.error = None;
        match typed(settings, sizes, uncut) {
            Ok(typed) => self.typed = typed,
            Err(error) => self.error = Some(error.to_string()),
        }
        let range = (settings.enabled && sizes.is_some()).then(|| settings.range_knockout());
        self.knockouts = range.into_iter().chain(self.typed.iter().cloned()).collect();
    }
}

/// The typed knockouts, checked against the model and, once known, the prompt.
fn typed(
    settings: &CutSettings,
    sizes: Option<(usize, usize)>,
    uncut: Option<&Run>,
) -> Result<Vec<Knockout>, KnockoutError> {
    let all = settings.typed_knockouts()?;
    if let (Some((n_layers, n_heads)), Some(run)) = (sizes, uncut) {
        let spans: Vec<Span> = run.prompt.iter().map(|t| t.span).collect();
        let max_new = run.experiment.max_new;
        let scope = Scope { spans: &spans, patches: &Patches::default(), max_new, n_layers, n_heads };
        // Where patches lie is known on the worker: it checks those that need it.
        let known = |k: &&Knockout| !k.query.needs_patches() && !k.key.needs_patches();
        all.iter().filter(known).try_for_each(|k| k.resolve(&scope).map(|_| ()))?;
    }
    Ok(all)
}
