// The gradient before ReLU and dropout. VEC4 where the length is a multiple of 4, with TEXELS from textures.
#import grid
#import relu

struct Params {
    len: u32,   // in Values
    slope: f32, // of ReLU for negative values
    scale: f32, // of dropout
    drops: u32, // 1: there is dropout
}

@group(0) @binding(0) var<uniform> p: Params;
#ifdef TEXELS
#import texel
@group(0) @binding(1) var y: Texels;                            // (len)
@group(0) @binding(2) var grad_y: Texels;                       // (len)
fn value_of_y(i: u32) -> Value { return texel(y, i); }
fn gradient_of_y(i: u32) -> Value { return texel(grad_y, i); }
#else
@group(0) @binding(1) var<storage, read> y: array<Value>;       // (len)
@group(0) @binding(2) var<storage, read> grad_y: array<Value>;  // (len)
fn value_of_y(i: u32) -> Value { return y[i]; }
fn gradient_of_y(i: u32) -> Value { return grad_y[i]; }
#endif
@group(0) @binding(3) var<storage, read_write> g: array<Value>; // (len)

@compute @workgroup_size(256)
fn relu_gradient(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 256u + local_index;
    if i < p.len { g[i] = before_relu(gradient_of_y(i), value_of_y(i), p.slope, p.scale, p.drops == 1u); }
}
