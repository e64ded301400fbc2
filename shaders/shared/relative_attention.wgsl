// Shared by the kernels of 2D relative self-attention. Logits are in base 2, for exp2:
// s = q' (k + rel_w + rel_h) with q' = scale q, and a query's log-sum-exp is that of base 2.
override KEY_DEPTH: u32 = 1u;   // dk / N
override VALUE_DEPTH: u32 = 1u; // dv / N

const LN_2 = 0.6931471805599453;
// Below every logit.
const LOWEST = -1e30;

struct Params {
    batch: u32,
    height: u32,
    width: u32,
    heads: u32,
    h_stride: u32,
    w_stride: u32,
    groups: u32,     // of queries: each has its own sums for the tables
    accumulate: u32,
    scale: f32,      // (dk / N)^-0.5 log2(e)
}

fn positions() -> u32 { return p.height * p.width; }

// Offsets of the channels of a head, and of the values per head and position of a (replica's) image.
fn q_at(image: u32, head: u32, position: u32) -> u32 {
    return (image * positions() + position) * p.heads * (2u * KEY_DEPTH + VALUE_DEPTH) + head * KEY_DEPTH;
}

fn k_at(image: u32, head: u32, position: u32) -> u32 { return q_at(image, head, position) + p.heads * KEY_DEPTH; }

fn v_at(image: u32, head: u32, position: u32) -> u32 {
    return q_at(image, 0u, position) + 2u * p.heads * KEY_DEPTH + head * VALUE_DEPTH;
}

fn y_at(image: u32, head: u32, position: u32) -> u32 {
    return ((image * positions() + position) * p.heads + head) * VALUE_DEPTH;
}

fn saved_at(image: u32, head: u32, position: u32) -> u32 { return (image * p.heads + head) * positions() + position; }

// Rows of the tables, both one after the other.
fn table_rows() -> u32 { return 2u * (p.height + p.width) - 2u; }
