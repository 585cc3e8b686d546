//! An axis of a chart: its ends, where a number stands on it, and the round numbers that are written at it.
//!
//! Lengths are points. Knows numbers; nothing of what they measure.

/// An axis over some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    /// From one written number to the next: 1, 2 or 5 times a power of ten.
    step: f64,
    /// Where both ends are on the page.
    ends: [f32; 2],
}

impl Axis {
    /// Over all `numbers`, and from `known` end to end where those are known; its ends are round. On the page it
    /// reaches from one of `ends` to the other, with a number every `apart` points at most.
    pub fn round(
        numbers: impl Iterator<Item = f64>,
        known: Option<[f64; 2]>,
        ends: [f32; 2],
        apart: f32,
    ) -> Self {
        let Axis { low, high, step, .. } =
            Axis::tight(numbers.chain(known.into_iter().flatten()), ends, apart);
        Axis { low: (low / step + NEAR).floor() * step, high: (high / step - NEAR).ceil() * step, step, ends }
    }

    /// Over all `numbers`, and no further.
    pub fn tight(numbers: impl Iterator<Item = f64>, ends: [f32; 2], apart: f32) -> Self {
        let found =
            numbers.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], n| [low.min(n), high.max(n)]);
        let [mut low, mut high] = if found[0] <= found[1] { found } else { [0.0, 1.0] };
        // Of one number alone there is no scale.
        if high - low <= NEAR * low.abs().max(high.abs()) {
            let room = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
            (low, high) = (low - room, high + room);
        }
        let most = f64::from((ends[1] - ends[0]).abs() / apart.max(1.0)).max(2.0);
        Axis { low, high, step: step(high - low, most), ends }
    }

    /// The same with whole numbers alone written at it.
    pub fn whole(self) -> Self {
        Axis { step: self.step.max(1.0), ..self }
    }

    /// Where a number stands.
    pub fn place(&self, number: f64) -> f32 {
        let share = ((number - self.low) / (self.high - self.low)).clamp(0.0, 1.0) as f32;
        self.ends[0] + (self.ends[1] - self.ends[0]) * share
    }

    /// Whether a number lies between its ends, and is neither.
    pub fn crosses(&self, number: f64) -> bool {
        self.low < number && number < self.high
    }

    /// The round numbers on it, ascending, and how they are written.
    pub fn marks(&self) -> Vec<(f64, String)> {
        let from = (self.low / self.step - NEAR).ceil() as i64;
        let to = (self.high / self.step + NEAR).floor() as i64;
        (from..=to).map(|n| n as f64 * self.step).map(|number| (number, self.written(number))).collect()
    }

    /// A number with as many digits as tell marks apart.
    fn written(&self, number: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        match number {
            0.0 => "0".to_string(),
            _ if largest >= 1e6 || self.step < 1e-5 => format!("{number:.1e}"),
            _ => {
                let decimals = (-(self.step.log10() + NEAR).floor()).max(0.0) as usize;
                format!("{number:.decimals$}")
            }
        }
    }
}

/// What is no difference, as a share.
const NEAR: f64 = 1e-9;

/// The smallest of 1, 2 and 5 times a power of ten that divides a length into no more than `most`.
fn step(length: f64, most: f64) -> f64 {
    let least = length / most;
    let power = 10.0_f64.powf(least.log10().floor());
    let fits = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= least * (1.0 - NEAR));
    fits.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis) -> Vec<String> {
        axis.marks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_are_round_and_the_axis_ends_at_them() {
        let axis = Axis::round([-1.3, 0.4].into_iter(), None, [200.0, 0.0], 50.0);
        assert_eq!(texts(axis), ["-1.5", "-1.0", "-0.5", "0", "0.5"]);
        assert_eq!((axis.place(-1.5), axis.place(-0.5), axis.place(0.5)), (200.0, 100.0, 0.0));
        let known = Axis::round([0.3, 0.31].into_iter(), Some([0.0, 1.0]), [200.0, 0.0], 40.0);
        assert_eq!(texts(known), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert!(axis.crosses(0.0) && !known.crosses(0.0));
        let tiny = Axis::round([0.0, 3.1e-6].into_iter(), None, [0.0, 100.0], 50.0);
        assert_eq!(texts(tiny), ["0", "2.0e-6", "4.0e-6"]);
    }

    #[test]
    fn layers_are_whole_and_their_axis_ends_with_them() {
        let axis = Axis::tight((0..6).map(f64::from), [10.0, 60.0], 1.0).whole();
        assert_eq!(texts(axis), ["0", "1", "2", "3", "4", "5"]);
        assert!((axis.place(3.0) - 40.0).abs() < 1e-3);
        let many = Axis::tight((0..30).map(f64::from), [0.0, 290.0], 30.0).whole();
        assert_eq!(texts(many), ["0", "5", "10", "15", "20", "25"]);
    }

    #[test]
    fn one_number_none_and_a_large_one_have_an_axis_too() {
        for numbers in [vec![], vec![0.0], vec![-3.0; 2], vec![1e38], vec![1e-30]] {
            let axis = Axis::round(numbers.clone().into_iter(), None, [0.0, 100.0], 30.0);
            let marks = axis.marks();
            assert!((2..9).contains(&marks.len()), "{numbers:?}: {marks:?}");
            assert!(marks.iter().all(|(number, _)| axis.place(*number).is_finite()));
        }
    }
}
