// Counts right and wrong decisions of known labels, per class, over the batches of an epoch. One workgroup per class and replica.

struct Params {
    batch: u32,   // B
    classes: u32, // K
    batches: u32, // of an epoch
    clock_stride: u32, // in vec4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;               // (R, B, K), probabilities
@group(0) @binding(2) var<storage, read> targets: array<f32>;         // (R, B, K)
@group(0) @binding(3) var<storage, read> observed: array<f32>;        // (R, B, K)
@group(0) @binding(4) var<storage, read> clock: array<vec4<u32>>;     // (seed low, seed high, step, 0) every clock_stride
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;    // (R, K, 4): tp, fp, fn, tn

const WORKERS = 64u;

// Counts of whole numbers are the same in any order.
var<workgroup> found: array<atomic<u32>, 4>;

@compute @workgroup_size(64)
fn tally_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) worker: u32) {
    let k = id.x;
    if worker < 4u { atomicStore(&found[worker], 0u); }
    workgroupBarrier();
    for (var b = worker; b < p.batch; b += WORKERS) {
        let at = (id.z * p.batch + b) * p.classes + k;
        if observed[at] != 0.0 {
            // 0 true and 1 false positives, 2 false and 3 true negatives.
            let absent = u32(targets[at] < 0.5);
            let said_absent = u32(!(x[at] >= 0.5));
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
