// 2 x 2 max pooling with stride 2 of x (B, H, W, C). Sizes round down (a last odd row or column is ignored) or up (its
// windows have one row or column). With relu, y is at least 0. The gradient goes to the first largest element of a
// window, row by row, which the forward pass saves: 0 to 3, or 4 where relu makes it 0; with VEC4 in a byte for each
// channel, and with TEXELS from textures.
#import value
#import nan
#import grid

struct Params {
    outputs: u32,    // windows of a batch, all replicas', times channels in Values
    height: u32,
    width: u32,
    c: u32,          // in Values
    out_height: u32,
    out_width: u32,
    relu: u32,
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> y: array<Value>;      // (R, B, H', W', C)
@group(0) @binding(4) var<storage, read_write> grad_x: array<Value>; // (R, B, H, W, C)
@group(0) @binding(5) var<storage, read_write> largest: array<u32>;  // (outputs)
@group(0) @binding(6) var<storage, read> saved_largest: array<u32>;  // (outputs)

#ifdef TEXELS
#import texel
@group(0) @binding(1) var x: Texels;                                 // (R, B, H, W, C)
@group(0) @binding(3) var grad_y: Texels;                            // (R, B, H', W', C)
fn element(i: u32) -> Value { return texel(x, i); }
fn gradient(i: u32) -> Value { return texel(grad_y, i); }
#else
@group(0) @binding(1) var<storage, read> x: array<Value>;            // (R, B, H, W, C)
@group(0) @binding(3) var<storage, read> grad_y: array<Value>;       // (R, B, H', W', C)
fn element(i: u32) -> Value { return x[i]; }
fn gradient(i: u32) -> Value { return grad_y[i]; }
#endif

const WORKGROUP_SIZE = 64u;

// A window: its first element, and whether it has a second column and row.
struct Window {
    at: u32,
    wide: bool,
    high: bool,
    h: u32,
    w: u32,
}

fn window(i: u32) -> Window {
    let pixel = i / p.c;
    let row = pixel / p.out_width;
    let image = row / p.out_height;
    let h = 2u * (row - image * p.out_height);
    let w = 2u * (pixel - row * p.out_width);
    let at = ((image * p.height + h) * p.width + w) * p.c + i - pixel * p.c;
    return Window(at, w + 1u < p.width, h + 1u < p.height, h, w);
}

// The four elements; those that the window does not have repeat one that comes before them, which therefore never win.
fn elements(v: Window) -> array<Value, 4> {
    let right = select(0u, p.c, v.wide);
    let below = select(0u, p.width * p.c, v.high);
    return array(element(v.at), element(v.at + right), element(v.at + below), element(v.at + below + right));
}

@compute @workgroup_size(64)
fn max_pool2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.outputs { return; }
    let e = elements(window(i));
    var v = max(max(e[0], e[1]), max(e[2], e[3]));
    var which = select(select(select(Bits(3u), Bits(2u), e[2] == v), Bits(1u), e[1] == v), Bits(0u), e[0] == v);
    if p.relu == 1u {
        which = select(Bits(4u), which, v > Value(0.0));
        v = keep_nan(v, max(v, Value(0.0)));
    }
    y[i] = v;
#ifdef VEC4
    largest[i] = dot(which, vec4(1u, 0x100u, 0x10000u, 0x1000000u));
#else
    largest[i] = which;
#endif
}

fn put_grad_x(at: u32, v: Value) {
    if p.accumulate == 1u { grad_x[at] += v; } else { grad_x[at] = v; }
}

// One invocation per window. A window at the edge also writes the row and the column that rounding down ignores.
@compute @workgroup_size(64)
fn max_pool2d_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.outputs { return; }
    let v = window(i);
#ifdef VEC4
    let which = (vec4(saved_largest[i]) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
#else
    let which = saved_largest[i];
#endif
    let zero = Value(0.0);
    let g = gradient(i);
    let row_len = p.width * p.c;
    put_grad_x(v.at, select(zero, g, which == Bits(0u)));
    if v.wide { put_grad_x(v.at + p.c, select(zero, g, which == Bits(1u))); }
    if v.high { put_grad_x(v.at + row_len, select(zero, g, which == Bits(2u))); }
    if v.wide && v.high { put_grad_x(v.at + row_len + p.c, select(zero, g, which == Bits(3u))); }
    let beside = v.w + 3u == p.width && 2u * p.out_width < p.width;
    let under = v.h + 3u == p.height && 2u * p.out_height < p.height;
    if beside {
        put_grad_x(v.at + 2u * p.c, zero);
        put_grad_x(v.at + row_len + 2u * p.c, zero);
    }
    if under {
        put_grad_x(v.at + 2u * row_len, zero);
        put_grad_x(v.at + 2u * row_len + p.c, zero);
    }
    if beside && under { put_grad_x(v.at + 2u * row_len + 2u * p.c, zero); }
}
