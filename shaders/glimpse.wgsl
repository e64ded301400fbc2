// Patches of a spectrogram around a location, one after the other, flat; 0 outside the spectrogram.
#import grid

struct Params {
    batch: u32,   // B
    frames: u32,  // T
    bands: u32,   // F
    len: u32,     // N, values of a glimpse
    lengths_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // (R, B, T, F)
@group(0) @binding(2) var<storage, read> location: array<vec2<f32>>; // (R, B), time and frequency, -1 to 1
@group(0) @binding(3) var<storage, read> lengths: array<u32>;        // (R, B), frames
@group(0) @binding(4) var<storage, read> patches: array<vec2<u32>>;  // (K), frames x bands
@group(0) @binding(5) var<storage, read_write> y: array<f32>;        // (R, B, N)

// First of `size` cells centred as near as possible to `position` on an axis of `cells` cells.
fn first(position: f32, cells: u32, size: u32) -> i32 {
    let at = 0.5 * (position + 1.0) * (f32(cells) - 1.0);
    return i32(floor(at + 1.0 - 0.5 * f32(size)));
}

@compute @workgroup_size(64)
fn glimpse_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) local_index: u32) {
    let item = group_index(id, count) * 64u + local_index;
    if item >= p.batch * p.len { return; }
    let b = item / p.len;
    let clip = id.z * p.batch + b;
    let length = min(lengths[id.z * p.lengths_stride + b], p.frames);
    // Which patch, and which of its cells.
    var cell = item % p.len;
    var k = 0u;
    var size = patches[0];
    while cell >= size.x * size.y {
        cell -= size.x * size.y;
        k++;
        size = patches[k];
    }
    let frame = first(location[clip].x, length, size.x) + i32(cell / size.y);
    let band = first(location[clip].y, p.bands, size.y) + i32(cell % size.y);
    var v = 0.0;
    if frame >= 0 && frame < i32(length) && band >= 0 && band < i32(p.bands) {
        v = x[(clip * p.frames + u32(frame)) * p.bands + u32(band)];
    }
    y[id.z * p.batch * p.len + item] = v;
}
