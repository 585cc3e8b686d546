//! What a view is.
//!
//! A view shows the store and asks for commands; it changes neither the store nor what another view shows.
//! What it keeps between frames is its own.

use egui::Ui;

use crate::{
    trace::offer::Offer,
    ui::{frame::Frame, store::store::Store},
};

/// A view.
pub trait View {
    /// Its title, where several views share a place.
    fn title(&self, store: &Store) -> String;

    /// Draws it.
    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame);

    /// What it shows now, as data for others: the first that has a form is what is exported in that form.
    fn offers(&mut self, _store: &Store) -> Vec<Offer> {
        Vec::new()
    }
}
