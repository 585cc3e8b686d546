//! Rows of many passes, kept as few tensors: `[rows, width]`.

use std::mem;

use burn::tensor::Tensor;

use crate::engine::decoding::TOGETHER;

/// The rows of some passes, one behind the other.
#[derive(Default)]
pub struct Parts {
    joined: Vec<Tensor<2>>,
    /// Of the last few passes: a tensor for every row of a long answer would take more than its numbers.
    last: Vec<Tensor<2>>,
}

impl Parts {
    /// Adds the rows of one more pass.
    pub fn push(&mut self, rows: Tensor<2>) {
        self.last.push(rows);
        if self.last.len() == TOGETHER {
            self.joined.push(Tensor::cat(mem::take(&mut self.last), 0));
        }
    }

    /// All of them; `None` if there are none.
    pub fn join(self) -> Option<Tensor<2>> {
        let Parts { joined: mut all, last } = self;
        all.extend(last);
        (!all.is_empty()).then(|| Tensor::cat(all, 0))
    }
}
