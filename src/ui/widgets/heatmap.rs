//! The attention map over the image: one coloured rectangle a patch.
//!
//! Mirrors `shaders/heatmap.wgsl`. The shader reads the row where it lies: in the model's own
//! buffer when inference is on the window's device, else in a copy uploaded once when the row is
//! first drawn. [`value`] computes the same number on the CPU for tooltips and ranges. Where the
//! adapter cannot read storage buffers in a vertex shader, [`Map::paint`] draws plain rectangles.
//!
//! Knows rows and rectangles; nothing of runs or of views.

use std::sync::Arc;

use eframe::egui_wgpu::{self, CallbackResources, CallbackTrait, RenderState, ScreenDescriptor};
use egui::{Rect, Ui, pos2};
use wgpu::util::DeviceExt as _;

use crate::{
    device::shared::ResidentRow,
    trace::{palette::Colormap, pattern::PatternRow},
    ui::{
        theme,
        widgets::slots::{Filled, Slots},
    },
};

/// The head mean, for the shader.
const ALL_HEADS: u32 = u32::MAX;

/// Attention of `layer` to `key`: of one head, or the mean of all, summed in the shader's order.
pub fn value(row: &PatternRow, layer: usize, head: Option<usize>, key: usize) -> f32 {
    match head {
        Some(head) => row.head(layer, head)[key],
        None => {
            let sum = (0..row.n_heads).fold(0.0, |sum, head| sum + row.head(layer, head)[key]);
            sum / row.n_heads as f32
        }
    }
}

/// Where one patch lies and which key position it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Patch {
    /// `[x0, y0, x1, y1]` as shares of the image.
    pub rect: [f32; 4],
    /// Absolute position of its visual token.
    pub key: u32,
    pad: [u32; 3],
}

impl Patch {
    /// A patch.
    pub fn new(rect: [f32; 4], key: usize) -> Self {
        Patch { rect, key: key as u32, pad: [0; 3] }
    }
}

/// A map, ready to draw.
#[derive(Clone, Debug)]
pub struct Map {
    /// The row.
    pub row: PatternRow,
    /// The same numbers on the window's device, if they are there.
    pub resident: Option<ResidentRow>,
    /// Patches to colour.
    pub patches: Arc<[Patch]>,
    /// Decoder layer.
    pub layer: usize,
    /// Query head, or the mean.
    pub head: Option<usize>,
    /// Values at the two ends of the colour map.
    pub range: (f32, f32),
    /// Colours.
    pub colormap: Colormap,
    /// Opacity, the same for every value: what lies under it never changes what a colour means.
    pub opacity: f32,
    /// What every key would get if attention were spread evenly over all that could be seen.
    pub uniform: f32,
    /// Tells maps that are on screen together apart: their view chooses it.
    pub slot: u64,
}

impl Map {
    /// The number behind patch `at`.
    pub fn value(&self, at: usize) -> f32 {
        value(&self.row, self.layer, self.head, self.patches[at].key as usize)
    }

    /// Where `value` lies between the two ends of the colour map.
    pub fn share(&self, value: f32) -> f32 {
        ((value - self.range.0) / (self.range.1 - self.range.0).max(1e-30)).clamp(0.0, 1.0)
    }

    /// Draws it over the image at `rect`.
    pub fn paint(self, ui: &Ui, rect: Rect, on_gpu: bool) {
        if on_gpu {
            let frame = ui.ctx().cumulative_frame_nr();
            let callback = egui_wgpu::Callback::new_paint_callback(rect, Callback { map: self, frame });
            ui.painter().add(callback);
            return;
        }
        for (at, patch) in self.patches.iter().enumerate() {
            let [x0, y0, x1, y1] = patch.rect;
            let place = |x, y| pos2(rect.left() + x * rect.width(), rect.top() + y * rect.height());
            let share = self.share(self.value(at));
            let color = theme::map_color(self.colormap, share).gamma_multiply(self.opacity);
            ui.painter().rect_filled(Rect::from_min_max(place(x0, y0), place(x1, y1)), 0.0, color);
        }
    }
}

/// Puts the pipeline into the window's renderer. Returns whether the adapter can run it.
pub fn install(state: &RenderState) -> bool {
    let downlevel = state.adapter.get_downlevel_capabilities();
    let limits = state.device.limits();
    if !downlevel.flags.contains(wgpu::DownlevelFlags::VERTEX_STORAGE)
        || limits.max_storage_buffers_per_shader_stage < 2
    {
        return false;
    }
    let pipeline = Pipeline::new(&state.device, state.target_format);
    state.renderer.write().callback_resources.insert(pipeline);
    true
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    coefficients: [[f32; 4]; 7],
    low: f32,
    high: f32,
    opacity: f32,
    layer: u32,
    head: u32,
    n_heads: u32,
    n_keys: u32,
    srgb_target: u32,
}

/// The shader, and what every map on screen keeps between frames.
struct Pipeline {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
    srgb_target: bool,
    slots: Slots<Slot>,
}

/// What one map on screen keeps between frames.
#[derive(Default)]
struct Slot {
    params: Option<wgpu::Buffer>,
    /// The row, copied up where it does not lie on the device.
    upload: Filled<Vec<f32>, wgpu::Buffer>,
    /// The row where the model left it, while it is the one that is bound.
    resident: Option<ResidentRow>,
    patches: Filled<[Patch], wgpu::Buffer>,
    /// Holds for as long as all three buffers do.
    group: Option<wgpu::BindGroup>,
}

impl Pipeline {
    fn new(device: &wgpu::Device, target: wgpu::TextureFormat) -> Self {
        let layout = bind_group_layout(device);
        let pipeline = render_pipeline(device, target, &layout);
        Pipeline { pipeline, layout, srgb_target: target.is_srgb(), slots: Slots::default() }
    }
}

fn bind_group_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entry = |binding, ty, visibility| wgpu::BindGroupLayoutEntry {
        binding,
        visibility,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let storage = wgpu::BufferBindingType::Storage { read_only: true };
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("heatmap"),
        entries: &[
            entry(0, wgpu::BufferBindingType::Uniform, wgpu::ShaderStages::VERTEX_FRAGMENT),
            entry(1, storage, wgpu::ShaderStages::VERTEX),
            entry(2, storage, wgpu::ShaderStages::VERTEX),
        ],
    })
}

fn render_pipeline(
    device: &wgpu::Device,
    target: wgpu::TextureFormat,
    layout: &wgpu::BindGroupLayout,
) -> wgpu::RenderPipeline {
    let source = concat!(
        include_str!("../../../shaders/colormap.wgsl"),
        include_str!("../../../shaders/heatmap.wgsl")
    );
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("heatmap"),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("heatmap"),
        bind_group_layouts: &[Some(layout)],
        ..Default::default()
    });
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("heatmap"),
        layout: Some(&pipeline_layout),
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("vs_main"),
            compilation_options: Default::default(),
            buffers: &[],
        },
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("fs_main"),
            compilation_options: Default::default(),
            targets: &[Some(wgpu::ColorTargetState {
                format: target,
                blend: Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING),
                write_mask: wgpu::ColorWrites::ALL,
            })],
        }),
        primitive: Default::default(),
        depth_stencil: None,
        multisample: Default::default(),
        multiview_mask: None,
        cache: None,
    })
}

impl Slot {
    /// Writes the parameters; makes new buffers only for what is not the same as in the frame before.
    fn follow(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        layout: &wgpu::BindGroupLayout,
        map: &Map,
        params: &Params,
    ) {
        let storage = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE;
            let label = Some("heatmap");
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label, contents, usage })
        };
        let params_buffer = self.params.get_or_insert_with(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("heatmap"),
                size: size_of::<Params>() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        queue.write_buffer(params_buffer, 0, bytemuck::bytes_of(params));
        let mut changed = self.patches.hold(&map.patches, |p| storage(bytemuck::cast_slice(p)));
        let key = |row: &Option<ResidentRow>| row.as_ref().map(ResidentRow::key);
        changed |= key(&self.resident) != key(&map.resident);
        self.resident.clone_from(&map.resident);
        match &self.resident {
            Some(_) => self.upload.clear(),
            None => changed |= self.upload.hold(&map.row.data, |d| storage(bytemuck::cast_slice(d))),
        }
        let attention = match (&self.resident, self.upload.buffer()) {
            (Some(resident), _) => resident.binding(),
            (None, Some(uploaded)) => uploaded.as_entire_binding(),
            (None, None) => return,
        };
        let Some(patches) = self.patches.buffer() else { return };
        if changed || self.group.is_none() {
            self.group = Some(device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("heatmap"),
                layout,
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: params_buffer.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: attention },
                    wgpu::BindGroupEntry { binding: 2, resource: patches.as_entire_binding() },
                ],
            }));
        }
    }
}

struct Callback {
    map: Map,
    /// Number of the frame that it is drawn in.
    frame: u64,
}

impl Params {
    fn of(map: &Map, srgb_target: bool) -> Self {
        let mut coefficients = [[0.0; 4]; 7];
        for (to, from) in coefficients.iter_mut().zip(map.colormap.coefficients()) {
            to[..3].copy_from_slice(from);
        }
        Params {
            coefficients,
            low: map.range.0,
            high: map.range.1,
            opacity: map.opacity,
            layer: map.layer as u32,
            head: map.head.map_or(ALL_HEADS, |h| h as u32),
            n_heads: map.row.n_heads as u32,
            n_keys: map.row.n_keys as u32,
            srgb_target: srgb_target as u32,
        }
    }
}

impl CallbackTrait for Callback {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        _screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        if let Some(pipeline) = resources.get_mut::<Pipeline>() {
            let params = Params::of(&self.map, pipeline.srgb_target);
            let slot = pipeline.slots.drawn(self.map.slot, self.frame);
            slot.follow(device, queue, &pipeline.layout, &self.map, &params);
        }
        Vec::new()
    }

    fn finish_prepare(
        &self,
        _device: &wgpu::Device,
        _queue: &wgpu::Queue,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        // Only now has every map of this frame been marked as drawn.
        if let Some(pipeline) = resources.get_mut::<Pipeline>() {
            pipeline.slots.prune(self.frame);
        }
        Vec::new()
    }

    fn paint(
        &self,
        _info: egui::PaintCallbackInfo,
        pass: &mut wgpu::RenderPass<'static>,
        resources: &CallbackResources,
    ) {
        let Some(pipeline) = resources.get::<Pipeline>() else { return };
        let Some(group) = pipeline.slots.get(self.map.slot).and_then(|slot| slot.group.as_ref()) else {
            return;
        };
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.draw(0..6, 0..self.map.patches.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_one_head_or_the_mean() {
        let data: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32).collect();
        let row = PatternRow { n_layers: 2, n_heads: 3, n_keys: 4, data: data.into() };
        assert_eq!(value(&row, 1, Some(2), 3), 23.0);
        assert_eq!(value(&row, 0, None, 1), (1.0 + 5.0 + 9.0) / 3.0);
    }
}
