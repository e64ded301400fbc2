// The dataset row of an entry of a step's batch, from the clock alone, in which the step begins (see ops/track.rs).
//
// A shuffled position is found by a Feistel network over the next power of two, whose round function is Philox under
// the replica's seed; a value outside 0 .. n - 1 goes through the network again until it is inside (cycle walking),
// which makes the network a permutation of 0 .. n - 1.
#import philox

struct Draw {
    n: u32,         // clips of the pool
    batch: u32,     // B
    batches: u32,   // of an epoch
    shuffled: u32,
    low_bits: u32,  // of a position, which has low_bits + high_bits
    high_bits: u32,
    pool_stride: u32,
    stream: u32,    // distinguishes shuffles
}

@group(0) @binding(14) var<storage, read_write> clock: array<u32>; // (R, 4): seed low, seed high, step, done
@group(0) @binding(15) var<storage, read> pool: array<u32>;        // (n) every pool_stride

const ROUNDS = 4u; // even, so that both halves end with their initial widths
const PADDING = 0xffffffffu;

fn feistel(value: u32, epoch: u32, key: vec2<u32>) -> u32 {
    var low_bits = p.draw.low_bits;
    var high_bits = p.draw.high_bits;
    var low = value & ((1u << low_bits) - 1u);
    var high = value >> low_bits;
    for (var round = 0u; round < ROUNDS; round++) {
        let word = philox(vec4(low, round, epoch, p.draw.stream), key).x;
        let mixed = (high ^ word) & ((1u << high_bits) - 1u);
        high = low;
        low = mixed;
        let bits = low_bits;
        low_bits = high_bits;
        high_bits = bits;
    }
    return (high << low_bits) | low;
}

fn drawn_row(replica: u32, b: u32) -> u32 {
    let at = 4u * replica;
    let step = clock[at + 3u];
    var position = step % p.draw.batches * p.draw.batch + b;
    if position >= p.draw.n { return PADDING; }
    if p.draw.shuffled == 1u {
        let epoch = step / p.draw.batches;
        let key = vec2(clock[at], clock[at + 1u]);
        position = feistel(position, epoch, key);
        while position >= p.draw.n { position = feistel(position, epoch, key); }
    }
    return pool[replica * p.draw.pool_stride + position];
}

// By the invocation of a replica's first entry.
fn begin_step(replica: u32) { clock[4u * replica + 2u] = clock[4u * replica + 3u]; }
