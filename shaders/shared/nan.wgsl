// `v` where it is NaN, else `other`: min, max and clamp may lose a NaN, and training must notice it.
// Tested on the bits: shader compilers may assume that nothing is NaN. `Value` is f32 or a vector of them, `Bits` as
// many u32.
fn keep_nan(v: Value, other: Value) -> Value {
    return select(other, v, (bitcast<Bits>(v) & Bits(0x7fffffffu)) > Bits(0x7f800000u));
}
