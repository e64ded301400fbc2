// Binary cross-entropy over the known labels of a batch.
//
//   forward         y = sum_b weight_b sum_k observed_bk bce(x_bk, target_bk) / sum_b denominator_b
//   backward input  grad_x = grad_y weight_b / sum denominator (x - target) / (x (1 - x)) where observed, else 0
//
// Focal: bce and its slope become
//   -(t a (1 - x)^c log x + (1 - t) (1 - a) x^c log(1 - x)), for a = balance_k, c = focusing.
//
// By observed entries: weight_b = 1, denominator_b = known labels of clip b. By clips: weight_b = 1 / known labels,
// denominator_b = 1, both 0 where nothing is known. Partial: weight_b = g(q) / K, denominator_b = 1.
// A clip of length 0 (padding) has weight 0 and denominator 0.
#import grid
#import log_ratio

override FOCAL: u32 = 0u; // 1: focal loss; a constant, so that it costs cross-entropy nothing

struct Params {
    batch: u32,       // B
    classes: u32,     // K
    norm: u32,        // 0 by observed entries, 1 by clips, 2 partial
    alpha: f32,       // g(q) = alpha q^gamma + beta
    beta: f32,
    gamma: f32,
    accumulate: u32,
    focusing: f32,
    balance_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                  // (R, B, K), probabilities
@group(0) @binding(2) var<storage, read> targets: array<f32>;            // (R, B, K)
@group(0) @binding(3) var<storage, read> observed: array<f32>;           // (R, B, K)
@group(0) @binding(4) var<storage, read> lengths: array<u32>;            // (R, B)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;            // (R)
@group(0) @binding(6) var<storage, read_write> parts: array<vec2<f32>>;  // (R), numerator and denominator of y
@group(0) @binding(7) var<storage, read_write> saved_weight: array<f32>; // (R, B)
@group(0) @binding(8) var<storage, read> grad_y: array<f32>;             // (R)
@group(0) @binding(9) var<storage, read_write> grad_x: array<f32>;       // (R, B, K)
@group(0) @binding(10) var<storage, read> balance: array<f32>;           // (K) every balance_stride

const WORKGROUP_SIZE = 256u;
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

// v^focusing for v in 0 .. 1; 0^0 is 1.
fn focused(v: f32) -> f32 {
    if p.focusing == 0.0 { return 1.0; }
    if v <= 0.0 { return 0.0; }
    return pow(v, p.focusing);
}

fn focal(v: f32, t: f32, a: f32) -> f32 {
    if (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u { return v; }
    let present = t * a * focused(1.0 - v) * clamped_log(v);
    return -(present + (1.0 - t) * (1.0 - a) * focused(v) * clamped_log(1.0 - v));
}

fn clamped_ratio(v: f32) -> f32 {
    if v >= 1.0 { return -100.0 / v; }
    return log_ratio(v);
}

fn focal_slope(v: f32, t: f32, a: f32) -> f32 {
    let w = 1.0 - v;
    let d = max(v * w, 1e-12);
    let present = t * a * focused(w) * (p.focusing * clamped_ratio(w) - w / d);
    return present + (1.0 - t) * (1.0 - a) * focused(v) * (v / d - p.focusing * clamped_ratio(v));
}

@compute @workgroup_size(256)
fn masked_bce_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    var total = vec2(0.0);
    for (var b = local_index; b < p.batch; b += WORKGROUP_SIZE) {
        let clip = id.z * p.batch + b;
        var sum = 0.0;
        var known = 0.0;
        var weight = 0.0;
        var denominator = 0.0;
        if lengths[clip] > 0u {
            for (var k = 0u; k < p.classes; k++) {
                let at = clip * p.classes + k;
                if observed[at] != 0.0 {
                    if FOCAL == 1u {
                        sum += focal(x[at], targets[at], balance[id.z * p.balance_stride + k]);
                    } else {
                        sum += bce(x[at], targets[at]);
                    }
                    known += 1.0;
                }
            }
            weight = 1.0;
            denominator = known;
            if p.norm == 1u {
                denominator = min(known, 1.0);
                weight = denominator / max(known, 1.0);
            }
            if p.norm == 2u {
                denominator = 1.0;
                weight = 0.0;
                if known > 0.0 {
                    let classes = f32(p.classes);
                    weight = (p.alpha * pow(known / classes, p.gamma) + p.beta) / classes;
                }
            }
        }
        saved_weight[clip] = weight;
        total += vec2(weight * sum, denominator);
    }
    sums[local_index] = total;
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if local_index < step { sums[local_index] += sums[local_index + step]; }
    }
    if local_index == 0u {
        let all = sums[0];
        parts[id.z] = all;
        var loss = 0.0;
        if all.y > 0.0 { loss = all.x / all.y; }
        y[id.z] = loss;
    }
}

@compute @workgroup_size(64)
fn masked_bce_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.classes { return; }
    let clip = id.z * p.batch + i / p.classes;
    let at = id.z * p.batch * p.classes + i;
    let denominator = parts[id.z].y;
    var slope = 0.0;
    if observed[at] != 0.0 && denominator > 0.0 {
        let v = x[at];
        if FOCAL == 1u {
            let a = balance[id.z * p.balance_stride + i % p.classes];
            slope = grad_y[id.z] * saved_weight[clip] / denominator * focal_slope(v, targets[at], a);
        } else {
            slope = grad_y[id.z] * saved_weight[clip] / denominator * (v - targets[at]) / max(v * (1.0 - v), 1e-12);
        }
    }
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}
