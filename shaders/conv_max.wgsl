// Convolution over time and bands, ReLU, scale, shift and the maximum over the bands, see src/ops/conv_max.rs. The map
// before the maximum stays in registers: an invocation computes 4 frames of 4 output channels, band after band.
#import grid
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import nan
#import conv_max

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // (B, T, F) every x_stride
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>; // (R, panels, K, chunks, TAPS, 32)
@group(0) @binding(3) var<storage, read> b: array<f32>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read> scale: array<f32>;         // (N) every scale_stride
@group(0) @binding(5) var<storage, read> shift: array<f32>;         // (N) every shift_stride
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (R, B, T, N)
@group(0) @binding(7) var<storage, read> w: array<f32>;             // (N, S, K) every w_stride
@group(0) @binding(8) var<storage, read_write> packed_weights: array<f32>; // as weights

// Frames of an invocation.
const ROWS = 4u;

// An element of x, 0 before and after the clip.
fn element(at: u32, frame: u32) -> f32 {
    var v = 0.0;
    if frame < p.t { v = x[at + frame * p.bands]; }
    return v;
}

@compute @workgroup_size(64)
fn conv_max_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                    @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    let panel = group % panels();
    let tile = group / panels();
    let clip = tile / tiles();
    if clip >= p.batch { return; } // beyond the end of a folded grid
    let first = (tile - clip * tiles()) * FRAMES + lane / 8u * ROWS;
    let n = panel * CHANNELS + 4u * (lane % 8u);
    let c = channels_at(n, id.z);
    let x0 = id.z * p.x_stride + clip * p.t * p.bands;
    let w0 = (id.z * panels() + panel) * p.panel_len / 4u + lane % 8u;
    var greatest = array<vec4<f32>, ROWS>(vec4(LOWEST), vec4(LOWEST), vec4(LOWEST), vec4(LOWEST));
    for (var band = 0u; band + p.width <= p.bands; band++) {
        var sum = array<vec4<f32>, ROWS>();
        var weight = w0;
        for (var column = 0u; column < p.width; column++) {
            let at = x0 + band + column;
            var frame = first - p.before; // wraps around before the clip
            for (var chunk = 0u; chunk < p.chunks; chunk++) {
                var v = vec4(0.0, element(at, frame), element(at, frame + 1u), element(at, frame + 2u));
                for (var tap = 0u; tap < TAPS; tap++) {
                    v = vec4(v.yzw, element(at, frame + tap + 3u));
                    let factor = weights[weight];
                    sum[0] += v.x * factor;
                    sum[1] += v.y * factor;
                    sum[2] += v.z * factor;
                    sum[3] += v.w * factor;
                    weight += CHANNELS / 4u;
                }
                frame += TAPS;
            }
        }
        for (var r = 0u; r < ROWS; r++) { greatest[r] = greater(greatest[r], c.sign * sum[r]); }
    }
    for (var r = 0u; r < ROWS; r++) {
        if first + r < p.t { put((id.z * p.batch + clip) * p.t + first + r, n, c, greatest[r]); }
    }
}

// Packs the weights into panels of 32 output channels, an invocation for each of their elements; 0 where there is none.
@compute @workgroup_size(64)
fn conv_max_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let taps = p.chunks * TAPS;
    let len = p.width * taps * CHANNELS;
    let panel = i / len;
    if panel >= panels() { return; }
    let inside = i - panel * len;
    let tap = inside / CHANNELS % taps;
    let n = panel * CHANNELS + inside % CHANNELS;
    var v = 0.0;
    if n < p.n && tap < p.size { v = w[id.z * p.w_stride + (n * p.size + tap) * p.width + inside / CHANNELS / taps]; }
    packed_weights[(id.z * panels() + panel) * p.panel_len + inside] = v;
}
