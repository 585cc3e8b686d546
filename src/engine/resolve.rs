//! From an intervention as written to what it changes on one prompt.
//!
//! Also computes the patch sets that its texts name. Knows prompts, images and embeddings; runs nothing but
//! the uncut answer's gradient.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use crate::{
    engine::{
        change::{Change, Overwritten},
        decoding::host,
        error::RunError,
        fills, gradient,
        load::Engine,
        patches,
        see::Seen,
    },
    progress::{Cancel, Progress, Stage},
    prompt::build::Prompt,
    spec::{
        ablation::Ablation,
        experiment::Intervention,
        knockout::{Cut, Knockout, KnockoutError},
        resolve::{Patches, Positions, Scope, Spot},
        sets::PatchSet,
        span::Span,
    },
    statistics::rank::{outliers, ranked, shuffled},
    trace::{
        geometry::{Geometry, spots},
        run::Trace,
        sinks::sinks,
        tokens::visual,
    },
};

/// What an intervention is resolved against.
pub(crate) struct Asked<'a> {
    /// The model.
    pub engine: &'a Engine,
    /// The prompt.
    pub prompt: &'a Prompt,
    /// Its images.
    pub images: &'a [&'a Seen],
    /// Longest answer.
    pub max_new: usize,
    /// Decides random patches, and noise.
    pub seed: u64,
    /// Stops what takes time.
    pub cancel: &'a Cancel,
}

/// The uncut answer, from which the sets `sink` and `gradient` are computed.
pub(crate) struct Uncut<'a> {
    /// With the attention of every layer, head and row for `sink`.
    pub trace: &'a Trace,
    /// The visual positions by gradient, highest first, once they are known: they cost many passes.
    pub by_gradient: &'a OnceLock<Vec<usize>>,
    /// Hears of every step of the gradients' path.
    pub tell: &'a mut dyn FnMut(Progress),
}

impl Asked<'_> {
    /// Resolves an intervention; `uncut` only has to be there where [`Intervention::needs_uncut`].
    ///
    /// # Errors
    /// [`RunError`], naming the text and the part that is wrong.
    pub fn change(&self, intervention: &Intervention, uncut: Option<Uncut<'_>>) -> Result<Change, RunError> {
        let patches = self.patch_sets(&intervention.patch_sets(), uncut)?;
        let spans = self.prompt.spans();
        let scope = self.scope(&spans, &patches);
        let cuts = cuts(&intervention.knockouts, &scope)?;
        let added = self.engine.folder.family.added();
        let positions = overwritten(&intervention.ablations, &scope, added)?;
        let filled = intervention.ablations.iter().zip(positions).map(|(ablation, positions)| {
            let source = fills::source(self.engine, ablation, self.images, self.seed, self.cancel)?;
            Ok::<_, RunError>(Overwritten { positions, source, deepstack: ablation.deepstack })
        });
        Ok(Change { cuts, overwritten: filled.collect::<Result<_, _>>()? })
    }

    /// What sets are resolved against, given the named sets of patches.
    pub fn scope<'a>(&self, spans: &'a [Span], patches: &'a Patches) -> Scope<'a> {
        let (n_layers, n_heads) = (self.engine.info.n_layers, self.engine.info.n_heads);
        Scope { spans, patches, max_new: self.max_new, n_layers, n_heads }
    }

    /// Where the visual tokens lie, and the named sets of them.
    ///
    /// # Errors
    /// [`RunError`], of what has to be computed.
    pub fn patch_sets(
        &self,
        named: &BTreeSet<PatchSet>,
        mut uncut: Option<Uncut<'_>>,
    ) -> Result<Patches, RunError> {
        let geometries: Vec<_> = self.images.iter().map(|seen| seen.geometry.clone()).collect();
        let spots = spots(&self.prompt.tokens, &geometries);
        let visual = visual(&self.prompt.tokens);
        let objects: Vec<Option<&[bool]>> = self.images.iter().map(|seen| seen.object.as_deref()).collect();
        let mut sets = BTreeMap::new();
        for &set in named {
            let members = match set {
                PatchSet::Register => self.register(&visual)?,
                PatchSet::Sink => sink(uncut.as_ref().map(|u| u.trace)),
                PatchSet::Gradient => match &mut uncut {
                    Some(uncut) => Ok(self.by_gradient(uncut, &visual)?),
                    None => Err("it needs the uncut answer".to_string()),
                },
                PatchSet::Whole | PatchSet::LastRow | PatchSet::Object | PatchSet::Random => {
                    by_place(set, &spots, &visual, &geometries, &objects, self.seed)
                }
            };
            sets.insert(set, members);
        }
        Ok(Patches { spots, sets })
    }

    /// Visual positions whose embeddings are unusually long.
    fn register(&self, visual: &[usize]) -> Result<Result<Vec<usize>, String>, RunError> {
        let norms = self.engine.rows(self.prompt, self.images).resid.square().sum_dim(1).sqrt();
        let norms = host(norms)?;
        let norms: Vec<f32> = visual.iter().map(|&p| norms[p]).collect();
        let members = outliers(&norms).into_iter().map(|i| visual[i]).collect();
        Ok(some(members, "no embedding's norm exceeds the mean by two standard deviations"))
    }

    /// Visual positions, the one with the highest integrated gradient first.
    fn by_gradient(&self, uncut: &mut Uncut<'_>, visual: &[usize]) -> Result<Vec<usize>, RunError> {
        if let Some(known) = uncut.by_gradient.get() {
            return Ok(known.clone());
        }
        let ids = uncut.trace.ids();
        let rows = self.engine.rows(self.prompt, self.images);
        let tell = &mut *uncut.tell;
        let mut on_step = |done: usize, total: usize| tell(Progress::of(Stage::Gradients, done, total));
        let vlm = &self.engine.vlm;
        let scores = gradient::attributions(vlm, rows, visual, &ids, self.cancel, &mut on_step)?;
        let scores: Vec<f32> = scores.iter().map(|s| s.abs()).collect();
        let by_score = || ranked(&scores).into_iter().map(|i| visual[i]).collect();
        Ok(uncut.by_gradient.get_or_init(by_score).clone())
    }
}

/// What knockouts cut, in order.
///
/// # Errors
/// [`RunError::Knockout`], naming the first that is wrong, or cuts what another does.
pub(super) fn cuts(knockouts: &[Knockout], scope: &Scope<'_>) -> Result<Vec<Cut>, RunError> {
    let mut cuts: Vec<Cut> = Vec::with_capacity(knockouts.len());
    for k in knockouts {
        let at = |source: KnockoutError| RunError::Knockout { text: k.to_string(), source };
        let cut = k.resolve(scope).map_err(at)?;
        if let Some(same) = cuts.iter().position(|c| alike(c, &cut, scope.spans.len() + scope.max_new)) {
            return Err(at(KnockoutError::Twice { other: knockouts[same].to_string() }));
        }
        cuts.push(cut);
    }
    Ok(cuts)
}

/// The positions that each ablation overwrites, ascending; the model adds features after `added` of its layers.
///
/// # Errors
/// [`RunError::Ablation`], naming the first that is wrong, or overwrites what another does.
pub(super) fn overwritten(
    ablations: &[Ablation],
    scope: &Scope<'_>,
    added: usize,
) -> Result<Vec<Vec<usize>>, RunError> {
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(ablations.len());
    for a in ablations {
        let fail = |why: String| RunError::Ablation { text: a.to_string(), why };
        if a.deepstack && added == 0 {
            return Err(fail(
                "this model adds nothing after its layers: leave `& deepstack` out".to_string(),
            ));
        }
        let set = a.tokens.resolve(scope, false).map_err(|e| fail(e.to_string()))?;
        let past_prompt = scope.spans.len()..scope.spans.len() + scope.max_new;
        let generated = past_prompt.into_iter().find(|&p| set.contains(p));
        let other = set.in_prompt().find(|&p| scope.spans[p] != Span::Visual).or(generated);
        if let Some(p) = other {
            let span = scope.spans.get(p).map_or(Span::Answer, |s| *s).name();
            return Err(fail(format!("position {p} is {span}: only visual tokens can be overwritten")));
        }
        let positions: Vec<usize> = set.in_prompt().collect();
        for (earlier, text) in all.iter().zip(ablations) {
            if let Some(p) = earlier.iter().find(|p| positions.contains(p)) {
                return Err(fail(format!("position {p} is overwritten by `{text}` already")));
            }
        }
        all.push(positions);
    }
    Ok(all)
}

/// Whether two cuts cut the same pairs of a sequence of `len` positions, however they are written.
fn alike(a: &Cut, b: &Cut, len: usize) -> bool {
    let same = |a: &Positions, b: &Positions| (0..len).all(|p| a.contains(p) == b.contains(p));
    (&a.layers, &a.heads) == (&b.layers, &b.heads) && same(&a.rows, &b.rows) && same(&a.keys, &b.keys)
}

/// A set that follows from where visual tokens lie, what is marked, and the seed. `objects` has one entry an
/// image.
///
/// # Errors
/// In words, for a set that has no members or is not of this kind.
pub(super) fn by_place(
    set: PatchSet,
    spots: &[Spot],
    visual: &[usize],
    images: &[Geometry],
    objects: &[Option<&[bool]>],
    seed: u64,
) -> Result<Vec<usize>, String> {
    match set {
        PatchSet::Whole => Ok(patches::whole(spots)),
        PatchSet::LastRow => Ok(patches::last_row(spots)),
        PatchSet::Random => Ok(shuffled(visual, seed, 0)),
        PatchSet::Object => object(visual, images, objects),
        PatchSet::Register | PatchSet::Sink | PatchSet::Gradient => {
            Err("only the model can tell it".to_string())
        }
    }
}

/// The marked tokens of all images, in prompt order.
fn object(visual: &[usize], images: &[Geometry], objects: &[Option<&[bool]>]) -> Result<Vec<usize>, String> {
    if objects.iter().all(Option::is_none) {
        return Err("no mask of an object was given (--object MASK)".to_string());
    }
    let of_image = |(image, object): (&Geometry, &Option<&[bool]>)| match object {
        Some(members) => members.to_vec(),
        None => vec![false; image.n_tokens()],
    };
    let members: Vec<bool> = images.iter().zip(objects).flat_map(of_image).collect();
    Ok(visual.iter().zip(members).filter(|(_, member)| *member).map(|(&p, _)| p).collect())
}

fn sink(uncut: Option<&Trace>) -> Result<Vec<usize>, String> {
    let trace = uncut.ok_or("it needs the uncut answer")?;
    let members =
        sinks(trace).ok_or("it needs the attention of every layer, head and answer row recorded")?;
    some(members, "none draws more than its share of attention from every answer row")
}

fn some(members: Vec<usize>, otherwise: &str) -> Result<Vec<usize>, String> {
    if members.is_empty() { Err(otherwise.to_string()) } else { Ok(members) }
}
