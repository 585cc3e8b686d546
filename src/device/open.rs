//! Where the model runs when no window is open, and the choice that people make on the command line.
//!
//! Knows burn and the list of adapters; the device that a window shares is made in `shared`.

use burn::tensor::{Device, DeviceKind};

/// Where people want a model to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the CPU: software Vulkan is slower than the CPU backend.
    #[default]
    Auto,
    /// burn-flex, pure Rust on the CPU.
    Cpu,
    /// burn-wgpu on the best adapter, a software one if there is no other.
    Gpu,
}

impl DeviceChoice {
    /// Every choice, by the name that people type.
    pub const ALL: [(&str, DeviceChoice); 3] =
        [("auto", DeviceChoice::Auto), ("cpu", DeviceChoice::Cpu), ("gpu", DeviceChoice::Gpu)];
}

/// A device ready for tensors.
#[derive(Clone, Debug)]
pub struct Compute {
    /// burn's handle.
    pub device: Device,
    /// In words, as traces and the window state it.
    pub description: String,
}

/// No usable device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// `--device gpu` on a machine without an adapter.
    #[error("no GPU adapter was found (Vulkan, Metal or DirectX 12): install a driver, or use --device cpu")]
    NoAdapter,
    /// The adapter is there and cannot be opened.
    #[error("{adapter}: the device cannot be opened ({why}); use --device cpu")]
    Open {
        /// Its name.
        adapter: String,
        /// The driver's word.
        why: String,
    },
}

/// Opens the device of a run without a window.
///
/// # Errors
/// [`DeviceError`], when a GPU was asked for and there is none.
pub fn open(choice: DeviceChoice) -> Result<Compute, DeviceError> {
    if choice == DeviceChoice::Cpu {
        return Ok(cpu());
    }
    let best = adapters().into_iter().min_by_key(|a| rank(a.device_type));
    match (best, choice) {
        (Some(info), _) if choice == DeviceChoice::Gpu || is_real(&info) => gpu(&info),
        (None, DeviceChoice::Gpu) => Err(DeviceError::NoAdapter),
        _ => Ok(cpu()),
    }
}

/// The CPU backend.
pub fn cpu() -> Compute {
    Compute { device: Device::flex(), description: "CPU (burn-flex)".to_string() }
}

fn gpu(info: &wgpu::AdapterInfo) -> Result<Compute, DeviceError> {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
        wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
        wgpu::DeviceType::Cpu => DeviceKind::Cpu,
        wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
    };
    let device = Device::wgpu(kind);
    device.sync().map_err(|e| DeviceError::Open { adapter: info.name.clone(), why: e.to_string() })?;
    Ok(Compute { device, description: describe(info) })
}

/// "NAME (burn-wgpu, Vulkan)", software adapters called so.
pub fn describe(info: &wgpu::AdapterInfo) -> String {
    let software = if is_real(info) { "" } else { ", software" };
    format!("{} (burn-wgpu, {:?}{software})", info.name, info.backend)
}

/// Whether the adapter is a GPU and not software.
pub fn is_real(info: &wgpu::AdapterInfo) -> bool {
    info.device_type != wgpu::DeviceType::Cpu
}

fn rank(kind: wgpu::DeviceType) -> usize {
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, Other, VirtualGpu};
    [DiscreteGpu, IntegratedGpu, VirtualGpu, Other, Cpu].iter().position(|&k| k == kind).unwrap_or(9)
}

/// Adapters that burn-wgpu can use.
pub fn adapters() -> Vec<wgpu::AdapterInfo> {
    let backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    found.iter().map(wgpu::Adapter::get_info).collect()
}
