//! The colours of numbers and of spans, the same on screen and in files.
//!
//! Colour maps are perceptually uniform, and evaluated alike on the CPU (colour bar, layer strip) and in
//! `shaders/colormap.wgsl` (heatmap). Colours are plain numbers: nothing here knows a window.
//!
//! Polynomials of degree 6 fitted to matplotlib's tables by Matt Zucker, released into the public
//! domain (CC0): <https://www.shadertoy.com/view/WlfXRN>. They stay within a few levels of 255 of the
//! tables.

use serde::{Deserialize, Serialize};

use crate::spec::span::Span;

/// A choice of colours for numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Colormap {
    /// Dark violet to yellow through green.
    Viridis,
    /// Black to pale yellow through red.
    #[default]
    Inferno,
    /// Black to pale pink through purple.
    Magma,
}

impl Colormap {
    /// Every map, in the order of the menu.
    pub const ALL: [Colormap; 3] = [Colormap::Viridis, Colormap::Inferno, Colormap::Magma];

    /// Name to show.
    pub fn name(self) -> &'static str {
        match self {
            Colormap::Viridis => "viridis",
            Colormap::Inferno => "inferno",
            Colormap::Magma => "magma",
        }
    }

    /// `[degree][rgb]`, constant term first.
    pub fn coefficients(self) -> &'static [[f32; 3]; 7] {
        match self {
            Colormap::Viridis => &VIRIDIS,
            Colormap::Inferno => &INFERNO,
            Colormap::Magma => &MAGMA,
        }
    }

    /// The colour of `t`, which is clamped to 0..1; components in 0..1, gamma-encoded.
    pub fn rgb(self, t: f32) -> [f32; 3] {
        let t = t.clamp(0.0, 1.0);
        let c = self.coefficients();
        std::array::from_fn(|i| {
            let value = c.iter().rev().fold(0.0, |sum, degree| sum * t + degree[i]);
            value.clamp(0.0, 1.0)
        })
    }

    /// The colour of `t` in 8 bits.
    pub fn rgb8(self, t: f32) -> [u8; 3] {
        self.rgb(t).map(|c| (c * 255.0).round() as u8)
    }
}

/// The colour of a span. After Okabe and Ito, told apart by most colour-blind readers.
pub fn span_rgb(span: Span) -> [u8; 3] {
    match span {
        Span::Bos => [128, 128, 128],
        Span::System => [176, 160, 140],
        Span::Markers => [204, 121, 167],
        Span::Visual => [230, 159, 0],
        Span::Question => [86, 180, 233],
        Span::Last => [0, 114, 178],
        Span::Answer => [0, 158, 115],
    }
}

#[expect(clippy::excessive_precision, reason = "copied as published")]
const VIRIDIS: [[f32; 3]; 7] = [
    [0.2777273272234177, 0.005407344544966578, 0.3340998053353061],
    [0.1050930431085774, 1.404613529898575, 1.384590162594685],
    [-0.3308618287255563, 0.214847559468213, 0.09509516302823659],
    [-4.634230498983486, -5.799100973351585, -19.33244095627987],
    [6.228269936347081, 14.17993336680509, 56.69055260068105],
    [4.776384997670288, -13.74514537774601, -65.35303263337234],
    [-5.435455855934631, 4.645852612178535, 26.3124352495832],
];

#[expect(clippy::excessive_precision, reason = "copied as published")]
const INFERNO: [[f32; 3]; 7] = [
    [0.0002189403691192265, 0.001651004631001012, -0.01948089843709184],
    [0.1065134194856116, 0.5639564367884091, 3.932712388889277],
    [11.60249308247187, -3.972853965665698, -15.9423941062914],
    [-41.70399613139459, 17.43639888205313, 44.35414519872813],
    [77.162935699427, -33.40235894210092, -81.80730925738993],
    [-71.31942824499214, 32.62606426397723, 73.20951985803202],
    [25.13112622477341, -12.24266895238567, -23.07032500287172],
];

#[expect(clippy::excessive_precision, reason = "copied as published")]
const MAGMA: [[f32; 3]; 7] = [
    [-0.002136485053939582, -0.000749655052795221, -0.005386127855323933],
    [0.2516605407371642, 0.6775232436837668, 2.494026599312351],
    [8.353717279216625, -3.577719514958484, 0.3144679030132573],
    [-27.66873308576866, 14.26473078096533, -13.64921318813922],
    [52.17613981234068, -27.94360607168351, 12.94416944238394],
    [-50.76852536473588, 29.04658282127291, 4.23415299384598],
    [18.65570506591883, -11.48977351997711, -5.601961508734096],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meets_the_published_tables_at_both_ends_and_in_the_middle() {
        // matplotlib's first, 128th and last entries.
        for (map, ends) in [
            (Colormap::Viridis, [[68, 1, 84], [33, 145, 140], [253, 231, 37]]),
            (Colormap::Inferno, [[0, 0, 4], [188, 55, 84], [252, 255, 164]]),
            (Colormap::Magma, [[0, 0, 4], [183, 55, 121], [252, 253, 191]]),
        ] {
            for (t, expected) in [0.0, 128.0 / 255.0, 1.0].into_iter().zip(ends) {
                let found = map.rgb(t).map(|c| (c * 255.0).round() as i32);
                let off = found.iter().zip(expected).map(|(a, b): (_, i32)| (a - b).abs()).max();
                assert!(off <= Some(6), "{} at {t}: {found:?}, table {expected:?}", map.name());
            }
        }
    }

    #[test]
    fn brightness_grows() {
        for map in Colormap::ALL {
            let luma = |t: f32| {
                let [r, g, b] = map.rgb(t);
                0.2126 * r + 0.7152 * g + 0.0722 * b
            };
            assert!((0..20).all(|i| luma(i as f32 / 20.0) < luma((i + 1) as f32 / 20.0)), "{}", map.name());
        }
    }
}
