//! A view's title and its room: a slim line that can be dragged, and a body that scrolls by itself.
//!
//! Knows no view.

use egui::{Align, Label, Layout, Margin, RichText, ScrollArea, Sense, Ui, scroll_area::ScrollBarVisibility};

use crate::ui::frame::Frame;

/// Room around what a view draws.
const MARGIN: Margin = Margin { left: 10, right: 10, top: 6, bottom: 4 };

/// A view's title, small and quiet, with room for more on its line. Dragging it moves the view.
pub fn section(ui: &mut Ui, title: &str, frame: &mut Frame, more: impl FnOnce(&mut Ui, &mut Frame)) {
    ui.horizontal(|ui| {
        title_label(ui, title, frame);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| more(ui, frame));
    });
}

/// The title alone.
pub fn title_label(ui: &mut Ui, title: &str, frame: &mut Frame) {
    let label = Label::new(RichText::new(title).heading()).selectable(false).truncate();
    // Nothing to do by keyboard: no stop of the Tab key.
    let label = label.sense(Sense::CLICK | Sense::DRAG | Sense::HOVER);
    // Where the button is up again by now, nothing would ever end the drag.
    if ui.add(label).drag_started() && ui.input(|i| i.pointer.primary_down()) {
        frame.drag_title();
    }
}

/// A view's room. It scrolls by itself, so that nothing outside moves when its contents grow; `body` is told
/// how high the room is.
pub fn scrolling(ui: &mut Ui, name: &str, body: impl FnOnce(&mut Ui, f32)) {
    egui::Frame::new().inner_margin(MARGIN).show(ui, |ui| {
        let height = ui.available_height();
        let scroll = ScrollArea::vertical().id_salt(name).auto_shrink([false, false]);
        // Its bar has its room whether it is needed or not: nothing moves aside when it is.
        let scroll = scroll.scroll_bar_visibility(ScrollBarVisibility::AlwaysVisible);
        scroll.show(ui, |ui| body(ui, height));
    });
}

/// A view's room that does not scroll.
pub fn still(ui: &mut Ui, body: impl FnOnce(&mut Ui)) {
    egui::Frame::new().inner_margin(MARGIN).show(ui, body);
}
