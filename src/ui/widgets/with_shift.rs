//! Whether Shift was held when the pointer's button moved, rather than at the end of a frame that took long.
//!
//! Knows events.

use egui::{Event, Ui};

/// Whether the press or release of this frame came with Shift; without one, whether Shift is held.
pub fn with_shift(ui: &Ui) -> bool {
    ui.input(|i| {
        let button = i.events.iter().rev().find_map(|event| match event {
            Event::PointerButton { modifiers, .. } => Some(modifiers.shift),
            _ => None,
        });
        button.unwrap_or(i.modifiers.shift)
    })
}
