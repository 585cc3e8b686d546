//! The pipeline that draws maps: what goes to the window's device, and what stays there between frames.
//!
//! Mirrors `shaders/heatmap.wgsl`. The shader reads a row where it lies: in the model's own buffer when
//! inference is on the window's device, else in a copy of the lines that are drawn, uploaded once. Any number
//! of maps are one draw call, an instance a cell and block of patches: a rectangle a patch would cost a software
//! adapter more than the pixels do.
//!
//! Knows buffers; nothing of layers or of heads.

use eframe::egui_wgpu::{CallbackResources, CallbackTrait, RenderState, ScreenDescriptor};
use wgpu::util::DeviceExt as _;

use crate::{
    device::shared::ResidentRow,
    trace::palette::Colormap,
    ui::widgets::{
        lines::Lines,
        slots::{Filled, Slots},
    },
};

/// Storage buffers that the vertex shader reads; the fragment shader reads one more.
const STORAGE_BUFFERS: u32 = 2;

/// Patches of one grid that lie together, as the shader has them. Rows before columns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Block {
    /// `[x0, y0, x1, y1]` as shares of the image.
    pub rect: [f32; 4],
    /// Where its first patch stands in the grid.
    pub first: [u32; 2],
    /// How many patches it has.
    pub size: [u32; 2],
    /// How many the grid has.
    pub grid: [u32; 2],
    /// Key of the grid's first patch.
    pub grid_key: u32,
    /// Nothing: the shader's structures are of 16 bytes each.
    pub pad: u32,
}

/// One map, as the shader has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Cell {
    /// `[x0, y0, x1, y1]` as shares of all cells together.
    pub rect: [f32; 4],
    /// First line of numbers.
    pub line: u32,
    /// How many: their mean is drawn. With none, nothing is.
    pub n_lines: u32,
    /// Value at the lower end of the colours.
    pub low: f32,
    /// Value at the upper end.
    pub high: f32,
}

/// Where the numbers are.
#[derive(Debug)]
pub enum Numbers {
    /// `[layers x heads, keys]`, on the window's device.
    Resident {
        /// The row.
        row: ResidentRow,
        /// Keys of it.
        n_keys: usize,
    },
    /// `[cells, keys]`, to be uploaded.
    Lines(Lines),
}

/// What one callback draws. Neither blocks, cells nor keys may be none.
#[derive(Debug)]
pub struct Picture {
    /// Tells pictures that are on screen together apart.
    pub slot: u64,
    /// Number of the frame that it is drawn in.
    pub frame: u64,
    /// Colours.
    pub colormap: Colormap,
    /// 1: linear.
    pub gamma: f32,
    /// Of every colour.
    pub opacity: f32,
    /// Whether numbers are interpolated.
    pub smooth: bool,
    /// `[x0, y0, x1, y1]` of all cells together, as shares of the callback's rectangle: may lie beyond it.
    pub place: [f32; 4],
    /// The numbers.
    pub numbers: Numbers,
    /// The patches of every cell.
    pub blocks: Vec<Block>,
    /// The maps.
    pub cells: Vec<Cell>,
}

/// Puts the pipeline into the window's renderer. Returns whether the adapter can run it.
pub fn install(state: &RenderState) -> bool {
    let downlevel = state.adapter.get_downlevel_capabilities();
    let limits = state.device.limits();
    if !downlevel.flags.contains(wgpu::DownlevelFlags::VERTEX_STORAGE)
        || limits.max_storage_buffers_per_shader_stage < STORAGE_BUFFERS
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
    place: [f32; 4],
    gamma: f32,
    opacity: f32,
    n_keys: u32,
    first_key: u32,
    n_blocks: u32,
    is_smooth: u32,
    srgb_target: u32,
    pad: u32,
}

impl Params {
    fn of(picture: &Picture, srgb_target: bool) -> Self {
        let mut coefficients = [[0.0; 4]; 7];
        for (to, from) in coefficients.iter_mut().zip(picture.colormap.coefficients()) {
            to[..3].copy_from_slice(from);
        }
        let (n_keys, first_key) = match &picture.numbers {
            Numbers::Resident { n_keys, .. } => (*n_keys, 0),
            Numbers::Lines(lines) => (lines.keys.len(), lines.keys.start),
        };
        Params {
            coefficients,
            place: picture.place,
            // As `Colormap::with_gamma` has it.
            gamma: if picture.colormap.is_diverging() { 1.0 } else { picture.gamma },
            opacity: picture.opacity,
            n_keys: n_keys as u32,
            first_key: first_key as u32,
            n_blocks: picture.blocks.len() as u32,
            is_smooth: u32::from(picture.smooth),
            srgb_target: u32::from(srgb_target),
            pad: 0,
        }
    }
}

/// The shader, and what every picture on screen keeps between frames.
struct Pipeline {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
    srgb_target: bool,
    slots: Slots<Slot>,
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
            entry(1, storage, wgpu::ShaderStages::FRAGMENT),
            entry(2, storage, wgpu::ShaderStages::VERTEX),
            entry(3, storage, wgpu::ShaderStages::VERTEX),
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
        primitive: wgpu::PrimitiveState {
            topology: wgpu::PrimitiveTopology::TriangleStrip,
            ..Default::default()
        },
        depth_stencil: None,
        multisample: Default::default(),
        multiview_mask: None,
        cache: None,
    })
}

/// What one picture on screen keeps between frames.
#[derive(Default)]
struct Slot {
    params: Option<wgpu::Buffer>,
    /// The lines, copied up where the row does not lie on the device.
    upload: Filled<Lines, wgpu::Buffer>,
    /// The row where the model left it, while it is the one that is bound.
    resident: Option<ResidentRow>,
    blocks: Filled<Vec<Block>, wgpu::Buffer>,
    cells: Filled<Vec<Cell>, wgpu::Buffer>,
    /// Holds for as long as all four buffers do.
    group: Option<wgpu::BindGroup>,
}

impl Slot {
    /// Writes the parameters; makes new buffers only for what is not the same as in the frame before.
    fn follow(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        layout: &wgpu::BindGroupLayout,
        picture: &Picture,
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
        let mut changed = self.blocks.hold(&picture.blocks, |b| storage(bytemuck::cast_slice(b)));
        changed |= self.cells.hold(&picture.cells, |c| storage(bytemuck::cast_slice(c)));
        let resident = match &picture.numbers {
            Numbers::Resident { row, .. } => {
                self.upload.clear();
                Some(row)
            }
            Numbers::Lines(lines) => {
                changed |= self.upload.hold(lines, |l| storage(bytemuck::cast_slice(&l.numbers())));
                None
            }
        };
        changed |= self.resident.as_ref().map(ResidentRow::key) != resident.map(ResidentRow::key);
        self.resident = resident.cloned();
        let numbers = match (&self.resident, self.upload.buffer()) {
            (Some(resident), _) => resident.binding(),
            (None, Some(uploaded)) => uploaded.as_entire_binding(),
            (None, None) => return,
        };
        let (Some(blocks), Some(cells)) = (self.blocks.buffer(), self.cells.buffer()) else { return };
        if changed || self.group.is_none() {
            self.group = Some(device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("heatmap"),
                layout,
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: params_buffer.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: numbers },
                    wgpu::BindGroupEntry { binding: 2, resource: blocks.as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 3, resource: cells.as_entire_binding() },
                ],
            }));
        }
    }
}

impl CallbackTrait for Picture {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        _screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        if let Some(pipeline) = resources.get_mut::<Pipeline>() {
            let params = Params::of(self, pipeline.srgb_target);
            let slot = pipeline.slots.drawn(self.slot, self.frame);
            slot.follow(device, queue, &pipeline.layout, self, &params);
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
        // Only now has every picture of this frame been marked as drawn.
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
        let Some(group) = pipeline.slots.get(self.slot).and_then(|slot| slot.group.as_ref()) else {
            return;
        };
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.draw(0..4, 0..(self.cells.len() * self.blocks.len()) as u32);
    }
}
