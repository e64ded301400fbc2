// Clips joined in time for any F: a Value is one element. The kernels are in shared/concat.wgsl.
alias Value = f32;
#import concat
