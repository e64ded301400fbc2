// Mean over valid instances for F in whole vec4: a Value is four neighbouring columns. The kernels are in shared/mean_pool.wgsl.
alias Value = vec4<f32>;
#import mean_pool
