//! The program's picture, as window managers show it: `assets/icon.svg`, drawn at start-up.
//!
//! Under Wayland the picture is that of the desktop entry of the same name.

use egui::IconData;
use resvg::{tiny_skia, usvg};

/// Pixels a side: what switchers of windows show at most, on dense screens too.
const SIDE: u32 = 128;

/// The picture; an empty one, which leaves the system's own, if it cannot be drawn.
pub(super) fn icon() -> IconData {
    draw().unwrap_or_else(|| {
        log::warn!("the window's icon cannot be drawn");
        IconData::default()
    })
}

fn draw() -> Option<IconData> {
    let tree = usvg::Tree::from_str(include_str!("../../assets/icon.svg"), &usvg::Options::default()).ok()?;
    let mut pixels = tiny_skia::Pixmap::new(SIDE, SIDE)?;
    let size = tree.size();
    let scale = tiny_skia::Transform::from_scale(SIDE as f32 / size.width(), SIDE as f32 / size.height());
    resvg::render(&tree, scale, &mut pixels.as_mut());
    let rgba = pixels.pixels().iter().flat_map(|pixel| {
        let c = pixel.demultiply();
        [c.red(), c.green(), c.blue(), c.alpha()]
    });
    Some(IconData { rgba: rgba.collect(), width: SIDE, height: SIDE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_drawn_with_clear_corners_and_something_in_the_middle() {
        let icon = draw().unwrap();
        assert_eq!(icon.rgba.len(), (4 * SIDE * SIDE) as usize);
        let alpha = |x: u32, y: u32| icon.rgba[4 * (y * SIDE + x) as usize + 3];
        assert_eq!((alpha(0, 0), alpha(SIDE / 2, SIDE / 2)), (0, 255));
        let colours: std::collections::BTreeSet<&[u8]> = icon.rgba.chunks(4).collect();
        assert!(colours.len() > 10, "{} colours", colours.len());
    }
}
