// Mean over valid instances for any F: a Value is one element. The kernels are in shared/mean_pool.wgsl.
alias Value = f32;
#import mean_pool
