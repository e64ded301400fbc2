// Values as large tensors are stored. llvmpipe loads and stores one element of one invocation after the other; with
// WIDE, for which VEC4 is defined too, two elements at once as a 64-bit integer.
#import value
#ifdef WIDE
alias Stored = vec2<u64>;

fn stored(v: Value) -> Stored {
    let b = bitcast<Bits>(v);
    return vec2(u64(b.x) | (u64(b.y) << 32u), u64(b.z) | (u64(b.w) << 32u));
}

fn value(s: Stored) -> Value {
    return bitcast<Value>(vec4(u32(s.x), u32(s.x >> 32u), u32(s.y), u32(s.y >> 32u)));
}
#else
alias Stored = Value;

fn stored(v: Value) -> Stored { return v; }

fn value(s: Stored) -> Value { return s; }
#endif
