// Clips joined in time for F in whole vec4: a Value is four neighbouring columns. The kernels are in shared/concat.wgsl.
alias Value = vec4<f32>;
#import concat
