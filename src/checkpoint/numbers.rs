//! The formats that matrices take in memory, as numbers are put into them, and what each cannot hold.
//!
//! Knows numbers; not files or tensors' shapes.

use burn::tensor::Element;
use bytemuck::Zeroable;
use half::{bf16, f16, slice::HalfFloatSliceExt as _};

use crate::statistics::finite::larger;

/// A format of numbers in memory.
pub trait Format: Element + Zeroable {
    /// Its name.
    const NAME: &'static str;
    /// The least that the largest magnitude of a tensor must be, unless that is 0: below it, what rounding takes
    /// away is no longer small beside what the files' own formats left.
    const LEAST: f32;
    /// Rounds float32 numbers to the nearest, into room for just as many.
    fn round(numbers: &[f32], to: &mut [Self]);
    /// Whether it is neither a NaN nor an infinity.
    fn finite(self) -> bool;
}

impl Format for f32 {
    const NAME: &'static str = "float32";
    const LEAST: f32 = 0.0;

    fn round(numbers: &[f32], to: &mut [f32]) {
        to.copy_from_slice(numbers);
    }

    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Format for f16 {
    const NAME: &'static str = "float16";
    /// Near 0 its numbers are 2^-24 apart, so that rounding is off by up to 2^-25: of a tensor that reaches 2^-16,
    /// that is no more than bfloat16, with its 8 bits, leaves open of the largest number.
    const LEAST: f32 = 1.0 / 65_536.0;

    fn round(numbers: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(numbers);
    }

    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Format for bf16 {
    const NAME: &'static str = "bfloat16";
    /// Its exponents are float32's.
    const LEAST: f32 = 0.0;

    fn round(numbers: &[f32], to: &mut [bf16]) {
        to.convert_from_f32_slice(numbers);
    }

    fn finite(self) -> bool {
        self.is_finite()
    }
}

/// What a format cannot hold of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lost {
    /// A value beyond its range.
    Range(f32),
    /// All of it: this is the largest magnitude.
    Small(f32),
}

/// A tensor's numbers on their way into a format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Narrowing {
    largest: f32,
}

impl Narrowing {
    /// Rounds some more numbers, all of them numbers, into as much room.
    ///
    /// # Errors
    /// [`Lost::Range`].
    pub fn take<T: Format>(&mut self, numbers: &[f32], to: &mut [T]) -> Result<(), Lost> {
        T::round(numbers, to);
        // No early end: so the loop works on whole registers.
        if !to.iter().fold(true, |all, number| all & number.finite()) {
            let at = to.iter().position(|number| !number.finite()).unwrap_or_default();
            return Err(Lost::Range(numbers[at]));
        }
        if T::LEAST > 0.0 {
            self.largest = numbers.iter().fold(self.largest, |largest, v| larger(largest, v.abs()));
        }
        Ok(())
    }

    /// Both parts of a tensor.
    pub fn and(self, other: Self) -> Self {
        Narrowing { largest: larger(self.largest, other.largest) }
    }

    /// Looks back on all of them.
    ///
    /// # Errors
    /// [`Lost::Small`].
    pub fn end<T: Format>(self) -> Result<(), Lost> {
        let sound = self.largest == 0.0 || self.largest >= T::LEAST;
        if sound { Ok(()) } else { Err(Lost::Small(self.largest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through<T: Format>(numbers: &[f32]) -> Result<Vec<T>, Lost> {
        let mut narrowing = Narrowing::default();
        let mut rounded = vec![T::zeroed(); numbers.len()];
        narrowing.take(numbers, &mut rounded)?;
        narrowing.end::<T>().map(|()| rounded)
    }

    #[test]
    fn what_a_format_cannot_hold_is_found() {
        assert_eq!(through::<f16>(&[1.0, -70_000.0]), Err(Lost::Range(-70_000.0)));
        assert_eq!(through::<f16>(&[65_519.0]).unwrap()[0].to_f32(), 65_504.0);
        // Some that vanish beside others are within what is rounded anyway; where all do, the tensor would be gone.
        assert_eq!(through::<f16>(&[1e-9, 0.02]).unwrap()[0].to_f32(), 0.0);
        assert_eq!(through::<f16>(&[1e-9, 1e-10]), Err(Lost::Small(1e-9)));
        assert_eq!(through::<f16>(&[0.0, 0.0]).unwrap(), [f16::ZERO; 2]);
        assert!(through::<f16>(&[f16::LEAST]).is_ok() && through::<f16>(&[f16::LEAST * 0.99]).is_err());
        assert!(through::<bf16>(&[1e30, 1e-30]).is_ok());
        assert_eq!(through::<bf16>(&[f32::MAX]), Err(Lost::Range(f32::MAX)));
        assert_eq!(through::<f32>(&[f32::MAX, 1e-40]).unwrap(), [f32::MAX, 1e-40]);
    }
}
