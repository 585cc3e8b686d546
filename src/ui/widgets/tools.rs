//! What the pointer does on the image: look, brush, box, wipe; how wide the brush is, and what paint becomes.
//!
//! Knows settings; nothing of pictures.

use egui::{Button, ComboBox, DragValue, Response, Ui, vec2};

use crate::ui::{
    frame::Frame,
    store::{
        command::{Command, listed},
        cut_list::PaintRole,
        settings::Tool,
        store::Store,
    },
};

/// Width of a column of tools.
pub const WIDTH: f32 = 84.0;

/// Height of a column of tools with everything in it.
pub const HEIGHT: f32 = 236.0;

/// What the tools of one view are set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToolSettings {
    /// Width of the brush, in patches.
    pub width: f32,
    /// Whether the magnifier follows the pointer without a key held.
    pub lens: bool,
}

impl Default for ToolSettings {
    fn default() -> Self {
        ToolSettings { width: 1.0, lens: false }
    }
}

/// Draws them, in the direction that `ui` has.
pub fn tools(ui: &mut Ui, store: &Store, settings: &mut ToolSettings, frame: &mut Frame) {
    ui.spacing_mut().item_spacing = vec2(4.0, 4.0);
    for tool in Tool::ALL {
        let button = ui.add(wide(Button::selectable(store.tool == tool, tool.name())));
        frame.place(format!("tool {}", tool.name()), button.rect);
        if explained(button, &Command::Tool(tool)).clicked() {
            frame.ask(Command::Tool(tool));
        }
    }
    let lens = ui.add(wide(Button::selectable(settings.lens, "magnify")));
    let lens = lens
        .on_hover_text("Patches around the pointer with their numbers; or hold Z, or Shift while looking");
    if lens.clicked() {
        settings.lens = !settings.lens;
    }
    if store.tool != Tool::Look {
        paint(ui, store, settings, frame);
    }
}

/// A button of the width of the column.
fn wide(button: Button<'_>) -> Button<'_> {
    button.frame_when_inactive(true).min_size(vec2(WIDTH - 14.0, 24.0))
}

/// With the tooltip that the list of commands has.
fn explained(button: Response, command: &Command) -> Response {
    match listed().iter().find(|listed| listed.command == *command) {
        Some(listed) => button.on_hover_text(listed.hover_text()),
        None => button,
    }
}

/// The brush, and what it paints.
fn paint(ui: &mut Ui, store: &Store, settings: &mut ToolSettings, frame: &mut Frame) {
    if store.tool != Tool::Box {
        let width = DragValue::new(&mut settings.width).range(1.0..=16.0).speed(0.05).max_decimals(1);
        ui.add(width.prefix("width "))
            .accessible_name("brush width")
            .on_hover_text("Width of the brush, in patches");
    }
    let (role, rings) = (store.cut.role, store.cut.rings);
    let roles = ComboBox::from_id_salt("paint as").width(WIDTH - 14.0).selected_text(role.name()).truncate();
    let roles = roles.show_ui(ui, |ui| {
        for choice in PaintRole::ALL {
            let label = ui.selectable_label(role == choice, choice.name()).on_hover_text(choice.tooltip());
            if label.clicked() && role != choice {
                frame.ask(Command::PaintAs(choice, rings));
            }
        }
    });
    roles.response.accessible_name("painted patches become").on_hover_text(role.tooltip());
    if !role.is_only_selected() {
        let mut grown = rings;
        let drag = DragValue::new(&mut grown).range(0..=16).speed(0.05).prefix("rings ");
        ui.add(drag)
            .accessible_name("rings")
            .on_hover_text("By how many rings of patches around them painted patches are grown");
        if grown != rings {
            frame.ask(Command::PaintAs(role, grown));
        }
    }
}
