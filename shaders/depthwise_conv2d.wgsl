// 3 x 3 convolution of each channel alone, of images with channels last, 'same' padding, stride 1 or 2.
//
//   forward          y = f(b + sum over taps (i, j) of w[i, j] x[S h - top + i, S w - left + j]), f nothing or ReLU
//   backward input   grad_x = the sum over taps of w[i, j] g, where a pixel of y has this tap on the pixel of x
//   backward weight  grad_w[i, j] = sum over the pixels of y of g x, and grad_b = sum of g
//
// S is the stride; top and left are the rows and columns of zeros before an image. Weights are packed so that channels
// are innermost. With VEC4 an invocation takes four channels, and with TEXELS it reads from textures.
#import grid
#import value
#import nan

struct Params {
    images: u32,     // of a replica
    height: u32,     // of x
    width: u32,
    out_height: u32, // of y
    out_width: u32,
    c: u32,          // channels, in Values
    top: u32,
    left: u32,
    x_stride: u32,   // from one replica to the next, in Values; 0 for an input that all replicas share
    w_stride: u32,   // in elements
    b_stride: u32,   // in Values
    has_bias: u32,
    relu: u32,
    accumulate: u32, // add to the output
    slices: u32,     // the rows of y of all images are summed in this many slices
}

override STRIDE: u32 = 1u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w: array<f32>;                    // (C, 1, 3, 3) every w_stride
@group(0) @binding(3) var<storage, read_write> packed_weights: array<f32>; // (R, 9, C)
@group(0) @binding(5) var<storage, read> b: array<Value>;                  // (C) every b_stride
@group(0) @binding(6) var<storage, read_write> y: array<Value>;            // (R, B, H', W', C)
@group(0) @binding(8) var<storage, read_write> grad_x: array<Value>;       // (R, B, H, W, C)
@group(0) @binding(9) var<storage, read_write> partial: array<Value>;      // (R, slices, 10, C): the taps, and the bias
@group(0) @binding(10) var<storage, read> sums: array<f32>;                // the same, to read
@group(0) @binding(11) var<storage, read_write> grad_w: array<f32>;        // (C, 1, 3, 3) every w_stride
@group(0) @binding(12) var<storage, read_write> grad_b: array<f32>;        // (C) every b_stride

#ifdef TEXELS
#import texel
@group(0) @binding(1) var x: Texels;                                       // (B, H, W, C) every x_stride
@group(0) @binding(4) var weights: Texels;                                 // the packed weights
@group(0) @binding(7) var grad_y: Texels;                                  // (R, B, H', W', C)
fn image_value(i: u32) -> Value { return texel(x, i); }
fn weight(i: u32) -> Value { return texel(weights, i); }
fn gradient(i: u32) -> Value { return texel(grad_y, i); }
#else
@group(0) @binding(1) var<storage, read> x: array<Value>;                  // (B, H, W, C) every x_stride
@group(0) @binding(4) var<storage, read> weights: array<Value>;            // the packed weights
@group(0) @binding(7) var<storage, read> grad_y: array<Value>;             // (R, B, H', W', C)
fn image_value(i: u32) -> Value { return x[i]; }
fn weight(i: u32) -> Value { return weights[i]; }
fn gradient(i: u32) -> Value { return grad_y[i]; }
#endif

const WORKGROUP_SIZE = 64u;
const TAPS = 9u;
// Rows of y that an invocation computes.
const RUN = 6u;

#ifndef VEC4
// One invocation per weight.
@compute @workgroup_size(64)
fn depthwise_conv2d_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= TAPS * p.c { return; }
    let tap = i / p.c;
    packed_weights[id.z * TAPS * p.c + i] = w[id.z * p.w_stride + (i - tap * p.c) * TAPS + tap];
}

#endif
// Three neighbours in a row.
struct Three {
    left: Value,
    middle: Value,
    right: Value,
}

fn weights_of(replica: u32, channel: u32, row: u32) -> Three {
    let at = (replica * TAPS + 3u * row) * p.c + channel;
    return Three(weight(at), weight(at + p.c), weight(at + 2u * p.c));
}

fn multiply(v: Three, weights: Three) -> Value {
    return v.left * weights.left + v.middle * weights.middle + v.right * weights.right;
}

// Of row h from column w on; pixels outside the image, among them those before its first, are 0.
fn pixels(image: u32, h: u32, w: u32) -> Three {
    var v = Three(Value(0.0), Value(0.0), Value(0.0));
    if h < p.height {
        let at = image + (h * p.width + w) * p.c;
        if w < p.width { v.left = image_value(at); }
        if w + 1u < p.width { v.middle = image_value(at + p.c); }
        if w + 2u < p.width { v.right = image_value(at + 2u * p.c); }
    }
    return v;
}

// One invocation per channel, column of y and RUN rows of it, whose rows of x it loads once.
@compute @workgroup_size(64)
fn depthwise_conv2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let column = i / p.c;
    let channel = i - column * p.c;
    let run = column / p.out_width;
    let out_w = column - run * p.out_width;
    let runs = (p.out_height + RUN - 1u) / RUN;
    let image = run / runs;
    if image >= p.images { return; }
    let first = (run - image * runs) * RUN;
    let source = id.z * p.x_stride + image * p.height * p.width * p.c + channel;
    let left = out_w * STRIDE - p.left;
    let top = weights_of(id.z, channel, 0u);
    let middle = weights_of(id.z, channel, 1u);
    let bottom = weights_of(id.z, channel, 2u);
    var bias = Value(0.0);
    if p.has_bias == 1u { bias = b[id.z * p.b_stride + channel]; }
    var h = first * STRIDE - p.top;
    var a = pixels(source, h, left);
    var m = pixels(source, h + 1u, left);
    for (var out_h = first; out_h < min(first + RUN, p.out_height); out_h++) {
        let z = pixels(source, h + 2u, left);
        var v = bias + multiply(a, top) + multiply(m, middle) + multiply(z, bottom);
        if p.relu == 1u { v = keep_nan(v, max(v, Value(0.0))); }
        y[(((id.z * p.images + image) * p.out_height + out_h) * p.out_width + out_w) * p.c + channel] = v;
        h += STRIDE;
        if STRIDE == 1u {
            a = m;
            m = z;
        } else {
            a = z;
            m = pixels(source, h + 1u, left);
        }
    }
}

// One invocation per element of x.
@compute @workgroup_size(64)
fn depthwise_conv2d_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let pixel = i / p.c;
    let channel = i - pixel * p.c;
    let row = pixel / p.width;
    let image = row / p.height;
    if image >= p.images { return; }
    let image_at = (id.z * p.images + image) * p.out_height;
    var sum = Value(0.0);
    for (var tap = 0u; tap < TAPS; tap++) {
        // Far outside the image where the difference is negative.
        let h = row - image * p.height + p.top - tap / 3u;
        let w = pixel - row * p.width + p.left - tap % 3u;
        let at = vec2(h, w) / STRIDE;
        if all(at * STRIDE == vec2(h, w)) && all(at < vec2(p.out_height, p.out_width)) {
            let g = gradient(((image_at + at.x) * p.out_width + at.y) * p.c + channel);
            sum += weight((id.z * TAPS + tap) * p.c + channel) * g;
        }
    }
    let at = id.z * p.images * p.height * p.width * p.c + i;
    if p.accumulate == 1u { grad_x[at] += sum; } else { grad_x[at] = sum; }
}

// The first row of y of a slice, of all images.
fn slice_start(slice: u32) -> u32 { return p.images * p.out_height * slice / p.slices; }

// One invocation per channel of a slice.
@compute @workgroup_size(64)
fn depthwise_conv2d_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) local_index: u32) {
    let channel = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if channel >= p.c { return; }
    let replica = id.z / p.slices;
    let slice = id.z - replica * p.slices;
    var top = Three(Value(0.0), Value(0.0), Value(0.0));
    var middle = top;
    var bottom = top;
    var bias = Value(0.0);
    let end = slice_start(slice + 1u) * p.out_width;
    for (var pixel = slice_start(slice) * p.out_width; pixel < end; pixel++) {
        let row = pixel / p.out_width;
        let image = row / p.out_height;
        let source = replica * p.x_stride + image * p.height * p.width * p.c + channel;
        let h = (row - image * p.out_height) * STRIDE - p.top;
        let left = (pixel - row * p.out_width) * STRIDE - p.left;
        let g = gradient((replica * p.images * p.out_height * p.out_width + pixel) * p.c + channel);
        bias += g;
        top = add(top, g, pixels(source, h, left));
        middle = add(middle, g, pixels(source, h + 1u, left));
        bottom = add(bottom, g, pixels(source, h + 2u, left));
    }
    let at = id.z * (TAPS + 1u) * p.c + channel;
    put_partial(at, top);
    put_partial(at + 3u * p.c, middle);
    put_partial(at + 6u * p.c, bottom);
    partial[at + TAPS * p.c] = bias;
}

fn add(sum: Three, g: Value, v: Three) -> Three {
    return Three(sum.left + g * v.left, sum.middle + g * v.middle, sum.right + g * v.right);
}

fn put_partial(at: u32, v: Three) {
    partial[at] = v.left;
    partial[at + p.c] = v.middle;
    partial[at + 2u * p.c] = v.right;
}

#ifndef VEC4
// The sum over the slices, in order, for a tap (or the bias) and channel.
fn total(replica: u32, i: u32) -> f32 {
    var sum = 0.0;
    for (var s = 0u; s < p.slices; s++) { sum += sums[(replica * p.slices + s) * (TAPS + 1u) * p.c + i]; }
    return sum;
}

@compute @workgroup_size(64)
fn depthwise_conv2d_backward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= TAPS * p.c { return; }
    let tap = i / p.c;
    let v = total(id.z, i);
    let at = id.z * p.w_stride + (i - tap * p.c) * TAPS + tap;
    if p.accumulate == 1u { grad_w[at] += v; } else { grad_w[at] = v; }
}

@compute @workgroup_size(64)
fn depthwise_conv2d_backward_bias(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                  @builtin(local_invocation_index) local_index: u32) {
    let channel = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if channel >= p.c { return; }
    let v = total(id.z, TAPS * p.c + channel);
    let at = id.z * p.b_stride + channel;
    if p.accumulate == 1u { grad_b[at] += v; } else { grad_b[at] = v; }
}
#endif
