// A step of a recurrent cell, four neighbouring units per invocation.
alias Value = vec4<f32>;
#import recurrent_cell
