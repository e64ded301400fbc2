// The last valid instance of each clip, four elements per invocation.
alias Value = vec4<f32>;
#import last_instance
