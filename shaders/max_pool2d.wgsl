// 2 x 2 max pooling with stride 2 of x (B, H, W, C). Sizes round down (a last odd row or column is ignored) or up (its
// windows have one row or column). The gradient goes to the first largest element of a window, row by row.
#import value
#import grid

struct Params {
    outputs: u32,    // windows of a batch, all replicas', times channels in Values
    height: u32,
    width: u32,
    c: u32,          // in Values
    out_height: u32,
    out_width: u32,
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>;            // (R, B, H, W, C)
@group(0) @binding(2) var<storage, read_write> y: array<Value>;      // (R, B, H', W', C)
@group(0) @binding(3) var<storage, read> grad_y: array<Value>;       // (R, B, H', W', C)
@group(0) @binding(4) var<storage, read_write> grad_x: array<Value>; // (R, B, H, W, C)

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
    return array(x[v.at], x[v.at + right], x[v.at + below], x[v.at + below + right]);
}

@compute @workgroup_size(64)
fn max_pool2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.outputs { return; }
    let e = elements(window(i));
    y[i] = max(max(e[0], e[1]), max(e[2], e[3]));
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
    let e = elements(v);
    let largest = max(max(e[0], e[1]), max(e[2], e[3]));
    let zero = Value(0.0);
    let first = e[0] == largest;
    let second = !first & (e[1] == largest);
    let third = !(first | second) & (e[2] == largest);
    let fourth = !(first | second | third);
    let g = grad_y[i];
    let row_len = p.width * p.c;
    put_grad_x(v.at, select(zero, g, first));
    if v.wide { put_grad_x(v.at + p.c, select(zero, g, second)); }
    if v.high { put_grad_x(v.at + row_len, select(zero, g, third)); }
    if v.wide && v.high { put_grad_x(v.at + row_len + p.c, select(zero, g, fourth)); }
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
