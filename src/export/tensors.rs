//! A safetensors file, written piece by piece, and the same bytes for the same tensors: the crate's own writer holds
//! all of a file at once, and keeps metadata in no order.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::{
    export::error::ExportError,
    files::output::{Output, Part},
};

/// Values of a tensor, row-major, in pieces.
pub type Pieces<'a> = Box<dyn Iterator<Item = Cow<'a, [f32]>> + 'a>;

/// A tensor of float32.
pub struct Tensor<'a> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Pieces<'a>,
}

impl<'a> Tensor<'a> {
    /// A tensor whose values are at hand.
    pub fn whole(name: &str, shape: Vec<usize>, values: impl Into<Cow<'a, [f32]>>) -> Self {
        Tensor { name: name.to_string(), shape, values: Box::new(std::iter::once(values.into())) }
    }

    fn n_bytes(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// Writes tensors, sorted by name, and what else there is to say of them.
///
/// # Errors
/// [`ExportError`]: it cannot be written, or a tensor has not as many values as its shape says.
pub fn write(
    mut tensors: Vec<Tensor<'_>>,
    metadata: &[(&str, &str)],
    name: &str,
    out: &Output,
) -> Result<(), ExportError> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut file = out.create(name)?;
    let header = header(&tensors, metadata);
    file.put(&(header.len() as u64).to_le_bytes())?;
    file.put(&header)?;
    for tensor in tensors {
        let (expected, called) = (tensor.n_bytes(), tensor.name.clone());
        let found = put(tensor, &mut file)?;
        if found != expected {
            let why = format!("`{called}` has {found} bytes, expected {expected} by its shape");
            return Err(ExportError::Encode { file: out.place(name), why });
        }
    }
    Ok(file.finish()?)
}

/// The file's head: JSON, filled up so that values lie at multiples of 8 bytes.
fn header(tensors: &[Tensor<'_>], metadata: &[(&str, &str)]) -> Vec<u8> {
    let (mut header, mut end) = (Map::new(), 0);
    let mut metadata = metadata.to_vec();
    metadata.sort_unstable();
    let metadata: Map<String, Value> =
        metadata.into_iter().map(|(key, value)| (key.to_string(), value.into())).collect();
    header.insert("__metadata__".to_string(), metadata.into());
    for tensor in tensors {
        let start = end;
        end += tensor.n_bytes();
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::from(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

/// Writes a tensor's values; how many bytes they were.
fn put(tensor: Tensor<'_>, file: &mut Part<'_>) -> Result<usize, ExportError> {
    let (mut bytes, mut n) = (Vec::new(), 0);
    for piece in tensor.values {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
        file.put(&bytes)?;
        n += bytes.len();
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::export::folder::{self, TENSORS};

    #[test]
    fn the_crate_reads_what_is_written_and_the_order_is_always_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let values = [1.0, -2.5, 3.0, 4.0, 5.0, f32::MIN_POSITIVE];
        let write = |names: [&str; 2], metadata: &[(&str, &str)]| {
            let out = folder::open(dir.path()).unwrap();
            let tensor = |name: &str| Tensor::whole(name, vec![2, 3], &values[..]);
            write(names.map(tensor).into(), metadata, TENSORS, &out).unwrap();
            out.commit().unwrap();
            std::fs::read(dir.path().join(TENSORS)).unwrap()
        };
        let bytes = write(["b", "a.c"], &[("spans", "x,y"), ("sha256", "00")]);
        assert_eq!(bytes, write(["a.c", "b"], &[("sha256", "00"), ("spans", "x,y")]));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["spans"], "x,y");
        for name in ["a.c", "b"] {
            let tensor = file.tensor(name).unwrap();
            let read: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            assert_eq!((tensor.shape(), &read[..]), (&[2, 3][..], &values[..]));
        }
        let out = folder::open(dir.path()).unwrap();
        let wrong = super::write(vec![Tensor::whole("a", vec![7], &values[..])], &[], TENSORS, &out);
        assert!(wrong.unwrap_err().to_string().contains("expected 28 by its shape"));
    }
}
