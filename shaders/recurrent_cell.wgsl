// A step of a recurrent cell, one unit per invocation.
alias Value = f32;
#import recurrent_cell
