//! The one wgpu device that the window and the model share.
//!
//! The only file that names both burn and wgpu. The window creates the device through
//! [`wgpu_setup`], burn is put onto it by [`burn_device`], and [`resident`] turns a tensor into a
//! buffer that a shader can bind, without reading it back. Knows nothing of what the numbers mean.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    cubecl::wgpu::{AutoCompiler, WgpuResource, WgpuServer},
    tensor::{DType, Device, Tensor},
};
use burn_wgpu::{CubeTensor, Wgpu};
use eframe::egui_wgpu::{RenderState, WgpuSetup, WgpuSetupCreateNew};

use crate::device::{
    open as device,
    open::{Compute, DeviceChoice, DeviceError},
};

/// How the window, and the tests that stand in for it, create their device.
///
/// Every feature that the adapter has is asked for, since burn's compiler looks at the adapter
/// rather than the device when it decides what a kernel may use. Left out: experimental ones, which
/// burn's WGSL path does not touch, and host-mapped buffers, which slow discrete cards down.
pub fn wgpu_setup() -> WgpuSetup {
    let mut setup = WgpuSetupCreateNew::without_display_handle();
    setup.device_descriptor = Arc::new(|adapter| wgpu::DeviceDescriptor {
        label: Some("sightline"),
        required_features: adapter.features()
            - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS
            - wgpu::Features::all_experimental_mask(),
        required_limits: adapter.limits(),
        ..Default::default()
    });
    WgpuSetup::CreateNew(setup)
}

/// Where the model runs when the window draws on `state`: on the same device where that is a real
/// GPU or `choice` insists, else on the CPU, which beats a software adapter many times over. Of a
/// device elsewhere: where on this machine it would run.
///
/// # Errors
/// When burn refuses the device.
pub fn burn_device(state: Option<&RenderState>, choice: DeviceChoice) -> Result<Compute, DeviceError> {
    let here = || match choice {
        DeviceChoice::Remote(_) => DeviceChoice::Auto,
        ref here => here.clone(),
    };
    let Some(state) = state else { return device::open(here()) };
    let info = state.adapter.get_info();
    let on_gpu = match choice {
        // The window has a device here all the same.
        DeviceChoice::Auto | DeviceChoice::Remote(_) => device::is_real(&info),
        DeviceChoice::Cpu => false,
        DeviceChoice::Gpu => true,
    };
    if !on_gpu {
        return Ok(device::cpu());
    }
    let setup = burn::tensor::wgpu::WgpuSetup {
        instance: state.instance.clone(),
        adapter: state.adapter.clone(),
        device: state.device.clone(),
        queue: state.queue.clone(),
        backend: info.backend,
    };
    let failed = |why: String| DeviceError::Open { adapter: info.name.clone(), why };
    let device = Device::wgpu_options().setup(setup).init().map_err(|e| failed(e.to_string()))?;
    let probe = primitive(&Tensor::<1>::zeros([1], &device));
    let probe = probe.ok_or_else(|| failed("it gave a tensor of another kind".to_string()))?;
    *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe.device);
    Ok(Compute { device, description: device::describe(&info) })
}

/// burn's name for the device that the window draws on, once it is shared. A buffer of any other
/// device must not be bound by the window.
static SHARED: Mutex<Option<burn::cubecl::Device>> = Mutex::new(None);

/// Attention of one answer row, `[layers, heads, keys]` in f32, where the model left it.
///
/// Holds the tensor, so the memory stays as it is for as long as a window may draw from it.
#[derive(Clone)]
pub struct ResidentRow {
    resource: WgpuResource,
    /// Dropped last: frees the memory for other tensors.
    _tensor: Arc<CubeTensor>,
}

impl ResidentRow {
    /// The buffer and the place in it, to be bound as `var<storage, read>`.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        self.resource.as_wgpu_bind_resource()
    }

    /// Identifies buffer and place, to tell rows apart.
    pub fn key(&self) -> (usize, u64) {
        (Arc::as_ptr(&self._tensor) as usize, self.resource.offset)
    }
}

impl std::fmt::Debug for ResidentRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResidentRow({} bytes at {})", self.resource.size, self.resource.offset)
    }
}

/// The buffer behind `tensor`, `None` when it does not lie on the window's device, contiguous and
/// in f32. Submits the work that fills it: call it where the model runs, not while drawing.
pub fn resident(tensor: &Tensor<3>) -> Option<ResidentRow> {
    let tensor = primitive(tensor)?;
    let shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if shared.as_ref() != Some(&tensor.device) || tensor.dtype != DType::F32 || !tensor.is_contiguous() {
        return None;
    }
    let managed = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone()).ok()?;
    tensor.client.flush().ok()?;
    Some(ResidentRow { resource: managed.resource().clone(), _tensor: Arc::new(tensor) })
}

fn primitive<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    tensor.clone().try_into_primitive::<Wgpu>().ok()
}
