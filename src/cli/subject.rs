//! What `run` and `lens` have in common: a model, an image, a question, and what is done meanwhile.

use std::{error::Error, path::PathBuf};

use image::RgbImage;
use sightline::{
    checkpoint::weights::WeightDtype,
    engine::{load::Engine, see::Seen},
    progress::Cancel,
    spec::{
        ablation::Ablation,
        experiment::{Experiment, Intervention, Sampling},
        knockout::Knockout,
        picture::{ImageSource, ObjectMask, Picture},
        record::{Pattern, Record},
        turn::Turn,
    },
};

use crate::cli::{bar::Bars, model::ModelArgs};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct SubjectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Image file: PNG, JPEG, WebP, GIF, BMP, TIFF or PNM.
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// What to ask.
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,
    /// Score this answer instead of generating one.
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    /// Paths to cut: "QUERY -> KEY @ LAYERS [# HEADS]", e.g. "answer -> visual @ 2-5". Repeatable.
    #[arg(long, value_name = "SPEC")]
    knockout: Vec<Knockout>,
    /// Visual tokens to overwrite: "SET = mean|zero|mean:DIR|image:FILE", e.g. "object~1 = mean".
    /// Repeatable.
    #[arg(long, value_name = "SPEC")]
    ablate: Vec<Ablation>,
    /// Mask of the object that the set `object` stands for: a greyscale image of the image's size.
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// Pixels of this value are the object; all but 0 if left out.
    #[arg(long, value_name = "N", requires = "object")]
    object_value: Option<u8>,
    /// A patch belongs to the object when more than this share of it is covered.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "object")]
    object_share: f32,
    /// Longest answer, in tokens.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_new: usize,
    /// Candidates listed for every token.
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// Draw tokens at this temperature instead of taking the likeliest.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw from the likeliest tokens that together reach this probability.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Decides drawn tokens and random patches.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Which attention to keep: "answer[ROWS] @ LAYERS [# HEADS]", or none.
    #[arg(long, value_name = "SPEC", default_value = "answer @ all")]
    record: Pattern,
    /// Keep residuals of every K-th layer; interventions start at the nearest below.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    residuals: u16,
    /// Store attention and residuals in half precision.
    #[arg(long)]
    half: bool,
    /// Refuse runs that would hold more than this at a time, beside the model: attention, residuals, KV cache
    /// and logits of an answer as long as --max-new allows, and of those that an intervention adds.
    #[arg(long, value_name = "GB", default_value_t = 8.0)]
    memory_limit: f64,
}

/// A loaded model and an encoded image.
pub struct Opened {
    pub engine: Engine,
    pub image: RgbImage,
    pub seen: Seen,
}

impl SubjectArgs {
    /// The uncut question that the window's headless stand-in asks.
    pub fn plain(model: ModelArgs, image: PathBuf, prompt: String, max_new: usize) -> Self {
        SubjectArgs {
            model,
            image,
            prompt,
            answer: None,
            knockout: Vec::new(),
            ablate: Vec::new(),
            object: None,
            object_value: None,
            object_share: 0.0,
            max_new,
            top: 10,
            temperature: None,
            top_p: None,
            seed: 0,
            record: Pattern::default(),
            residuals: 1,
            half: false,
            memory_limit: 8.0,
        }
    }

    fn picture(&self) -> Picture {
        let mask = |file: &PathBuf| ObjectMask {
            file: file.clone(),
            value: self.object_value,
            share: self.object_share,
        };
        Picture { image: ImageSource::File(self.image.clone()), object: self.object.as_ref().map(mask) }
    }

    /// What is to be done, as a value.
    pub fn experiment(&self, engine: &Engine, control: usize) -> Result<Experiment, Box<dyn Error>> {
        let forced_answer = match &self.answer {
            Some(text) => Some(engine.prompts.text_ids(text)?),
            None => None,
        };
        let sampling = (self.temperature.is_some() || self.top_p.is_some()).then(|| Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
        });
        let (knockouts, ablations) = (self.knockout.clone(), self.ablate.clone());
        Ok(Experiment {
            images: vec![self.picture()],
            turns: vec![Turn::ask(1, self.prompt.as_str())],
            intervention: Intervention { knockouts, ablations },
            forced_answer,
            max_new: self.max_new,
            top: self.top,
            sampling,
            seed: self.seed,
            record: Record {
                pattern: self.record.clone(),
                residuals_every: usize::from(self.residuals),
                half: self.half,
                // Saturates: an absurd limit is no limit.
                limit: (self.memory_limit * 1e9) as u64,
            },
            control,
        })
    }

    /// Whether something is rounded to half precision on the way.
    pub fn stores_half(&self) -> bool {
        self.half || self.model.dtype == WeightDtype::F16
    }

    /// Loads the model, opens and encodes the image; says what goes on.
    pub fn open(&self, cancel: &Cancel) -> Result<Opened, Box<dyn Error>> {
        let engine = self.model.load()?;
        let mut bars = Bars::default();
        let looked = engine.look(&self.picture(), cancel, &mut |progress| bars.tell(progress));
        bars.clear();
        let (image, seen) = looked?;
        for word in engine.prompts.unknown_words(&self.prompt) {
            eprintln!("warning: `{word}` is not in the model's vocabulary; it reads it as an unknown word");
        }
        Ok(Opened { engine, image, seen })
    }
}
