//! Colours and spacing, for dark and light: the only place where numbers become colours of the window.
//!
//! Knows no view.

use egui::{Color32, Context, FontFamily, FontId, TextStyle, Theme, Visuals};

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
    let mut dark = Visuals::dark();
    dark.panel_fill = Color32::from_gray(24);
    dark.window_fill = Color32::from_gray(30);
    dark.extreme_bg_color = Color32::from_gray(14);
    dark.faint_bg_color = Color32::from_gray(32);
    dark.override_text_color = Some(Color32::from_gray(215));
    dark.selection.bg_fill = Color32::from_rgb(38, 84, 124);
    ctx.set_visuals_of(Theme::Dark, dark);
    let mut light = Visuals::light();
    light.panel_fill = Color32::from_gray(247);
    light.extreme_bg_color = Color32::WHITE;
    light.faint_bg_color = Color32::from_gray(238);
    light.override_text_color = Some(Color32::from_gray(30));
    light.selection.bg_fill = Color32::from_rgb(172, 209, 240);
    ctx.set_visuals_of(Theme::Light, light);
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
        true => Color32::from_rgb(120, 190, 255),
        false => Color32::from_rgb(20, 100, 180),
    }
}
