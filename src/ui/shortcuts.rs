//! Keys pressed, as commands: dispatched from the list of commands and nothing else.
//!
//! Knows keys and what has the focus; not what commands do.

use egui::{Context, Event, Id, Key, Modifiers, TextEdit, text_selection::LabelSelectionState};

use crate::ui::store::command::{Command, Listed, Shortcut, listed};

/// Takes the keys that call commands, every press of them. `before`: what had the focus in the last frame; the
/// Escape that it is left by is its own. `start`: the start of a view, which has the focus and wants no key.
pub fn pressed(ctx: &Context, before: Option<Id>, start: Option<Id>) -> Vec<Command> {
    let focused = ctx.memory(|m| m.focused()).or(before).filter(|id| Some(*id) != start);
    let typing = focused.is_some_and(|id| TextEdit::load_state(ctx, id).is_some());
    let marked = ctx.plugin_opt::<LabelSelectionState>().is_some_and(|labels| labels.lock().has_selection());
    if !typing && !marked {
        ctx.input_mut(|input| input.events.iter_mut().for_each(copy_is_a_key));
    }
    // Keys without modifiers are a focused control's own; text has Ctrl+Z of its own, too, and every letter.
    let allowed = |listed: &Listed, shortcut: &Shortcut| match typing {
        true => listed.while_typing && !writes(shortcut),
        false => listed.while_typing || focused.is_none() || shortcut.ctrl,
    };
    let mut keys: Vec<(&Listed, &Shortcut)> =
        listed().iter().flat_map(|l| l.shortcuts.iter().map(move |s| (l, s))).collect();
    // A key with Shift held is that key, too: Ctrl+Shift+Z goes before Ctrl+Z.
    keys.sort_by_key(|(_, shortcut)| !shortcut.shift);
    let mut commands = Vec::new();
    for (listed, shortcut) in keys.into_iter().filter(|(listed, shortcut)| allowed(listed, shortcut)) {
        let Some(key) = Key::from_name(shortcut.key) else { continue };
        let presses = ctx.input_mut(|i| i.count_and_consume_key(modifiers(shortcut), key));
        commands.extend(std::iter::repeat_n(listed.command.clone(), presses));
    }
    commands
}

/// Windows tell of Ctrl+C as something to copy. Where no text is marked that it would copy, it is a key like others.
fn copy_is_a_key(event: &mut Event) {
    if *event == Event::Copy {
        let (key, modifiers) = (Key::C, Modifiers::COMMAND);
        *event = Event::Key { key, physical_key: None, pressed: true, repeat: false, modifiers };
    }
}

/// Whether a key puts a letter or a sign into a text.
fn writes(shortcut: &Shortcut) -> bool {
    !shortcut.ctrl && shortcut.key.chars().count() == 1
}

fn modifiers(shortcut: &Shortcut) -> Modifiers {
    let ctrl = if shortcut.ctrl { Modifiers::COMMAND } else { Modifiers::NONE };
    if shortcut.shift { ctrl | Modifiers::SHIFT } else { ctrl }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_list_exists() {
        for shortcut in listed().iter().flat_map(|l| l.shortcuts) {
            assert!(Key::from_name(shortcut.key).is_some(), "{}", shortcut.key);
        }
        let of = |command: Command| {
            let listed = listed().iter().find(|listed| listed.command == command).unwrap();
            listed.shortcuts.iter().map(writes).collect::<Vec<_>>()
        };
        assert_eq!(of(Command::ShowKeys), [false, true], "F1 is no letter, a question mark is one");
        assert_eq!(of(Command::OpenPalette), [false, false]);
    }
}
