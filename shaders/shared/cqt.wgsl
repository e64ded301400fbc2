// Frames and filters of cqt. The importing shader distributes the work.
struct Params {
    b: u32,
    s: u32,              // samples per clip
    t: u32,              // frames per clip
    k: u32,              // filters
    groups: u32,
    hop: u32,
    centre: i32,
    x_stride: u32,       // elements between replicas
}

// Four neighbouring filters, zeros where one is shorter.
struct Group {
    first: u32,
    count: u32,          // taps, a multiple of 4
    at: u32,             // in h, in taps
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (B, S) every x_stride
@group(0) @binding(2) var<storage, read> groups: array<Group>; // (groups)
@group(0) @binding(3) var<storage, read> h: array<vec4<f32>>;  // (taps of all groups, 2): real parts, imaginary parts
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (R, B, T, K)

// A row is a frame of one of the clips. A missing row starts before every clip.
const NOWHERE = -0x40000000;

// Offset of the row's samples within its clip for first_k = 0, and of the clip in x.
fn origin(row: u32, replica: u32) -> vec2<i32> {
    if row >= p.b * p.t { return vec2(NOWHERE, 0); }
    let b = row / p.t;
    return vec2(i32((row - b * p.t) * p.hop) - p.centre, i32(replica * p.x_stride + b * p.s));
}

// Zeros around the clip. An unneeded load costs less than a branch.
fn sample_at(row: vec2<i32>, j: u32) -> f32 {
    let at = row.x + i32(j);
    let inside = clamp(at, 0, i32(p.s) - 1);
    return select(0.0, x[row.y + inside], at == inside);
}

fn put(replica: u32, row: u32, group: u32, re: vec4<f32>, im: vec4<f32>) {
    if row >= p.b * p.t { return; }
    let magnitude = sqrt(re * re + im * im);
    let at = (replica * p.b * p.t + row) * p.k + 4u * group;
    for (var i = 0u; i < min(4u, p.k - 4u * group); i++) {
        y[at + i] = magnitude[i];
    }
}
