//! Which part of a picture is seen in a room: fitting, zooming about a point, moving.
//!
//! Knows rectangles; nothing of what is drawn.

use egui::{Pos2, Rect, Vec2, pos2, vec2};

use crate::ui::frame::Zoom;

/// The largest zoom.
const MOST: f32 = 64.0;

/// The size at which a picture of this size fits into a room.
pub fn fit(picture: Vec2, room: Vec2) -> Vec2 {
    let (picture, room) = (picture.max(vec2(1.0, 1.0)), room.max(vec2(1.0, 1.0)));
    picture * (room.x / picture.x).min(room.y / picture.y)
}

/// Where a picture lies that has the size `fit` unzoomed. What is smaller than the room lies in its middle, at its top;
/// what is larger leaves no gap.
pub fn placed(room: Rect, fit: Vec2, zoom: Zoom) -> Rect {
    let size = fit * zoom.scale;
    let along = |low: f32, length: f32, size: f32, centre: f32, slack: f32| match size <= length {
        true => low + (length - size) * slack,
        // No gap at either end.
        false => (low + length / 2.0 - centre * size).max(low + length - size).min(low),
    };
    let x = along(room.left(), room.width(), size.x, zoom.centre[0], 0.5);
    let y = along(room.top(), room.height(), size.y, zoom.centre[1], 0.0);
    Rect::from_min_size(pos2(x, y), size)
}

/// Zooms by a factor: what lies under the pointer stays there.
pub fn about(room: Rect, fit: Vec2, zoom: Zoom, pointer: Pos2, factor: f32) -> Zoom {
    let before = placed(room, fit, zoom);
    let share = (pointer - before.min) / before.size();
    let scale = (zoom.scale * factor).clamp(1.0, MOST);
    if scale == 1.0 {
        return Zoom::default();
    }
    centred(room, fit, scale, pointer - share * fit * scale)
}

/// Moves the picture by so many points.
pub fn moved(room: Rect, fit: Vec2, zoom: Zoom, by: Vec2) -> Zoom {
    centred(room, fit, zoom.scale, placed(room, fit, zoom).min + by)
}

/// The zoom that puts the upper left corner of the picture there, as far as it leaves no gap.
fn centred(room: Rect, fit: Vec2, scale: f32, corner: Pos2) -> Zoom {
    let size = fit * scale;
    let along = |low: f32, length: f32, size: f32, corner: f32| {
        let half = (length / 2.0 / size).min(0.5);
        ((low + length / 2.0 - corner) / size).clamp(half, 1.0 - half)
    };
    let x = along(room.left(), room.width(), size.x, corner.x);
    let y = along(room.top(), room.height(), size.y, corner.y);
    Zoom { scale, centre: [x, y] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Rect {
        Rect::from_min_size(pos2(10.0, 20.0), vec2(200.0, 100.0))
    }

    #[test]
    fn a_picture_fits_and_lies_at_the_top() {
        let tall = fit(vec2(50.0, 100.0), room().size());
        assert_eq!(tall, vec2(50.0, 100.0));
        assert_eq!(placed(room(), tall, Zoom::default()).min, pos2(85.0, 20.0));
        let wide = fit(vec2(400.0, 100.0), room().size());
        assert_eq!(
            placed(room(), wide, Zoom::default()),
            Rect::from_min_size(pos2(10.0, 20.0), vec2(200.0, 50.0))
        );
    }

    #[test]
    fn what_lies_under_the_pointer_stays_there() {
        let (fit, pointer) = (vec2(200.0, 100.0), pos2(60.0, 95.0));
        let place = |zoom| {
            let image = placed(room(), fit, zoom);
            (pointer - image.min) / image.size()
        };
        let before = place(Zoom::default());
        let near = about(room(), fit, Zoom::default(), pointer, 4.0);
        assert!((place(near) - before).length() < 1e-4 && near.scale == 4.0);
        let nearer = about(room(), fit, near, pointer, 2.0);
        assert!((place(nearer) - before).length() < 1e-4);
        assert_eq!(about(room(), fit, nearer, pointer, 0.01), Zoom::default(), "out again");
    }

    #[test]
    fn a_moved_picture_leaves_no_gap() {
        let fit = vec2(200.0, 100.0);
        let zoom = Zoom { scale: 2.0, centre: [0.5; 2] };
        let there = moved(room(), fit, zoom, vec2(30.0, -10.0));
        let gone = placed(room(), fit, there).min - placed(room(), fit, zoom).min;
        assert!((gone - vec2(30.0, -10.0)).length() < 1e-3);
        let end = moved(room(), fit, zoom, vec2(9e3, -9e3));
        let image = placed(room(), fit, end);
        assert_eq!((image.left(), image.bottom()), (room().left(), room().bottom()));
        let back = moved(room(), fit, end, vec2(-5.0, 0.0));
        let left = placed(room(), fit, back).left();
        assert!((left - room().left() + 5.0).abs() < 1e-3, "no dead way back");
    }
}
