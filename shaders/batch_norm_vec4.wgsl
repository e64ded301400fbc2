// Batch norm for F in whole vec4: a Value is four neighbouring columns. The kernels are in shared/batch_norm.wgsl.
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import batch_norm
#import dropout

// Dropout's factors of Value `i` of a replica.
fn factor(i: u32, clock: vec4<u32>) -> Value {
    return dropout_factors(i, p.stream, clock, p.threshold, p.scale);
}
