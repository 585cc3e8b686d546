// Maps of patches, drawn over an image or side by side: one rectangle a cell and block of patches. Mirrors
// src/ui/widgets/heatmap.rs and heatmap_pipeline.rs. Needs colormap.wgsl in front of it.
//
// `numbers` is `[lines, keys]`: a whole answer row read where the model left it, a line a layer and head, or
// what the cells need of one, a line a cell. Where a cell has the lines of several heads, their mean is taken
// here, in the order in which the tooltip's CPU function takes it.

struct Params {
    coefficients: array<vec4<f32>, 7>,
    // x0, y0, x1, y1 of all cells together, as shares of what is drawn into: may lie beyond it.
    place: vec4<f32>,
    gamma: f32,
    // The same for every value.
    opacity: f32,
    // Keys of a line, and the key of its first number.
    n_keys: u32,
    first_key: u32,
    n_blocks: u32,
    // 1: between the middles of neighbouring patches, numbers are interpolated.
    is_smooth: u32,
    // 1: the target converts from linear light when written.
    srgb_target: u32,
    pad: u32,
}

// Patches of one grid that lie together: most often all of them. Rows before columns.
struct Block {
    // x0, y0, x1, y1 as shares of the image.
    rect: vec4<f32>,
    // Where its first patch stands in the grid, and how many there are.
    first: vec2<u32>,
    size: vec2<u32>,
    // Of the grid: how many there are, and the key of the first. Keys run row by row.
    grid: vec2<u32>,
    grid_key: u32,
    pad: u32,
}

// One map.
struct Cell {
    // x0, y0, x1, y1 as shares of all cells together.
    rect: vec4<f32>,
    // First line of numbers, and how many: their mean is drawn. 0: there are no numbers.
    line: u32,
    n_lines: u32,
    // Values at the two ends of the colours.
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> numbers: array<f32>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read> cells: array<Cell>;

struct Corner {
    @builtin(position) position: vec4<f32>,
    // Place in the grid, in patches: row and column of a patch are its upper left corner.
    @location(0) at: vec2<f32>,
    // First and last patch of the block.
    @location(1) @interpolate(flat) block: vec4<i32>,
    // Rows and columns of the grid, and the key of its first patch.
    @location(2) @interpolate(flat) grid: vec3<i32>,
    // First line of numbers, and how many.
    @location(3) @interpolate(flat) lines: vec2<u32>,
    // Values at the two ends of the colours.
    @location(4) @interpolate(flat) ends: vec2<f32>,
}

@vertex
fn vs_main(@builtin(vertex_index) vertex: u32, @builtin(instance_index) instance: u32) -> Corner {
    let cell = cells[instance / params.n_blocks];
    let block = blocks[instance % params.n_blocks];
    let corner = vec2(f32(vertex & 1u), f32(vertex >> 1u));
    // A patch may reach beyond the image, a map never beyond its cell.
    let on_image = clamp(mix(block.rect.xy, block.rect.zw, corner), vec2(0.0), vec2(1.0));
    let on_cells = mix(cell.rect.xy, cell.rect.zw, on_image);
    let at = mix(params.place.xy, params.place.zw, on_cells);
    let inside = (on_image - block.rect.xy) / max(block.rect.zw - block.rect.xy, vec2(1e-30));
    var out: Corner;
    out.position = vec4(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0, 0.0, 1.0);
    out.at = vec2<f32>(block.first) + inside.yx * vec2<f32>(block.size);
    out.block = vec4<i32>(vec4(block.first, block.first + block.size - 1u));
    out.grid = vec3<i32>(vec3(block.grid, block.grid_key));
    out.lines = vec2(cell.line, cell.n_lines);
    out.ends = vec2(cell.low, cell.high);
    return out;
}

struct Number {
    value: f32,
    // Whether it is a number at all.
    known: bool,
}

// By its bits: a shader may take it for granted that every float is a number.
fn one_number(at: u32) -> Number {
    let value = numbers[at];
    return Number(value, (bitcast<u32>(value) & 0x7fffffffu) <= 0x7f800000u);
}

// The number of the patch at a row and column of the grid.
fn number_at(in: Corner, patch_: vec2<i32>) -> Number {
    let key = u32(in.grid.z + patch_.x * in.grid.y + patch_.y);
    // What lies before the first key wraps round to beyond the last.
    let at = key - params.first_key;
    if at >= params.n_keys || in.lines.y == 0u {
        return Number(0.0, false);
    }
    if in.lines.y == 1u {
        return one_number(in.lines.x * params.n_keys + at);
    }
    var sum = Number(0.0, true);
    for (var head = 0u; head < in.lines.y; head++) {
        let one = one_number((in.lines.x + head) * params.n_keys + at);
        sum.value += one.value;
        sum.known = sum.known && one.known;
    }
    return Number(sum.value / f32(in.lines.y), sum.known);
}

// The number of a neighbour; at the border of the grid, and beside what has none, the patch's own.
fn beside(in: Corner, patch_: vec2<i32>, own: f32) -> f32 {
    let number = number_at(in, clamp(patch_, vec2(0), in.grid.xy - 1));
    return select(own, number.value, number.known);
}

// Between the middles of the patches around.
fn smooth_value(in: Corner, patch_: vec2<i32>, own: f32) -> f32 {
    let from_middle = in.at - vec2<f32>(patch_) - 0.5;
    let side = select(vec2(-1), vec2(1), from_middle > vec2(0.0));
    let far = abs(from_middle);
    let level = mix(own, beside(in, patch_ + vec2(0, side.y), own), far.y);
    let vertical = beside(in, patch_ + vec2(side.x, 0), own);
    let other = mix(vertical, beside(in, patch_ + side, own), far.y);
    return mix(level, other, far.x);
}

fn linear_from_gamma(c: vec3<f32>) -> vec3<f32> {
    return select(pow((c + 0.055) / 1.055, vec3(2.4)), c / 12.92, c < vec3(0.04045));
}

@fragment
fn fs_main(in: Corner) -> @location(0) vec4<f32> {
    let patch_ = clamp(vec2<i32>(floor(in.at)), in.block.xy, in.block.zw);
    let own = number_at(in, patch_);
    if !own.known {
        discard;
    }
    var value = own.value;
    if params.is_smooth == 1u {
        value = smooth_value(in, patch_, own.value);
    }
    let t = (value - in.ends.x) / max(in.ends.y - in.ends.x, 1e-30);
    var rgb = colormap(params.coefficients, with_gamma(t, params.gamma));
    if params.srgb_target == 1u {
        rgb = linear_from_gamma(rgb);
    }
    return vec4(rgb * params.opacity, params.opacity);
}
