// Confusion counts of known labels, per class, over the batches of an epoch. One workgroup per class and replica.
#import grid

override LARGEST: u32 = 0u; // 1: the class of the largest probability is positive, else every class of at least 0.5

struct Params {
    batch: u32,   // B
    classes: u32, // K
    batches: u32, // of an epoch
    clock_stride: u32, // in vec4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (R, B, K), probabilities
@group(0) @binding(2) var<storage, read> targets: array<f32>;      // (R, B, K)
@group(0) @binding(3) var<storage, read> observed: array<f32>;     // (R, B, K)
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(4) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>; // (R, K, 4): tp, fp, fn, tn

const WORKGROUP_SIZE = 256u;

// Integer sums are the same in any order.
var<workgroup> found: array<atomic<u32>, 4>;

// Whether class k is the prediction for the clip with probabilities from `first` on: of equals the first.
fn is_largest(first: u32, k: u32) -> bool {
    let v = x[first + k];
    var largest = true;
    for (var j = 0u; j < k; j++) { largest = largest && v > x[first + j]; }
    for (var j = k + 1u; j < p.classes; j++) { largest = largest && v >= x[first + j]; }
    return largest;
}

@compute @workgroup_size(256)
fn tally_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local_index: u32) {
    let k = group_index(id, count);
    // A folded grid may reach beyond the end; such a workgroup returns as a whole.
    if k >= p.classes { return; }
    if local_index < 4u { atomicStore(&found[local_index], 0u); }
    workgroupBarrier();
    for (var b = local_index; b < p.batch; b += WORKGROUP_SIZE) {
        let first = (id.z * p.batch + b) * p.classes;
        let at = first + k;
        if observed[at] != 0.0 {
            // 0 true and 1 false positives, 2 false and 3 true negatives.
            let absent = u32(targets[at] < 0.5);
            var said = false;
            if LARGEST == 1u { said = is_largest(first, k); } else { said = x[at] >= 0.5; }
            let said_absent = u32(!said);
            atomicAdd(&found[2u * said_absent + absent], 1u);
        }
    }
    workgroupBarrier();
    if local_index < 4u {
        let at = (id.z * p.classes + k) * 4u + local_index;
        var count = atomicLoad(&found[local_index]);
        if clock[id.z * p.clock_stride].z % p.batches != 0u { count += counts[at]; }
        counts[at] = count;
    }
}
