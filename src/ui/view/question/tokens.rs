//! The prompt, token by token, in one or two lines: tinted by how much the selected word looks at each.
//!
//! Keeps where they stand. Knows the prompt of the uncut run; what it asks for is done elsewhere.

use egui::{
    Color32, ColorImage, EventFilter, FontFamily, FontId, Id, Image, Key, Label, Modifiers, Rect, RichText,
    Role, ScrollArea, Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui, WidgetInfo, vec2,
};

use crate::{
    spec::span::Span,
    trace::tokens::said,
    ui::{
        frame::Frame,
        store::{command::Command, run::Run, selection::BASELINE, store::Store},
        theme,
        view::{
            question::items::{Item, Looks, counts, follow, items},
            runs::tint,
        },
        widgets::{
            number, swatch,
            sweep::Sweep,
            word_flow::{FlowLook, WordFlow},
        },
    },
    worker::protocol::RunId,
};

/// Rows that are seen without scrolling.
const ROWS: f32 = 2.0;

/// What the items were made from: the run, its positions, and the image's number.
type Source = (RunId, usize, u64);

/// The prompt's tokens.
#[derive(Default)]
pub struct PromptTokens {
    source: Option<Source>,
    items: Vec<Item>,
    counts: [usize; Span::COUNT],
    flow: WordFlow<Source>,
    looks: Option<Looks>,
    /// The item that arrows have come to.
    cursor: usize,
    tooltip: Sweep,
    /// The view that was last previewed: the image's number, the view's, and its picture.
    picture: Option<((u64, usize), TextureHandle)>,
}

/// How they flow.
fn look() -> FlowLook {
    FlowLook { font: FontId::new(12.5, FontFamily::Proportional), row: 21.0, body: 18.0, lead: 3.0, pad: 4.0 }
}

impl PromptTokens {
    /// How many positions each span has, in a line that begins with `first`.
    pub fn spans(&mut self, ui: &mut Ui, store: &Store, run: &Run, first: impl FnOnce(&mut Ui)) {
        self.follow(store, run);
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            first(ui);
            ui.label(RichText::new(format!("{} positions:", run.prompt.len())).small());
            for span in Span::ALL {
                let n = self.counts[span.index()];
                if n > 0 {
                    swatch::entry(ui, span, format!("{} {n}", span.name()))
                        .on_hover_text(swatch::meaning(span));
                }
            }
        });
    }

    /// Draws them.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame, run: &Run) {
        self.follow(store, run);
        let scroll = ScrollArea::vertical().id_salt("prompt tokens").auto_shrink([false, true]);
        let scroll = scroll.max_height(ROWS * look().row);
        let (over, owner, focused) = scroll.show(ui, |ui| self.strip(ui, store, frame)).inner;
        self.line(ui, store, focused);
        let item = over.and_then(|(at, _)| self.items.get(at)).cloned();
        let picture = item.as_ref().and_then(|item| self.picture(ui, store, item));
        let share = over.and_then(|(at, _)| self.looks.as_ref()?.shares.get(at)).copied();
        self.tooltip.show(ui, owner, over.map(|(_, rect)| rect), |ui| {
            if let Some(item) = &item {
                tell(ui, store, item, share, picture.as_ref());
            }
        });
    }

    fn follow(&mut self, store: &Store, run: &Run) {
        let held = store.image_of(BASELINE);
        let source = (run.id, run.prompt.len(), held.map_or(0, |held| held.serial));
        if self.source != Some(source) {
            self.items = items(&run.prompt, held.map(|held| &held.view.geometry));
            self.counts = counts(&run.prompt);
            (self.source, self.cursor) = (Some(source), 0);
        }
        self.looks = follow(self.looks.take(), store, run, &self.items);
    }

    /// The tokens. Returns the one under the pointer with its place, the name of all together, and whether they have
    /// the focus.
    fn strip(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) -> (Option<(usize, Rect)>, Id, bool) {
        let width = ui.available_width();
        let Some(source) = self.source else { return (None, ui.unique_id(), false) };
        let items = &self.items;
        self.flow.follow(ui, (source, width), &look(), || items.iter().map(Item::piece).collect());
        let (rect, _) = ui.allocate_exact_size(vec2(width, self.flow.height()), Sense::hover());
        let owner = ui.scope_id().with("prompt tokens");
        let focused = self.walk(ui, frame, owner, rect);
        let clip = ui.clip_rect();
        let mut over = None;
        for placed in self.flow.visible(clip.top() - rect.top(), clip.bottom() - rect.top()) {
            let at = self.items.partition_point(|item| item.last < placed.first);
            let Some(item) = self.items.get(at) else { continue };
            let body = placed.body.translate(rect.min.to_vec2());
            // No stop of the Tab key: all together are one.
            let hit = placed.hit.translate(rect.min.to_vec2());
            let hit = ui.interact(hit, owner.with(item.first), Sense::CLICK);
            let name = || format!("prompt token {}: {}", item.first, item.text);
            let read = store.selection.positions.contains(&item.last);
            hit.widget_info(|| WidgetInfo::selected(Role::Button, true, read, name()));
            frame.place(format!("prompt[{}]", item.first), body);
            self.paint(ui, body, at, item, read || focused && at == self.cursor);
            if hit.hovered() {
                over = Some((at, body));
            }
            if hit.clicked() && item.view.is_none() {
                frame.ask(Command::Position(item.last));
            }
        }
        (over, owner, focused)
    }

    fn paint(&self, ui: &Ui, body: Rect, at: usize, item: &Item, marked: bool) {
        /// Weakest and strongest ground.
        const GROUND: [f32; 2] = [0.08, 0.75];
        let strength = match &self.looks {
            Some(Looks { shares, highest: Some((_, high)), .. }) => {
                let share = shares.get(at).copied().unwrap_or(0.0) / high;
                GROUND[0] + (GROUND[1] - GROUND[0]) * share.clamp(0.0, 1.0)
            }
            _ => 2.0 * GROUND[0],
        };
        let painter = ui.painter();
        painter.rect_filled(body, 3.0, theme::span_color(item.span).gamma_multiply(strength));
        if marked {
            let accent = theme::accent(ui.visuals());
            painter.rect_stroke(body, 3.0, Stroke::new(1.5, accent), StrokeKind::Inside);
        }
        let color = ui.visuals().text_color();
        let ink = painter.layout_no_wrap(item.text.clone(), look().font, Color32::PLACEHOLDER);
        painter.galley(body.min + vec2(look().pad, 1.0), ink, color);
    }

    /// Makes them one stop of the Tab key, which arrows walk from there. Returns whether they have the focus.
    fn walk(&mut self, ui: &Ui, frame: &mut Frame, id: Id, place: Rect) -> bool {
        let stop = ui.interact(place, id, Sense::focusable_noninteractive());
        stop.widget_info(|| WidgetInfo::labeled(Role::ListBox, true, "tokens of the prompt"));
        if !stop.has_focus() {
            return false;
        }
        let arrows = EventFilter { horizontal_arrows: true, ..Default::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(id, arrows));
        let presses = |key| ui.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key));
        let (on, back) = (presses(Key::ArrowRight), presses(Key::ArrowLeft));
        let last = self.items.len().saturating_sub(1);
        self.cursor = (self.cursor + on).min(last).saturating_sub(back);
        let item = self.items.get(self.cursor);
        if on + back > 0
            && let Some(placed) = item.and_then(|item| self.flow.of(item.first))
        {
            ui.scroll_to_rect(placed.hit.translate(place.min.to_vec2()), None);
        }
        if let Some(item) = item.filter(|item| item.view.is_none()) {
            for _ in 0..presses(Key::Enter) + presses(Key::Space) {
                frame.ask(Command::Position(item.last));
            }
        }
        true
    }

    /// What the tint stands for; while keys walk the tokens, the one that they have come to.
    fn line(&self, ui: &mut Ui, store: &Store, focused: bool) {
        let text = match (self.items.get(self.cursor).filter(|_| focused), &self.looks) {
            (Some(item), looks) => {
                let share = looks.as_ref().and_then(|looks| looks.shares.get(self.cursor)).copied();
                let looked = share.map(|share| format!(" · {}", looked(store, share))).unwrap_or_default();
                format!("“{}” · {}{looked} · Enter: the lens reads it", item.text, named(item))
            }
            (None, Some(Looks { highest: Some((at, share)), .. })) => {
                let most = self.items.get(*at).map_or("", |item| item.text.as_str());
                let most = format!("most on “{most}” ({})", number::short(*share));
                format!("tint: attention of {} in {}, {most}", word(store), tint::place(store))
            }
            _ => return,
        };
        ui.add(Label::new(RichText::new(text).small().weak()).truncate());
    }

    /// The picture of the view that an item stands for, as it enters the encoder.
    fn picture(&mut self, ui: &Ui, store: &Store, item: &Item) -> Option<TextureHandle> {
        let (_, view) = item.view.filter(|(image, _)| *image == 0)?;
        let held = store.image_of(BASELINE)?;
        let key = (held.serial, view);
        if let Some((_, picture)) = self.picture.as_ref().filter(|(held, _)| *held == key) {
            return Some(picture.clone());
        }
        let pixels = held.view.views.get(view)?;
        let size = [pixels.width() as usize, pixels.height() as usize];
        let image = ColorImage::from_rgb(size, pixels.as_raw());
        let picture = ui.ctx().load_texture("view of the prompt", image, TextureOptions::LINEAR);
        self.picture = Some((key, picture.clone()));
        Some(picture)
    }
}

/// The word whose attention is shown.
fn word(store: &Store) -> String {
    let (slot, tokens) = store.selection.subject();
    let lane = store.runs.lane(slot);
    format!("“{}”", said(tokens.iter().filter_map(|&at| lane.token(at))))
}

/// How much the word on show looks at something.
fn looked(store: &Store, share: f32) -> String {
    format!("{} of the attention of {} in {}", number::percent(share), word(store), tint::place(store))
}

/// Ids, position and span.
fn named(item: &Item) -> String {
    let ids: Vec<String> = item.ids.iter().map(u32::to_string).collect();
    let ids = match ids.len() {
        0 => String::new(),
        1 => format!("id {} · ", ids[0]),
        _ => format!("ids {} · ", ids.join(", ")),
    };
    let place = match item.first == item.last {
        true => format!("position {}", item.first),
        false => format!("positions {} to {}", item.first, item.last),
    };
    format!("{ids}{place} · {}", item.span.name())
}

/// What the tooltip of an item tells.
fn tell(ui: &mut Ui, store: &Store, item: &Item, share: Option<f32>, picture: Option<&TextureHandle>) {
    ui.label(RichText::new(format!("“{}”", item.text)).strong());
    let small = |ui: &mut Ui, text: String| ui.add(Label::new(RichText::new(text).small()).wrap());
    small(ui, named(item));
    if let Some(share) = share {
        small(ui, looked(store, share));
    }
    match (item.view, store.selection.positions.contains(&item.last)) {
        (Some(_), _) => {
            small(ui, "as it enters the encoder; lock patches on the image to read them".to_string())
        }
        (None, true) => small(ui, "the lens reads it; click to stop".to_string()),
        (None, false) => small(ui, "click: the lens reads this position".to_string()),
    };
    if let Some(picture) = picture {
        ui.add(Image::from_texture(picture).max_size(vec2(180.0, 180.0)).alt_text("the view"));
    }
}
