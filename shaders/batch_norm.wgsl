// Batch norm for any F: a Value is one element. The kernels are in shared/batch_norm.wgsl.
alias Value = f32;
alias Bits = u32;
#import batch_norm
#import dropout

// Dropout's factor of Value `i` of a replica.
fn factor(i: u32, clock: vec4<u32>) -> Value {
    return dropout_factors(i / 4u, p.stream, clock, p.threshold, p.scale)[i % 4u];
}
