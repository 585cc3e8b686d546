//! Gives the pointer's deeds to egui one at a time.
//!
//! egui decides what is under the pointer once a frame, where the pointer is at its end. On a slow machine press,
//! move and release fall into one frame, and a quick flick of a handle would be no deed at all. Here what follows
//! a press, and a release that follows a move, waits for the next frame. Knows events; nothing of what they mean.

use std::collections::VecDeque;

use egui::{Context, Event, RawInput};

/// See the module.
#[derive(Debug, Default)]
pub struct Unhurried {
    waiting: VecDeque<Event>,
}

impl Unhurried {
    /// Leaves one frame's worth of events in `input`; asks for another frame if some wait.
    pub fn take(&mut self, ctx: &Context, input: &mut RawInput) {
        self.waiting.extend(input.events.drain(..));
        input.events = self.next();
        if !self.waiting.is_empty() {
            ctx.request_repaint();
        }
    }

    fn next(&mut self) -> Vec<Event> {
        let (mut now, mut moved) = (Vec::new(), false);
        while let Some(event) = self.waiting.pop_front() {
            match &event {
                Event::PointerButton { pressed: false, .. } if moved => {
                    self.waiting.push_front(event);
                    break;
                }
                Event::PointerMoved(_) => moved = true,
                _ => {}
            }
            let press = matches!(event, Event::PointerButton { .. });
            // What a shortcut opens has the keys that follow it.
            let shortcut = matches!(&event, Event::Key { pressed: true, modifiers, .. } if modifiers.command);
            now.push(event);
            if shortcut {
                break;
            }
            if press && self.waiting.iter().any(is_pointer) {
                break;
            }
        }
        now
    }
}

fn is_pointer(event: &Event) -> bool {
    matches!(event, Event::PointerMoved(_) | Event::PointerButton { .. } | Event::PointerGone)
}

#[cfg(test)]
mod tests {
    use egui::{Modifiers, PointerButton, Pos2, pos2};

    use super::*;

    fn button(pos: Pos2, pressed: bool) -> Event {
        Event::PointerButton { pos, button: PointerButton::Primary, pressed, modifiers: Modifiers::NONE }
    }

    /// What each of the following frames gets.
    fn frames(events: Vec<Event>) -> Vec<Vec<Event>> {
        let mut unhurried = Unhurried { waiting: events.into() };
        std::iter::from_fn(|| (!unhurried.waiting.is_empty()).then(|| unhurried.next())).collect()
    }

    #[test]
    fn a_flick_takes_three_frames() {
        let (a, b) = (pos2(1.0, 1.0), pos2(90.0, 1.0));
        let flick = [Event::PointerMoved(a), button(a, true), Event::PointerMoved(b), button(b, false)];
        let [moved, press, away, release] = flick.clone();
        assert_eq!(frames(flick.to_vec()), [vec![moved, press], vec![away], vec![release]]);
    }

    #[test]
    fn a_double_click_is_four_deeds_and_nothing_is_lost_or_reordered() {
        let a = pos2(1.0, 1.0);
        let clicks = vec![button(a, true), button(a, false), button(a, true), button(a, false)];
        let frames = frames(clicks.clone());
        assert_eq!(frames.len(), 4);
        assert_eq!(frames.concat(), clicks);
    }

    #[test]
    fn what_is_typed_after_a_shortcut_waits_for_what_it_opens() {
        let key = |pressed| Event::Key {
            key: egui::Key::K,
            physical_key: None,
            pressed,
            repeat: false,
            modifiers: egui::Modifiers::COMMAND,
        };
        let text = Event::Text("h".into());
        let typed = vec![key(true), key(false), text.clone()];
        assert_eq!(frames(typed), [vec![key(true)], vec![key(false), text]]);
    }

    #[test]
    fn what_is_not_the_pointers_does_not_wait() {
        let typed = vec![Event::Text("a".into()), Event::Text("b".into()), Event::Copy];
        assert_eq!(frames(typed.clone()), [typed]);
        let a = pos2(1.0, 1.0);
        let moves = vec![Event::PointerMoved(a), Event::PointerMoved(pos2(2.0, 1.0)), button(a, true)];
        assert_eq!(frames(moves.clone()), [moves]);
    }
}
