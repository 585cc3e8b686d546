//! What `run` and `lens` have in common: a model, an image, a question, and what is done meanwhile.
//!
//! In three steps, so that a mistake is told before it has cost anything: options among themselves, then all
//! that small files tell ([`SubjectArgs::plan`]), then the weights and the encoder ([`Plan::open`]).

use std::{collections::BTreeSet, error::Error, path::PathBuf};

use image::RgbImage;
use sightline::{
    engine::{
        folder::ModelFolder,
        load::Engine,
        see::{Framed, Seen},
    },
    progress::Cancel,
    spec::{
        ablation::Ablation,
        experiment::{Experiment, Intervention, Sampling},
        knockout::Knockout,
        picture::{ImageSource, ObjectMask, Picture},
        record::{Pattern, Record},
        sets::PatchSet,
        turn::Turn,
    },
};

use crate::cli::{
    bar::Bars,
    model::ModelArgs,
    numbers,
    talk::{TalkArgs, typed},
};

/// Longest answer, in tokens, where nothing is said.
const MAX_NEW: usize = 64;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct SubjectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Image file: PNG, JPEG, WebP, GIF, BMP, TIFF or PNM. Repeatable: the images of the conversation, in order.
    #[arg(long, value_name = "FILE", required = true)]
    pub image: Vec<PathBuf>,
    #[command(flatten)]
    talk: TalkArgs,
    /// Score this answer instead of generating one.
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    /// Paths to cut: "QUERY -> KEY @ LAYERS [# HEADS]", e.g. "answer -> visual @ 2-5". Repeatable.
    #[arg(long, value_name = "SPEC")]
    knockout: Vec<Knockout>,
    /// Visual tokens to overwrite: "SET = mean|zero|noise|mean:DIR|image:FILE", e.g. "object~1 = mean".
    /// "SET & deepstack = .." also removes what Qwen3-VL adds at these tokens after its first layers. Repeatable.
    #[arg(long, value_name = "SPEC")]
    ablate: Vec<Ablation>,
    /// Mask of the object that the set `object` stands for: an image of the upright image's size.
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// Pixels of this value are the object: a grey level, or the index in a PNG's palette of colours. All but 0,
    /// and what is transparent, if left out.
    #[arg(long, value_name = "N", requires = "object")]
    object_value: Option<u16>,
    /// A patch belongs to the object when more than this share of it is covered, from 0 to 1, or all of it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "object", value_parser = numbers::share)]
    object_share: f32,
    /// Longest answer, in tokens; 64 if left out.
    #[arg(long, value_name = "N", value_parser = numbers::length)]
    max_new: Option<usize>,
    /// Candidates listed for every token; 10 if left out.
    #[arg(long, value_name = "K", value_parser = numbers::count)]
    pub top: Option<usize>,
    /// Draw tokens at this temperature instead of taking the likeliest.
    #[arg(long, value_name = "T", value_parser = numbers::temperature)]
    temperature: Option<f32>,
    /// Draw from the likeliest tokens that together reach this probability.
    #[arg(long, value_name = "P", value_parser = numbers::top_p)]
    top_p: Option<f32>,
    /// Decides drawn tokens and random patches; 0 if left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which attention to keep: "answer[ROWS] @ LAYERS [# HEADS]", or none; all of it if left out.
    #[arg(long, value_name = "SPEC")]
    pub record: Option<Pattern>,
    /// Keep residuals of every K-th layer; interventions start at the nearest below.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    residuals: u16,
    /// Store attention and residuals in half precision.
    #[arg(long)]
    half: bool,
    /// Refuse runs that would hold more than this at a time, beside the model: attention, residuals, KV cache
    /// and logits of an answer as long as --max-new allows, and of those that an intervention adds.
    #[arg(long, value_name = "GB", default_value_t = 8.0, value_parser = numbers::gigabytes)]
    memory_limit: f64,
}

/// What is known before the weights are read: every part of it is sound by then.
pub struct Plan {
    pub folder: ModelFolder,
    pub experiment: Experiment,
    /// One an image.
    pub framed: Vec<Framed>,
}

/// A loaded model and encoded images.
pub struct Opened {
    pub engine: Engine,
    /// As they are, upright.
    pub images: Vec<RgbImage>,
    /// As the model sees them.
    pub seen: Vec<Seen>,
}

impl Opened {
    /// The images as the model sees them.
    pub fn seen(&self) -> Vec<&Seen> {
        self.seen.iter().collect()
    }
}

impl SubjectArgs {
    /// The uncut question that the window's headless stand-in asks.
    pub fn plain(model: ModelArgs, image: PathBuf, prompt: String, max_new: usize) -> Self {
        SubjectArgs {
            model,
            image: vec![image],
            talk: TalkArgs::ask(prompt),
            answer: None,
            knockout: Vec::new(),
            ablate: Vec::new(),
            object: None,
            object_value: None,
            object_share: 0.0,
            max_new: Some(max_new),
            top: None,
            temperature: None,
            top_p: None,
            seed: None,
            record: None,
            residuals: 1,
            half: false,
            memory_limit: 8.0,
        }
    }

    /// Whether anything is done to the model.
    pub fn intervenes(&self) -> bool {
        !(self.knockout.is_empty() && self.ablate.is_empty())
    }

    /// Whether an intervention names a set.
    pub fn names(&self, set: PatchSet) -> bool {
        self.intervention().patch_sets().contains(&set)
    }

    fn intervention(&self) -> Intervention {
        Intervention { knockouts: self.knockout.clone(), ablations: self.ablate.clone() }
    }

    fn draws_tokens(&self) -> bool {
        self.temperature.is_some() || self.top_p.is_some()
    }

    /// Refuses options that would change nothing. `random`: something else is drawn by the seed; `asks_on`: there
    /// are further questions, which a given answer does not answer.
    pub fn check(&self, random: bool, asks_on: bool) -> Result<(), String> {
        let given = self.answer.is_some();
        if given && self.max_new.is_some() && !asks_on {
            return Err(
                "--max-new has no effect with --answer, which is as long as it is: leave one out".to_string()
            );
        }
        if given && self.draws_tokens() && !self.intervenes() {
            return Err("--temperature and --top-p have no effect with --answer, of which no token is drawn: leave them out, or add an intervention (--knockout, --ablate)".to_string());
        }
        if self.seed.is_some() && !(self.draws_tokens() || random || self.names(PatchSet::Random)) {
            return Err("--seed has no effect where nothing is drawn: add --temperature, --top-p, --control or the set `random`, or leave it out".to_string());
        }
        Ok(())
    }

    fn pictures(&self) -> Vec<Picture> {
        let mask = |file: &PathBuf| ObjectMask {
            file: file.clone(),
            value: self.object_value,
            share: self.object_share,
        };
        let object = self.object.as_ref().map(mask);
        let picture =
            |file: &PathBuf| Picture { image: ImageSource::File(file.clone()), object: object.clone() };
        self.image.iter().map(picture).collect()
    }

    /// What is to be done, as a value.
    fn experiment(
        &self,
        folder: &ModelFolder,
        turns: Vec<Turn>,
        control: usize,
    ) -> Result<Experiment, Box<dyn Error>> {
        let forced_answer = match &self.answer {
            Some(text) => Some(folder.prompts.text_ids(text)?),
            None => None,
        };
        let sampling = self.draws_tokens().then(|| Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
        });
        Ok(Experiment {
            images: self.pictures(),
            turns,
            intervention: self.intervention(),
            forced_answer,
            max_new: self.max_new.unwrap_or(MAX_NEW),
            top: self.top.unwrap_or(10),
            sampling,
            seed: self.seed.unwrap_or(0),
            record: Record {
                pattern: self.record.clone().unwrap_or_default(),
                residuals_every: usize::from(self.residuals),
                half: self.half,
                // Saturates: an absurd limit is no limit.
                limit: (self.memory_limit * 1e9) as u64,
            },
            control,
        })
    }

    /// Whether something is rounded to half precision on the way.
    pub fn stores_half(&self, engine: &Engine) -> bool {
        self.half || engine.vlm.caches_half()
    }

    /// Reads all but the weights. `reads_object`: the set `object` is named elsewhere than in an intervention.
    pub fn plan(&self, control: usize, reads_object: bool) -> Result<Plan, Box<dyn Error>> {
        let turns = self.talk.turns(self.image.len())?;
        if self.object.is_some() && self.image.len() > 1 {
            return Err("--object marks an object of one image, and there are several: leave it out, or run a session file, which has an object for each".into());
        }
        let folder = self.model.open()?;
        let framed = self.pictures().iter().map(|picture| folder.frame(picture)).collect::<Result<_, _>>()?;
        if let Some(file) = self.object.as_ref().filter(|_| !reads_object && !self.names(PatchSet::Object)) {
            return Err(format!(
                "--object {} has no effect: no set names `object`; name it, for example --ablate \"object = mean\", or leave it out",
                file.display()
            )
            .into());
        }
        let said = typed(&turns);
        let experiment = self.experiment(&folder, turns, control)?;
        warn_of_unknown_words(&folder, said.iter().chain(&self.answer));
        Ok(Plan { folder, experiment, framed })
    }
}

/// Says which words of what was typed the model has no token for.
pub fn warn_of_unknown_words<'a>(folder: &ModelFolder, typed: impl IntoIterator<Item = &'a String>) {
    let words = |text: &String| folder.prompts.unknown_words(text);
    for word in typed.into_iter().flat_map(words).collect::<BTreeSet<String>>() {
        eprintln!("warning: `{word}` is not in the model's vocabulary; it reads it as an unknown word");
    }
}

impl Plan {
    /// Loads the model and encodes the images; says what goes on.
    pub fn open(self, args: &SubjectArgs, cancel: &Cancel) -> Result<(Opened, Experiment), Box<dyn Error>> {
        let Plan { folder, experiment, framed } = self;
        let engine = args.model.load(folder)?;
        let mut bars = Bars::default();
        let (mut images, mut all) = (Vec::new(), Vec::new());
        for framed in framed {
            let seen = engine.see(&framed.processed, cancel, &mut |progress| bars.tell(progress));
            bars.clear();
            all.push(Seen { object: framed.object, ..seen? });
            images.push(framed.pixels);
        }
        Ok((Opened { engine, images, seen: all }, experiment))
    }
}
