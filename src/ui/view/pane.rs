//! What a view is.
//!
//! A view shows the store and asks for commands; it changes neither the store nor what another view shows.
//! What it keeps between frames is its own.

use egui::Ui;

use crate::ui::{frame::Frame, store::store::Store};

/// A view.
pub trait View {
    /// Its title, where several views share a place.
    fn title(&self, store: &Store) -> String;

    /// Draws it.
    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame);
}
