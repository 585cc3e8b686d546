//! The images on show, and those of the runs that are kept.
//!
//! Knows them as the worker tells of them; nothing of textures.

use crate::{
    spec::picture::ImageSource,
    worker::protocol::{ImageView, ObjectView},
};

/// Images that are held at a time.
const HELD: usize = 12;

/// An image and its serial number, which no other view of any image has: textures follow it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The image.
    pub view: ImageView,
    /// Its number.
    pub serial: u64,
}

/// The image that is asked about, and those that were.
#[derive(Debug, Default)]
pub struct Images {
    /// The last one on show last.
    held: Vec<Held>,
    serial: u64,
}

impl Images {
    /// The one on show.
    pub fn current(&self) -> Option<&ImageView> {
        self.held.last().map(|held| &held.view)
    }

    /// The one on show, with its number.
    pub fn last(&self) -> Option<&Held> {
        self.held.last()
    }

    /// Where it comes from.
    pub fn source(&self) -> Option<&ImageSource> {
        self.current().map(|view| &view.source)
    }

    /// An image by where it comes from.
    pub fn get(&self, source: &ImageSource) -> Option<&Held> {
        self.held.iter().find(|held| held.view.source == *source)
    }

    /// Puts a view on show. One of the same image is told anew.
    pub fn put(&mut self, view: ImageView) {
        self.held.retain(|held| held.view.source != view.source);
        self.serial += 1;
        self.held.push(Held { view, serial: self.serial });
        if self.held.len() > HELD {
            self.held.remove(0);
        }
    }

    /// Puts one that is held on show again. Returns whether there is such a one.
    pub fn show(&mut self, source: &ImageSource) -> bool {
        let at = self.held.iter().position(|held| held.view.source == *source);
        at.map(|at| self.held[at..].rotate_left(1)).is_some()
    }

    /// Takes in an object of an image.
    pub fn mark(&mut self, source: &ImageSource, object: ObjectView) {
        if let Some(held) = self.held.iter_mut().find(|held| held.view.source == *source) {
            let objects = held.view.objects.get_or_insert_default();
            objects.retain(|other| other.name != object.name);
            objects.push(object);
        }
    }

    /// Forgets all but the one on show: another model sees the others otherwise.
    pub fn forget_others(&mut self) {
        let keep = self.held.len().saturating_sub(1);
        self.held.drain(..keep);
    }
}
