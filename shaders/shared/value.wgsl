// Elements per invocation: four neighbours of a row with VEC4, else one.
#ifdef VEC4
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#else
alias Value = f32;
alias Bits = u32;
#endif
