//! From an intervention as written to what it changes on one prompt: resolved cuts, and overwritten
//! rows of the decoder's input.
//!
//! Also computes the patch sets that its texts name, and draws the random patches of a control.
//! Embeddings are `[rows, width]`. Knows prompts, images and embeddings; runs nothing but the uncut
//! answer's gradient.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{OnceLock, PoisonError},
};

use burn::tensor::{Tensor, TensorData};

use crate::{engine::{decoding::{host, place_rows}, gradient, load::{Engine, RunError, Seen}, masks, patches as patch_sets}, image::process as model_image, progress::Cancel, prompt::build::Prompt, spec::{ablation::{Ablation, Fill}, experiment::Intervention, knockout::{Cut, Knockout, KnockoutError}, sets::{PatchSet, Patches, Positions, Scope}, span::Span}, trace::run::Trace};

/// What an intervention changes, position by position.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// One a knockout, in order.
    pub cuts: Vec<Cut>,
    /// One an ablation, in order.
    pub overwritten: Vec<Overwritten>,
}

/// The uncut answer, from which the sets `sink` and `gradient` are computed.
pub(crate) struct Uncut<'a> {
    /// With the attention of every layer, head and row for `sink`.
    pub trace: &'a Trace,
    /// The visual positions by gradient, highest first, once they are known: they cost many passes.
    pub by_gradient: &'a OnceLock<Vec<usize>>,
    /// Hears of every step of the gradients' path, and of how many there are.
    pub on_step: &'a mut dyn FnMut(usize, usize),
}

/// The rows that one ablation overwrites.
#[derive(Clone, Debug)]
pub struct Overwritten {
    /// Absolute prompt positions, ascending.
    pub positions: Vec<usize>,
    /// What they become.
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// `[1, width]`, the same for all.
    Same(Tensor<2>),
    /// `[visual tokens, width]`: each takes the row of its own place among the visual tokens.
    Rows(Tensor<2>),
}

impl Change {
    /// The lowest layer and the first row, of `n_rows`, that it touches; `None` if it touches nothing.
    pub fn start(&self, n_rows: usize) -> Option<(usize, usize)> {
        let overwritten = self.overwritten.iter().flat_map(|o| o.positions.first()).map(|&row| (0, row));
        let cut = |cut: &Cut| {
            let layer = cut.layers.iter().position(|&l| l)?;
            cut.heads.contains(&true).then_some((layer, masks::first_row(cut, n_rows)?))
        };
        let all = overwritten.chain(self.cuts.iter().filter_map(cut));
        all.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
    }

    /// `[rows, width]` with the overwritten rows replaced, where `embeds` begins at position `first`.
    pub fn overwrite(&self, embeds: Tensor<2>, first: usize, visual: &[usize]) -> Tensor<2> {
        self.overwritten.iter().fold(embeds, |embeds, o| {
            let width = embeds.dims()[1];
            let rows = match &o.source {
                Source::Same(row) => row.clone().expand([o.positions.len(), width]),
                Source::Rows(rows) => {
                    let places = o.positions.iter().filter_map(|p| visual.binary_search(p).ok());
                    let index: Vec<i32> = places.map(|place| place as i32).collect();
                    let n = index.len();
                    let index = Tensor::from_data(TensorData::new(index, [n]), &embeds.device());
                    rows.clone().select(0, index)
                }
            };
            let positions: Vec<usize> = o.positions.iter().map(|p| p - first).collect();
            place_rows(embeds, &positions, rows)
        })
    }

    /// The same change on as many random visual tokens: keys of cuts, or their query rows where no key
    /// is visual, and overwritten tokens. `None` if it touches no visual token.
    pub fn at_random(&self, visual: &[usize], seed: u64, draw: u64) -> Option<Change> {
        let mut change = self.clone();
        let (mut touched, mut stream) = (false, draw << 8);
        let mut redraw = |n: usize| {
            touched |= n > 0;
            stream += 1;
            let mut drawn = patch_sets::shuffled(visual, seed, stream);
            drawn.truncate(n);
            drawn.sort_unstable();
            drawn
        };
        for cut in &mut change.cuts {
            let among = |set: &Positions| visual.iter().filter(|&&p| set.contains(p)).count();
            let set = if among(&cut.keys) > 0 { &mut cut.keys } else { &mut cut.rows };
            let drawn = redraw(among(set));
            set.exchange(visual, &drawn);
        }
        for o in &mut change.overwritten {
            o.positions = redraw(o.positions.len());
        }
        touched.then_some(change)
    }
}

impl Engine {
    /// Resolves an intervention; `uncut` only has to be there where [`Intervention::needs_uncut`].
    ///
    /// # Errors
    /// [`RunError`], naming the text and the part that is wrong.
    #[expect(clippy::too_many_arguments, reason = "a prompt, its images, and what is done about them")]
    pub(crate) fn change(
        &self,
        intervention: &Intervention,
        prompt: &Prompt,
        images: &[&Seen],
        max_new: usize,
        seed: u64,
        uncut: Option<Uncut<'_>>,
        cancel: &Cancel,
    ) -> Result<Change, RunError> {
        let mut named: BTreeSet<PatchSet> = BTreeSet::new();
        for k in &intervention.knockouts {
            named.extend(k.query.patch_sets().chain(k.key.patch_sets()));
        }
        named.extend(intervention.ablations.iter().flat_map(|a| a.tokens.patch_sets()));
        let patches = self.patch_sets(prompt, images, &named, seed, uncut, cancel)?;
        let spans = prompt.spans();
        let (n_layers, n_heads) = (self.info.n_layers, self.info.n_heads);
        let scope = Scope { spans: &spans, patches: &patches, max_new, n_layers, n_heads };
        let mut change = Change::default();
        for k in &intervention.knockouts {
            let at = |source: KnockoutError| RunError::Knockout { text: k.to_string(), source };
            let cut = k.resolve(&scope).map_err(at)?;
            // However they are written: what counts is what they cut here.
            let positions = 0..spans.len() + max_new;
            let alike = |a: &Positions, b: &Positions| {
                positions.clone().all(|position| a.contains(position) == b.contains(position))
            };
            let same = |c: &Cut| {
                (&c.layers, &c.heads) == (&cut.layers, &cut.heads)
                    && alike(&c.rows, &cut.rows)
                    && alike(&c.keys, &cut.keys)
            };
            if let Some(same) = change.cuts.iter().position(same) {
                let other: &Knockout = &intervention.knockouts[same];
                return Err(at(KnockoutError::Twice { other: other.to_string() }));
            }
            change.cuts.push(cut);
        }
        for a in &intervention.ablations {
            let overwritten = self.overwritten(a, &scope, images, cancel)?;
            let fail = |why: String| RunError::Ablation { text: a.to_string(), why };
            for (earlier, text) in change.overwritten.iter().zip(&intervention.ablations) {
                if let Some(p) = earlier.positions.iter().find(|p| overwritten.positions.contains(p)) {
                    return Err(fail(format!("position {p} is overwritten by `{text}` already")));
                }
            }
            change.overwritten.push(overwritten);
        }
        Ok(change)
    }

    /// Where the visual tokens lie, and the named sets of them.
    pub(crate) fn patch_sets(
        &self,
        prompt: &Prompt,
        images: &[&Seen],
        named: &BTreeSet<PatchSet>,
        seed: u64,
        mut uncut: Option<Uncut<'_>>,
        cancel: &Cancel,
    ) -> Result<Patches, RunError> {
        let grids: Vec<_> = images.iter().map(|seen| seen.grid()).collect();
        let spots = patch_sets::spots(&prompt.tokens, &grids, self.vlm.config.token_grid());
        let visual = patch_sets::visual(&prompt.tokens);
        let mut sets = std::collections::BTreeMap::new();
        for &set in named {
            let members = match set {
                PatchSet::Whole => Ok(patch_sets::whole(&spots)),
                PatchSet::LastRow => Ok(patch_sets::last_row(&spots)),
                PatchSet::Random => Ok(patch_sets::shuffled(&visual, seed, 0)),
                PatchSet::Object => object(&visual, images),
                PatchSet::Register => {
                    let norms = self.embeds(prompt, images).square().sum_dim(1).sqrt();
                    let norms = host(norms)?;
                    let norms: Vec<f32> = visual.iter().map(|&p| norms[p]).collect();
                    let members = patch_sets::outliers(&norms).into_iter().map(|i| visual[i]).collect();
                    some(members, "no embedding's norm exceeds the mean by two standard deviations")
                }
                PatchSet::Sink => {
                    sink(&visual, uncut.as_ref().map(|u| u.trace), self.info.n_layers, self.info.n_heads)
                }
                PatchSet::Gradient => match &mut uncut {
                    Some(uncut) => Ok(self.by_gradient(uncut, prompt, images, &visual, cancel)?),
                    None => Err("it needs the uncut answer".to_string()),
                },
            };
            sets.insert(set, members);
        }
        Ok(Patches { spots, sets })
    }

    /// Visual positions, the one with the highest integrated gradient first.
    fn by_gradient(
        &self,
        uncut: &mut Uncut<'_>,
        prompt: &Prompt,
        images: &[&Seen],
        visual: &[usize],
        cancel: &Cancel,
    ) -> Result<Vec<usize>, RunError> {
        if let Some(known) = uncut.by_gradient.get() {
            return Ok(known.clone());
        }
        let ids: Vec<u32> = uncut.trace.answer.iter().map(|t| t.id).collect();
        let embeds = self.embeds(prompt, images);
        let scores = gradient::attributions(&self.vlm, embeds, visual, &ids, cancel, uncut.on_step)?;
        let scores: Vec<f32> = scores.iter().map(|s| s.abs()).collect();
        let ranked = || patch_sets::ranked(&scores).into_iter().map(|i| visual[i]).collect();
        Ok(uncut.by_gradient.get_or_init(ranked).clone())
    }

    fn overwritten(
        &self,
        ablation: &Ablation,
        scope: &Scope<'_>,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Overwritten, RunError> {
        let fail = |why: String| RunError::Ablation { text: ablation.to_string(), why };
        let set = ablation.tokens.resolve(scope, false).map_err(|e| fail(e.to_string()))?;
        let past_prompt = scope.spans.len()..scope.spans.len() + scope.max_new;
        let generated = past_prompt.into_iter().find(|&p| set.contains(p));
        let other = set.in_prompt().find(|&p| scope.spans[p] != Span::Visual).or(generated);
        if let Some(p) = other {
            let span = scope.spans.get(p).map_or(Span::Answer, |s| *s).name();
            return Err(fail(format!("position {p} is {span}: only visual tokens can be overwritten")));
        }
        let all = Tensor::cat(images.iter().map(|s| s.embeds.clone()).collect(), 0);
        let width = self.info.width;
        let source = match &ablation.fill {
            Fill::Mean => Source::Same(all.mean_dim(0)),
            Fill::Zero => Source::Same(Tensor::zeros([1, width], &self.vlm.device)),
            Fill::MeanOf(dir) => {
                Source::Same(self.donor(&ablation.fill, cancel, || self.mean_of(dir, cancel))?)
            }
            Fill::Image(file) => {
                let rows = self.donor(&ablation.fill, cancel, || self.encode_file(file, cancel))?;
                let (found, expected) = (rows.dims()[0], all.dims()[0]);
                if found != expected {
                    return Err(fail(format!(
                        "{} becomes {found} visual tokens, this prompt has {expected}: use an image of the same shape",
                        file.display()
                    )));
                }
                Source::Rows(rows)
            }
        };
        Ok(Overwritten { positions: set.in_prompt().collect(), source })
    }

    /// The embeddings that a fill takes from elsewhere, made once.
    fn donor(
        &self,
        fill: &Fill,
        cancel: &Cancel,
        make: impl FnOnce() -> Result<Tensor<2>, RunError>,
    ) -> Result<Tensor<2>, RunError> {
        cancel.check().map_err(crate::engine::decoding::DecodingError::from)?;
        let lock = || self.donors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = lock().get(fill) {
            return Ok(held.clone());
        }
        let made = make()?;
        lock().insert(fill.clone(), made.clone());
        Ok(made)
    }

    fn encode_file(&self, file: &Path, cancel: &Cancel) -> Result<Tensor<2>, RunError> {
        let image = model_image::open(file)?;
        Ok(self.see(self.process(&image)?, cancel, &mut |_, _| {})?.embeds)
    }

    /// `[1, width]`: the mean visual embedding of every image of a folder.
    fn mean_of(&self, dir: &Path, cancel: &Cancel) -> Result<Tensor<2>, RunError> {
        let fail = |why: String| RunError::Mask { file: dir.to_path_buf(), why };
        let files = image_files(dir).map_err(|e| fail(format!("cannot be read ({e})")))?;
        let (mut sum, mut n) = (Tensor::zeros([1, self.info.width], &self.vlm.device), 0);
        for file in files {
            let rows = self.encode_file(&file, cancel)?;
            n += rows.dims()[0];
            sum = sum + rows.sum_dim(0);
        }
        if n == 0 {
            return Err(fail("holds no image to take the mean of".to_string()));
        }
        Ok(sum / n as f32)
    }
}

/// The image files of a folder, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn image_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let known = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pnm"];
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let kind = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if kind.is_some_and(|kind| known.contains(&kind.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The marked tokens of all images, in prompt order.
fn object(visual: &[usize], images: &[&Seen]) -> Result<Vec<usize>, String> {
    if images.iter().all(|seen| seen.object.is_none()) {
        return Err("no mask of an object was given (--object MASK)".to_string());
    }
    let of_image = |seen: &&Seen| match &seen.object {
        Some(members) => members.clone(),
        None => vec![false; seen.embeds.dims()[0]],
    };
    let members: Vec<bool> = images.iter().flat_map(of_image).collect();
    Ok(visual.iter().zip(members).filter(|(_, member)| *member).map(|(&p, _)| p).collect())
}

fn sink(visual: &[usize], uncut: Option<&Trace>, layers: usize, heads: usize) -> Result<Vec<usize>, String> {
    let trace = uncut.ok_or("it needs the uncut answer")?;
    let kept = &trace.kept;
    if (kept.layers.len(), kept.heads.len(), kept.rows.len()) != (layers, heads, trace.answer.len()) {
        return Err("it needs the attention of every layer, head and answer row recorded".to_string());
    }
    let rows: Vec<_> = trace.rows().map(|(_, row)| row).collect();
    let least = patch_sets::least_attention(&rows, visual);
    let members = patch_sets::outliers(&least).into_iter().map(|i| visual[i]).collect();
    some(members, "none draws more than its share of attention from every answer row")
}

fn some(members: Vec<usize>, otherwise: &str) -> Result<Vec<usize>, String> {
    if members.is_empty() { Err(otherwise.to_string()) } else { Ok(members) }
}
