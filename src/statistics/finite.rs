//! Numbers that are none, told and never passed over: `f32::max` gives its other operand where one is NaN.

/// Whether there is neither a NaN nor an infinity among some values.
pub fn all_finite(values: &[f32]) -> bool {
    // No early end: so the loop works on whole registers.
    values.iter().fold(true, |all, v| all & v.is_finite())
}

/// The larger of two values; NaN where either is.
#[inline]
pub fn larger<T: PartialOrd>(a: T, b: T) -> T {
    let none = b.partial_cmp(&b).is_none();
    if none || b > a { b } else { a }
}

/// The largest of some values that are not negative, 0 for none of them; NaN where one is.
pub fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_largest_wherever_it_stands() {
        for values in [[f32::NAN, 1.0, 2.0], [1.0, f32::NAN, 2.0], [1.0, 2.0, f32::NAN]] {
            assert!(largest(values).is_nan(), "{values:?}");
            assert!(!all_finite(&values), "{values:?}");
        }
        assert_eq!(largest([1.0, 3.0, 2.0]), 3.0);
        assert_eq!(largest([]), 0.0);
        assert_eq!(larger(-1.0, -2.0), -1.0);
        assert!(larger(f64::NAN, 1.0).is_nan() && larger(1.0, f64::NAN).is_nan());
        assert!(!all_finite(&[0.0, f32::INFINITY]) && !all_finite(&[f32::NEG_INFINITY, 0.0]));
        assert!(all_finite(&[0.0, f32::MAX, f32::MIN]) && all_finite(&[]));
    }
}
