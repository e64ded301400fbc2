// Weighted sums of clips for any F: a Value is one element. The kernels are in shared/mixup.wgsl.
alias Value = f32;
#import mixup
