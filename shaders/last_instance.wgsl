// The last valid instance of each clip, one element per invocation.
alias Value = f32;
#import last_instance
