// A model's inputs, standardised by column; in training with normal noise and dropout.
//
//   forward    y = factor (clip((x - mean) / deviation, -limit, limit) + sigma n)
//
// Noise and factors are functions of (seed, step, element).
#import philox
#import normal
#import dropout
#import nan
#import grid

struct Params {
    rows: u32,             // of a replica
    f: u32,
    chunks: u32,           // of four columns in a row
    limit: f32,
    sigma: f32,            // of the noise; 0: none
    threshold: u32,        // of dropout; 0: none
    scale: f32,            // 1 / (1 - p)
    stream: u32,
    x_stride: u32,         // elements between replicas
    mean_stride: u32,
    deviation_stride: u32,
    clock_stride: u32,     // in vec4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // (rows, F) every x_stride
@group(0) @binding(2) var<storage, read> mean: array<f32>;        // (F) every mean_stride
@group(0) @binding(3) var<storage, read> deviation: array<f32>;   // (F) every deviation_stride
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(4) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;     // (R, rows, F)

// Rows of an invocation, which loads its columns' statistics once for all of them.
const ROWS = 16u;
// Domain separation of the noise.
const NOISE = 0x501Eu;

// An invocation per four columns of ROWS rows.
@compute @workgroup_size(64)
fn standardise_columns_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let first = i / p.chunks * ROWS;
    if first >= p.rows { return; }
    let chunk = i % p.chunks;
    // Columns beyond the last repeat it and are not stored.
    let columns = min(vec4(4u * chunk) + vec4(0u, 1u, 2u, 3u), vec4(p.f - 1u));
    let c = columns + id.z * p.mean_stride;
    let d = columns + id.z * p.deviation_stride;
    let means = vec4(mean[c.x], mean[c.y], mean[c.z], mean[c.w]);
    let deviations = vec4(deviation[d.x], deviation[d.y], deviation[d.z], deviation[d.w]);
    let now = clock[id.z * p.clock_stride];
    for (var row = first; row < min(first + ROWS, p.rows); row++) {
        let at = columns + id.z * p.x_stride + row * p.f;
        let v = (vec4(x[at.x], x[at.y], x[at.z], x[at.w]) - means) / deviations;
        var result = keep_nan(v, clamp(v, vec4(-p.limit), vec4(p.limit)));
        let element = row * p.chunks + chunk;
        if p.sigma > 0.0 {
            let w = philox(vec4(element, p.stream, now.z, NOISE), now.xy);
            result += p.sigma * vec4(normal_radius(w.xy) * normal_direction(w.xy),
                                     normal_radius(w.zw) * normal_direction(w.zw));
        }
        if p.threshold > 0u { result *= dropout_factors(element, p.stream, now, p.threshold, p.scale); }
        let to = (id.z * p.rows + row) * p.f + 4u * chunk;
        for (var k = 0u; k < min(4u, p.f - 4u * chunk); k++) { y[to + k] = result[k]; }
    }
}
