//! What the user wants and has not got yet: an image, a model, an answer about them.
//!
//! Events report what is there; only what is wanted here turns them into requests. Nothing is wanted after a
//! cancel, so whatever still arrives then is taken as it comes and asks for nothing.

use crate::{spec::picture::ImageSource, worker::protocol::Request};

/// See the module.
#[derive(Debug, Default)]
pub struct Wanted {
    /// An image or a model is on its way.
    loading: bool,
    /// The image that is to be opened.
    image: Option<ImageSource>,
    /// It may never come: something failed or was stopped since it was asked for.
    lost: bool,
    /// What comes is to be asked about.
    ask: bool,
}

/// What an image that arrived is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// What the user waits for.
    Wanted,
    /// The one on show, seen otherwise; or the first.
    Told,
    /// One that nobody waits for any more.
    Unwanted,
}

impl Wanted {
    /// Whether an image or a model is on its way.
    pub fn loading(&self) -> bool {
        self.loading
    }

    /// The user opened an image.
    pub fn open(&mut self, source: ImageSource) {
        *self = Wanted { loading: true, image: Some(source), lost: false, ask: true };
    }

    /// The user opened a model.
    pub fn load(&mut self) {
        (self.loading, self.ask) = (true, true);
    }

    /// The user asked while something is on its way.
    pub fn ask(&mut self) {
        self.ask = true;
    }

    /// The user wants nothing any more.
    pub fn cancel(&mut self) {
        *self = Wanted::default();
    }

    /// Something that was to be loaded cannot be.
    pub fn failed(&mut self) {
        (self.loading, self.lost) = (false, true);
    }

    /// Something that was to be loaded was superseded.
    pub fn stopped(&mut self) {
        self.lost = true;
    }

    /// A model came. Returns the request for an image that it could not be opened for, or that it
    /// superseded.
    pub fn model(&mut self, has_image: bool) -> Option<Request> {
        if self.image.is_none() {
            // The image on show comes again, as this model sees it.
            self.loading &= has_image;
            return None;
        }
        let again = self.image.clone().filter(|_| self.lost)?;
        (self.loading, self.lost) = (true, false);
        Some(Request::OpenImage(again))
    }

    /// An image came while `shown` is on show.
    pub fn image(&mut self, source: &ImageSource, shown: Option<&ImageSource>) -> Arrival {
        let told = shown.is_none_or(|shown| shown == source);
        match &self.image {
            Some(wanted) if wanted == source => {}
            None if self.loading => {}
            _ if told => return Arrival::Told,
            _ => return Arrival::Unwanted,
        }
        (self.loading, self.image, self.lost) = (false, None, false);
        Arrival::Wanted
    }

    /// Whether an answer is due now that everything is there; it is not due again.
    pub fn take_ask(&mut self) -> bool {
        std::mem::take(&mut self.ask)
    }
}
