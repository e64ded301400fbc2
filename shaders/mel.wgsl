// Sums a spectrogram into bands, on a linear or logarithmic scale.
//
//   forward    v = sum over bins k of band m of weights x;  y (..., M) = v, factor ln(v + offset) - level, or
//              factor ln(max(v, offset)) - level
//
// A band covers consecutive bins; the weights are packed one band after the other.
#import grid

struct Params {
    rows: u32,           // of y, of one replica
    frames: u32,         // rows of a clip in y
    patch_frames: u32,   // of a patch
    hop: u32,            // frames of x from a patch to the next
    x_frames: u32,       // of a clip in x
    bins: u32,
    bands: u32,
    x_stride: u32,       // elements between replicas
    scale: u32,          // 0 linear, 1 logarithm with an offset, 2 dB
    offset: f32,
    factor: f32,         // of the logarithm
    level: f32,          // of dB, that of the reference
}

struct Band {
    first: u32,          // bin
    count: u32,
    at: u32,             // in weights
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (clips, x_frames, bins) every x_stride
@group(0) @binding(2) var<storage, read> bands: array<Band>;  // (bands)
@group(0) @binding(3) var<storage, read> weights: array<f32>; // all bands, one after the other
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // (R, rows, bands)

const WORKGROUP_SIZE = 64u;
const ROWS = 4u;

fn scaled(v: f32) -> f32 {
    if p.scale == 1u { return p.factor * log(v + p.offset) - p.level; }
    if p.scale == 2u { return p.factor * log(max(v, p.offset)) - p.level; }
    return v;
}

// One invocation per band and ROWS frames, which share each weight.
@compute @workgroup_size(64)
fn mel_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let row = i / p.bands * ROWS;
    if row >= p.rows { return; }
    let m = i % p.bands;
    let band = bands[m];
    let last = p.rows - 1u;
    // Rows beyond the last read it again and are not written.
    let rows = vec4(row, min(row + 1u, last), min(row + 2u, last), min(row + 3u, last));
    let clips = rows / p.frames;
    let in_clip = rows - clips * p.frames;
    let patches = in_clip / p.patch_frames;
    let frame = clips * p.x_frames + patches * p.hop + in_clip - patches * p.patch_frames;
    let at = frame * p.bins + vec4(id.z * p.x_stride + band.first);
    var sum = vec4(0.0);
    for (var k = 0u; k < band.count; k++) {
        sum += weights[band.at + k] * vec4(x[at.x + k], x[at.y + k], x[at.z + k], x[at.w + k]);
    }
    for (var r = 0u; r < min(ROWS, p.rows - row); r++) {
        y[(id.z * p.rows + row + r) * p.bands + m] = scaled(sum[r]);
    }
}
