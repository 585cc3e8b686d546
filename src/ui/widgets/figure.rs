//! A drawing on screen: the marks of a [`Figure`], the same picture that its file shows.
//!
//! Bands and areas are triangles of our own, soft over one pixel at their bounds: egui fills convex outlines only.
//! Knows shapes and colours; nothing of what is drawn.

use egui::{
    Align2, Color32, FontId, Mesh, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, Ui, Vec2, Visuals, pos2,
    vec2,
};

use crate::trace::figure::{Align, DASH, Figure, Ink, Mark, curve, point_on};

/// How far a heavy text is drawn beside itself: the window's fonts have one weight only.
const HEAVY: f32 = 0.4;
/// Longest piece of a curve that is drawn straight, and the fewest and most pieces.
const PIECE: f32 = 5.0;
const PIECES: (f32, f32) = (6.0, 40.0);
/// A curve that rises by less is a straight line.
const FLAT: f32 = 0.25;
/// Widest softness of a steep bound, in pixels.
const SOFTEST: f32 = 4.0;

/// Draws a figure, its upper left corner at that of `rect`.
pub fn paint(ui: &Ui, rect: Rect, figure: &Figure) {
    let painter = ui.painter();
    let (origin, pixel) = (rect.min.to_vec2(), 1.0 / painter.pixels_per_point());
    let mut canvas = Canvas { painter, visuals: ui.visuals(), origin, pixel, mesh: Mesh::default() };
    figure.marks.iter().for_each(|mark| canvas.mark(mark));
    canvas.flush();
}

/// What is drawn on.
struct Canvas<'a> {
    painter: &'a Painter,
    visuals: &'a Visuals,
    origin: Vec2,
    /// Side of a pixel, in points.
    pixel: f32,
    /// Triangles that are still to be handed over: one shape for many bands.
    mesh: Mesh,
}

impl Canvas<'_> {
    fn mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Area { points, fill } => {
                let (points, color) = (self.places(points), self.color(*fill));
                area(&mut self.mesh, &points, self.pixel, color);
            }
            Mark::Ribbon { from, to, fill } => self.ribbon(*from, *to, *fill),
            Mark::Line { points, ink, width, dashed } => {
                self.flush();
                let (points, stroke) = (self.places(points), Stroke::new(*width, self.color(*ink)));
                if *dashed {
                    self.painter.extend(Shape::dashed_line(&points, stroke, DASH[0], DASH[1]));
                } else {
                    self.painter.line(points, stroke);
                }
            }
            Mark::Rect { rect: [x0, y0, x1, y1], fill, border } => {
                self.flush();
                let rect = Rect::from_min_max(self.place([*x0, *y0]), self.place([*x1, *y1]));
                let fill = fill.map_or(Color32::TRANSPARENT, |ink| self.color(ink));
                let stroke = border.map_or(Stroke::NONE, |(ink, width)| Stroke::new(width, self.color(ink)));
                self.painter.rect(rect, 0.0, fill, stroke, StrokeKind::Middle);
            }
            Mark::Text { at, text, size, align, ink, bold } => {
                self.flush();
                let anchor = match align {
                    Align::Start => Align2::LEFT_CENTER,
                    Align::Middle => Align2::CENTER_CENTER,
                    Align::End => Align2::RIGHT_CENTER,
                };
                let (at, font, color) = (self.place(*at), FontId::proportional(*size), self.color(*ink));
                self.painter.text(at, anchor, text, font.clone(), color);
                if *bold {
                    self.painter.text(at + vec2(HEAVY, 0.0), anchor, text, font, color);
                }
            }
        }
    }

    fn ribbon(&mut self, from: [[f32; 2]; 2], to: [[f32; 2]; 2], fill: Ink) {
        let color = self.color(fill);
        let ends = self.places(&[from[0], from[1], to[0], to[1]]);
        // The curves stay between the heights of their ends.
        if color.a() > 0 && Rect::from_points(&ends).intersects(self.painter.clip_rect()) {
            let pairs: Vec<[Pos2; 2]> =
                pairs(from, to).into_iter().map(|pair| pair.map(|point| self.place(point))).collect();
            strip(&mut self.mesh, &pairs, self.pixel, color);
        }
    }

    /// Hands over what was gathered, so that what comes next lies above it.
    fn flush(&mut self) {
        if !self.mesh.is_empty() {
            self.painter.add(std::mem::take(&mut self.mesh));
        }
    }

    fn place(&self, [x, y]: [f32; 2]) -> Pos2 {
        pos2(x, y) + self.origin
    }

    fn places(&self, points: &[[f32; 2]]) -> Vec<Pos2> {
        points.iter().map(|point| self.place(*point)).collect()
    }

    fn color(&self, ink: Ink) -> Color32 {
        match ink {
            Ink::Rgba([r, g, b, a]) => Color32::from_rgba_unmultiplied(r, g, b, a),
            Ink::Text => self.visuals.text_color(),
            Ink::Weak => self.visuals.weak_text_color(),
            Ink::Faint => self.visuals.widgets.noninteractive.bg_stroke.color,
        }
    }
}

/// Points of a ribbon's upper and lower bound, from its left to its right.
fn pairs(from: [[f32; 2]; 2], to: [[f32; 2]; 2]) -> Vec<[[f32; 2]; 2]> {
    let rise = (0..2).map(|side| (to[side][1] - from[side][1]).abs()).fold(0.0, f32::max);
    let run = (to[0][0] - from[0][0]).abs();
    let pieces = match rise < FLAT {
        true => 1.0,
        false => (rise.max(run) / PIECE).ceil().clamp(PIECES.0, PIECES.1),
    };
    let bounds = [curve(from[0], to[0]), curve(from[1], to[1])];
    (0..=pieces as usize).map(|i| bounds.map(|bound| point_on(bound, i as f32 / pieces))).collect()
}

/// Adds a band between upper and lower points, of at least two pairs. Its bounds are soft over a pixel; where it is
/// thinner than that it is paler instead, so that its weight on screen is that of its height.
fn strip(mesh: &mut Mesh, pairs: &[[Pos2; 2]], pixel: f32, color: Color32) {
    let middle = |at: usize| pairs.get(at).map(|[upper, lower]| upper.lerp(*lower, 0.5));
    for (i, [upper, lower]) in pairs.iter().enumerate() {
        let way = match (middle(i.saturating_sub(1)), middle(i + 1).or(middle(i))) {
            (Some(before), Some(after)) => after - before,
            _ => Vec2::ZERO,
        };
        // A pixel across a steep bound is more than one downwards.
        let steep = if way.x.abs() > 0.0 { way.length() / way.x.abs() } else { SOFTEST };
        let soft = 0.5 * pixel * steep.min(SOFTEST);
        let height = (lower.y - upper.y).max(0.0);
        let (inner, shade) = match height < 2.0 * soft {
            true => ([upper.lerp(*lower, 0.5); 2], color.gamma_multiply(height / (2.0 * soft))),
            false => ([*upper + vec2(0.0, soft), *lower - vec2(0.0, soft)], color),
        };
        let first = mesh.vertices.len() as u32;
        mesh.colored_vertex(*upper - vec2(0.0, soft), Color32::TRANSPARENT);
        mesh.colored_vertex(inner[0], shade);
        mesh.colored_vertex(inner[1], shade);
        mesh.colored_vertex(*lower + vec2(0.0, soft), Color32::TRANSPARENT);
        if i > 0 {
            for side in first..first + 3 {
                mesh.add_triangle(side - 4, side - 3, side);
                mesh.add_triangle(side - 3, side, side + 1);
            }
        }
    }
}

/// The upper and lower points of an outline that goes along one bound of a band, and at the same places back along the
/// other: most areas of charts do, and some are nought wide in places.
fn band(points: &[Pos2]) -> Option<Vec<[Pos2; 2]>> {
    let half = points.len() / 2;
    let (there, back) = points.split_at(half);
    let sorted = |(a, b): (&Pos2, &Pos2)| if a.y <= b.y { [*a, *b] } else { [*b, *a] };
    let is_band = half >= 2
        && there.len() == back.len()
        && there.iter().zip(back.iter().rev()).all(|(a, b)| a.x == b.x)
        && (there.is_sorted_by(|a, b| a.x < b.x) || there.is_sorted_by(|a, b| a.x > b.x));
    is_band.then(|| there.iter().zip(back.iter().rev()).map(sorted).collect())
}

/// Adds a filled outline of any shape, with a soft bound.
fn area(mesh: &mut Mesh, points: &[Pos2], pixel: f32, color: Color32) {
    if let Some(pairs) = band(points) {
        return strip(mesh, &pairs, pixel, color);
    }
    let mut ring: Vec<Pos2> = points.to_vec();
    ring.dedup();
    if ring.len() > 1 && ring.first() == ring.last() {
        ring.pop();
    }
    let n = ring.len();
    if n < 3 {
        return;
    }
    let next = |i: usize| (i + 1) % n;
    let doubled: f32 = (0..n).map(|i| cross(ring[i].to_vec2(), ring[next(i)].to_vec2())).sum();
    if doubled < 0.0 {
        ring.reverse();
    }
    let first = mesh.vertices.len() as u32;
    let at = |i: usize, outer: u32| first + 2 * i as u32 + outer;
    // What lies to the right of each side is outside.
    let outside = |i: usize| {
        let side = (ring[next(i)] - ring[i]).normalized();
        vec2(side.y, -side.x)
    };
    for (i, corner) in ring.iter().enumerate() {
        let away = (outside((i + n - 1) % n) + outside(i)).normalized();
        mesh.colored_vertex(*corner, color);
        mesh.colored_vertex(*corner + away * pixel, Color32::TRANSPARENT);
    }
    for [a, b, c] in triangles(&ring) {
        mesh.add_triangle(at(a, 0), at(b, 0), at(c, 0));
    }
    for i in 0..n {
        mesh.add_triangle(at(i, 0), at(next(i), 0), at(i, 1));
        mesh.add_triangle(at(next(i), 0), at(i, 1), at(next(i), 1));
    }
}

fn cross(a: Vec2, b: Vec2) -> f32 {
    a.x * b.y - a.y * b.x
}

/// The triangles of an outline whose inside lies to the left of its sides, by cutting off one ear after another. Takes
/// as many steps as the square of its corners; an outline that crosses itself is covered as well as it goes.
fn triangles(ring: &[Pos2]) -> Vec<[usize; 3]> {
    let mut left: Vec<usize> = (0..ring.len()).collect();
    let mut found = Vec::with_capacity(ring.len().saturating_sub(2));
    // Where to look, and how many corners in a row were no ears.
    let (mut at, mut missed) = (0, 0);
    while left.len() > 3 {
        let n = left.len();
        let corner = [left[(at + n - 1) % n], left[at], left[(at + 1) % n]];
        let [a, b, c] = corner.map(|i| ring[i]);
        let turn = cross(b - a, c - b);
        let within = |p: Pos2| {
            let sides = [(a, b), (b, c), (c, a)];
            ![a, b, c].contains(&p) && sides.iter().all(|(from, to)| cross(*to - *from, p - *from) >= 0.0)
        };
        let is_ear = turn > 0.0 && !left.iter().any(|&i| within(ring[i]));
        if !is_ear && turn != 0.0 && missed < n {
            (at, missed) = ((at + 1) % n, missed + 1);
            continue;
        }
        // A corner of a straight line is none.
        if turn != 0.0 {
            found.push(corner);
        }
        left.remove(at);
        (at, missed) = (at.saturating_sub(1) % (n - 1), 0);
    }
    let last = <[usize; 3]>::try_from(left).ok();
    found.extend(last.filter(|&[a, b, c]| cross(ring[b] - ring[a], ring[c] - ring[b]) != 0.0));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(points: &[(f32, f32)]) -> Vec<Pos2> {
        points.iter().map(|&(x, y)| pos2(x, y)).collect()
    }

    /// The area under triangles, each of which must turn the same way.
    fn covered(ring: &[Pos2]) -> f32 {
        let of = |[a, b, c]: [usize; 3]| cross(ring[b] - ring[a], ring[c] - ring[a]) / 2.0;
        let areas: Vec<f32> = triangles(ring).into_iter().map(of).collect();
        assert!(areas.iter().all(|area| *area > 0.0), "{areas:?}");
        areas.iter().sum()
    }

    #[test]
    fn concave_outlines_are_covered_once() {
        let square = ring(&[(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]);
        assert_eq!(covered(&square), 16.0);
        // An angle, with a corner on a straight side.
        let angle = [(0.0, 0.0), (2.0, 0.0), (4.0, 0.0), (4.0, 1.0), (1.0, 1.0), (1.0, 4.0), (0.0, 4.0)];
        assert_eq!(covered(&ring(&angle)), 7.0);
        // A band that bends to and fro.
        let wave = |i: usize| (i as f32, if i.is_multiple_of(2) { 0.0 } else { 5.0 });
        let upper = (0..20).map(wave);
        let lower = (0..20).rev().map(|i| (wave(i).0, wave(i).1 + 1.0));
        assert!((covered(&ring(&upper.chain(lower).collect::<Vec<_>>())) - 19.0).abs() < 1e-3);
        // One that crosses itself: there is an end to it.
        assert!(triangles(&ring(&[(0.0, 0.0), (4.0, 4.0), (4.0, 0.0), (0.0, 4.0)])).len() <= 2);
        assert!(triangles(&[]).is_empty());
    }

    #[test]
    fn an_area_reaches_its_corners_and_a_pixel_beyond_whichever_way_it_is_written() {
        let diamond = ring(&[(3.0, 1.0), (5.0, 3.0), (3.0, 5.0), (1.0, 3.0), (3.0, 1.0)]);
        let backwards: Vec<Pos2> = diamond.iter().rev().copied().collect();
        for points in [diamond, backwards] {
            let mut mesh = Mesh::default();
            area(&mut mesh, &points, 0.5, Color32::RED);
            assert!(mesh.is_valid());
            let solid: Vec<Pos2> =
                mesh.vertices.iter().filter(|v| v.color == Color32::RED).map(|v| v.pos).collect();
            assert_eq!(Rect::from_points(&solid), Rect::from_min_max(pos2(1.0, 1.0), pos2(5.0, 5.0)));
            let all = mesh.calc_bounds();
            assert!((all.min.x - 0.5).abs() < 1e-3 && (all.max.y - 5.5).abs() < 1e-3, "{all:?}");
        }
        let mut mesh = Mesh::default();
        area(&mut mesh, &ring(&[(0.0, 0.0), (1.0, 1.0), (0.0, 0.0)]), 1.0, Color32::RED);
        assert!(mesh.is_empty(), "a line has no inside");
    }

    #[test]
    fn an_outline_along_two_bounds_is_a_band_even_where_they_meet() {
        let pinched = ring(&[(0.0, 0.0), (2.0, 1.0), (4.0, 0.0), (4.0, 2.0), (2.0, 1.0), (0.0, 2.0)]);
        let expected = [[(0.0, 0.0), (0.0, 2.0)], [(2.0, 1.0), (2.0, 1.0)], [(4.0, 0.0), (4.0, 2.0)]];
        let expected = expected.map(|pair| pair.map(|(x, y)| pos2(x, y)));
        assert_eq!(band(&pinched).unwrap(), expected);
        let mut mesh = Mesh::default();
        area(&mut mesh, &pinched, 1.0, Color32::RED);
        assert!(mesh.is_valid());
        assert_eq!(mesh.vertices.len(), 4 * 3);
        assert_eq!(mesh.vertices[5].color.a(), 0, "nought wide is nothing");
        for other in [&[(0.0, 0.0), (2.0, 1.0), (3.0, 2.0), (0.0, 2.0)][..], &[(0.0, 0.0), (1.0, 1.0)], &[]] {
            assert!(band(&ring(other)).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_ribbon_is_a_strip_between_its_curves() {
        let (from, to) = ([[0.0, 10.0], [0.0, 20.0]], [[60.0, 50.0], [60.0, 54.0]]);
        let pairs: Vec<[Pos2; 2]> =
            pairs(from, to).into_iter().map(|pair| pair.map(|[x, y]| pos2(x, y))).collect();
        assert_eq!(pairs.len(), 13);
        assert!(pairs.iter().all(|[upper, lower]| upper.x == lower.x && upper.y < lower.y));
        let mut mesh = Mesh::default();
        strip(&mut mesh, &pairs, 1.0, Color32::RED);
        assert!(mesh.is_valid());
        assert_eq!((mesh.vertices.len(), mesh.indices.len()), (4 * 13, 3 * 6 * 12));
        let bounds = mesh.calc_bounds();
        assert!((bounds.min.y - 9.5).abs() < 0.1 && (bounds.max.y - 54.5).abs() < 0.1, "{bounds:?}");
        // A straight one is a single piece.
        assert_eq!(super::pairs([[0.0, 0.0], [0.0, 5.0]], [[60.0, 0.1], [60.0, 5.1]]).len(), 2);
    }

    #[test]
    fn a_ribbon_thinner_than_a_pixel_is_paler_instead_of_wider() {
        let shade = |height: f32| {
            let pairs = [0.0, 60.0].map(|x| [pos2(x, 10.0), pos2(x, 10.0 + height)]);
            let mut mesh = Mesh::default();
            strip(&mut mesh, &pairs, 1.0, Color32::WHITE);
            mesh.vertices[1].color.a()
        };
        assert_eq!([shade(3.0), shade(1.0), shade(0.0)], [255, 255, 0]);
        assert!((120..=136).contains(&shade(0.5)), "{}", shade(0.5));
    }
}
