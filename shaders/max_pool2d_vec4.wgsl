// As max_pool2d.wgsl, where C is a multiple of 4: a Value is four neighbouring channels.
alias Value = vec4<f32>;
#import max_pool2d
