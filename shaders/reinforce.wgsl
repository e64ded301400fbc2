// Policy gradient of a normal policy, and the fit of its baseline, over the clips that count.
//
//   forward    y = mean of -(reward - fixed) log pi(drawn) + (reward - baseline)^2
//   backward   slopes by mu: -(reward - fixed) (drawn - mu) / sigma^2, by baseline: -2 (reward - baseline), over the
//   number of clips
#import grid

struct Params {
    batch: u32,      // B
    sigma: f32,      // standard deviation of the policy
    log_norm: f32,   // ln(2 pi sigma^2)
    first: u32,      // of the slopes that go to this sink
    columns: u32,    // of this sink
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> mu: array<vec2<f32>>;           // (R, B)
@group(0) @binding(2) var<storage, read> drawn: array<vec2<f32>>;        // (R, B)
@group(0) @binding(3) var<storage, read> fixed_baseline: array<f32>;     // (R, B)
@group(0) @binding(4) var<storage, read> baseline: array<f32>;           // (R, B)
@group(0) @binding(5) var<storage, read> reward: array<f32>;             // (R, B)
@group(0) @binding(6) var<storage, read> counts: array<f32>;             // (R, B), 1 or 0
@group(0) @binding(7) var<storage, read_write> y: array<f32>;            // (R)
@group(0) @binding(8) var<storage, read_write> saved_slopes: array<f32>; // (R, B, 3), by mu (2) and baseline
@group(0) @binding(9) var<storage, read> grad_y: array<f32>;             // (R)
@group(0) @binding(10) var<storage, read_write> grad_x: array<f32>;      // (R, B, columns)
@group(0) @binding(11) var<storage, read> slopes: array<f32>;            // (R, B, 3), the saved ones

const WORKGROUP_SIZE = 64u;

var<workgroup> sums: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn reinforce_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    let variance = p.sigma * p.sigma;
    var total = vec2(0.0);
    for (var b = local_index; b < p.batch; b += WORKGROUP_SIZE) {
        let clip = id.z * p.batch + b;
        if counts[clip] != 0.0 {
            let away = drawn[clip] - mu[clip];
            let log_pi = -0.5 * dot(away, away) / variance - p.log_norm;
            let error = reward[clip] - baseline[clip];
            total += vec2(-(reward[clip] - fixed_baseline[clip]) * log_pi + error * error, 1.0);
        }
    }
    sums[local_index] = total;
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if local_index < step { sums[local_index] += sums[local_index + step]; }
    }
    workgroupBarrier();
    let all = sums[0];
    let clips = max(all.y, 1.0);
    if local_index == 0u { y[id.z] = all.x / clips; }
    for (var b = local_index; b < p.batch; b += WORKGROUP_SIZE) {
        let clip = id.z * p.batch + b;
        var slope = vec3(0.0);
        if counts[clip] != 0.0 {
            let policy = -(reward[clip] - fixed_baseline[clip]) / variance * (drawn[clip] - mu[clip]);
            slope = vec3(policy, -2.0 * (reward[clip] - baseline[clip])) / clips;
        }
        for (var c = 0u; c < 3u; c++) { saved_slopes[3u * clip + c] = slope[c]; }
    }
}

@compute @workgroup_size(64)
fn reinforce_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.columns { return; }
    let clip = id.z * p.batch + i / p.columns;
    let at = id.z * p.batch * p.columns + i;
    var slope = grad_y[id.z] * slopes[3u * clip + p.first + i % p.columns];
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}
