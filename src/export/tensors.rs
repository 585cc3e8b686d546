//! A safetensors file, written piece by piece, and the same bytes for the same tensors: the crate's own writer holds
//! all of a file at once, and keeps metadata in no order.

use std::{borrow::Cow, path::Path};

use serde_json::{Map, Value, json};

use crate::{
    export::error::ExportError, files::output::Output, spec::span::Span, statistics::finite::all_finite,
    trace::run::Trace,
};

/// A tensor of float32.
pub struct Tensor<'a> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Values<'a>,
}

/// A tensor's values, row-major, where they lie: traces are large, and a copy would double them.
pub enum Values<'a> {
    /// In one piece.
    Whole(Cow<'a, [f32]>),
    /// Of a trace's rows: `[layers, heads, answer, positions]`, zeros past each row's keys.
    Pattern(&'a Trace),
}

impl Values<'_> {
    /// Hands the values over piece by piece, the zeros left out and counted.
    pub fn each<E>(&self, mut piece: impl FnMut(&[f32], usize) -> Result<(), E>) -> Result<(), E> {
        let trace = match self {
            Values::Whole(values) => return piece(values, 0),
            Values::Pattern(trace) => trace,
        };
        let positions = trace.n_positions();
        for layer in 0..trace.kept.layers.len() {
            for head in 0..trace.kept.heads.len() {
                for row in &trace.pattern {
                    piece(&row.head(layer, head), positions - row.n_keys())?;
                }
            }
        }
        Ok(())
    }

    /// Whether all of them are numbers.
    pub fn all_finite(&self) -> bool {
        self.each(|values, _| if all_finite(values) { Ok(()) } else { Err(()) }).is_ok()
    }
}

impl<'a> Tensor<'a> {
    /// A tensor whose values are at hand.
    pub fn whole(name: &str, shape: Vec<usize>, values: impl Into<Cow<'a, [f32]>>) -> Self {
        Tensor { name: name.to_string(), shape, values: Values::Whole(values.into()) }
    }

    /// The attention of a trace.
    pub fn pattern(name: &str, trace: &'a Trace) -> Self {
        let (layers, heads) = (trace.kept.layers.len(), trace.kept.heads.len());
        let shape = vec![layers, heads, trace.pattern.len(), trace.n_positions()];
        Tensor { name: name.to_string(), shape, values: Values::Pattern(trace) }
    }

    /// What each span of a trace reads from each, if that is known.
    pub fn flow(name: &str, trace: &'a Trace) -> Option<Self> {
        let flow = trace.flow.as_ref()?;
        Some(Tensor::whole(name, vec![flow.n_layers, Span::COUNT, Span::COUNT], &flow.data))
    }

    fn n_bytes(&self) -> usize {
        size_of::<f32>() * self.shape.iter().product::<usize>()
    }
}

/// Writes tensors into a folder, as [`pieces`].
///
/// # Errors
/// [`ExportError`]: it cannot be written, or a tensor has not as many values as its shape says.
pub fn write(
    tensors: Vec<Tensor<'_>>,
    metadata: &[(&str, &str)],
    name: &str,
    out: &Output,
) -> Result<(), ExportError> {
    let mut file = out.create(name)?;
    pieces(tensors, metadata, &out.place(name), &mut |bytes| Ok(file.put(bytes)?))?;
    Ok(file.finish()?)
}

/// A file of tensors, sorted by name, and what else there is to say of them, piece by piece; `file` is what errors
/// call it.
///
/// # Errors
/// [`ExportError`]: those of `put`, or a tensor has not as many values as its shape says.
pub fn pieces(
    mut tensors: Vec<Tensor<'_>>,
    metadata: &[(&str, &str)],
    file: &Path,
    put: &mut dyn FnMut(&[u8]) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let header = header(&tensors, metadata);
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    let mut bytes = Vec::new();
    for tensor in tensors {
        let mut found = 0;
        tensor.values.each(|values, zeros| {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            bytes.resize(bytes.len() + size_of::<f32>() * zeros, 0);
            found += bytes.len();
            put(&bytes)
        })?;
        let expected = tensor.n_bytes();
        if found != expected {
            let why = format!("`{}` has {found} bytes, expected {expected} by its shape", tensor.name);
            return Err(ExportError::Encode { file: file.to_path_buf(), why });
        }
    }
    Ok(())
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
