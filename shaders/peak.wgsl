// Peak arithmetic and bandwidth of an adapter, for the benchmarks.

struct Params {
    rounds: u32,
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (items)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // (items)

// 12 independent chains of fused multiply-adds: enough to hide latency, few enough for registers.
// 96 floating-point operations a round. The values converge to summand / (1 - factor).
@compute @workgroup_size(256)
fn peak_arithmetic(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4(p.factor);
    let summand = vec4(p.summand);
    var a = vec4(f32(id.x));
    var b = a + 1.0;
    var c = a + 2.0;
    for (var round = 0u; round < p.rounds; round++) {
        a = fma(a, factor, summand);
        b = fma(b, factor, summand);
        c = fma(c, factor, summand);
        a = fma(a, factor, summand);
        b = fma(b, factor, summand);
        c = fma(c, factor, summand);
        a = fma(a, factor, summand);
        b = fma(b, factor, summand);
        c = fma(c, factor, summand);
        a = fma(a, factor, summand);
        b = fma(b, factor, summand);
        c = fma(c, factor, summand);
    }
    y[id.x] = a + b + c;
}

// Copies 4 items per invocation.
@compute @workgroup_size(256)
fn peak_copy(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    let first = id.x * 1024u + local_index;
    y[first] = x[first];
    y[first + 256u] = x[first + 256u];
    y[first + 512u] = x[first + 512u];
    y[first + 768u] = x[first + 768u];
}

// Next to nothing: what it takes is its launch, and the wait for the dispatch before, which wrote the same item.
@compute @workgroup_size(1)
fn peak_launch() {
    y[0] += vec4(p.summand);
}
