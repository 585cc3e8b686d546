//! Matrices larger than a buffer of the device may be: in blocks, and the same numbers.
#![allow(clippy::unwrap_used)]

use std::{fs, io::Write as _, path::Path};

use burn::tensor::{Tensor, TensorData};
use serde_json::json;
use sightline::{
    checkpoint::{
        shards::Watch,
        weights::{WeightDtype, Weights},
    },
    device::{
        limits::{SMALLEST, largest_tensor},
        open as device,
        open::Compute,
    },
    model::nn::Matrix,
    progress::Cancel,
};

use crate::common::gpu;

const KEY: &str = "lm_head.weight";

/// A folder whose only weight is `[out, width]`, float32.
fn folder([out, width]: [usize; 2]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut header =
        json!({ KEY: { "dtype": "F32", "shape": [out, width], "data_offsets": [0, 4 * out * width] } })
            .to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = fs::File::create(dir.path().join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for row in 0..out {
        let values = (0..width).map(|i| ((row * 31 + i * 17) % 257) as f32 / 257.0 - 0.5);
        file.write_all(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    }
    dir
}

/// The matrix on a device that holds so many bytes in one piece.
fn loaded(dir: &Path, shape: [usize; 2], compute: &Compute, most: Option<u64>) -> Matrix {
    let cancel = Cancel::default();
    let watch = Watch::new(dir, &cancel, &|_| {}).unwrap();
    let weights = Weights::open(dir, &compute.device, WeightDtype::F32, &watch).unwrap().within(most);
    Matrix::load(&weights, KEY, shape).unwrap()
}

/// Products of two rows, and some rows of the matrix.
fn used(matrix: &Matrix, [out, width]: [usize; 2], compute: &Compute) -> [Vec<f32>; 2] {
    let x: Vec<f32> = (0..2 * width).map(|n| (n % 13) as f32 / 13.0 - 0.4).collect();
    let x = Tensor::from_data(TensorData::new(x, [2, width]), &compute.device);
    let rows = matrix.rows(&[out - 1, 0, out / 2, out / 2 + 1, 1]);
    [matrix.product(x), rows].map(|t| t.try_into_vec_as::<f32>().unwrap())
}

fn agree(shape: [usize; 2], compute: &Compute, most: Option<u64>, blocks: usize) {
    let dir = folder(shape);
    let here = loaded(dir.path(), shape, &device::cpu(), None);
    let there = loaded(dir.path(), shape, compute, most);
    assert_eq!(there.dims(), shape);
    assert!(matches!(&there, Matrix::Rows(parts) if parts.len() >= blocks), "not split");
    let ([product, rows], [expected, expected_rows]) =
        (used(&there, shape, compute), used(&here, shape, &device::cpu()));
    assert_eq!(rows, expected_rows);
    assert_eq!(product.len(), expected.len());
    for (found, expected) in product.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-3, "{found}, expected {expected}");
    }
}

#[test]
fn a_split_matrix_is_the_matrix_on_the_cpu() {
    // Blocks of 7 rows, the last shorter.
    agree([100, 64], &device::cpu(), Some(7 * 4 * 64 + 3), 15);
}

#[test]
fn a_split_matrix_is_the_matrix_through_wgpu() {
    let Some(compute) = gpu() else { return };
    agree([1000, 64], &compute, Some(1 << 16), 4);
}

#[test]
fn what_a_gpu_cannot_bind_in_one_piece_is_split() {
    let Some(compute) = gpu() else { return };
    let most = largest_tensor(&compute.device);
    let limit = most.unwrap();
    assert!(limit >= SMALLEST, "{limit}");
    // 160 MB, as the head of a large vocabulary: beyond what lavapipe binds.
    let shape = [39_063, 1024];
    let blocks = 1 + usize::from(4 * (shape[0] * shape[1]) as u64 > limit);
    agree(shape, &compute, most, blocks);
}
