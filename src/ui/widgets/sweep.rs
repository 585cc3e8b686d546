//! A tooltip that stays open while the pointer sweeps from one thing to the next, and swaps its contents.
//!
//! Knows times and places; not what it tells.

use egui::{Id, Rect, Tooltip, Ui};

/// Seconds for which the pointer rests on the first thing.
const DELAY: f64 = 0.4;

/// Seconds between two things in which it does not close.
const GRACE: f64 = 0.3;

/// Widest contents.
const WIDTH: f32 = 290.0;

/// Since when the pointer is on things.
#[derive(Debug, Default)]
pub struct Sweep {
    /// When it came.
    since: Option<f64>,
    /// When it left the last one, while it is on none.
    left: Option<f64>,
}

impl Sweep {
    /// How long it takes until the tooltip is due, at `now`; `None` while the pointer is on nothing.
    fn wait(&mut self, now: f64, over: bool) -> Option<f64> {
        if !over {
            self.left = self.left.or(Some(now));
            return None;
        }
        if self.left.take().is_some_and(|left| now - left > GRACE) {
            self.since = None;
        }
        let since = *self.since.get_or_insert(now);
        Some((DELAY - (now - since)).max(0.0))
    }

    /// Shows `contents` beside `over`, which the pointer is on, if it is on anything. `owner`: the widget that it is
    /// about.
    pub fn show(&mut self, ui: &Ui, owner: Id, over: Option<Rect>, contents: impl FnOnce(&mut Ui)) {
        let (now, pressed) = ui.input(|i| (i.time, i.pointer.any_down()));
        let over = over.filter(|_| !pressed);
        let (Some(wait), Some(rect)) = (self.wait(now, over.is_some()), over) else { return };
        if wait > 0.0 {
            ui.ctx().request_repaint_after_secs(wait as f32);
            return;
        }
        // Its own name: those of the owner's parts are made of the owner's, as a tooltip's is.
        let owner = owner.with("sweep");
        let mut tooltip = Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), owner, rect).width(WIDTH);
        // What lies under it can be pointed at all the same.
        tooltip.popup = tooltip.popup.interactable(false);
        tooltip.show(|ui| {
            ui.set_max_width(WIDTH);
            contents(ui);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_a_rest_and_stays_over_gaps() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.wait(0.0, false), None);
        assert_eq!(sweep.wait(1.0, true), Some(DELAY));
        assert_eq!(sweep.wait(1.5, true), Some(0.0));
        assert_eq!(sweep.wait(1.6, false), None);
        assert_eq!(sweep.wait(1.8, true), Some(0.0), "a gap between two words");
        assert_eq!(sweep.wait(2.0, false), None);
        assert_eq!(sweep.wait(3.0, true), Some(DELAY), "it was elsewhere");
    }
}
