// Sizes of a convolution with a maximum over bands, see src/ops/conv_max.rs.
struct Params {
    batch: u32,        // B
    t: u32,            // T
    bands: u32,        // F
    n: u32,            // N
    size: u32,         // S: frames of a filter
    width: u32,        // K: bands of a filter
    before: u32,       // frames of padding before the first
    chunks: u32,       // S in steps of TAPS
    panel_len: u32,    // elements between panels of packed weights
    x_stride: u32,     // elements between replicas
    w_stride: u32,
    b_stride: u32,
    scale_stride: u32,
    shift_stride: u32,
    replica: u32,      // of a dispatch of one panel, and the panel
    panel: u32,
}

// Frames of a filter that are multiplied at once, 8 or 7 (see src/ops/conv_max.rs).
override TAPS: u32 = 8u;

// Frames and output channels of a workgroup.
const FRAMES = 32u;
const CHANNELS = 32u;

// Below every sum.
const LOWEST = -3.40282346e38;

fn tiles() -> u32 { return (p.t + FRAMES - 1u) / FRAMES; }

fn panels() -> u32 { return (p.n + CHANNELS - 1u) / CHANNELS; }

// The greater of both; NaN if one is.
fn greater(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return keep_nan(a + b, max(a, b)); }

// The parameters of four channels from `n` on; those beyond the last repeat it.
struct Channels {
    bias: vec4<f32>,
    scale: vec4<f32>,
    shift: vec4<f32>,
    sign: vec4<f32>, // of the scale: where it is negative, the least sum of all bands has the greatest output
}

fn channels_at(n: u32, replica: u32) -> Channels {
    let at = min(vec4(n) + vec4(0u, 1u, 2u, 3u), vec4(p.n - 1u));
    let i = at + replica * p.b_stride;
    let j = at + replica * p.scale_stride;
    let k = at + replica * p.shift_stride;
    let factor = vec4(scale[j.x], scale[j.y], scale[j.z], scale[j.w]);
    return Channels(vec4(b[i.x], b[i.y], b[i.z], b[i.w]), factor,
                    vec4(shift[k.x], shift[k.y], shift[k.z], shift[k.w]),
                    select(vec4(1.0), vec4(-1.0), factor < vec4(0.0)));
}

// Stores the output of a frame, counted over all clips, from the greatest signed sum.
fn put(frame: u32, n: u32, c: Channels, greatest: vec4<f32>) {
    let sum = c.sign * greatest + c.bias;
    let v = c.scale * keep_nan(sum, max(sum, vec4(0.0))) + c.shift;
    let at = frame * p.n + n;
    if n < p.n { y[at] = v.x; }
    if n + 1u < p.n { y[at + 1u] = v.y; }
    if n + 2u < p.n { y[at + 2u] = v.z; }
    if n + 3u < p.n { y[at + 3u] = v.w; }
}
