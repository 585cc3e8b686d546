//! A tensor with its name, as plain data to be given away.
//!
//! Row-major. Knows neither devices nor files.

use std::sync::Arc;

/// A tensor of float32.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its shape, the slowest axis first.
    pub shape: Vec<usize>,
    /// Its values, as many as the shape says. Shared: they may be large, and lie elsewhere too.
    pub values: Arc<Vec<f32>>,
}

impl NamedTensor {
    /// A tensor.
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        values: impl Into<Arc<Vec<f32>>>,
    ) -> Self {
        NamedTensor { name: name.into(), shape: shape.into(), values: values.into() }
    }

    /// Whether it has as many values as its shape says.
    pub fn is_whole(&self) -> bool {
        let expected = self.shape.iter().try_fold(1_usize, |all, side| all.checked_mul(*side));
        expected == Some(self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_has_as_many_values_as_its_shape_says() {
        assert!(NamedTensor::new("a", [2, 3], vec![0.0; 6]).is_whole());
        assert!(NamedTensor::new("a", [0_usize; 0], vec![0.0]).is_whole());
        assert!(NamedTensor::new("a", [2, 0], Vec::<f32>::new()).is_whole());
        assert!(!NamedTensor::new("a", [2, 3], vec![0.0; 5]).is_whole());
        assert!(!NamedTensor::new("a", [usize::MAX, 2], Vec::<f32>::new()).is_whole());
    }
}
