//! Which model, where and how: the arguments that most subcommands share.

use std::{error::Error, path::PathBuf};

use clap::builder::PossibleValuesParser;
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open::{self, DeviceChoice},
    engine::{folder::ModelFolder, load::Engine},
    progress::Cancel,
};

use crate::cli::{bar::Bars, models};

/// Where and how a model runs.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// Model folder (Hugging Face layout), or org/name[@revision] of the hub, which is fetched where it is not in the
    /// cache (`sightline models`); the bundled model if left out.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Where to run: auto takes a real GPU if there is one, cpu and gpu insist.
    #[arg(long, value_name = "DEVICE", value_parser = device(), default_value = "auto")]
    pub device: DeviceChoice,
    /// Number format of weights: auto keeps that of the files as far as the device computes in it. The KV cache is
    /// float16 where they are, else float32.
    #[arg(long, value_name = "FORMAT", value_parser = dtype(), default_value = "auto")]
    pub dtype: WeightDtype,
}

/// Reads a device by name.
pub fn device() -> impl clap::builder::TypedValueParser<Value = DeviceChoice> {
    named(&DeviceChoice::ALL)
}

/// Reads a number format by name.
fn dtype() -> impl clap::builder::TypedValueParser<Value = WeightDtype> {
    named(&WeightDtype::ALL)
}

/// Reads one of some values by its name.
pub fn named<T: Copy + Send + Sync + 'static>(
    all: &'static [(&'static str, T)],
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::TypedValueParser as _;
    let names = PossibleValuesParser::new(all.iter().map(|(name, _)| *name));
    names.try_map(move |name| {
        let found = all.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).ok_or("no such name")
    })
}

impl ModelArgs {
    /// The model's folder. One of the hub that is not in the cache is fetched.
    pub fn folder(&self) -> Result<PathBuf, Box<dyn Error>> {
        match &self.model {
            Some(named) => models::folder(named),
            None => Ok(bundled::model()),
        }
    }

    /// Reads what can be read of the model without its weights.
    pub fn open(&self) -> Result<ModelFolder, Box<dyn Error>> {
        Ok(ModelFolder::open(&self.folder()?)?)
    }

    /// Loads the weights, saying which and where.
    pub fn load(&self, folder: ModelFolder) -> Result<Engine, Box<dyn Error>> {
        let compute = open::open(self.device)?;
        eprintln!("loading {} on {}", folder.dir.display(), compute.description);
        eprintln!("read from {}", folder.sources);
        let mut bars = Bars::default();
        let mut tell = |progress| bars.tell(progress);
        let engine = Engine::load_weights(folder, &compute, self.dtype, &Cancel::default(), &mut tell);
        bars.clear();
        let engine = engine?;
        if !engine.vlm.formats.why().is_empty() {
            eprintln!("computes with {}", engine.vlm.dtype_text());
        }
        for key in &engine.vlm.unused {
            log::debug!("unused weight: {key}");
        }
        Ok(engine)
    }
}
