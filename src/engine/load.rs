//! A loaded folder: model, image processor and prompt builder that belong together.
//!
//! [`Engine`] is one thing: it loads (here), sees (`see`) and runs (`run`). Whole analyses are functions
//! over it, in `studies`. Does not know that a window exists, nor what files a run ends up in.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use burn::tensor::Tensor;

use crate::{
    checkpoint::{
        json::{Section, read},
        shards::{Watch, sha256},
        weights::WeightDtype,
    },
    device::open::Compute,
    engine::error::EngineError,
    image::plan::ImageProcessor,
    model::{
        families::registry,
        vlm::{LoadError, Vlm},
    },
    progress::{Cancel, Progress},
    prompt::build::PromptBuilder,
    spec::ablation::Fill,
    trace::run::ModelInfo,
};

/// A loaded folder.
#[derive(Debug)]
pub struct Engine {
    /// The model.
    pub vlm: Vlm,
    /// Pixels for it.
    pub processor: ImageProcessor,
    /// Prompts for it.
    pub prompts: PromptBuilder,
    /// Tokens that end an answer.
    end_ids: Vec<u32>,
    /// Visual embeddings that ablations took from other files: each is encoded once.
    pub(super) donors: Mutex<BTreeMap<Fill, Tensor<2>>>,
    /// What traces say of it.
    pub info: ModelInfo,
    /// Where it runs, in words.
    pub device: String,
    /// How long loading took.
    pub load_time: Duration,
}

impl Engine {
    /// Loads an unchanged Hugging Face folder. Stops within a piece of a file; `tell` hears how far it is.
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
        let start = Instant::now();
        let family = registry::open(dir).map_err(LoadError::from)?;
        let tell = RefCell::new(tell);
        let tell = |progress: Progress| (tell.borrow_mut())(progress);
        let watch = Watch::new(dir, cancel, &tell).map_err(LoadError::from)?;
        let vlm = Vlm::load_as(family.clone(), dir, &compute.device, dtype, &watch)?;
        let processor = ImageProcessor::from_dir(dir, |settings| family.pixels(settings))?;
        let file = dir.join("processor_config.json");
        if let Some(json) = read(&file)? {
            family.check_processor(&Section::root(&json, &file)?)?;
        }
        let config = &vlm.config;
        let prompts = PromptBuilder::from_dir(dir, config.image_token_id, family.template())?;
        let vocabulary = config.text.vocabulary;
        if let Some(id) = prompts.largest_id().filter(|&id| id as usize >= vocabulary) {
            let why = format!("tokenizer.json has a token {id}, config.json's vocab_size is {vocabulary}");
            return Err(EngineError::Mismatch { dir: dir.display().to_string(), why });
        }
        let end_ids = match prompts.eos_ids() {
            [] => config.eos_token_ids.clone(),
            ids => ids.to_vec(),
        };
        let name = dir.canonicalize().ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
        let info = ModelInfo {
            name: name.unwrap_or_else(|| dir.display().to_string()),
            sha256: sha256(dir, &watch).map_err(LoadError::from)?,
            family: config.model_type.clone(),
            n_layers: config.text.n_layers,
            n_heads: config.text.n_heads,
            n_kv_heads: config.text.n_kv_heads,
            width: config.text.width,
            vocabulary,
            context: config.text.context,
            parameters: vlm.parameters(),
        };
        cancel.check()?;
        watch.complete();
        let device = compute.description.clone();
        let donors = Mutex::default();
        Ok(Engine { vlm, processor, prompts, end_ids, donors, info, device, load_time: start.elapsed() })
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_ids.contains(&id)
    }
}
