// Elements of x, at any stride, as kernels read them that take one at a time.

// Where the kernel is centred for a pixel of y: row and column of x, times p.down, and the first pixel of its image.
struct Centre {
    at: vec2<i32>,
    image: u32,
}

fn centre(position: vec2<u32>, image: u32) -> Centre {
    let at = vec2<i32>(position * p.up) + vec2(p.row_offset, p.column_offset);
    return Centre(at, image * p.x_height * p.x_width);
}

fn image_of(pixel: u32) -> u32 { return pixel / (p.height * p.width); }

// The element of x at a tap of the kernel with this centre, where x has it; `first` is the replica's first.
fn element(first: u32, c: Centre, tap: Tap) -> f32 {
    let at = vec2<u32>(c.at + tap.shift);
    // The stride is 1 or 2.
    let source = at >> vec2(p.down - 1u);
    let live = all((at & vec2(p.down - 1u)) == vec2(0u)) && all(source < vec2(p.x_height, p.x_width));
    let pixel = c.image + select(0u, source.x * p.x_width + source.y, live);
    return select(0.0, x[first + pixel * p.c + tap.channel], live);
}
