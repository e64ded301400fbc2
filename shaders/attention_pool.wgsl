// Attention pooling for any K: a Value is one class. The kernels are in shared/attention_pool.wgsl.
alias Value = f32;
alias Bits = u32;
#import attention_pool
