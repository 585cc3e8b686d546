//! What a device can hold in one piece.
//!
//! Knows burn's devices; not what tensors are for.

use burn::{
    backend::Flex,
    tensor::{Device, Tensor},
};
use burn_wgpu::{CubeTensor, Wgpu};

/// What every device of WebGPU binds at least: taken where a device does not say.
pub const SMALLEST: u64 = 128 << 20;

/// Most bytes of one tensor; `None` on the CPU, where only memory limits it.
pub fn largest_tensor(device: &Device) -> Option<u64> {
    let probe = Tensor::<1>::zeros([1], device);
    if probe.clone().try_into_primitive::<Flex>().is_ok() {
        return None;
    }
    let there: Option<CubeTensor> = probe.try_into_primitive::<Wgpu>().ok();
    Some(there.map_or(SMALLEST, |tensor| tensor.client.properties().memory.max_page_size))
}
