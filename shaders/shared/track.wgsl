// The end of a step. Every kernel of the step reads its number from the clock, also the one that ends it; so that is
// left as it is, and the next step takes over the number of finished ones (see sample.wgsl).
@group(0) @binding(8) var<storage, read_write> clock: array<u32>; // (R, 4): seed low, seed high, step, done
@group(0) @binding(9) var<storage, read> parts: array<vec2<f32>>; // (R), numerator and denominator of the loss
@group(0) @binding(10) var<storage, read_write> totals: array<vec2<f32>>; // (R)
@group(0) @binding(11) var<storage, read_write> diverged: array<u32>;     // (R), a step or NEVER

const NEVER = 0xffffffffu;
const EXPONENT = 0x7f800000u;

// Of replica r; an epoch has so many batches.
fn track(r: u32, batches: u32) {
    let step = clock[4u * r + 2u];
    let part = parts[r];
    var total = part;
    if step % batches != 0u { total += totals[r]; }
    totals[r] = total;
    // Tested on the bits: shader compilers may assume that nothing is infinite or NaN.
    if diverged[r] == NEVER && any((bitcast<vec2<u32>>(part) & vec2(EXPONENT)) == vec2(EXPONENT)) {
        diverged[r] = step;
    }
    clock[4u * r + 3u] = step + 1u;
}
