//! Numbers that Python and Rust both evaluate exactly.

/// The numbers of `tests/golden/README.md`, in [0, 1).
pub fn frac(i: u32, salt: u32) -> f64 {
    let mut h = i.wrapping_add(salt.wrapping_mul(0x9E37_79B9));
    h ^= h >> 16;
    h = h.wrapping_mul(0x7FEB_352D);
    h ^= h >> 15;
    h = h.wrapping_mul(0x846C_A68B);
    h ^= h >> 16;
    f64::from(h) / 4_294_967_296.0
}

/// The values of a model's tensors, given by name and shape. The number of a tensor is its index among the names in
/// byte order.
#[allow(dead_code, reason = "not every test has a model")]
pub fn weights(tensors: &[(&str, &[usize])]) -> Vec<Vec<f32>> {
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let values = |(name, shape): &(&str, &[usize])| -> Vec<f32> {
        let salt = names.binary_search(name).expect("its own name") as u32;
        let bound = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
        let (layer, kind) = name.rsplit_once('.').expect("LAYER.KIND");
        let value = |i: usize| {
            let signed = 2.0 * frac(i as u32, salt) - 1.0;
            match kind {
                "running_mean" => 0.0,
                "running_var" => 1.0,
                // Recurrent layers have bias_ih_l0 and so on.
                bias if bias.starts_with("bias") => 0.1 * signed,
                _ if layer.starts_with("bn") || layer.ends_with(".bn") => 1.0 + 0.2 * signed,
                _ => bound * signed,
            }
        };
        (0..shape.iter().product()).map(|i| value(i) as f32).collect()
    };
    tensors.iter().map(values).collect()
}
