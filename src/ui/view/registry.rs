//! All views. Adding one: its file, its line in [`ViewId`](crate::ui::store::view_id::ViewId) and the one in [`open`].
//!
//! Knows views by name; not where they stand.

use crate::ui::{
    store::view_id::ViewId,
    view::{
        answer::AnswerView, compress::CompressView, cut::CutView, effects::EffectsView, flow::FlowView,
        heads::HeadsView, image::ImagePane, layers::LayersView, lens::LensView, pane::View,
        question::QuestionView,
    },
};

/// Makes a view.
pub fn open(id: ViewId) -> Box<dyn View> {
    match id {
        ViewId::Image => Box::<ImagePane>::default(),
        ViewId::Question => Box::<QuestionView>::default(),
        ViewId::Answer => Box::<AnswerView>::default(),
        ViewId::Flow => Box::<FlowView>::default(),
        ViewId::Cut => Box::<CutView>::default(),
        ViewId::Layers => Box::<LayersView>::default(),
        ViewId::Heads => Box::<HeadsView>::default(),
        ViewId::Lens => Box::<LensView>::default(),
        ViewId::Effects => Box::<EffectsView>::default(),
        ViewId::Compress => Box::<CompressView>::default(),
    }
}
