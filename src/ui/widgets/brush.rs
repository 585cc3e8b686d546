//! A hand that selects patches on a picture: a brush along the whole way of the pointer, or a box.
//!
//! Places are shares of the picture, so that zooming under a held brush moves nothing. Asks for patches to be painted or
//! wiped; knows nothing of what they become.

use std::{collections::BTreeSet, sync::Arc};

use egui::{Rect, Stroke, StrokeKind, Ui};

use crate::ui::{
    frame::Frame,
    store::{command::Command, settings::Tool},
    theme,
    widgets::{
        lattice::Shown,
        outline::{at, on, place_of},
        picture::Pointed,
    },
};

/// What the hand holds.
#[derive(Debug, Default)]
pub struct Brush {
    grip: Option<Grip>,
}

/// A press that lasts.
#[derive(Debug)]
struct Grip {
    shown: Arc<Shown>,
    image: Rect,
    /// Whether a box is drawn, not a way.
    boxed: bool,
    add: bool,
    width: f32,
    start: [f32; 2],
    last: [f32; 2],
    /// What this stroke has painted or wiped: it is not asked for twice.
    done: BTreeSet<usize>,
}

impl Grip {
    /// The pointer is there now. Returns what it came to touch.
    fn go(&mut self, to: [f32; 2]) -> Vec<usize> {
        let from = std::mem::replace(&mut self.last, to);
        if self.boxed {
            return Vec::new();
        }
        let touched = self.shown.stroke(from, to, self.width);
        touched.into_iter().filter(|number| self.done.insert(*number)).collect()
    }

    /// What letting go selects.
    fn end(&self) -> Vec<usize> {
        if self.boxed { self.shown.boxed(self.start, self.last) } else { Vec::new() }
    }
}

impl Brush {
    /// Whether the hand holds on to a picture.
    pub fn holds(&self) -> bool {
        self.grip.is_some()
    }

    /// Follows the pointer over a picture, or over none. `width`: of the brush, in patches.
    pub fn follow(&mut self, ui: &Ui, pointed: Option<&Pointed>, tool: Tool, width: f32, frame: &mut Frame) {
        let (down, pointer) = ui.input(|i| (i.pointer.primary_down(), i.pointer.interact_pos()));
        if self.grip.is_none() && down {
            self.grip =
                pointed.filter(|_| tool != Tool::Look).and_then(|pointed| press(ui, pointed, tool, width));
        }
        let Some(grip) = &mut self.grip else { return };
        if let Some(pointed) = pointed.filter(|pointed| Arc::ptr_eq(&pointed.shown, &grip.shown)) {
            grip.image = pointed.image;
        }
        let mut patches = pointer.map(|pos| grip.go(place_of(pos, grip.image))).unwrap_or_default();
        let add = grip.add;
        if down {
            show(ui, grip);
        } else {
            patches.extend(grip.end());
            self.grip = None;
        }
        if !patches.is_empty() {
            frame.ask(Command::Paint { patches, add });
        }
    }
}

/// The hand takes hold, if it is this picture that was pressed.
fn press(ui: &Ui, pointed: &Pointed, tool: Tool, width: f32) -> Option<Grip> {
    let here = pointed.response.is_pointer_button_down_on() && !pointed.moving;
    let pos = ui.input(|i| i.pointer.press_origin().or(i.pointer.interact_pos())).filter(|_| here)?;
    let start = place_of(pos, pointed.image);
    Some(Grip {
        shown: pointed.shown.clone(),
        image: pointed.image,
        boxed: tool == Tool::Box,
        add: tool != Tool::Wipe && !ui.input(|i| i.modifiers.shift),
        width,
        start,
        last: start,
        done: BTreeSet::new(),
    })
}

/// The box that is being drawn.
fn show(ui: &Ui, grip: &Grip) {
    if grip.boxed {
        let place = Rect::from_two_pos(at(grip.start, grip.image), at(grip.last, grip.image));
        let painter = ui.painter().with_clip_rect(grip.image.intersect(ui.clip_rect()));
        painter.rect_stroke(place, 0.0, Stroke::new(3.0, theme::AROUND), StrokeKind::Middle);
        painter.rect_stroke(place, 0.0, Stroke::new(1.5, theme::cut_color(ui.visuals())), StrokeKind::Middle);
    }
}

/// How large the brush is, drawn where it would paint.
pub fn preview(ui: &Ui, pointed: &Pointed, tool: Tool, width: f32) {
    let Some(pos) = pointed.response.hover_pos().filter(|_| matches!(tool, Tool::Brush | Tool::Wipe)) else {
        return;
    };
    let rect = pointed.patch.and_then(|number| pointed.shown.rect(number));
    if let Some(rect) = rect.filter(|_| width > 1.0) {
        let radius = on(rect, pointed.image).size().min_elem() * width / 2.0;
        let painter = ui.painter().with_clip_rect(pointed.image.intersect(ui.clip_rect()));
        painter.circle_stroke(pos, radius, Stroke::new(2.5, theme::AROUND.gamma_multiply(0.6)));
        painter.circle_stroke(pos, radius, Stroke::new(1.0, theme::ON_DARK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        trace::geometry::{Geometry, Grid, Place, View},
        ui::widgets::lattice::Sight,
    };

    fn grip(boxed: bool) -> Grip {
        let grid = Grid { rows: 4, cols: 4 };
        let view = View { place: Place::Whole, rect: [0.0, 0.0, 40.0, 40.0], grid, lead: 0 };
        let geometry = Geometry { source: (40, 40), rows: 0, cols: 0, views: vec![view] };
        Grip {
            shown: Arc::new(Shown::of(&geometry, Sight::Tiles)),
            image: Rect::ZERO,
            boxed,
            add: true,
            width: 1.0,
            start: [0.1, 0.1],
            last: [0.1, 0.1],
            done: BTreeSet::new(),
        }
    }

    #[test]
    fn a_fast_brush_skips_nothing_and_asks_for_nothing_twice() {
        let mut grip = grip(false);
        assert_eq!(grip.go([0.1, 0.1]), [0]);
        assert_eq!(grip.go([0.9, 0.1]), [1, 2, 3]);
        assert_eq!(grip.go([0.4, 0.1]), [0; 0]);
        assert_eq!(grip.go([0.4, 0.9]), [5, 9, 13]);
        assert!(grip.end().is_empty());
    }

    #[test]
    fn a_box_selects_when_the_hand_lets_go() {
        let mut grip = grip(true);
        assert!(grip.go([0.9, 0.9]).is_empty() && grip.go([0.3, 0.4]).is_empty());
        assert_eq!(grip.end(), [0, 1, 4, 5]);
    }
}
