//! All views. Adding one: its file, its line in [`ViewId`](crate::ui::store::view_id::ViewId) and the one in [`open`].
//!
//! Knows views by name; not where they stand.

use crate::ui::{
    store::view_id::ViewId,
    view::{
        compress::CompressView, cuts::view::CutView, effects::view::EffectsView, flow::view::FlowView,
        heads::view::HeadsView, image::view::ImagePane, layers::LayersView, lens::view::LensView, pane::View,
        question::view::QuestionView, runs::view::AnswerView, studies::view::StudiesView,
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
        ViewId::Studies => Box::<StudiesView>::default(),
    }
}
