#import philox
#import value
// Dropout's factors for elements 4 i to 4 i + 3 of one replica's tensor: `scale` = 1 / (1 - p) where kept, 0 where
// dropped. `stream` distinguishes layers; clock = (seed low, seed high, step, done); `threshold` = p 2^32.
fn dropout_factors(i: u32, stream: u32, clock: vec4<u32>, threshold: u32, scale: f32) -> vec4<f32> {
    let words = philox(vec4(i, stream, clock.z, 0xD20u), clock.xy);
    return select(vec4(scale), vec4(0.0), words < vec4(threshold));
}

// The factor of Value `i`.
fn dropout_factor(i: u32, stream: u32, clock: vec4<u32>, threshold: u32, scale: f32) -> Value {
#ifdef VEC4
    return dropout_factors(i, stream, clock, threshold, scale);
#else
    return dropout_factors(i / 4u, stream, clock, threshold, scale)[i % 4u];
#endif
}
