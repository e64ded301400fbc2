// Which block of four lines and four steps of an operand's next slice an invocation fetches, for tiles of TILE lines
// and DEPTH steps.

const QUADS = TILE / 4u;
// Of a slice of an operand; the first invocations fetch those of A, the next those of B.
const BLOCKS = QUADS * DEPTH / 4u;

alias Block = array<vec4<f32>, 4>;

fn fetches_a(local_index: u32) -> bool { return local_index < BLOCKS; }

fn fetches_b(local_index: u32) -> bool { return local_index >= BLOCKS && local_index < 2u * BLOCKS; }

// The first line and the first step of an invocation's block. Operands that are contiguous along the depth are fetched
// as four lines of four steps, with neighbours along the depth.
fn line_along(local_index: u32) -> u32 { return local_index % BLOCKS / (DEPTH / 4u) * 4u; }

fn step_along(local_index: u32) -> u32 { return local_index % (DEPTH / 4u) * 4u; }

// Those that are contiguous along the lines as four steps of four lines, with neighbours along the lines.
fn line_across(local_index: u32) -> u32 { return local_index % QUADS * 4u; }

fn step_across(local_index: u32) -> u32 { return local_index % BLOCKS / QUADS * 4u; }

// Four steps of four lines.
fn transposed(block: Block) -> Block {
    let m = transpose(mat4x4(block[0], block[1], block[2], block[3]));
    return Block(m[0], m[1], m[2], m[3]);
}
