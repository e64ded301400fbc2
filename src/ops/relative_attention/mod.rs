//! 2D relative self-attention (Bello et al., "Attention augmented convolutional networks", ICCV 2019), fused in the
//! flash style (Dao et al., "FlashAttention", 2022): no logit is ever stored.
//!
//! Of N heads over an image of H W positions, head n has the channels n dk/N to (n + 1) dk/N of q and k, and n dv/N on
//! of v. With q' = (dk/N)^-0.5 q the logit of the query at (y, x) and the key at (y', x') is
//! s = q' (k + rel_h[y' - y + H - 1] + rel_w[x' - x + W - 1]); out = sum over all keys of softmax(s) v.
//! The tables rel_h (2H - 1, dk/N) and rel_w (2W - 1, dk/N) are shared by all heads.
//! Forward saves a log-sum-exp per position and head; backward recomputes the weights p: with delta = dy out, ds = p
//! (dy v - delta). The tables' gradients are sums of ds over the other axis, accumulated per group of queries and
//! reduced by a last kernel.

mod sizes;

use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Sink, Spec, Tensor};
use sizes::{BLOCK, Dims};
use variants::Attention;

static SHADER: Shader =
    shader!("relative_attention.wgsl", "shared/relative_attention.wgsl", "shared/attention_tile.wgsl");
static SUBGROUP8: Shader = shader!("software8/relative_attention.wgsl", "shared/relative_attention.wgsl");
static TABLES: Shader = shader!("relative_attention_tables.wgsl");

params! {
    struct Params {
        batch: u32, height: u32, width: u32, heads: u32, h_stride: u32, w_stride: u32, groups: u32,
        accumulate: u32, scale: f32,
    }
}

params! {
    struct TableParams {
        len: u32, depth: u32, parts: u32, part: u32, first: u32, row: u32, lanes: u32, stride: u32, accumulate: u32,
    }
}

/// Most channels of a head.
pub const MAX_DEPTH: usize = 64;

/// Heads, and channels of all heads: dk of q and of k, dv of v; both multiples of the number of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeAttention {
    pub heads: usize,
    pub key_depth: usize,
    pub value_depth: usize,
}

/// Adds attention. `qkv` (B, H, W, 2 dk + dv): q, k and v concatenated; `rel_h` (2H - 1, dk/N), `rel_w` (2W - 1, dk/N).
/// Returns (B, H, W, dv), heads concatenated.
///
/// # Errors
/// `Shape` for tensors that do not fit together and for more than [`MAX_DEPTH`] channels in a head.
pub fn relative_attention(
    g: &mut Graph,
    qkv: Tensor,
    rel_h: Tensor,
    rel_w: Tensor,
    config: RelativeAttention,
) -> Result<Tensor> {
    Ok(g.push(config, &[qkv, rel_h, rel_w])?[0])
}

impl RelativeAttention {
    /// `None` if the inputs do not fit together.
    fn dims(&self, x: &[Spec]) -> Option<Dims> {
        let (n, dk, dv) = (self.heads, self.key_depth, self.value_depth);
        let whole = n > 0 && dk > 0 && dv > 0 && dk.is_multiple_of(n) && dv.is_multiple_of(n);
        let &[batch, height, width, channels] = x[0].shape.dims() else { return None };
        if !whole || x[0].shape.is_empty() || channels != 2 * dk + dv {
            return None;
        }
        let d = Dims { batch, height, width, heads: n, key: dk / n, value: dv / n };
        let fits = x[1].shape.dims() == [2 * height - 1, d.key]
            && x[2].shape.dims() == [2 * width - 1, d.key]
            && d.key.max(d.value) <= MAX_DEPTH;
        fits.then_some(d)
    }

    fn of(&self, io: &Io) -> Dims {
        let specs: Vec<Spec> = (0..3).map(|i| Spec::f32(io.x(i).shape.clone())).collect();
        self.dims(&specs).expect("inferred before")
    }
}

fn variant(r: &Recorder, d: &Dims) -> Attention {
    variants::attention(r.target, d.height, d.key.max(d.value))
}

fn params(io: &Io, d: &Dims, groups: usize) -> Params {
    Params {
        batch: d.batch as u32,
        height: d.height as u32,
        width: d.width as u32,
        heads: d.heads as u32,
        h_stride: io.x(1).stride as u32,
        w_stride: io.x(2).stride as u32,
        groups: groups as u32,
        accumulate: 0,
        scale: (std::f64::consts::LOG2_E / (d.key as f64).sqrt()) as f32,
    }
}

impl Op for RelativeAttention {
    fn name(&self) -> &'static str {
        "relative_attention"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let Some(d) = self.dims(x) else {
            let RelativeAttention { heads, key_depth, value_depth } = self;
            let expected = format!(
                "qkv (B, H, W, 2 x {key_depth} + {value_depth}) in {heads} heads of at most {MAX_DEPTH} channels, \
                 rel_h (2H - 1, dk/N), rel_w (2W - 1, dk/N)"
            );
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            return Err(Error::shape(self.name(), expected, got.join(", ")));
        };
        let positions = Spec::f32([d.batch, d.heads, d.height * d.width]);
        // The target decides which of them is used; the others take no memory.
        let variants = [Attention::Tile, Attention::Subgroup8, Attention::TileSoftware];
        let [tile, subgroup8, software] = variants.map(|v| Spec::f32([d.partial(v)]));
        Ok(Outputs {
            y: vec![Spec::f32(x[0].shape.with_last(self.value_depth))],
            saved: vec![positions.clone()],
            scratch: vec![positions, tile, subgroup8, x[0].clone(), software],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = self.of(io);
        let variant = variant(r, &d);
        let (shader, entry, grid) = match variant {
            Attention::Tile | Attention::TileSoftware => {
                let blocks = (d.height * d.width).div_ceil(d.lanes(variant));
                (&SHADER, "relative_attention_forward", Grid::folded(d.batch * d.heads * blocks, io.replicas))
            }
            Attention::Subgroup8 => (&SUBGROUP8, "relative_attention_forward", d.blocks(BLOCK, io.replicas)),
        };
        let bindings = [
            ("qkv", io.x(0).view),
            ("rel_h", io.x(1).view),
            ("rel_w", io.x(2).view),
            ("y", io.y(0).view),
            ("saved_lse", io.saved(0).view),
        ];
        r.dispatch_with(
            shader,
            entry,
            &d.constants(variant),
            &bindings,
            params(io, &d, 1),
            grid.iterations(d.forward_rounds(variant)),
        );
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = self.of(io);
        let variant = variant(r, &d);
        let constants = d.constants(variant);
        let dy = io.dy(0).expect("backward runs only with a gradient");
        let delta = io.scratch(0).view;
        let unwanted = io.scratch(3);
        let nowhere = Sink { view: unwanted.view, stride: unwanted.stride, accumulate: false };
        let dqkv = io.dx(0).unwrap_or(&nowhere);
        let (shader, [input, key], partial, block) = match variant {
            Attention::Tile | Attention::TileSoftware => {
                let entries = ["relative_attention_backward_input", "relative_attention_backward_key"];
                let partial = io.scratch(if variant == Attention::Tile { 1 } else { 4 }).view;
                (&SHADER, entries, partial, [1, d.lanes(variant)])
            }
            Attention::Subgroup8 => {
                let entries = ["relative_attention_backward_input", "relative_attention_backward_key"];
                (&SUBGROUP8, entries, io.scratch(2).view, BLOCK)
            }
        };
        let groups = d.groups(variant);
        let p = Params { accumulate: dqkv.accumulate.into(), ..params(io, &d, groups) };

        let bindings = [("grad_y", dy), ("y", io.y(0).view), ("delta", delta)];
        let launch = Grid::items(d.batch * d.heads * d.height * d.width, 64, io.replicas).iterations(d.value);
        let depths = &constants[..2];
        r.dispatch_with(&SHADER, "relative_attention_backward_delta", depths, &bindings, p, launch);
        let known = [
            ("qkv", io.x(0).view),
            ("rel_h", io.x(1).view),
            ("rel_w", io.x(2).view),
            ("saved_lse", io.saved(0).view),
            ("delta", delta),
            ("grad_y", dy),
            ("grad_qkv", dqkv.view),
        ];
        if io.dx(0).is_some() {
            let launch = d.blocks(block, io.replicas).iterations(d.key_rounds(variant));
            r.dispatch_with(shader, key, &constants, &known, p, launch);
        }
        let bindings = [&known[..], &[("partial", partial)]].concat();
        let launch = Grid::folded(d.batch * d.heads * groups, io.replicas).iterations(d.gathering_rounds(variant));
        r.dispatch_with(shader, input, &constants, &bindings, p, launch);
        for (table, first, rows) in [(1, 0, 2 * d.height - 1), (2, 2 * d.height - 1, 2 * d.width - 1)] {
            if let Some(sink) = io.dx(table) {
                add_parts(r, &d, variant, partial, sink, [first, rows], io.replicas);
            }
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (n, dk, dv) = (self.heads, self.key_depth, self.value_depth);
        let &[batch, height, width, _] = x[0].dims() else { unreachable!("inferred before") };
        let (key, value) = (dk / n, dv / n);
        let scale = (key as f64).powf(-0.5);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut out = Array::zeros([batch, height, width, dv]);
        let mut weights = vec![0.0; height * width];
        let (mut h_terms, mut w_terms) = (vec![0.0; height], vec![0.0; width]);
        for image in 0..batch {
            for head in 0..n {
                for query in 0..height * width {
                    let (qy, qx) = (query / width, query % width);
                    let row = |position: usize| x[0].row(image * height * width + position);
                    let q: Vec<f64> = row(query)[head * key..][..key].iter().map(|v| v * scale).collect();
                    (0..height).for_each(|ky| h_terms[ky] = dot(&q, x[1].row(ky + height - 1 - qy)));
                    (0..width).for_each(|kx| w_terms[kx] = dot(&q, x[2].row(kx + width - 1 - qx)));
                    for (k, weight) in weights.iter_mut().enumerate() {
                        *weight = dot(&q, &row(k)[dk + head * key..][..key]) + h_terms[k / width] + w_terms[k % width];
                    }
                    let most = weights.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
                    weights.iter_mut().for_each(|v| *v = (*v - most).exp());
                    let total: f64 = weights.iter().sum();
                    let y = &mut out.row_mut(image * height * width + query)[head * value..][..value];
                    for (k, weight) in weights.iter().enumerate() {
                        let v = &row(k)[2 * dk + head * value..][..value];
                        y.iter_mut().zip(v).for_each(|(y, v)| *y += weight / total * v);
                    }
                }
            }
        }
        vec![out]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let &[_, height, width, _] = x[0].dims() else { unreachable!("inferred before") };
        let (heads, positions) = (self.heads, height * width);
        let depths = [self.key_depth, self.key_depth, self.value_depth].map(|depth| (depth / heads) as i64);
        let sizes = depths.map(|depth| depth * heads as i64);
        let (input, sizes) = (to.of(&x[0]), to.ints(&sizes));
        let parts = to.apply_to_many("Split", &[&input, &sizes], &[("axis", Attribute::Int(3))], 3);
        // (B, heads, positions, depth)
        let of_heads = |i: usize, to: &mut Operators| {
            let part = to.reshape(&parts[i], &[-1, positions as i64, heads as i64, depths[i]]);
            to.transpose(&part, &[0, 2, 1, 3])
        };
        let [q, k, v] = [0, 1, 2].map(|i| of_heads(i, to));
        let scale = to.scalar((depths[0] as f64).powf(-0.5) as f32);
        let q = to.apply("Mul", &[&q, &scale], &[]);
        let turned = to.transpose(&k, &[0, 1, 3, 2]);
        let logits = to.apply("MatMul", &[&q, &turned], &[]);
        let (h, w) = (height as i64, width as i64);
        let logits = to.reshape(&logits, &[-1, heads as i64, h, w, h, w]);
        let q = to.reshape(&q, &[-1, heads as i64, h, w, depths[0]]);
        // The table's rows of each pair of a query and a key: (query, key, depth).
        let distances = |table: &Value, n: usize, to: &mut Operators| -> Result<String> {
            let table = table.known()?;
            let rows = (0..n * n).flat_map(|i| table.row(i % n + n - 1 - i / n).to_vec());
            Ok(to.floats(&[n, n, depths[0] as usize], &rows.collect::<Vec<f32>>()))
        };
        let (rows, columns) = (distances(&x[1], height, to)?, distances(&x[2], width, to)?);
        let h_terms = to.apply("Einsum", &[&q, &rows], &[("equation", Attribute::Text("bnyxd,ykd->bnyxk"))]);
        let w_terms = to.apply("Einsum", &[&q, &columns], &[("equation", Attribute::Text("bnyxd,xkd->bnyxk"))]);
        let (h_terms, w_terms) = (to.unsqueeze(&h_terms, &[5]), to.unsqueeze(&w_terms, &[4]));
        let logits = to.apply("Add", &[&logits, &h_terms], &[]);
        let logits = to.apply("Add", &[&logits, &w_terms], &[]);
        let logits = to.reshape(&logits, &[-1, heads as i64, positions as i64, positions as i64]);
        let weights = to.apply("Softmax", &[&logits], &[("axis", Attribute::Int(-1))]);
        let y = to.apply("MatMul", &[&weights, &v], &[]);
        let y = to.transpose(&y, &[0, 2, 1, 3]);
        Ok(vec![to.reshape(&y, &[-1, h, w, self.value_depth as i64])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let dims = x[0].shape.dims();
        let positions = (dims[1] * dims[2]) as f64;
        let pairs = (dims[0] * self.heads) as f64 * positions * positions;
        let depth = ((self.key_depth + self.value_depth) / self.heads) as f64;
        let elements = x.iter().map(|s| s.shape.len()).sum::<usize>() + dims[0] * dims[1] * dims[2] * self.value_depth;
        // A product with k and v each, two sums for the positions; softmax's exp, maximum and sum.
        Cost { flops: pairs * (2.0 * depth + 5.0), bytes: 4.0 * elements as f64 }
    }
}

/// Reduces the sums of all groups for `rows` rows of the tables, from row `first` on.
fn add_parts(
    r: &mut Recorder,
    d: &Dims,
    variant: Attention,
    partial: View,
    sink: &Sink,
    [first, rows]: [usize; 2],
    replicas: usize,
) {
    let [row, lanes] = d.sums(variant);
    let p = TableParams {
        len: (rows * d.key) as u32,
        depth: d.key as u32,
        parts: (d.batch * d.heads * d.groups(variant)) as u32,
        part: d.part(variant) as u32,
        first: (first * row) as u32,
        row: row as u32,
        lanes: lanes as u32,
        stride: sink.stride as u32,
        accumulate: sink.accumulate.into(),
    };
    let bindings = [("sums", partial), ("grad_table", sink.view)];
    let launch = Grid::items(rows * d.key, 64, replicas).iterations((p.parts * (1 + p.lanes)) as usize);
    r.dispatch(&TABLES, "relative_attention_backward_table", &bindings, p, launch);
}

/// An image of `size`; depths of one head.
fn case(name: &str, batch: usize, [height, width]: [usize; 2], heads: usize, [key, value]: [usize; 2]) -> Case {
    let op = RelativeAttention { heads, key_depth: heads * key, value_depth: heads * value };
    // Logits of about +-3 for any depth, so that the weights of keys differ.
    let qkv = Input::gradient([batch, height, width, heads * (2 * key + value)]).filled(Fill::Uniform(-1.5, 1.5));
    let inputs = vec![qkv, Input::param([2 * height - 1, key]), Input::param([2 * width - 1, key])];
    Case::new(name, op, inputs)
}

/// Logits of several hundred: weights are about 0 or 1, and no exponential may overflow. Without gradients: where a
/// weight changes that fast, central differences are inaccurate.
fn far_apart(name: &str, size: [usize; 2], depth: [usize; 2], bound: f64) -> Case {
    let mut case = case(name, 1, size, 2, depth);
    case.inputs[0].fill = Fill::Uniform(-bound, bound);
    case.seeded(&[])
}

fn cases() -> Vec<Case> {
    vec![
        case("one", 1, [1, 1], 1, [1, 1]),
        case("a row", 2, [1, 13], 2, [2, 1]),
        case("a column", 2, [13, 1], 2, [1, 2]),
        case("a long column", 1, [131, 2], 1, [1, 1]),
        case("3 x 5", 2, [3, 5], 3, [3, 2]),
        case("primes", 1, [7, 37], 2, [5, 7]),
        case("whole blocks", 1, [8, 32], 1, [8, 8]),
        case("more rows than a tile", 1, [19, 5], 2, [4, 4]),
        case("deep", 1, [3, 11], 1, [MAX_DEPTH, MAX_DEPTH]),
        case("deep, ragged", 1, [7, 35], 1, [61, 47]),
        case("48 channels", 1, [2, 5], 1, [48, 48]),
        case("deep keys", 1, [5, 33], 2, [17, 1]),
        case("deep values", 1, [5, 9], 2, [1, 23]),
        case("deepest values", 1, [9, 5], 1, [1, 64]),
        case("deep values, ragged keys", 1, [11, 5], 1, [12, 36]),
        far_apart("large logits", [5, 9], [3, 2], 30.0),
        far_apart("large logits, deep", [5, 9], [12, 9], 8.0),
        case("6 x 65, 1 channel", 1, [6, 65], 2, [1, 1]),
        case("11 x 129, narrow", 1, [11, 129], 8, [1, 1]).bench(),
        case("11 x 129", 1, [11, 129], 2, [8, 8]).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "relative_attention",
    about: "2D relative self-attention, fused, flash style",
    shaders: &[&SHADER, &SUBGROUP8, &TABLES],
    cases,
};
