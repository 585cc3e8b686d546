//! What the window asks of the inference thread, and what it is told. docs/protocol.md has the story.
//!
//! Plain data, except for a [`Row`]'s `resident`, which keeps attention on the GPU when the model runs on the
//! window's own device. An event reports; it never asks for anything.

use std::{path::PathBuf, sync::Arc};

use image::RgbImage;

use crate::{
    checkpoint::weights::WeightDtype,
    device::{address::Address, shared::ResidentRow},
    progress::Progress,
    spec::{experiment::Experiment, picture::ImageSource, study::Study},
    studies::survey::{
        record::{Header, Measured},
        settings::Settings,
    },
    trace::{
        finding::Finding,
        geometry::Geometry,
        pattern::PatternRow,
        report::{Effect, End, Start},
        run::ModelInfo,
        tokens::{AnswerToken, PromptToken},
    },
};

/// Names a run, so that late events of a superseded one can be told apart. Grows.
pub type RunId = u64;

/// A place on screen for a run: of two runs for one slot only the later is wanted.
pub type Slot = u32;

/// Widest and highest picture that the window is given to draw.
pub const PICTURE_SIDE: u32 = 2048;

/// What the window asks for.
#[derive(Debug)]
pub enum Request {
    /// Load another model folder; the image is kept.
    LoadModel(PathBuf),
    /// Where models run from the next one that is loaded on: on another machine, or on this one. A connection that
    /// broke is made anew then, too.
    Place(Option<Address>),
    /// Open an image and encode it.
    OpenImage(ImageSource),
    /// Run an experiment. Its images are opened and encoded if they are not at hand.
    Run {
        /// Name of the run.
        id: RunId,
        /// What it is for.
        slot: Slot,
        /// What to run.
        experiment: Box<Experiment>,
    },
    /// Stop whatever goes on, loading and encoding included, and forget what waits; studies of runs too, those over
    /// images not. What was there stays; a run's part of an answer arrives as [`Event::Done`].
    Cancel,
    /// Whether a hand rests on what is being changed. While one does, a run stops after its scores: the new answer
    /// begins when the hand lets go.
    Hold(bool),
    /// Find something out, whenever nothing else is to be done: step by step, so that runs come in between. It takes
    /// the place of an earlier one of its kind.
    Study {
        /// Name of the study; from the same numbers as those of runs.
        id: RunId,
        /// The run that it is about.
        base: Box<Experiment>,
        /// What to find out.
        study: Box<Study>,
    },
    /// Go through images with a study, one image at a time, whenever not even a study of a run is to be done. It takes
    /// the place of an earlier one.
    Survey {
        /// Name of the study; from the same numbers as those of runs.
        id: RunId,
        /// What to do.
        survey: Box<Survey>,
    },
    /// Give a study up. What it found stays.
    Drop(RunId),
    /// Read a mask: of the pixels of the image on show that are an object.
    Mark(PathBuf),
}

/// A study over images.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Which one, by its name in [`kinds`](crate::studies::survey::kinds).
    pub kind: &'static str,
    /// What was chosen.
    pub settings: Settings,
    /// Its images.
    pub over: Over,
    /// Names of those that were measured before.
    pub done: Vec<String>,
}

/// Which images a study goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// One, with the objects that are known on it: that of the mask that was read of it, or those of its folder.
    Image(PathBuf),
    /// Those of a folder.
    Folder {
        /// The folder.
        dir: PathBuf,
        /// At most so many, the first by name.
        limit: Option<usize>,
    },
}

/// What the worker tells.
#[derive(Debug)]
pub enum Event {
    /// Something long is going on.
    Progress(Progress),
    /// Nothing goes on any more.
    Idle,
    /// How it stands with the device elsewhere.
    Connection(Connection),
    /// A model is ready.
    Model(ModelView),
    /// An image was opened, or another model sees the open one otherwise.
    Image(ImageView),
    /// A run began; its prompt is known.
    Started {
        /// Name of the run.
        id: RunId,
        /// Prompt positions.
        prompt: Vec<PromptToken>,
        /// Words of the prompt that the tokenizer does not know.
        unknown_words: Vec<String>,
    },
    /// An intervention's uncut answer was scored under it: its tokens follow.
    Scoring {
        /// Name of the run.
        id: RunId,
        /// Where the run started.
        start: Option<Start>,
    },
    /// One token of the uncut answer as the intervention scores it.
    Scored {
        /// Name of the run.
        id: RunId,
        /// The token.
        token: AnswerToken,
        /// What the intervention did to it.
        effect: Effect,
        /// The attention that predicted it, if it was kept.
        row: Option<Row>,
    },
    /// One more token of the answer.
    Token {
        /// Name of the run.
        id: RunId,
        /// The token.
        token: AnswerToken,
        /// The attention that predicted it.
        row: ToldRow,
    },
    /// A study found something.
    Found {
        /// Name of the study.
        id: RunId,
        /// What.
        finding: Finding,
        /// Steps done, and steps in all.
        steps: (usize, usize),
    },
    /// The images of a study over images are known: all of them, those that were measured before too.
    SurveyBegun {
        /// Name of the study.
        id: RunId,
        /// Their files, in order.
        images: Vec<PathBuf>,
    },
    /// A study over images measured one more.
    SurveyImage {
        /// Name of the study.
        id: RunId,
        /// What it gave.
        measured: Box<Measured>,
    },
    /// A study over images measured all of them.
    SurveyDone {
        /// Name of the study.
        id: RunId,
        /// Of what these are the measurements.
        header: Box<Header>,
    },
    /// A study of a run found everything; or any study was given up.
    Studied {
        /// Name of the study.
        id: RunId,
        /// Whether it came to its end.
        whole: bool,
    },
    /// A mask was read: an object of the image on show.
    Marked {
        /// The image.
        source: ImageSource,
        /// The object.
        object: ObjectView,
    },
    /// A run ended, or was cancelled: what its tokens did not tell yet.
    Done {
        /// Name of the run.
        id: RunId,
        /// How it ended.
        end: Box<End>,
    },
    /// Something was stopped before there was anything to show; everything that was there before still is.
    Stopped {
        /// The run, when it was one.
        id: Option<RunId>,
    },
    /// Something went wrong; everything that was there before still is.
    Failed {
        /// The run or study, when it was one.
        id: Option<RunId>,
        /// What was wrong, where, and what to do.
        error: String,
    },
}

impl Event {
    /// Whether it is one of many that come one after another: what matters is the last.
    pub fn streams(&self) -> bool {
        matches!(
            self,
            Event::Progress(_)
                | Event::Scored { .. }
                | Event::Token { .. }
                | Event::Found { .. }
                | Event::SurveyImage { .. }
        )
    }
}

/// How it stands with a device elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It is being called.
    Calling,
    /// It answered.
    Up,
    /// Nobody answered, or what stood broke.
    Down,
}

/// A loaded model, as the window needs to know it.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// What it is.
    pub info: ModelInfo,
    /// Where it runs, in words.
    pub device: String,
    /// Number format of its weights.
    pub dtype: WeightDtype,
    /// Which format holds what, in words.
    pub formats: String,
    /// Weights that were accepted and not used, by key.
    pub unused: Vec<String>,
    /// Where it was loaded from.
    pub folder: PathBuf,
    /// Whether it is the one that ships with the program, which knows its scenes and nothing else.
    pub bundled: bool,
}

/// An opened image and how the model sees it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// Where it comes from; names it.
    pub source: ImageSource,
    /// Upright, on white, and small enough to be drawn: at most [`PICTURE_SIDE`] pixels wide and high. The model
    /// gets the image whole; `geometry` has its size.
    pub picture: Arc<RgbImage>,
    /// Its views, and what every visual token shows.
    pub geometry: Geometry,
    /// What was done to it, in words: "640x427, resized to 192x192".
    pub description: String,
    /// What goes into the encoder, one picture a view in the geometry's order: resized, cropped and padded as the
    /// model sees it, before its levels are normalised.
    pub views: Vec<Arc<RgbImage>>,
    /// What is known to be on it, where it lies in a folder of scenes or is named in COCO annotations beside it;
    /// `None` of any other image.
    pub objects: Option<Vec<ObjectView>>,
}

/// An object that is known to be on an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectView {
    /// Its class, as an answer names it; of a mask that someone gave, the file's name.
    pub name: String,
    /// Visual tokens that show it, by their number among those of the image, ascending.
    pub patches: Vec<usize>,
    /// The border of its mask: `[x0, y0, x1, y1]` each, in pixels of the source image, along pixels' edges.
    pub outline: Arc<[[f32; 4]]>,
}

/// The attention that predicted one token.
#[derive(Clone, Debug)]
pub struct Row {
    /// The numbers.
    pub pattern: PatternRow,
    /// The same where they lie on the window's device, if they do.
    pub resident: Option<ResidentRow>,
}

/// What is told of a token's attention: every row once.
#[derive(Clone, Debug)]
pub enum ToldRow {
    /// It is not kept.
    Nothing,
    /// That of the scored token at the same place.
    AsScored,
    /// A new one.
    New(Row),
}
