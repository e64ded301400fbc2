// log(1 - v) / v for 0 <= v < 1; for small v as a series, since the difference from 1 would lose v's digits.
fn log_ratio(v: f32) -> f32 {
    if v < 0.015625 { return -(1.0 + v * (0.5 + v * (1.0 / 3.0 + v * 0.25))); }
    return log(1.0 - v) / v;
}
