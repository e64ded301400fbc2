// Pixels of x, at any stride.

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

struct Source {
    pixel: u32,
    live: bool, // whether x has it; if not, the pixel is another one that x has
}

// The pixel of x at a tap of the kernel with this centre.
fn source(c: Centre, tap: Tap) -> Source {
    let at = vec2<u32>(c.at + tap.shift);
    // The stride is 1 or 2.
    let position = at >> vec2(p.down - 1u);
    let live = all((at & vec2(p.down - 1u)) == vec2(0u)) && all(position < vec2(p.x_height, p.x_width));
    return Source(c.image + select(0u, position.x * p.x_width + position.y, live), live);
}
