//! Tensors for NumPy: `numpy.load` gives them by name, float32, in their shapes, row-major.

use std::io::Cursor;

use ndarray::{ArrayViewD, IxDyn};
use ndarray_npy::NpzWriter;

use crate::trace::tensors::NamedTensor;

/// The bytes of their file.
///
/// # Errors
/// In words: a tensor has not as many values as its shape says, or all of them are too many for such a file.
pub fn npz(tensors: &[NamedTensor]) -> Result<Vec<u8>, String> {
    let mut out = NpzWriter::new(Cursor::new(Vec::new()));
    for tensor in tensors {
        let said = |why: String| format!("`{}`: {why}", tensor.name);
        let view = ArrayViewD::from_shape(IxDyn(&tensor.shape), &tensor.values[..])
            .map_err(|e| said(e.to_string()))?;
        out.add_array(tensor.name.as_str(), &view).map_err(|e| said(e.to_string()))?;
    }
    Ok(out.finish().map_err(|e| e.to_string())?.into_inner())
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;
    use ndarray_npy::NpzReader;

    use super::*;

    #[test]
    fn the_crate_reads_what_is_written_and_equal_tensors_leave_equal_bytes() {
        let values: Vec<f32> = (0..6).map(|i| i as f32 / 3.0).collect();
        let tensors = [
            NamedTensor::new("flow", [1, 2, 3], values.clone()),
            NamedTensor::new("row.3", [6], values.clone()),
        ];
        let bytes = npz(&tensors).unwrap();
        assert_eq!(bytes, npz(&tensors).unwrap());
        let mut read = NpzReader::new(Cursor::new(bytes)).unwrap();
        let flow: ArrayD<f32> = read.by_name("flow").unwrap();
        assert_eq!((flow.shape(), flow.as_slice().unwrap()), (&[1, 2, 3][..], &values[..]));
        let row: ArrayD<f32> = read.by_name("row.3").unwrap();
        assert_eq!((row.shape(), row.as_slice().unwrap()), (&[6][..], &values[..]));
        let short = NamedTensor::new("short", [7], values);
        assert!(npz(&[short]).unwrap_err().contains("`short`: "));
    }
}
