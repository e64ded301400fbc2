// Binary cross-entropy over the known labels of a batch.
//
//   forward         y = sum_b weight_b sum_k observed_bk bce(x_bk, target_bk) / sum_b share_b
//   backward input  dx = dy weight_b / sum share  (x - target) / (x (1 - x)) where observed, else 0
//
// By observed entries: weight_b = 1, share_b = known labels of clip b. By clips: weight_b = g(q) / K, share_b = 1.
// A clip of length 0 (padding) has weight 0 and share 0.

struct Params {
    batch: u32,       // B
    classes: u32,     // K
    per_clip: u32,
    alpha: f32,       // g(q) = alpha q^gamma + beta
    beta: f32,
    gamma: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                   // (R, B, K), probabilities
@group(0) @binding(2) var<storage, read> targets: array<f32>;             // (R, B, K)
@group(0) @binding(3) var<storage, read> observed: array<f32>;            // (R, B, K)
@group(0) @binding(4) var<storage, read> lengths: array<u32>;             // (R, B)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;             // (R)
@group(0) @binding(6) var<storage, read_write> parts: array<vec2<f32>>;   // (R), numerator and denominator of y
@group(0) @binding(7) var<storage, read_write> saved_weight: array<f32>;  // (R, B)
@group(0) @binding(8) var<storage, read> dy: array<f32>;                  // (R)
@group(0) @binding(9) var<storage, read_write> dx: array<f32>;            // (R, B, K)

const WORKERS = 256u;
// Below it logarithms are clamped: f32 has nothing normal there.
const SMALLEST = 1.1754944e-38;

var<workgroup> sums: array<vec2<f32>, 256>;

fn clamped_log(v: f32) -> f32 {
    if v < SMALLEST { return -100.0; }
    return max(log(v), -100.0);
}

// A value that is not finite is passed on as it is, since shader arithmetic may lose it.
fn bce(v: f32, t: f32) -> f32 {
    if (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u { return v; }
    return -(t * clamped_log(v) + (1.0 - t) * clamped_log(1.0 - v));
}

@compute @workgroup_size(256)
fn masked_bce_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) worker: u32) {
    var total = vec2(0.0);
    for (var b = worker; b < p.batch; b += WORKERS) {
        let clip = id.z * p.batch + b;
        var sum = 0.0;
        var known = 0.0;
        var weight = 0.0;
        var share = 0.0;
        if lengths[clip] > 0u {
            for (var k = 0u; k < p.classes; k++) {
                let at = clip * p.classes + k;
                if observed[at] != 0.0 {
                    sum += bce(x[at], targets[at]);
                    known += 1.0;
                }
            }
            weight = 1.0;
            share = known;
            if p.per_clip == 1u {
                share = 1.0;
                weight = 0.0;
                if known > 0.0 {
                    let classes = f32(p.classes);
                    weight = (p.alpha * pow(known / classes, p.gamma) + p.beta) / classes;
                }
            }
        }
        saved_weight[clip] = weight;
        total += vec2(weight * sum, share);
    }
    sums[worker] = total;
    for (var step = WORKERS / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if worker < step { sums[worker] += sums[worker + step]; }
    }
    if worker == 0u {
        let all = sums[0];
        parts[id.z] = all;
        var loss = 0.0;
        if all.y > 0.0 { loss = all.x / all.y; }
        y[id.z] = loss;
    }
}

@compute @workgroup_size(64)
fn masked_bce_backward_input(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.batch * p.classes { return; }
    let clip = id.z * p.batch + id.x / p.classes;
    let at = id.z * p.batch * p.classes + id.x;
    let share = parts[id.z].y;
    var slope = 0.0;
    if observed[at] != 0.0 && share > 0.0 {
        let v = x[at];
        slope = dy[id.z] * saved_weight[clip] / share * (v - targets[at]) / max(v * (1.0 - v), 1e-12);
    }
    if p.accumulate == 1u { slope += dx[at]; }
    dx[at] = slope;
}
