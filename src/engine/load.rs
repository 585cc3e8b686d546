//! A loaded folder: model, image processor and prompt builder that belong together.
//!
//! [`Engine`] is one thing: it loads (here), sees (`see`) and runs (`run`). Whole analyses are functions
//! over it, in `studies`. Does not know that a window exists, nor what files a run ends up in.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use burn::tensor::Tensor;

use crate::{
    checkpoint::{
        shards::{Watch, sha256},
        weight_error::WeightError,
        weights::WeightDtype,
    },
    device::{open::Compute, remote},
    engine::{error::EngineError, folder::ModelFolder, room::fits},
    hub::cache::id_of_snapshot,
    model::vlm::{LoadError, Vlm},
    progress::{Cancel, Progress},
    spec::ablation::Fill,
    trace::{geometry::View, run::ModelInfo},
};

/// A loaded folder.
#[derive(Debug)]
pub struct Engine {
    /// The folder: pixels and prompts for the model.
    pub folder: ModelFolder,
    /// The model.
    pub vlm: Vlm,
    /// Visual embeddings that ablations took from other files, each encoded once; of one image also its views.
    pub(super) donors: Mutex<BTreeMap<Fill, (Tensor<2>, Vec<View>)>>,
    /// What traces say of it.
    pub info: ModelInfo,
    /// Where it runs, in words.
    pub device: String,
    /// How long loading took.
    pub load_time: Duration,
}

impl Engine {
    /// Loads an unchanged Hugging Face folder, its small files first. Stops within a piece of a file; `tell`
    /// hears how far it is.
    ///
    /// # Errors
    /// [`EngineError`], naming file and key.
    pub fn load(
        dir: &Path,
        compute: &Compute,
        dtype: WeightDtype,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Self, EngineError> {
        Self::load_weights(ModelFolder::open(dir)?, compute, dtype, cancel, tell)
    }

    /// [`Engine::load`] for a folder whose small files are read.
    ///
    /// # Errors
    /// [`EngineError`], of the weights, or where they need more memory than is left.
    pub fn load_weights(
        folder: ModelFolder,
        compute: &Compute,
        dtype: WeightDtype,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Self, EngineError> {
        let start = Instant::now();
        fits(&folder, compute, dtype)?;
        let dir = folder.dir.as_path();
        let tell = RefCell::new(tell);
        let tell = |progress: Progress| (tell.borrow_mut())(progress);
        let watch = Watch::new(dir, cancel, &tell).map_err(LoadError::from)?;
        let load = || Vlm::load_as(folder.family.clone(), dir, &compute.device, dtype, &watch);
        let (vlm, sha256) = beside_its_sum(load, dir, &watch);
        let vlm = vlm.map_err(|error| why(compute, error.into()))?;
        let config = &vlm.config;
        let own_name = |dir: PathBuf| match id_of_snapshot(&dir) {
            Some(id) => Some(id.short()),
            None => Some(dir.file_name()?.to_string_lossy().into_owned()),
        };
        let name = dir.canonicalize().ok().and_then(own_name);
        let info = ModelInfo {
            name: name.unwrap_or_else(|| dir.display().to_string()),
            sha256: sha256.map_err(LoadError::from)?,
            family: config.model_type.clone(),
            n_layers: config.text.n_layers,
            n_heads: config.text.n_heads,
            n_kv_heads: config.text.n_kv_heads,
            width: config.text.width,
            vocabulary: config.text.vocabulary,
            context: config.text.context,
            parameters: vlm.parameters(),
            deepstack: folder.family.added(),
            sources: folder.sources.clone(),
        };
        cancel.check()?;
        // Elsewhere, what was sent may still be on its way, or lost.
        remote::check(&compute.device)?;
        watch.complete();
        let device = compute.description.clone();
        let donors = Mutex::default();
        Ok(Engine { folder, vlm, donors, info, device, load_time: start.elapsed() })
    }
}

/// Loads weights on this thread while another sums their files up.
fn beside_its_sum(
    load: impl FnOnce() -> Result<Vlm, LoadError>,
    dir: &Path,
    watch: &Watch<'_>,
) -> (Result<Vlm, LoadError>, Result<String, WeightError>) {
    /// How often it is told how far the sum is, once the weights are there.
    const TOLD: Duration = Duration::from_millis(2);
    // The sum of what cannot be loaded is of no use.
    let (stop, cancel, summed) = (Cancel::default(), watch.cancel, watch.summed());
    thread::scope(|scope| {
        let sum = scope.spawn(|| sha256(dir, &stop, &summed));
        let vlm = load();
        while !sum.is_finished() {
            if vlm.is_err() || cancel.is_cancelled() || watch.read(0).is_err() {
                stop.cancel();
            }
            thread::sleep(TOLD);
        }
        (vlm, sum.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Why loading failed: of a device elsewhere, first of all that its connection broke.
fn why(compute: &Compute, error: EngineError) -> EngineError {
    if error.is_cancelled() {
        return error;
    }
    remote::check(&compute.device).map_or_else(EngineError::from, |()| error)
}
