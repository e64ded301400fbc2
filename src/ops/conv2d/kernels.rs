//! The convolution's shaders, sizes and passes.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Precision, Problem, Recorder, Shader, View, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};
use crate::ops::linear::tile_product_rounds;
use crate::ops::relu_gradient::{Relu, relu_gradient};
use crate::ops::variants::{self, Convolution, Filter, Tiles};

pub(super) static TILES: Tiles =
    variants::tiles(shader!("conv2d.wgsl", "shared/conv2d.wgsl", "shared/conv2d_strided.wgsl"));
pub(super) static WEIGHTS: Shader = shader!("conv2d_weights.wgsl", "shared/conv2d.wgsl");
pub(super) static SUBGROUP8: Shader =
    shader!("software8/conv2d.wgsl", "shared/conv2d.wgsl", "shared/conv2d_strided.wgsl", "software8/product.wgsl")
        .with_textures(&["x", "weights", "grad_y"]);
pub(super) static UNALIGNED: Shader = SUBGROUP8.with(&["SCALAR_INPUT"]).with_textures(&["weights", "grad_y"]);
static SQUARE3: Shader =
    shader!("software8/conv2d_3x3.wgsl", "shared/conv2d.wgsl").with_textures(&["x", "weights", "grad_y"]);
static SQUARE3_FIRST: Shader = SQUARE3.with_textures(&["weights", "grad_y"]);
/// By the width of the output: 1, 2, 4.
pub(super) static SQUARE3_ALIGNED: [Shader; 3] =
    [SQUARE3.with(&["SCALAR_OUTPUT"]), SQUARE3.with(&["VEC2_OUTPUT"]), SQUARE3];
pub(super) static SQUARE3_SINGLE: [Shader; 3] = [
    SQUARE3_FIRST.with(&["SCALAR_INPUT", "SCALAR_OUTPUT"]),
    SQUARE3_FIRST.with(&["SCALAR_INPUT", "VEC2_OUTPUT"]),
    SQUARE3_FIRST.with(&["SCALAR_INPUT"]),
];
pub(super) static RUNS: Shader =
    shader!("software8/conv2d_runs.wgsl", "shared/conv2d.wgsl").with_textures(&["x", "weights", "grad_y"]);
pub(super) static RUNS_UNALIGNED: Shader = RUNS.with(&["SCALAR_INPUT"]).with_textures(&["weights", "grad_y"]);

params! {
    struct Params {
        m: u32, height: u32, width: u32, x_height: u32, x_width: u32, up: u32, down: u32, row_offset: i32,
        column_offset: i32, c: u32, n: u32, size: u32, depth: u32,
        x_stride: u32, w_stride: u32, b_stride: u32,
        has_bias: u32, relu: u32, transposed: u32, accumulate: u32, slices: u32,
    }
}

/// Rows and columns of the results that a subgroup of 8 computes (see the shaders).
const TILE8: usize = 32;
/// Pixels that a workgroup of the kernels for runs of pixels takes (see `software8/conv2d_runs.wgsl`): 8 runs ...
const LANES: usize = 8;
/// ... of 8 neighbours in an image row.
const RUN: usize = 8;
/// Tiles of pixels for a workgroup of the kernels of 3 x 3.
const PIXEL_TILES: usize = 16;
/// The weight gradient is summed over the rows of all images in as many slices as give about this many workgroups ...
const GROUPS: usize = 256;
/// ... and at most this many.
const MAX_SLICES: usize = 64;

/// Inputs: x, w and, optionally, b.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// 1 or 2.
    pub stride: usize,
    /// y = max(0, convolution).
    pub relu: bool,
}

impl Default for Conv2d {
    fn default() -> Conv2d {
        Conv2d { stride: 1, relu: false }
    }
}

/// Adds a convolution. `x` (B, H, W, C), `w` (N, C, S, S) with S odd, `b` (N); gives (B, H / stride, W / stride, N),
/// rounded up.
pub fn conv2d(g: &mut Graph, x: Tensor, w: Tensor, b: Option<Tensor>, config: Conv2d) -> Result<Tensor> {
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
    Ok(g.push(config, &inputs)?[0])
}

/// Zeros before the first of `size` rows or columns of an image, for as many positions of a kernel as are left by the
/// stride: TensorFlow's 'same' padding, where the zeros after the last are as many or one more.
pub fn same_padding(size: usize, kernel: usize, stride: usize) -> usize {
    ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size) / 2
}

/// A convolution's sizes: `c` channels in, `n` out, `height` rows and `width` columns of y.
#[derive(Clone, Copy)]
struct Dims {
    images: usize,
    height: usize,
    width: usize,
    x_height: usize,
    x_width: usize,
    c: usize,
    n: usize,
    size: usize,
    stride: usize,
    /// Whether it computes dx, so that it is x, not y, whose rows and columns are a stride apart.
    transposed: bool,
}

impl Dims {
    /// `None` if x and w do not fit together.
    fn new(x: &[usize], w: &[usize], stride: usize) -> Option<Dims> {
        match (x, w) {
            (&[images, x_height, x_width, c], &[n, c2, size, size2])
                if c == c2 && size == size2 && size % 2 == 1 && matches!(stride, 1 | 2) =>
            {
                let [height, width] = [x_height, x_width].map(|size| size.div_ceil(stride));
                Some(Dims { images, height, width, x_height, x_width, c, n, size, stride, transposed: false })
            }
            _ => None,
        }
    }

    fn of(io: &Io, stride: usize) -> Dims {
        Dims::new(io.x(0).shape.dims(), io.x(1).shape.dims(), stride).expect("inferred before")
    }

    fn pixels(&self) -> usize {
        self.images * self.height * self.width
    }

    /// The convolution that computes dx.
    fn transposed(self) -> Dims {
        let Dims { height, width, x_height, x_width, c, n, .. } = self;
        let swapped = Dims { height: x_height, width: x_width, x_height: height, x_width: width, c: n, n: c, ..self };
        Dims { transposed: true, ..swapped }
    }

    /// Rows and columns from the centre of the kernel at y's first pixel to x's first pixel.
    fn offsets(&self) -> [i32; 2] {
        let [height, width] = if self.transposed { [self.height, self.width] } else { [self.x_height, self.x_width] };
        [height, width].map(|size| {
            let offset = (self.size / 2 - same_padding(size, self.size, self.stride)) as i32;
            if self.transposed { -offset } else { offset }
        })
    }

    /// Of the convolution, forward or for the input's gradient.
    fn problem(&self, kernel: &'static str, precision: Precision) -> Problem {
        Problem { kernel, result: [self.pixels(), self.n], terms: self.terms(), copies: 1, precision }
    }

    fn filter(&self) -> Filter {
        Filter { n: self.n, c: self.c, size: self.size, stride: self.stride }
    }

    /// Terms of an output element.
    fn terms(&self) -> usize {
        self.size * self.size * self.c
    }

    /// Rows of the packed weights.
    fn depth(&self) -> usize {
        self.terms().next_multiple_of(4)
    }

    /// Rows of a kernel column in the weights as packed for runs of pixels: (row, channel), padded to vec4.
    fn column_depth(&self) -> usize {
        (self.size * self.c).next_multiple_of(4)
    }

    /// Elements of the packed weights, whatever the variant.
    fn packed(&self) -> usize {
        // Kernels of 3 x 3 pack their rows, or those of four channels, for up to 32 outputs at a time.
        let square3 = if self.size == 3 { self.n.next_multiple_of(32) * 9 * self.c.next_multiple_of(4) } else { 0 };
        (self.n * self.depth().max(self.column_depth() * self.size)).max(square3)
    }

    fn slices(&self) -> usize {
        let tiles = self.n.div_ceil(TILE8) * self.terms().div_ceil(TILE8);
        (GROUPS / tiles).clamp(1, MAX_SLICES).min(self.images * self.height)
    }

    /// Tiles of pixels for kernels of 3 x 3.
    fn pixel_tiles(&self) -> usize {
        self.images * self.height.div_ceil(4) * self.width.div_ceil(8)
    }

    /// Workgroups that share them.
    fn pixel_parts(&self) -> usize {
        self.pixel_tiles().div_ceil(PIXEL_TILES)
    }

    /// Chunks of the input channels for kernels of 3 x 3.
    fn chunks(&self) -> usize {
        self.c.div_ceil(4)
    }

    /// Rounds for all terms of a result.
    fn iterations(&self, variant: Convolution) -> usize {
        match variant {
            Convolution::Tile(_) => tile_product_rounds(self.depth()),
            Convolution::Subgroup8 { .. } => self.size * self.size + self.depth() / 4,
            Convolution::Runs { .. } => self.column_depth() / 4,
            Convolution::Square3 { .. } => (PIXEL_TILES + 1) * (1 + self.chunks() * 4),
        }
    }

    /// Rounds for the pixels of a slice.
    fn slice_rounds(&self, variant: Convolution, slices: usize) -> usize {
        let rows = self.images * self.height;
        match variant {
            Convolution::Tile(_) => tile_product_rounds(rows.div_ceil(slices) * self.width),
            Convolution::Subgroup8 { .. } => rows.div_ceil(slices) * (1 + self.width.div_ceil(4)),
            Convolution::Square3 { .. } => self.pixel_tiles().div_ceil(slices) * 5,
            Convolution::Runs { .. } => {
                let runs = self.width.div_ceil(RUN);
                (rows * runs).div_ceil(LANES).div_ceil(slices) * (1 + LANES.div_ceil(runs))
            }
        }
    }

    fn bias_slices(&self) -> usize {
        MAX_SLICES.min(self.images * self.height)
    }

    /// Pixels of a slice that a workgroup of the bias gradient takes at once.
    fn bias_pixels(&self) -> usize {
        (64 / self.n).clamp(1, 16)
    }

    fn params(&self, io: &Io) -> Params {
        let [row_offset, column_offset] = self.offsets();
        let [up, down] = if self.transposed { [1, self.stride] } else { [self.stride, 1] };
        Params {
            m: self.pixels() as u32,
            height: self.height as u32,
            width: self.width as u32,
            x_height: self.x_height as u32,
            x_width: self.x_width as u32,
            up: up as u32,
            down: down as u32,
            row_offset,
            column_offset,
            c: self.c as u32,
            n: self.n as u32,
            size: self.size as u32,
            depth: self.depth() as u32,
            x_stride: io.x(0).stride as u32,
            w_stride: io.x(1).stride as u32,
            b_stride: 0,
            has_bias: 0,
            relu: 0,
            transposed: 0,
            accumulate: 0,
            slices: 1,
        }
    }
}

fn shader(variant: Convolution) -> &'static Shader {
    match variant {
        Convolution::Tile(tile) => tile.shader(&TILES),
        Convolution::Subgroup8 { aligned: true } => &SUBGROUP8,
        Convolution::Subgroup8 { aligned: false } => &UNALIGNED,
        Convolution::Square3 { single, width } => {
            let shaders = if single { &SQUARE3_SINGLE } else { &SQUARE3_ALIGNED };
            &shaders[width.ilog2() as usize]
        }
        Convolution::Runs { aligned: true } => &RUNS,
        Convolution::Runs { aligned: false } => &RUNS_UNALIGNED,
    }
}

/// The shader's constants.
fn constants(variant: Convolution, d: Dims) -> Vec<(&'static str, f64)> {
    match variant {
        Convolution::Runs { .. } => vec![("SIZE", d.size as f64)],
        Convolution::Tile(tile) => tile.constants().into_iter().collect(),
        _ => vec![],
    }
}

/// Workgroups for a (rows, cols) result in tiles.
fn tiles(variant: Convolution, rows: usize, cols: usize, z: usize) -> Grid {
    let side = if let Convolution::Tile(tile) = variant { tile.side } else { TILE8 };
    Grid::folded(rows.div_ceil(side) * cols.div_ceil(side), z)
}

/// Records the convolution with the sizes `d`, forward or for the input's gradient.
fn convolve(
    r: &mut Recorder,
    (variant, entry): (Convolution, &'static str),
    d: Dims,
    bindings: [(&'static str, View); 4],
    p: Params,
    replicas: usize,
) {
    let iterations = d.iterations(variant);
    let mut dispatch = |bindings: &[(&'static str, View)], p, grid: Grid| {
        r.dispatch_with(shader(variant), entry, &constants(variant, d), bindings, p, grid.iterations(iterations));
    };
    match variant {
        Convolution::Runs { .. } => {
            let runs = (d.images * d.height * d.width.div_ceil(RUN)).div_ceil(LANES);
            dispatch(&bindings, p, Grid::folded(runs * (d.n / 4), replicas));
        }
        Convolution::Square3 { width, .. } => {
            let parts = d.pixel_parts();
            let grid = Grid::folded(parts * d.n.div_ceil(LANES * width), replicas);
            dispatch(&bindings, Params { slices: parts as u32, ..p }, grid);
        }
        _ => dispatch(&bindings, p, tiles(variant, d.pixels(), d.n, replicas)),
    }
}

/// Packs the weights for a product with the sizes `d`.
fn pack(r: &mut Recorder, variant: Convolution, w: View, packed: View, d: Dims, p: Params, replicas: usize) {
    let (shader, entry) = match variant {
        Convolution::Runs { .. } => (&WEIGHTS, "conv2d_runs_pack"),
        Convolution::Square3 { .. } => (shader(variant), "conv2d_3x3_pack"),
        _ => (&WEIGHTS, "conv2d_pack"),
    };
    let launch = Grid::items(d.c * d.n, 64, replicas).iterations((d.size + 4) * (d.size + 4));
    r.dispatch(shader, entry, &[("w", w), ("packed_weights", packed)], p, launch);
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let dims = Dims::new(x[0].shape.dims(), x[1].shape.dims(), self.stride);
        let bias_fits = x.get(2).is_none_or(|b| b.shape.dims() == [x[1].shape.dims()[0]]);
        let Some(d) = dims.filter(|_| bias_fits && !x[0].shape.is_empty() && !x[1].shape.is_empty()) else {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "x (B, H, W, C), w (N, C, S, S) with S odd, b (N), stride 1 or 2";
            return Err(Error::shape("conv2d", expected, format!("{}, stride {}", got.join(", "), self.stride)));
        };
        let t = d.transposed();
        let g = if self.relu { d.pixels() * d.n } else { 1 };
        Ok(Outputs {
            y: vec![Spec::f32([d.images, d.height, d.width, d.n])],
            scratch: vec![
                Spec::f32([d.packed().max(t.packed())]),
                Spec::f32([g]),
                Spec::f32([d.slices(), d.n, d.depth()]),
                Spec::f32([(d.bias_slices() * d.bias_pixels()).max(d.slices()), d.n]),
            ],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self.stride);
        let packed = io.scratch(0).view;
        let (bias, b_stride) = if io.inputs() == 3 { (io.x(2).view, io.x(2).stride) } else { (packed, 0) };
        let p = d.params(io);
        let (variant, _) = variants::convolution(r, d.problem("conv2d_forward", r.target.precision), d.filter(), 1);
        pack(r, variant, io.x(1).view, packed, d, p, io.replicas);
        let p = Params { has_bias: (io.inputs() == 3).into(), b_stride: b_stride as u32, relu: self.relu.into(), ..p };
        let bindings = [("x", io.x(0).view), ("weights", packed), ("b", bias), ("y", io.y(0).view)];
        convolve(r, (variant, "conv2d_forward"), d, bindings, p, io.replicas);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self.stride);
        let p = d.params(io);
        let mut g = io.dy(0).expect("backward runs only with a gradient");
        if self.relu {
            let views = [io.y(0).view, g, io.scratch(1).view];
            relu_gradient(r, Relu::PLAIN, views, io.replicas * d.pixels() * d.n);
            g = io.scratch(1).view;
        }
        if let Some(dx) = io.dx(0) {
            let t = d.transposed();
            let packed = io.scratch(0).view;
            let x_stride = (d.pixels() * d.n) as u32;
            let p = Params { transposed: 1, accumulate: dx.accumulate.into(), x_stride, ..t.params(io) };
            let variant =
                variants::convolution_gradient(r, t.problem("conv2d_backward_input", r.target.precision), t.filter());
            pack(r, variant, io.x(1).view, packed, t, p, io.replicas);
            let bindings = [("x", g), ("weights", packed), ("b", packed), ("y", dx.view)];
            convolve(r, (variant, "conv2d_backward_input"), t, bindings, p, io.replicas);
        }
        let (kernel, result) = ("conv2d_backward_weight", [d.n, d.terms()]);
        let problem = Problem { kernel, result, terms: d.pixels(), copies: 1, precision: r.target.precision };
        let (variant, slices) = variants::convolution(r, problem, d.filter(), d.slices());
        // These also sum the bias gradient.
        let fused = io.dx(1).is_some() && matches!(variant, Convolution::Square3 { .. } | Convolution::Tile(_));
        if let Some(dw) = io.dx(1) {
            let partial = io.scratch(2).view;
            let p = Params {
                slices: slices as u32,
                has_bias: io.dx(2).is_some().into(),
                accumulate: dw.accumulate.into(),
                w_stride: dw.stride as u32,
                ..p
            };
            let mut bindings = vec![("x", io.x(0).view), ("grad_y", g), ("partial", partial)];
            let grid = match variant {
                Convolution::Runs { .. } => Grid::folded(d.column_depth() / 4 * (d.n / 4), io.replicas * slices),
                Convolution::Square3 { width, .. } => {
                    Grid::folded(d.n.div_ceil(LANES * width) * d.chunks().div_ceil(2) * slices, io.replicas)
                }
                _ => tiles(variant, d.n, d.terms(), io.replicas * slices),
            };
            if fused {
                bindings.push(("sums", io.scratch(3).view));
            }
            let (constants, launch) = (constants(variant, d), grid.iterations(d.slice_rounds(variant, slices)));
            r.dispatch_with(shader(variant), "conv2d_backward_weight", &constants, &bindings, p, launch);
            let launch = Grid::items(d.n * d.c, 64, io.replicas).iterations(d.size * d.size * (1 + slices));
            r.dispatch(&WEIGHTS, "conv2d_backward_slices", &[("partial", partial), ("grad_w", dw.view)], p, launch);
        }
        if let Some(db) = io.dx(2) {
            let partial = io.scratch(3).view;
            let mut sums = slices;
            if !fused {
                let slices = d.bias_slices();
                let p = Params { slices: slices as u32, ..p };
                let rounds = ((d.images * d.height).div_ceil(slices) * d.width).div_ceil(d.bias_pixels());
                let launch = Grid::items(d.n, 64, io.replicas * slices).iterations(rounds);
                r.dispatch(&WEIGHTS, "conv2d_backward_bias", &[("grad_y", g), ("partial", partial)], p, launch);
                sums = slices * d.bias_pixels();
            }
            r.slice_sums.push(db.sum_of_slices(r.op, io.replicas, sums, partial, d.n));
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let d = Dims::new(x[0].dims(), x[1].dims(), self.stride).expect("inferred before");
        let (input, w) = (&x[0], &x[1]);
        let [top, left] = [d.x_height, d.x_width].map(|size| same_padding(size, d.size, d.stride));
        // (taps, C, N): the innermost loop is over neighbours.
        let taps = d.size * d.size;
        let packed = Array::from_fn([taps * d.c, d.n], |i| w[(i % d.n * d.c + i / d.n % d.c) * taps + i / d.n / d.c]);
        let mut y = Array::zeros([d.images, d.height, d.width, d.n]);
        for m in 0..d.pixels() {
            let (image, h, w) = (m / (d.height * d.width), m / d.width % d.height, m % d.width);
            let out = y.row_mut(m);
            if let Some(b) = x.get(2) {
                out.copy_from_slice(b.data());
            }
            for tap in 0..taps {
                let (i, j) = (tap / d.size, tap % d.size);
                let from = ((h * d.stride + i).checked_sub(top), (w * d.stride + j).checked_sub(left));
                let (Some(h), Some(w)) = from else { continue };
                if h >= d.x_height || w >= d.x_width {
                    continue;
                }
                let pixel = input.row((image * d.x_height + h) * d.x_width + w);
                for (c, v) in pixel.iter().enumerate() {
                    out.iter_mut().zip(packed.row(tap * d.c + c)).for_each(|(out, weight)| *out += weight * v);
                }
            }
            if self.relu {
                out.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let &[_, height, width, _] = x[0].dims() else { unreachable!("inferred before") };
        let size = x[1].dims()[2];
        let pads = [height, width].map(|n| {
            let before = same_padding(n, size, self.stride);
            let all = ((n.div_ceil(self.stride) - 1) * self.stride + size).saturating_sub(n);
            [before as i64, (all - before) as i64]
        });
        let (strides, pads) = ([self.stride as i64; 2], [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]);
        let inputs: Vec<String> = x.iter().map(|x| to.of(x)).collect();
        let input = to.transpose(&inputs[0], &[0, 3, 1, 2]);
        let inputs: Vec<&str> = [input.as_str()].into_iter().chain(inputs[1..].iter().map(String::as_str)).collect();
        let mut y =
            to.apply("Conv", &inputs, &[("pads", Attribute::Ints(&pads)), ("strides", Attribute::Ints(&strides))]);
        if self.relu {
            y = to.apply("Relu", &[&y], &[]);
        }
        Ok(vec![to.transpose(&y, &[0, 2, 3, 1])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let d = Dims::new(x[0].shape.dims(), x[1].shape.dims(), self.stride).expect("inferred before");
        let (m, n, k) = (d.pixels() as f64, d.n as f64, d.terms() as f64);
        Cost { flops: 2.0 * m * n * k, bytes: 4.0 * (x[0].shape.len() as f64 + n * k + m * n) }
    }
}
