// What optimisers share: the gradients, of which some are still slices, and, with TRACK, the end of the step.
#ifdef TRACK
#import track
#else
@group(0) @binding(8) var<storage, read> clock: array<u32>; // (R, 4): seed low, seed high, step, done
#endif

// Neighbouring gradients of a replica that are slices to be added up. Everything is in vec4.
struct Sum {
    first: u32,
    end: u32,
    at: u32,   // where those of the first slice begin
    slices: u32,
    step: u32, // from one slice to the next
    @size(12) stride: u32, // from one replica's slices to the next
}

struct Arena {
    sums: array<Sum, 32>, // in order
    count: u32,           // of them
    quads: u32,           // P / 4
    stride: u32,          // from one replica to the next, in vec4
    first_replica: u32,   // of the bound arenas
    @size(16) batches: u32, // of an epoch; 0: another dispatch ends the step
}

// (P) every p.arena.stride, and slices
@group(0) @binding(1) var<storage, read_write> grad: array<vec4<f32>>;

// Whether there are slices: the search for them costs a CPU a fifth of the time.
override SUMS: bool = true;

// A sum of slices, in their order, replaces what is there.
fn gradient_of(replica: u32, i: u32) -> vec4<f32> {
    let at = replica * p.arena.stride + i;
    if !SUMS { return grad[at]; }
    var which = 0u;
    while which < p.arena.count && i >= p.arena.sums[which].end { which++; }
    if which == p.arena.count || i < p.arena.sums[which].first { return grad[at]; }
    let part = p.arena.sums[which];
    let first = part.at + replica * part.stride + i - part.first;
    var sum = vec4(0.0);
    for (var s = 0u; s < part.slices; s++) { sum += grad[first + s * part.step]; }
    grad[at] = sum;
    return sum;
}

fn step_of(replica: u32) -> u32 { return clock[4u * (p.arena.first_replica + replica) + 2u]; }

// By the invocation of a replica's first elements.
fn end_step(replica: u32) {
#ifdef TRACK
    if p.arena.batches > 0u { track(p.arena.first_replica + replica, p.arena.batches); }
#endif
}
