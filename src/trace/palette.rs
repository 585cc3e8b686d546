//! The colours of numbers and of spans, the same on screen and in files.
//!
//! Colour maps are evaluated alike on the CPU (colour bar, layer strip) and in `shaders/colormap.wgsl`
//! (heatmap). Colours are plain numbers: nothing here knows a window.
//!
//! Every map is a polynomial of degree 6. Viridis, inferno and magma are perceptually uniform; theirs were
//! fitted to matplotlib's tables by Matt Zucker, released into the public domain (CC0):
//! <https://www.shadertoy.com/view/WlfXRN>. They stay within a few levels of 255 of the tables. Turbo and the
//! diverging map were fitted here to matplotlib's `turbo` and `coolwarm`, so that the largest error is the
//! smallest: 15 and 3 levels.

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
    /// Dark blue to dark red through green: tells more steps apart, but its brightness rises and falls.
    Turbo,
    /// Blue through grey to red, equally bright at equal distances from the middle: for numbers that have a
    /// sign, between two ends equally far from zero.
    Diverging,
}

impl Colormap {
    /// The maps of numbers without a sign, such as attention, in the order of the menu.
    pub const ALL: [Colormap; 4] = [Colormap::Viridis, Colormap::Inferno, Colormap::Magma, Colormap::Turbo];

    /// Name to show.
    pub fn name(self) -> &'static str {
        match self {
            Colormap::Viridis => "viridis",
            Colormap::Inferno => "inferno",
            Colormap::Magma => "magma",
            Colormap::Turbo => "turbo",
            Colormap::Diverging => "diverging",
        }
    }

    /// Whether it stands around a middle rather than going from little to much.
    pub fn is_diverging(self) -> bool {
        self == Colormap::Diverging
    }

    /// `[degree][rgb]`, constant term first.
    pub fn coefficients(self) -> &'static [[f32; 3]; 7] {
        match self {
            Colormap::Viridis => &VIRIDIS,
            Colormap::Inferno => &INFERNO,
            Colormap::Magma => &MAGMA,
            Colormap::Turbo => &TURBO,
            Colormap::Diverging => &DIVERGING,
        }
    }

    /// Where on the map to look up what lies at `t` between the ends: `t` to the power of `gamma`, which below
    /// 1 spreads out small numbers. [`Colormap::rgb`] knows nothing of it: whoever draws comes here first. The
    /// diverging map has none, since its middle must stay where it is.
    pub fn with_gamma(self, t: f32, gamma: f32) -> f32 {
        let t = t.clamp(0.0, 1.0);
        if self.is_diverging() { t } else { t.powf(gamma) }
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

const TURBO: [[f32; 3]; 7] = [
    [0.1309694, 0.071475826, 0.22791564],
    [5.403063, 3.1398668, 7.0576],
    [-49.50523, -5.5665116, -2.2837675],
    [151.66562, 29.852266, -126.262146],
    [-176.10214, -81.37701, 353.9603],
    [70.4375, 80.249016, -360.58264],
    [-1.4911976, -26.349201, 127.932556],
];

const DIVERGING: [[f32; 3]; 7] = [
    [0.2291664, 0.28993094, 0.75446385],
    [1.1915476, 2.482689, 1.5313478],
    [0.14512162, -10.186979, -1.4272648],
    [2.346135, 46.55005, -3.909112],
    [-5.9767137, -104.96207, 1.4641006],
    [2.7280314, 101.552086, 4.3522463],
    [0.04302073, -35.701366, -2.616328],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE lightness, 0 to 100.
    fn lightness(map: Colormap, t: f32) -> f32 {
        let linear = |c: f32| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let [r, g, b] = map.rgb(t).map(linear);
        let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        if luminance > 0.008856 { 116.0 * luminance.cbrt() - 16.0 } else { 903.3 * luminance }
    }

    #[test]
    fn meets_the_published_tables_at_both_ends_and_in_the_middle() {
        // matplotlib's first, 128th and last entries, and how far off the polynomial may be.
        for (map, ends, most) in [
            (Colormap::Viridis, [[68, 1, 84], [33, 145, 140], [253, 231, 37]], 6),
            (Colormap::Inferno, [[0, 0, 4], [188, 55, 84], [252, 255, 164]], 6),
            (Colormap::Magma, [[0, 0, 4], [183, 55, 121], [252, 253, 191]], 6),
            (Colormap::Turbo, [[48, 18, 59], [164, 252, 60], [122, 4, 3]], 16),
            (Colormap::Diverging, [[59, 76, 192], [221, 220, 220], [180, 4, 38]], 3),
        ] {
            for (t, expected) in [0.0, 128.0 / 255.0, 1.0].into_iter().zip(ends) {
                let found = map.rgb(t).map(|c| (c * 255.0).round() as i32);
                let off = found.iter().zip(expected).map(|(a, b): (_, i32)| (a - b).abs()).max();
                assert!(off <= Some(most), "{} at {t}: {found:?}, table {expected:?}", map.name());
            }
        }
    }

    #[test]
    fn brightness_grows_on_the_perceptually_uniform_maps() {
        for map in [Colormap::Viridis, Colormap::Inferno, Colormap::Magma] {
            let grows = |i: u8| lightness(map, f32::from(i) / 20.0) < lightness(map, f32::from(i + 1) / 20.0);
            assert!((0..20).all(grows), "{}", map.name());
        }
    }

    #[test]
    fn the_diverging_map_is_brightest_and_grey_in_the_middle_and_even_on_both_sides() {
        let map = Colormap::Diverging;
        for i in 0..10u8 {
            let (near, far) = (f32::from(i) / 20.0, f32::from(i + 1) / 20.0);
            for side in [-1.0, 1.0] {
                assert!(
                    lightness(map, 0.5 + side * near) > lightness(map, 0.5 + side * far),
                    "{near}, {side}"
                );
            }
            let off = lightness(map, 0.5 - far) - lightness(map, 0.5 + far);
            assert!(off.abs() < 2.0, "{far} from the middle: {off}");
        }
        let middle = map.rgb8(0.5);
        assert!(middle.iter().all(|c| c.abs_diff(middle[0]) <= 3), "{middle:?}");
        let ([r0, _, b0], [r1, _, b1]) = (map.rgb8(0.0), map.rgb8(1.0));
        assert!(b0 > r0 && r1 > b1, "blue below, red above");
        assert!(!Colormap::ALL.contains(&map), "attention has no sign");
    }

    #[test]
    fn gamma_spreads_small_numbers_and_leaves_the_ends_and_the_diverging_map() {
        for map in Colormap::ALL {
            assert_eq!([0.0, 1.0].map(|t| map.with_gamma(t, 0.4)), [0.0, 1.0]);
            assert_eq!((map.with_gamma(0.25, 0.5), map.with_gamma(0.25, 1.0)), (0.5, 0.25));
            assert_eq!((map.with_gamma(-3.0, 0.5), map.with_gamma(7.0, 0.5)), (0.0, 1.0));
        }
        assert_eq!(Colormap::Diverging.with_gamma(0.25, 0.5), 0.25);
    }
}
