// Attention pooling for K in whole vec4: a Value is four neighbouring classes. The kernels are in shared/attention_pool.wgsl.
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import attention_pool
