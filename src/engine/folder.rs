//! A model folder as far as it can be read without its weights: config, image processor, tokenizer, template.
//!
//! All that can be known of an experiment before the weights are read is known from here (`check`). Reads
//! small files only; an [`Engine`](crate::engine::load::Engine) is this with its weights.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    checkpoint::{
        config::TextConfig,
        end_tokens::{EndTokens, end_tokens},
        inventory::Inventory,
        json::{Section, read},
        shards::weights_file,
        weights::WeightDtype,
    },
    engine::error::EngineError,
    image::{plan::ImageProcessor, settings::Settings},
    model::{
        families::{family::Family, registry},
        vlm::LoadError,
    },
    prompt::build::PromptBuilder,
    trace::run::Sources,
};

/// A model folder without its weights.
#[derive(Debug)]
pub struct ModelFolder {
    /// Where it is.
    pub dir: PathBuf,
    /// Its family, configured.
    pub family: Arc<dyn Family>,
    /// Pixels for the model.
    pub processor: ImageProcessor,
    /// Prompts for it.
    pub prompts: PromptBuilder,
    /// Which of its files won, where several could say the same thing.
    pub sources: Sources,
    /// What its weight files hold; empty where their headers cannot be read, which is told when they are loaded.
    pub inventory: Inventory,
    /// Tokens that end an answer.
    end_ids: Vec<u32>,
}

impl ModelFolder {
    /// Reads config, processor, tokenizer and template of an unchanged Hugging Face folder.
    ///
    /// # Errors
    /// [`EngineError`], naming file and key.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        let family = registry::open(dir).map_err(LoadError::from)?;
        let plan = |settings: &Settings<'_>| family.pixels(settings);
        let processor = match family.image_settings() {
            Some(settings) => ImageProcessor::of_family(dir, settings, plan)?,
            None => ImageProcessor::from_dir(dir, plan)?,
        };
        let file = dir.join("processor_config.json");
        if let Some(json) = read(&file)? {
            family.check_processor(&Section::root(&json, &file)?)?;
        }
        let config = family.config();
        let prompts = PromptBuilder::from_dir(dir, config.image_token_id, family.template())?;
        let prompts = prompts.with_around(family.around());
        let vocabulary = config.text.vocabulary;
        if let Some(id) = prompts.largest_id().filter(|&id| id as usize >= vocabulary) {
            let why = format!(
                "{} has a token {id}, config.json's vocab_size is {vocabulary}",
                prompts.tokenizer_file()
            );
            return Err(EngineError::Mismatch { dir: dir.display().to_string(), why });
        }
        let mut ends = end_tokens(dir)?;
        if let Some((id, name)) = prompts.end_of_turn() {
            ends.add(id, format!("chat template (`{name}`)"));
        }
        let EndTokens { ids: end_ids, source: end_tokens } = ends;
        let sources = Sources {
            template: prompts.template_file().to_string(),
            tokenizer: prompts.tokenizer_file().to_string(),
            weights: weights_file(dir).map_err(LoadError::from)?,
            end_tokens,
            image_processor: processor.file.to_string(),
        };
        let inventory = Inventory::read(dir).unwrap_or_default();
        Ok(ModelFolder { dir: dir.to_path_buf(), family, processor, prompts, sources, inventory, end_ids })
    }

    /// Bytes of a number in the KV cache at least, whatever device its weights are loaded onto in a format.
    pub(super) fn least_cache_bytes(&self, dtype: WeightDtype) -> usize {
        let may_be_half = match dtype {
            WeightDtype::F32 | WeightDtype::Bf16 => false,
            WeightDtype::F16 => true,
            WeightDtype::Auto => self.inventory.formats().iter().any(|&stored| stored != WeightDtype::F32),
        };
        if may_be_half { 2 } else { 4 }
    }

    /// The decoder's sizes.
    pub fn text(&self) -> &TextConfig {
        &self.family.config().text
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_ids.contains(&id)
    }
}
