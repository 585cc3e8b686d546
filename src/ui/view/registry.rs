//! All views. Adding one: its file, its line in [`ViewId`] and the one in [`open`].
//!
//! Knows views by name; not where they stand.

use serde::{Deserialize, Serialize};

use crate::ui::view::{
    answer::AnswerView, cut::CutView, flow::FlowView, image::ImagePane, pane::View, question::QuestionView,
};

/// Names a view, in files too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewId {
    /// The image, the map over it and its controls.
    Image,
    /// The question and the spans of the prompt.
    Question,
    /// Both answers, word by word.
    Answer,
    /// Attention by span, layer by layer, and the layer range.
    Flow,
    /// What is cut, and the proof that it is.
    Cut,
}

impl ViewId {
    /// All of them.
    pub const ALL: [ViewId; 5] = [ViewId::Image, ViewId::Question, ViewId::Answer, ViewId::Flow, ViewId::Cut];
}

/// Makes a view.
pub fn open(id: ViewId) -> Box<dyn View> {
    match id {
        ViewId::Image => Box::<ImagePane>::default(),
        ViewId::Question => Box::<QuestionView>::default(),
        ViewId::Answer => Box::<AnswerView>::default(),
        ViewId::Flow => Box::<FlowView>::default(),
        ViewId::Cut => Box::<CutView>::default(),
    }
}
