//! What pointer and keys do on the image: read values, lock, paint, wipe, magnify.
//!
//! Knows what is pointed at; not how it is drawn.

use egui::{EventFilter, Key, Rect, Response, RichText, Ui};

use crate::ui::{
    frame::Frame,
    store::{command::Command, settings::Tool, store::Store},
    view::image::words::{of_patch, place},
    widgets::{
        brush::{self, Brush},
        magnifier::{Lens, magnify},
        marks::seen,
        outline::place_of,
        picture::{Drawn, Picture, Pointed},
        tools::ToolSettings,
    },
};

/// See the module.
#[derive(Debug, Default)]
pub struct Hand {
    /// What its tools are set to.
    pub tools: ToolSettings,
    brush: Brush,
    /// A patch is under the pointer because of this view.
    hovering: bool,
}

/// The picture that pointer or keys are at.
#[derive(Debug)]
pub struct At<'a> {
    /// The picture.
    pub picture: &'a Picture,
    /// What it shows.
    pub drawn: &'a Drawn<'a>,
    /// Where it is pointed at.
    pub pointed: Pointed,
}

impl Hand {
    /// Follows pointer and keys. `room`: where pictures are, for the magnifier.
    pub fn act(&mut self, ui: &Ui, room: Rect, at: Option<At<'_>>, store: &Store, frame: &mut Frame) {
        let held = self.brush.holds();
        let pointed = at.as_ref().map(|at| &at.pointed);
        self.brush.follow(ui, pointed, store.tool, self.tools.width, frame);
        let Some(at) = at else {
            self.leave(frame);
            return;
        };
        self.hover(&at.pointed, store, frame);
        walk(ui, &at.pointed, store, frame);
        let response = &at.pointed.response;
        if response.clicked() && !held && !at.pointed.moving {
            let by_key = store.selection.patch.filter(|_| response.has_focus());
            if let Some(number) = at.pointed.patch.or(by_key) {
                frame.ask(clicked(number, store.tool));
            }
        }
        brush::preview(ui, &at.pointed, store.tool, self.tools.width);
        if !self.magnified(ui, room, &at, store) {
            tooltip(at, store);
        }
    }

    /// The patch under the pointer is everybody's.
    fn hover(&mut self, pointed: &Pointed, store: &Store, frame: &mut Frame) {
        if pointed.response.hovered() {
            self.hovering = true;
            if store.selection.patch != pointed.patch {
                frame.ask(Command::HoverPatch(pointed.patch));
            }
        } else {
            // One that was walked to is left with the focus.
            self.hovering |= pointed.response.lost_focus();
            self.leave(frame);
        }
    }

    fn leave(&mut self, frame: &mut Frame) {
        if std::mem::take(&mut self.hovering) {
            frame.ask(Command::HoverPatch(None));
        }
    }

    /// Draws the magnifier where it is wanted. Returns whether it is.
    fn magnified(&self, ui: &Ui, room: Rect, at: &At<'_>, store: &Store) -> bool {
        let key = ui.input(|i| {
            let z = i.key_down(Key::Z) && !i.modifiers.command;
            z || i.modifiers.shift && store.tool == Tool::Look
        });
        let wanted = self.tools.lens || key && !ui.ctx().text_edit_focused();
        let pointed = &at.pointed;
        let there = pointed.response.hovered().then_some(pointed.patch).flatten();
        let (Some(middle), Some(map)) = (there.filter(|_| wanted), &at.drawn.map) else { return false };
        let (shown, image, ground) = (&*pointed.shown, pointed.image, at.picture.ground());
        magnify(ui, room, Lens { middle, shown, image, ground, map }, |number| {
            at.picture.values().get(at.picture.index(at.drawn, number)?)
        });
        true
    }
}

/// What a click does to a patch.
fn clicked(number: usize, tool: Tool) -> Command {
    match tool {
        Tool::Look => Command::Lock(number),
        Tool::Brush | Tool::Box => Command::Paint { patches: vec![number], add: true },
        Tool::Wipe => Command::Paint { patches: vec![number], add: false },
    }
}

/// With the focus, arrows walk the patches; Enter is a click.
fn walk(ui: &Ui, pointed: &Pointed, store: &Store, frame: &mut Frame) {
    let response = &pointed.response;
    if !response.has_focus() {
        return;
    }
    let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(response.id, arrows));
    let (down, right) = ui.input(|i| {
        let presses = |key| i.num_presses(key) as isize;
        let down = presses(Key::ArrowDown) - presses(Key::ArrowUp);
        (down, presses(Key::ArrowRight) - presses(Key::ArrowLeft))
    });
    if (down, right) == (0, 0) {
        return;
    }
    let here = store.selection.patch.filter(|number| pointed.shown.index(*number).is_some());
    let to = match here {
        Some(number) => pointed.shown.beside(number, down, right),
        None => pointed.shown.numbers().next(),
    };
    if to.is_some() {
        frame.ask(Command::HoverPatch(to));
    }
}

/// Says what is under the pointer.
fn tooltip(at: At<'_>, store: &Store) {
    let Pointed { image, patch, shown, response, .. } = at.pointed;
    let held = at.drawn.held;
    let Some(number) = patch else {
        let outside = response.hover_pos().map(|pos| place_of(pos, image)).is_some_and(|[x, y]| {
            let [x0, y0, x1, y1] = seen(&held.view.geometry, &shown);
            !(x0..=x1).contains(&x) || !(y0..=y1).contains(&y)
        });
        if outside {
            let text = format!("The model never saw this part: {}", held.view.description);
            response.on_hover_text_at_pointer(text);
        }
        return;
    };
    let lines = match (&at.drawn.map, at.picture.index(at.drawn, number)) {
        (Some(map), Some(index)) => of_patch(store, held, map, at.picture.values(), (number, index)),
        _ => vec![format!("{} (patch {number})", place(&held.view.geometry, number))],
    };
    written(response, &lines);
}

fn written(response: Response, lines: &[String]) {
    // A hand that paints needs to see what it does.
    if response.is_pointer_button_down_on() {
        return;
    }
    response.on_hover_ui_at_pointer(|ui| {
        for (at, line) in lines.iter().enumerate() {
            match at {
                0 => ui.label(RichText::new(line).strong()),
                1 => ui.label(RichText::new(line).monospace()),
                _ => ui.label(line),
            };
        }
    });
}
