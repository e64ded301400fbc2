// Shared by the kernels of the convolution. n, c: output and input channels of the current product, exchanged for the
// backward input.
struct Params {
    m: u32,          // pixels of y, of a replica
    height: u32,     // of y; only the kernels on any GPU know other sizes of x
    width: u32,
    x_height: u32,
    x_width: u32,
    up: u32,         // a pixel (h, w) of y is centred on (up (h, w) + offsets) / down of x, where that is a pixel:
    down: u32,       // up or down is the stride, the other 1
    row_offset: i32,
    column_offset: i32,
    c: u32,
    n: u32,
    size: u32,       // of the square kernel, odd
    depth: u32,      // size^2 c, rounded up to a multiple of 4
    x_stride: u32,   // elements between replicas; 0 for an input that all replicas share
    w_stride: u32,
    b_stride: u32,
    has_bias: u32,
    relu: u32,
    transposed: u32,     // pack: weights rotated by 180 degrees and their channels exchanged, for the backward input
    accumulate: u32, // add to the output
    slices: u32,     // backward weight and bias: the rows of all images are summed in this many slices
}

// Row and column of a pixel in its image.
fn pixel_position(pixel: u32) -> vec2<u32> {
    let row = pixel / p.width;
    return vec2(row % p.height, pixel - row * p.width);
}

// A position in the kernel's depth: the offset of its pixel, and its channel.
struct Tap {
    shift: vec2<i32>, // in rows and columns
    pixels: i32,      // the same in pixels
    channel: u32,
}

fn kernel_tap(k: u32) -> Tap {
    let tap = k / p.c;
    let row = tap / p.size;
    let shift = vec2<i32>(vec2(row, tap - row * p.size)) - i32(p.size / 2u);
    return Tap(shift, shift.x * i32(p.width) + shift.y, k - tap * p.c);
}

// The first image row of a slice.
fn slice_start(slice: u32) -> u32 { return p.m / p.width * slice / p.slices; }

// The packed weights (depth, N) are in panels of 32 columns, the last one of the remainder, so that a tile reads
// contiguous memory.
const PANEL = 32u;

fn packed_at(k: u32, n: u32) -> u32 {
    let start = n / PANEL * PANEL;
    return start * p.depth + k * min(PANEL, p.n - start) + n - start;
}
