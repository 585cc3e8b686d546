//! Where the model runs when no window is open, and the choice that people make on the command line.
//!
//! Knows burn and the list of adapters; the device that a window shares is made in `shared`.

use std::{fmt, str::FromStr};

use burn::tensor::{Device, DeviceKind};

use crate::{
    device::{
        address::{Address, AddressError, SCHEME},
        remote::{self, RemoteError},
    },
    progress::Cancel,
};

/// Where people want a model to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the CPU: software Vulkan is slower than the CPU backend.
    #[default]
    Auto,
    /// burn-flex, pure Rust on the CPU.
    Cpu,
    /// burn-wgpu on the best adapter, a software one if there is no other.
    Gpu,
    /// On another machine, where `sightline serve` runs.
    Remote(Address),
}

/// Every choice on this machine, by the name that people type.
const HERE: [(&str, DeviceChoice); 3] =
    [("auto", DeviceChoice::Auto), ("cpu", DeviceChoice::Cpu), ("gpu", DeviceChoice::Gpu)];

/// A text that names no device.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// One elsewhere that is misspelt.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Anything else.
    #[error("expected auto, cpu, gpu, or {SCHEME}ID@HOST:PORT as `sightline serve` prints it")]
    Unknown,
}

impl FromStr for DeviceChoice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        if text.starts_with(SCHEME) {
            return Ok(DeviceChoice::Remote(text.parse()?));
        }
        let found = HERE.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, choice)| choice).ok_or(ChoiceError::Unknown)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Gpu => f.write_str("gpu"),
            DeviceChoice::Remote(address) => write!(f, "{SCHEME}{address}"),
        }
    }
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
    /// A device elsewhere.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// Opens the device of a run without a window.
///
/// # Errors
/// [`DeviceError`], when a GPU was asked for and there is none, or nobody answers elsewhere.
pub fn open(choice: DeviceChoice) -> Result<Compute, DeviceError> {
    match &choice {
        DeviceChoice::Cpu => return Ok(cpu()),
        DeviceChoice::Remote(address) => return Ok(elsewhere(address, &Cancel::default())?),
        DeviceChoice::Auto | DeviceChoice::Gpu => {}
    }
    let best = adapters().into_iter().min_by_key(|a| rank(a.device_type));
    match (best, &choice) {
        (Some(info), _) if choice == DeviceChoice::Gpu || is_real(&info) => gpu(&info),
        (None, DeviceChoice::Gpu) => Err(DeviceError::NoAdapter),
        _ => Ok(cpu()),
    }
}

/// A device on another machine, over a new connection.
///
/// # Errors
/// [`RemoteError`], within about 10 s.
pub fn elsewhere(address: &Address, cancel: &Cancel) -> Result<Compute, RemoteError> {
    let device = remote::connect(address, cancel)?;
    Ok(Compute { device, description: format!("{} (burn-remote, {})", address.short(), address.id) })
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
