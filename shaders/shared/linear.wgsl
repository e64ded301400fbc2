// The parameters of every kernel of the fully connected layer, what follows its product, and its slices.
#import relu

struct Params {
    m: u32,          // rows of a segment
    n: u32,          // outputs of a layer
    k: u32,
    first: u32,      // the first of the n outputs of w (or the part of it that is bound),
    columns: u32,    //   among so many in a row of y
    segments: u32,   // S
    layers: u32,     // L: elements from one layer to the next ...
    x_layer: u32,    //   of x, 0 if they have the same,
    y_layer: u32,    //   of y or its gradient,
    w_layer: u32,    //   of the weights,
    grad_layer: u32, //   of their gradients,
    b_layer: u32,    //   and of the biases, or their gradients
    w_stride: u32,   // elements from one replica's weights to the next,
    grad_stride: u32, //   and from their gradients,
    b_stride: u32,   //   and from its biases, or their gradients
    has_bias: u32,
    curve: u32,      // after the product: 0 nothing, 1 ReLU and dropout, 2 sigmoid
    slope: f32,      // of ReLU for negative values
    threshold: u32,  // of dropout; 0: none
    scale: f32,      // 1 / (1 - p)
    stream: u32,
    accumulate: u32, // add to the output, bits: 1 into grad_w (or y), 2 into grad_b, 4 into grad_x
    slices: u32,     // of grad_w and grad_b: M is summed in this many slices
    w_at: u32,       // offsets in their output of grad_w
    b_at: u32,       //   and of grad_b
    k_from: u32,     // forward: the sum is over these steps of K; a longer one is a sum of several
    k_to: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

// The gradient before the curve of g after it, from its output y.
fn before_curve(g: Value, y: Value) -> Value {
    if p.curve == 2u { return g * y * (1.0 - y); }
    return before_relu(g, y, p.slope, p.scale, p.threshold > 0u);
}

// Row m of a product, among the rows of x or y. `product`: the segment of a replica.
fn row_of(product: u32, m: u32) -> u32 {
    return (product / p.segments * p.m + m) * p.segments + product % p.segments;
}

// Where rows of a layer begin in x, and in y.
fn x_at(layer: u32, row: u32) -> u32 { return layer * p.x_layer + row * p.k; }

fn y_at(layer: u32, row: u32) -> u32 { return layer * p.y_layer + row * p.columns + p.first; }

// The first row of a slice of M.
fn slice_start(slice: u32) -> u32 { return p.m * slice / p.slices; }
