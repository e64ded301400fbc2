// Counts right and wrong decisions of known labels, per class, over the batches of an epoch. One workgroup per class and replica.
#import grid

override LARGEST: u32 = 0u; // 1: a clip's answer is its largest probability, not every one from 0.5 on

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
@group(0) @binding(4) var<storage, read> clock: array<vec4<u32>>;  // (seed low, seed high, step, 0) every clock_stride
@group(0) @binding(5) var<storage, read_write> counts: array<u32>; // (R, K, 4): tp, fp, fn, tn

const WORKERS = 256u;

// Counts of whole numbers are the same in any order.
var<workgroup> found: array<atomic<u32>, 4>;

// Whether class k is the answer of the clip whose probabilities begin at `first`: of equals the first is.
fn is_largest(first: u32, k: u32) -> bool {
    let v = x[first + k];
    var largest = true;
    for (var j = 0u; j < k; j++) { largest = largest && v > x[first + j]; }
    for (var j = k + 1u; j < p.classes; j++) { largest = largest && v >= x[first + j]; }
    return largest;
}

@compute @workgroup_size(256)
fn tally_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) worker: u32) {
    let k = group_index(id, count);
    // Of a folded grid; such a workgroup leaves as a whole.
    if k >= p.classes { return; }
    if worker < 4u { atomicStore(&found[worker], 0u); }
    workgroupBarrier();
    for (var b = worker; b < p.batch; b += WORKERS) {
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
    if worker < 4u {
        let at = (id.z * p.classes + k) * 4u + worker;
        var count = atomicLoad(&found[worker]);
        if clock[id.z * p.clock_stride].z % p.batches != 0u { count += counts[at]; }
        counts[at] = count;
    }
}
