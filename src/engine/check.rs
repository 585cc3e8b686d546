//! What is wrong with an experiment, as far as it can be known before weights are read: its prompt, its numbers,
//! and what its texts mean on the prompt's tokens and the images' geometry.
//!
//! Refuses only what would be refused later as well. Sets that only the model can tell (`register`, `sink`,
//! `gradient`) are held to what they cannot exceed, all visual tokens, term by term. Runs nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    checkpoint::weights::WeightDtype,
    engine::{
        answer::allowed,
        change::Change,
        control::needs_visual,
        error::RunError,
        fills::{images_of, same_shape},
        folder::ModelFolder,
        masks::check_something_left,
        memory::Sizes,
        resolve::{by_place, cuts, overwritten},
        see::Framed,
    },
    image::open,
    prompt::build::Prompt,
    spec::{
        ablation::{Ablation, Fill},
        experiment::Experiment,
        knockout::{Knockout, KnockoutError},
        picture::{ImageSource, Picture},
        record::{Held, Kept},
        resolve::{Patches, Scope},
        sets::{PatchSet, Set, SetError, Term},
        span::Span,
    },
    trace::{
        geometry::{Geometry, spots},
        tokens::visual,
    },
};

/// An experiment on its images, as far as it is known without weights.
pub struct Foreseen<'a> {
    pub(crate) folder: &'a ModelFolder,
    pub(crate) experiment: &'a Experiment,
    pub(crate) images: &'a [&'a Framed],
    /// The prompt.
    pub prompt: Prompt,
    /// Longest answer that the context allows.
    pub max_new: usize,
    /// `[prompt]`.
    spans: Vec<Span>,
    /// Attention that is kept, if the answer is as long as it may be.
    kept: Kept,
}

impl<'a> Foreseen<'a> {
    /// Builds the prompt and checks all of the experiment's numbers and texts. `dtype` is that of the weights.
    ///
    /// # Errors
    /// [`RunError`], as the run would give it.
    pub fn new(
        folder: &'a ModelFolder,
        dtype: WeightDtype,
        experiment: &'a Experiment,
        images: &'a [&'a Framed],
    ) -> Result<Self, RunError> {
        let geometries: Vec<&Geometry> = images.iter().map(|image| &image.processed.geometry).collect();
        let prompt = folder.prompt(&experiment.turns, &geometries)?;
        let (max_new, kept) = allowed(folder, experiment, prompt.len())?;
        let spans = prompt.spans();
        let foreseen = Foreseen { folder, experiment, images, prompt, max_new, spans, kept };
        foreseen.allow(dtype, experiment.held())?;
        foreseen.intervention()?;
        Ok(foreseen)
    }

    /// Refuses what would hold more than it may, as far as that is known.
    ///
    /// # Errors
    /// [`RunError::Memory`].
    pub fn allow(&self, dtype: WeightDtype, held: Held) -> Result<(), RunError> {
        let added = if self.images.is_empty() { 0 } else { self.folder.family.added() };
        let cache_bytes = self.folder.least_cache_bytes(dtype);
        let sizes = Sizes { folder: self.folder, cache_bytes, added, n_prompt: self.prompt.len() };
        sizes.allow(self.experiment, held)
    }

    /// The attention of every layer, head and answer row may be held: of an answer that is short enough.
    pub(crate) fn may_hold_everything(&self) -> bool {
        let text = self.folder.text();
        let (layers, heads) = (self.kept.layers.len(), self.kept.heads.len());
        (layers, heads) == (text.n_layers, text.n_heads) && self.kept.rows.first() == Some(&0)
    }

    /// Checks a set of positions, as keys.
    ///
    /// # Errors
    /// [`RunError::Choice`].
    pub fn positions(&self, set: &Set) -> Result<(), RunError> {
        let patches = self.patches(set.patch_sets().collect());
        let fail = |source| RunError::Choice { what: format!("positions `{set}`"), source };
        self.check_set(set, false, &self.scope(&patches)).map_err(fail)
    }

    fn intervention(&self) -> Result<(), RunError> {
        let intervention = &self.experiment.intervention;
        let patches = self.patches(intervention.patch_sets());
        let scope = self.scope(&patches);
        let known = |k: &&Knockout| is_known(&k.query) && is_known(&k.key);
        let (exact, rough): (Vec<&Knockout>, Vec<&Knockout>) = intervention.knockouts.iter().partition(known);
        for k in &rough {
            let at = |source: KnockoutError| RunError::Knockout { text: k.to_string(), source };
            k.check_model(scope.n_layers, scope.n_heads).map_err(at)?;
            self.check_set(&k.query, true, &scope).map_err(|e| at(e.into()))?;
            self.check_set(&k.key, false, &scope).map_err(|e| at(e.into()))?;
        }
        let exact: Vec<Knockout> = exact.into_iter().cloned().collect();
        let cuts = cuts(&exact, &scope)?;
        let n_rows = self.prompt.len() + self.max_new - 1;
        check_something_left(&cuts, n_rows, scope.n_layers, scope.n_heads).map_err(
            |source: KnockoutError| {
                let text = exact.iter().map(Knockout::to_string).collect::<Vec<_>>().join("; ");
                RunError::Knockout { text, source }
            },
        )?;
        self.ablations(&intervention.ablations, &scope)?;
        // Sets that only the model can tell are of visual tokens, and so is all that can be overwritten.
        if self.experiment.control > 0 && rough.is_empty() && intervention.ablations.is_empty() {
            let change = Change { cuts, overwritten: Vec::new() };
            let random = change.at_random(&visual(&self.prompt.tokens), self.experiment.seed, 0);
            random.ok_or_else(needs_visual)?;
        }
        Ok(())
    }

    fn ablations(&self, ablations: &[Ablation], scope: &Scope<'_>) -> Result<(), RunError> {
        for a in ablations {
            let fail = |e: SetError| RunError::Ablation { text: a.to_string(), why: e.to_string() };
            self.check_set(&a.tokens, false, scope).map_err(fail)?;
            self.fill(a)?;
        }
        let known: Vec<Ablation> = ablations.iter().filter(|a| is_known(&a.tokens)).cloned().collect();
        overwritten(&known, scope, self.folder.family.added())?;
        Ok(())
    }

    /// Opens what an ablation takes from elsewhere.
    fn fill(&self, ablation: &Ablation) -> Result<(), RunError> {
        match &ablation.fill {
            Fill::Mean | Fill::Zero | Fill::Noise => {}
            Fill::MeanOf(dir) => {
                for file in images_of(dir)? {
                    open::open(&file)?;
                }
            }
            Fill::Image(file) => {
                let picture = Picture { image: ImageSource::File(file.clone()), object: None };
                let found = self.folder.frame(&picture)?.processed.geometry.views;
                let images = self.images.iter().map(|image| &image.processed.geometry.views[..]);
                same_shape(ablation, file, &found, &images.collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Resolves a set that is known; of another, each term by itself.
    fn check_set(&self, set: &Set, as_rows: bool, scope: &Scope<'_>) -> Result<(), SetError> {
        if is_known(set) {
            return set.resolve(scope, as_rows).map(|_| ());
        }
        let alone = |term: &Term| Set(vec![Term { minus: false, ..term.clone() }]);
        set.0.iter().try_for_each(|term| alone(term).resolve(scope, as_rows).map(|_| ()))
    }

    fn scope<'b>(&'b self, patches: &'b Patches) -> Scope<'b> {
        let text = self.folder.text();
        let (n_layers, n_heads) = (text.n_layers, text.n_heads);
        Scope { spans: &self.spans, patches, max_new: self.max_new, n_layers, n_heads }
    }

    /// Where visual tokens lie, and the sets of them: of those that only the model can tell, all there could be.
    fn patches(&self, named: BTreeSet<PatchSet>) -> Patches {
        let geometries: Vec<Geometry> =
            self.images.iter().map(|image| image.processed.geometry.clone()).collect();
        let objects: Vec<Option<&[bool]>> = self.images.iter().map(|image| image.object.as_deref()).collect();
        let spots = spots(&self.prompt.tokens, &geometries);
        let visual = visual(&self.prompt.tokens);
        let members = |set: PatchSet| match set {
            PatchSet::Sink if !self.may_hold_everything() => {
                Err("it needs the attention of every layer, head and answer row recorded".to_string())
            }
            _ if is_computed(set) => Ok(visual.clone()),
            _ => by_place(set, &spots, &visual, &geometries, &objects, self.experiment.seed),
        };
        let sets: BTreeMap<_, _> = named.into_iter().map(|set| (set, members(set))).collect();
        Patches { spots, sets }
    }
}

/// Whether only the model can tell which tokens are in it.
fn is_computed(set: PatchSet) -> bool {
    matches!(set, PatchSet::Register | PatchSet::Sink | PatchSet::Gradient)
}

/// Whether tokens and geometry say what is in a set.
fn is_known(set: &Set) -> bool {
    !set.patch_sets().any(is_computed)
}
