//! Colours and spacing, for dark and light: the only place where numbers become colours of the window.
//!
//! Knows no view.

use egui::{Color32, Context, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Theme, Visuals};

use crate::{
    spec::span::Span,
    trace::palette::{self, Colormap},
};

/// Sets fonts, spacing and visuals of both themes.
pub fn install(ctx: &Context) {
    ctx.all_styles_mut(|style| {
        let sizes = [
            (TextStyle::Small, 11.5),
            (TextStyle::Body, 14.0),
            (TextStyle::Button, 14.0),
            (TextStyle::Heading, 16.0),
        ];
        for (name, size) in sizes {
            style.text_styles.insert(name, FontId::new(size, FontFamily::Proportional));
        }
        style.text_styles.insert(TextStyle::Monospace, FontId::new(13.0, FontFamily::Monospace));
        style.spacing.item_spacing = egui::vec2(8.0, 6.0);
        style.spacing.button_padding = egui::vec2(8.0, 3.0);
        style.spacing.interact_size.y = 24.0;
        // A scroll bar has room of its own: it never lies over what it scrolls.
        style.spacing.scroll.floating_allocated_width = style.spacing.scroll.bar_width;
    });
    ctx.set_visuals_of(Theme::Dark, dark());
    ctx.set_visuals_of(Theme::Light, light());
}

/// Cool greys, one step apart for each layer of depth.
fn dark() -> Visuals {
    let mut dark = Visuals::dark();
    dark.panel_fill = Color32::from_rgb(22, 23, 27);
    dark.window_fill = Color32::from_rgb(30, 32, 37);
    dark.extreme_bg_color = Color32::from_rgb(14, 15, 18);
    dark.faint_bg_color = Color32::from_rgb(29, 31, 36);
    dark.override_text_color = Some(Color32::from_rgb(217, 219, 224));
    dark.selection.bg_fill = Color32::from_rgb(40, 88, 134);
    dark.selection.stroke = Stroke::new(1.0, Color32::from_rgb(190, 222, 252));
    let fills = [(22, 23, 27), (40, 43, 49), (52, 56, 64), (62, 67, 77), (48, 52, 60)];
    shade_widgets(&mut dark, fills, Color32::from_rgb(46, 49, 56));
    dark
}

fn light() -> Visuals {
    let mut light = Visuals::light();
    light.panel_fill = Color32::from_rgb(247, 248, 250);
    light.window_fill = Color32::WHITE;
    light.extreme_bg_color = Color32::WHITE;
    light.faint_bg_color = Color32::from_rgb(238, 240, 243);
    light.override_text_color = Some(Color32::from_rgb(29, 31, 35));
    light.selection.bg_fill = Color32::from_rgb(176, 211, 243);
    light.selection.stroke = Stroke::new(1.0, Color32::from_rgb(12, 62, 112));
    let fills = [(247, 248, 250), (229, 232, 237), (216, 221, 228), (201, 208, 218), (222, 226, 232)];
    shade_widgets(&mut light, fills, Color32::from_rgb(214, 218, 224));
    light
}

/// Flat controls: what can be pressed is a step lighter or darker, without borders.
fn shade_widgets(visuals: &mut Visuals, fills: [(u8, u8, u8); 5], line: Color32) {
    let widgets = &mut visuals.widgets;
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, line);
    let states = [
        &mut widgets.noninteractive,
        &mut widgets.inactive,
        &mut widgets.hovered,
        &mut widgets.active,
        &mut widgets.open,
    ];
    for (state, (r, g, b)) in states.into_iter().zip(fills) {
        let fill = Color32::from_rgb(r, g, b);
        (state.bg_fill, state.weak_bg_fill) = (fill, fill);
        state.corner_radius = CornerRadius::same(4);
        state.expansion = 0.0;
    }
}

/// The colour of a span, the same in every view.
pub fn span_color(span: Span) -> Color32 {
    rgb(palette::span_rgb(span))
}

/// The colour of `t`, 0 to 1.
pub fn map_color(colormap: Colormap, t: f32) -> Color32 {
    rgb(colormap.rgb8(t))
}

fn rgb([r, g, b]: [u8; 3]) -> Color32 {
    Color32::from_rgb(r, g, b)
}

/// Dims the window while something is held over it.
pub fn shade() -> Color32 {
    Color32::from_black_alpha(160)
}

/// What is written on a shaded window, and drawn on an image.
pub const ON_DARK: Color32 = Color32::WHITE;

/// What surrounds [`ON_DARK`] on an image.
pub const AROUND: Color32 = Color32::BLACK;

/// Marks what a cut blocks or changed.
pub fn cut_color(visuals: &Visuals) -> Color32 {
    match visuals.dark_mode {
        true => Color32::from_rgb(240, 110, 90),
        false => Color32::from_rgb(190, 50, 30),
    }
}

/// A number with a sign, -1 to 1, as a tint behind words: red where something is lost, blue where it is gained.
pub fn signed_color(visuals: &Visuals, t: f32) -> Color32 {
    let color = if t < 0.0 { cut_color(visuals) } else { accent(visuals) };
    color.gamma_multiply(0.55 * t.abs().clamp(0.0, 1.0))
}

/// Marks what is not up to date.
pub fn stale_color(visuals: &Visuals) -> Color32 {
    match visuals.dark_mode {
        true => Color32::from_rgb(220, 180, 80),
        false => Color32::from_rgb(150, 105, 0),
    }
}

/// The outline of what is selected.
pub fn accent(visuals: &Visuals) -> Color32 {
    match visuals.dark_mode {
        true => Color32::from_rgb(94, 170, 246),
        false => Color32::from_rgb(20, 100, 180),
    }
}
