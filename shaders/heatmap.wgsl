// One coloured rectangle a patch, drawn over the image. Mirrors src/ui/widgets/heatmap.rs.
//
// `attention` is one answer row `[layers, heads, keys]`, read where the model left it. The mean of
// the heads is taken here, in the order in which the tooltip's CPU function takes it.
// Needs colormap.wgsl in front of it.

struct Params {
    coefficients: array<vec4<f32>, 7>,
    low: f32,
    high: f32,
    // The same for every value.
    opacity: f32,
    layer: u32,
    // ALL_HEADS: the mean.
    head: u32,
    n_heads: u32,
    n_keys: u32,
    // 1: the target converts from linear light when written.
    srgb_target: u32,
}

struct Patch {
    // x0, y0, x1, y1 as shares of the image.
    rect: vec4<f32>,
    key: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

const ALL_HEADS: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> attention: array<f32>;
@group(0) @binding(2) var<storage, read> patches: array<Patch>;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) @interpolate(flat) value: f32,
}

fn attention_to(key: u32) -> f32 {
    let base = params.layer * params.n_heads;
    if params.head != ALL_HEADS {
        return attention[(base + params.head) * params.n_keys + key];
    }
    var sum = 0.0;
    for (var head = 0u; head < params.n_heads; head++) {
        sum += attention[(base + head) * params.n_keys + key];
    }
    return sum / f32(params.n_heads);
}

@vertex
fn vs_main(@builtin(vertex_index) vertex: u32, @builtin(instance_index) instance: u32) -> Corner {
    // Two triangles: 0 1 2, 2 1 3.
    var order = array<u32, 6>(0u, 1u, 2u, 2u, 1u, 3u);
    let corner = order[vertex];
    let share = vec2(f32(corner & 1u), f32(corner >> 1u));
    let patch_ = patches[instance];
    let at = mix(patch_.rect.xy, patch_.rect.zw, share);
    var out: Corner;
    out.position = vec4(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0, 0.0, 1.0);
    out.value = attention_to(patch_.key);
    return out;
}

fn linear_from_gamma(c: vec3<f32>) -> vec3<f32> {
    return select(pow((c + 0.055) / 1.055, vec3(2.4)), c / 12.92, c < vec3(0.04045));
}

@fragment
fn fs_main(in: Corner) -> @location(0) vec4<f32> {
    let t = (in.value - params.low) / max(params.high - params.low, 1e-30);
    var rgb = colormap(params.coefficients, t);
    if params.srgb_target == 1u {
        rgb = linear_from_gamma(rgb);
    }
    return vec4(rgb * params.opacity, params.opacity);
}
