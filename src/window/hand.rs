//! Whether a hand rests on what is being changed: a cut that is dragged is scored while it moves, and answered anew when
//! the hand lets go.
//!
//! Knows the pointer and which commands cut; sends nothing.

use egui::Context;

use crate::{ui::store::command::Command, worker::protocol::Request};

/// See the module.
#[derive(Debug, Default)]
pub struct Hand {
    rests: bool,
}

impl Hand {
    /// A command is about to be done. Returns what to tell the worker first.
    pub fn rests_on(&mut self, ctx: &Context, command: &Command) -> Option<Request> {
        let down = command.cuts() && ctx.input(|i| i.pointer.primary_down());
        (down && !std::mem::replace(&mut self.rests, true)).then_some(Request::Hold(true))
    }

    /// A frame is over. Returns what to tell the worker where the hand let go, or the window lost the pointer.
    pub fn lets_go(&mut self, ctx: &Context) -> Option<Request> {
        let down = ctx.input(|i| i.pointer.primary_down() && i.focused);
        (!down && std::mem::take(&mut self.rests)).then_some(Request::Hold(false))
    }
}

#[cfg(test)]
mod tests {
    use egui::{Event, Modifiers, PointerButton, RawInput, pos2};

    use super::*;

    /// A frame in which the button goes down or up, or nothing happens.
    fn frame(ctx: &Context, pressed: Option<bool>, focused: bool) {
        let button = |pressed| Event::PointerButton {
            pos: pos2(5.0, 5.0),
            button: PointerButton::Primary,
            pressed,
            modifiers: Modifiers::NONE,
        };
        let input =
            RawInput { events: pressed.map(button).into_iter().collect(), focused, ..Default::default() };
        ctx.run_ui(input, |_| {}).textures_delta.clear();
    }

    #[test]
    fn a_hand_rests_from_the_first_cut_of_a_drag_until_it_lets_go() {
        let (mut hand, ctx) = (Hand::default(), Context::default());
        let cut = Command::CutLayers(0, 2);
        frame(&ctx, None, true);
        assert!(hand.rests_on(&ctx, &cut).is_none(), "by keyboard");
        frame(&ctx, Some(true), true);
        assert!(hand.rests_on(&ctx, &Command::Layer(1)).is_none(), "no cut");
        assert!(matches!(hand.rests_on(&ctx, &cut), Some(Request::Hold(true))));
        assert!(hand.rests_on(&ctx, &cut).is_none(), "told once");
        assert!(hand.lets_go(&ctx).is_none());
        frame(&ctx, Some(false), true);
        assert!(matches!(hand.lets_go(&ctx), Some(Request::Hold(false))));
        assert!(hand.lets_go(&ctx).is_none());
        frame(&ctx, Some(true), true);
        assert!(hand.rests_on(&ctx, &cut).is_some());
        frame(&ctx, None, false);
        assert!(hand.lets_go(&ctx).is_some(), "the window lost the pointer");
    }
}
