//! Stub.
use egui::Ui;
use crate::ui::{frame::Frame, store::store::Store, view::pane::View};
/// Stub.
#[derive(Default)]
pub struct LensView;
impl View for LensView {
    fn title(&self, _store: &Store) -> String { String::new() }
    fn show(&mut self, _ui: &mut Ui, _store: &Store, _frame: &mut Frame) {}
}
