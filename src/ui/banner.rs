//! Errors, and things to know: over the window at its top right, so that nothing below moves when one comes or goes.
//!
//! An error stays until it is dismissed or its cause is gone; a notice goes by itself, one with something to do in it
//! does not. Keeps the notices; knows one text of the store.

use egui::{
    Align2, Area, Color32, Context, Frame as Room, Id, Label, Order, RichText, Sides, Stroke, Ui, Vec2,
};

use crate::ui::{
    frame::Frame,
    store::{command::Command, store::Store},
    theme,
};

/// Widest text.
const WIDEST: f32 = 460.0;

/// Notices on show at a time: of more, the oldest go.
const MOST: usize = 5;

/// Seconds that a notice stays, and seconds more for every character.
const STAYS: (f64, f64) = (4.0, 0.05);

/// One notice.
#[derive(Debug)]
struct Notice {
    text: String,
    /// Something to do about it, by name.
    action: Option<(&'static str, Command)>,
    /// When it goes; not known before it was drawn, and never of one with something to do in it.
    until: Option<f64>,
}

/// What is on show.
#[derive(Debug, Default)]
pub struct Banner {
    notices: Vec<Notice>,
    /// How large all of them were when they were last laid out.
    size: Vec2,
}

impl Banner {
    /// Shows a notice for a while.
    pub fn tell(&mut self, text: String) {
        self.add(text, None);
    }

    /// Shows a notice with something to do about it, until that is done or it is dismissed.
    pub fn offer(&mut self, text: String, action: &'static str, command: Command) {
        self.add(text, Some((action, command)));
    }

    fn add(&mut self, text: String, action: Option<(&'static str, Command)>) {
        self.notices.retain(|notice| notice.text != text);
        self.notices.push(Notice { text, action, until: None });
        let more = self.notices.len().saturating_sub(MOST);
        self.notices.drain(..more);
    }

    /// Draws what there is, above what takes up `bottom` at the window's lower end.
    pub fn show(&mut self, ctx: &Context, bottom: f32, store: &Store, frame: &mut Frame) {
        self.age(ctx);
        if store.error.is_none() && self.notices.is_empty() {
            self.size = Vec2::ZERO;
            return;
        }
        let visuals = ctx.global_style().visuals.clone();
        let area = Area::new(Id::unique("banner")).order(Order::Foreground);
        let area = area.anchor(Align2::RIGHT_BOTTOM, [-8.0, -bottom - 6.0]).show(ctx, |ui| {
            ui.set_max_width((ctx.content_rect().width() - 16.0).min(WIDEST));
            if let Some(error) = &store.error {
                let color = theme::cut_color(&visuals);
                if message(ui, ("Error", color), error, None, frame).is_some() {
                    frame.ask(Command::DismissError);
                }
            }
            let accent = theme::accent(&visuals);
            self.notices.retain(|notice| {
                let action = notice.action.as_ref().map(|(name, _)| *name);
                let pressed = message(ui, ("Note", accent), &notice.text, action, frame);
                if let (Some(Pressed::Action), Some((_, command))) = (&pressed, &notice.action) {
                    frame.ask(command.clone());
                }
                pressed.is_none()
            });
        });
        let size = area.response.rect.size();
        if self.size != size {
            self.size = size;
            // They stand where those of the size before would: they are laid out anew before anyone sees it.
            ctx.request_discard("messages of another size");
            ctx.request_repaint();
        }
        // While someone reads them they stay.
        if area.response.contains_pointer() {
            self.notices.iter_mut().for_each(|notice| notice.until = None);
        }
    }

    /// Lets notices go that were there long enough.
    fn age(&mut self, ctx: &Context) {
        let now = ctx.input(|i| i.time);
        for notice in self.notices.iter_mut().filter(|notice| notice.action.is_none()) {
            let (least, each) = STAYS;
            notice.until.get_or_insert(now + least + each * notice.text.chars().count() as f64);
        }
        self.notices.retain(|notice| notice.until.is_none_or(|until| until > now));
        let next = self.notices.iter().filter_map(|notice| notice.until).reduce(f64::min);
        if let Some(next) = next {
            // One painting when the next goes: nothing moves until then.
            ctx.request_repaint_after_secs((next - now) as f32 + 0.01);
        }
    }
}

/// What was pressed in a message.
enum Pressed {
    Dismiss,
    Action,
}

/// One message: what kind, its text, and buttons.
fn message(
    ui: &mut Ui,
    (kind, color): (&str, Color32),
    text: &str,
    action: Option<&str>,
    frame: &mut Frame,
) -> Option<Pressed> {
    let mut pressed = None;
    let room = Room::popup(ui.style()).stroke(Stroke::new(1.0, color));
    room.show(ui, |ui| {
        let buttons = |ui: &mut Ui| {
            if ui.button("Dismiss").clicked() {
                pressed = Some(Pressed::Dismiss);
            }
            if let Some(name) = action {
                let button = ui.button(name);
                frame.place(format!("notice {name}"), button.rect);
                if button.clicked() {
                    pressed = Some(Pressed::Action);
                }
            }
        };
        let words = |ui: &mut Ui| {
            ui.label(RichText::new(kind).strong().color(color));
            ui.add(Label::new(text).wrap());
        };
        Sides::new().shrink_left().show(ui, words, buttons);
    });
    pressed
}
