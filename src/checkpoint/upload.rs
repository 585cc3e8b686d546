//! Weights on their way to where they are used. On this machine nothing is to be done. To a device elsewhere they go
//! over a wire that takes no frame beyond 1 GiB and holds sixteen back before it slows the sender down
//! (burn-remote's `MAX_FRAME_SIZE` and `WRITE_QUEUE_CAP`): large ones go in pieces of whole rows, and every so often
//! it is asked whether all has arrived, so that memory here stays small and a broken connection is found at once.

use std::cell::Cell;

use burn::{
    backend::DispatchDevice,
    tensor::{DType, Device, Tensor, TensorData},
};

/// Bytes of a piece, and how many go out before it is asked after them.
const PIECE: usize = 256 << 20;

/// The way to a device.
#[derive(Debug)]
pub struct Upload {
    device: Device,
    is_far: bool,
    /// Bytes since it was last asked.
    sent: Cell<usize>,
}

impl Upload {
    /// To a device.
    pub fn to(device: &Device) -> Self {
        let is_far = matches!(device.as_dispatch(), DispatchDevice::Remote(_));
        Upload { device: device.clone(), is_far, sent: Cell::new(0) }
    }

    /// A tensor on the device, in `data`'s format or another. `D` is as many dimensions as `data` has.
    ///
    /// # Errors
    /// Why the device did not take it.
    pub fn tensor<const D: usize>(&self, data: TensorData, dtype: DType) -> Result<Tensor<D>, String> {
        let place = |data| Tensor::from_data(data, (&self.device, dtype));
        if !self.is_far {
            return Ok(place(data));
        }
        let mut parts = Vec::new();
        for part in pieces(data, PIECE) {
            self.sent.set(self.sent.get() + part.bytes().len());
            parts.push(place(part));
            if self.sent.get() >= PIECE {
                self.sent.set(0);
                self.device.sync().map_err(|e| e.to_string())?;
            }
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Tensor::cat(parts, 0),
        })
    }
}

/// Pieces of whole rows of the first dimension, of at most `most` bytes as far as a row allows.
fn pieces(data: TensorData, most: usize) -> Vec<TensorData> {
    let (shape, bytes) = (data.shape().as_slice().to_vec(), data.bytes().len());
    let rows = shape.first().copied().unwrap_or(0);
    if bytes <= most || rows < 2 {
        return vec![data];
    }
    let row = bytes / rows;
    let step = (most / row).max(1) * row;
    let piece = |part: &[u8]| {
        let mut shape = shape.clone();
        shape[0] = part.len() / row;
        TensorData::from_bytes_vec(part.to_vec(), shape, data.dtype())
    };
    data.bytes().chunks(step).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_rows_and_together_all_of_it() {
        let values: Vec<f32> = (0..70).map(|i| i as f32).collect();
        for (most, expected) in [(280, vec![7]), (130, vec![3, 3, 1]), (40, vec![1; 7]), (1, vec![1; 7])] {
            let parts = pieces(TensorData::new(values.clone(), [7, 5, 2]), most);
            let rows: Vec<usize> = parts.iter().map(|part| part.shape()[0]).collect();
            assert_eq!(rows, expected, "at most {most} bytes");
            let tensors =
                parts.into_iter().map(|part| Tensor::<3>::from_data(part, &Device::flex())).collect();
            assert_eq!(Tensor::cat(tensors, 0).try_into_vec_as::<f32>().unwrap(), values);
        }
    }
}
