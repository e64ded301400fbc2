// Largest of each 2 x 2 window for any number of channels: a Value is one element. The kernels are in shared/max_pool2d.wgsl.
alias Value = f32;
#import max_pool2d
