//! The images on show.
//!
//! Knows them as the worker tells of them; nothing of textures.

use crate::{spec::picture::ImageSource, worker::protocol::ImageView};

/// The images of the prompt, in order. There is one so far.
#[derive(Debug, Default)]
pub struct Images {
    views: Vec<ImageView>,
    serial: u64,
}

impl Images {
    /// The one on show.
    pub fn current(&self) -> Option<&ImageView> {
        self.views.first()
    }

    /// Where it comes from.
    pub fn source(&self) -> Option<&ImageSource> {
        self.current().map(|view| &view.source)
    }

    /// Grows with every new view, so that textures know when to follow.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Takes the place of what was on show.
    pub fn put(&mut self, view: ImageView) {
        self.views = vec![view];
        self.serial += 1;
    }
}
