// Short-time Fourier transform: magnitude or power of windowed frames.
//
//   forward    y (B, T, N + 1) = |sum over j of w[j] x[t hop + first + j] e^(-2 pi i k j / 2N)|^(1 or 2), k = 0 .. N
//
// A real frame of 2N samples is N complex points z[j] = (even sample, odd sample); their transform in workgroup memory
// gives the spectrum by splitting it into the parts of the even and the odd samples.
#import grid
#import cis

override N: u32;         // complex points, 128 to 2048
override LOG2_N: u32;
override LANES: u32;     // invocations per frame

struct Params {
    b: u32,
    s: u32,              // samples per clip
    t: u32,              // frames per clip
    hop: u32,
    window: u32,         // samples under the window
    period: u32,         // of the window's cosine
    first: i32,          // first sample of frame 0 under the window, negative with padding
    reflect: u32,        // outside of the clip: 1 the clip reflected about its ends, 0 zeros
    power: u32,          // 1: squared magnitude
    x_stride: u32,       // elements between replicas
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (B, S) every x_stride
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (R, B, T, N + 1)

var<workgroup> z: array<vec2<f32>, N>;

fn product_of(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return vec2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// Sample j under the window of the frame that starts at `start`, times the periodic or symmetric Hann window.
fn windowed(clip: u32, start: i32, j: u32) -> f32 {
    if j >= p.window { return 0.0; }
    var at = start + i32(j);
    let last = i32(p.s) - 1;
    if at < 0 || at > last {
        if p.reflect == 0u { return 0.0; }
        at = select(-at, 2 * last - at, at > last);
    }
    var w = 1.0;
    if p.window > 1u { w = 0.5 - 0.5 * cis(j, p.period).x; }
    return w * x[clip + u32(at)];
}

fn magnitude(v: vec2<f32>) -> f32 {
    let power = dot(v, v);
    return select(sqrt(power), power, p.power == 1u);
}

// One workgroup per frame.
@compute @workgroup_size(LANES)
fn stft_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
    let frame = group_index(id, count);
    // The last row of a folded grid may reach beyond the end; such a workgroup returns as a whole.
    if frame >= p.b * p.t { return; }
    let clip = id.z * p.x_stride + frame / p.t * p.s;
    let start = i32(frame % p.t * p.hop) + p.first;

    // Points in bit-reversed order, so that every butterfly works in place.
    for (var i = lane; i < N; i += LANES) {
        z[reverseBits(i) >> (32u - LOG2_N)] = vec2(windowed(clip, start, 2u * i), windowed(clip, start, 2u * i + 1u));
    }
    workgroupBarrier();
    var span = 1u;
    if LOG2_N % 2u == 1u {
        for (var i = lane; i < N / 2u; i += LANES) {
            let a = z[2u * i];
            let b = z[2u * i + 1u];
            z[2u * i] = a + b;
            z[2u * i + 1u] = a - b;
        }
        span = 2u;
        workgroupBarrier();
    }
    // Two radix-2 stages at once: transforms of `span` points become transforms of 4 span.
    for (; span < N; span *= 4u) {
        for (var i = lane; i < N / 4u; i += LANES) {
            let j = i & (span - 1u);
            let at = (i - j) * 4u + j;
            let c = cis(j, 4u * span);
            let w2 = vec2(c.x, -c.y);
            let w1 = product_of(w2, w2);
            let b = product_of(w1, z[at + span]);
            let d = product_of(w1, z[at + 3u * span]);
            let even = z[at] + b;
            let odd = z[at] - b;
            let even2 = product_of(w2, z[at + 2u * span] + d);
            let odd2 = product_of(w2, z[at + 2u * span] - d).yx * vec2(1.0, -1.0);
            z[at] = even + even2;
            z[at + span] = odd + odd2;
            z[at + 2u * span] = even - even2;
            z[at + 3u * span] = odd - odd2;
        }
        workgroupBarrier();
    }
    // Bins k and N - k come from the same two points.
    let row = (id.z * p.b * p.t + frame) * (N + 1u);
    for (var k = lane; k <= N / 2u; k += LANES) {
        let a = z[k];
        let m = z[(N - k) % N] * vec2(1.0, -1.0);
        let even = 0.5 * (a + m);
        let odd = 0.5 * (a - m).yx * vec2(1.0, -1.0);
        let c = cis(k, 2u * N);
        let turned = product_of(vec2(c.x, -c.y), odd);
        y[row + k] = magnitude(even + turned);
        y[row + N - k] = magnitude(even - turned);
    }
}
