// Weighted sums of clips for F in whole vec4: a Value is four neighbouring columns. The kernels are in shared/mixup.wgsl.
alias Value = vec4<f32>;
#import mixup
