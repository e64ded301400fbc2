// ReLU, leaky where slope > 0, and dropout after it, which multiplies by scale what it does not drop.
#import value
#import nan

fn relu(v: Value, slope: f32) -> Value {
    if slope == 0.0 { return keep_nan(v, max(v, Value(0.0))); }
    return select(slope * v, v, v > Value(0.0));
}

// The gradient before both of g after them, from their output y.
fn before_relu(g: Value, y: Value, slope: f32, scale: f32, drops: bool) -> Value {
    let at_zero = select(slope * scale, 0.0, drops);
    let factor = select(select(Value(at_zero), Value(slope * scale), y < Value(0.0)), Value(scale), y > Value(0.0));
    return select(Value(0.0), g * factor, factor != Value(0.0));
}
