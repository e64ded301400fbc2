//! 3 x 3 convolution of each channel alone, of images with channels last, 'same' padding, bias and ReLU fused: the
//! first half of a separable convolution (Howard et al.: "MobileNets", 2017), whose second half is a `linear` of the
//! channels.
//!
//! x (B, H, W, C), w (C, 1, 3, 3) as PyTorch's, b (C) or none, y (B, H', W', C) with H' = H / S rounded up, S = 1 or 2
//! the stride: `y[b, h, w, c] = f(b[c] + sum over i, j of w[c, 0, i, j] x[b, S h - top + i, S w - left + j, c])`, f
//! nothing or ReLU. Zeros around an image are TensorFlow's, see [`same_padding`]. Gradients, with g = dy where y > 0
//! (all of dy without ReLU): dx is the sum of w g over the taps of a pixel, dw that of g x over pixels, db that of g.

use super::conv2d::same_padding;
use super::relu_gradient::{self, Relu, relu_gradient};
use super::{Entry, variants};
use crate::check::{Case, Fill, Input, InputRole};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Bound, Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("depthwise_conv2d.wgsl");
static SHADERS: [Shader; 3] =
    [SHADER, SHADER.with(&["VEC4"]), SHADER.with(&["VEC4", "TEXELS"]).with_textures(&["x", "weights", "grad_y"])];

params! {
    struct Params {
        images: u32, height: u32, width: u32, out_height: u32, out_width: u32, c: u32, top: u32, left: u32,
        x_stride: u32, w_stride: u32, b_stride: u32, has_bias: u32, relu: u32, accumulate: u32, slices: u32,
    }
}

/// Rows and columns of the kernel.
const SIZE: usize = 3;
const TAPS: usize = SIZE * SIZE;
/// Rows of y that an invocation computes.
const RUN: usize = 6;
/// The gradients of w and b are summed over the rows of all images in at most as many slices.
const MAX_SLICES: usize = 64;

/// Inputs: x, w and, optionally, b.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseConv2d {
    /// 1 or 2.
    pub stride: usize,
    /// y = max(0, convolution).
    pub relu: bool,
}

/// Adds it. `x` (B, H, W, C), `w` (C, 1, 3, 3), `b` (C); gives (B, H / stride, W / stride, C), rounded up.
///
/// # Errors
/// `Shape` for tensors that do not fit together, or another stride.
pub fn depthwise_conv2d(
    g: &mut Graph,
    x: Tensor,
    w: Tensor,
    b: Option<Tensor>,
    config: DepthwiseConv2d,
) -> Result<Tensor> {
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
    Ok(g.push(config, &inputs)?[0])
}

#[derive(Clone, Copy)]
struct Dims {
    images: usize,
    height: usize,
    width: usize,
    c: usize,
    stride: usize,
}

impl Dims {
    fn new(x: &[usize], stride: usize) -> Option<Dims> {
        match *x {
            [images, height, width, c] => Some(Dims { images, height, width, c, stride }),
            _ => None,
        }
    }

    fn of(io: &Io, stride: usize) -> Dims {
        Dims::new(io.x(0).shape.dims(), stride).expect("inferred before")
    }

    /// Rows and columns of y.
    fn out(&self) -> [usize; 2] {
        [self.height, self.width].map(|size| size.div_ceil(self.stride))
    }

    /// Rows and columns of zeros before an image.
    fn before(&self) -> [usize; 2] {
        [self.height, self.width].map(|size| same_padding(size, SIZE, self.stride))
    }

    fn out_rows(&self) -> usize {
        self.images * self.out()[0]
    }

    fn out_pixels(&self) -> usize {
        self.out_rows() * self.out()[1]
    }

    fn slices(&self) -> usize {
        MAX_SLICES.min(self.out_rows())
    }

    /// In vectors of `width`.
    fn params(&self, x: &Bound, width: usize) -> Params {
        let ([out_height, out_width], [top, left]) = (self.out(), self.before());
        Params {
            images: self.images as u32,
            height: self.height as u32,
            width: self.width as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            c: (self.c / width) as u32,
            top: top as u32,
            left: left as u32,
            x_stride: (x.stride / width) as u32,
            w_stride: 0,
            b_stride: 0,
            has_bias: 0,
            relu: 0,
            accumulate: 0,
            slices: self.slices() as u32,
        }
    }
}

impl DepthwiseConv2d {
    /// Puts channels innermost in the weights.
    fn pack(&self, io: &Io, r: &mut Recorder) {
        let d = Dims::of(io, self.stride);
        let p = Params { w_stride: io.x(1).stride as u32, ..d.params(io.x(0), 1) };
        let bindings = [("w", io.x(1).view), ("packed_weights", io.scratch(0).view)];
        r.dispatch(&SHADER, "depthwise_conv2d_pack", &bindings, p, Grid::items(TAPS * d.c, 64, io.replicas).no_loops());
    }
}

impl Op for DepthwiseConv2d {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let dims = Dims::new(x[0].shape.dims(), self.stride).filter(|_| matches!(self.stride, 1 | 2));
        let fits = |d: &Dims| {
            !x[0].shape.is_empty()
                && x[1].shape.dims() == [d.c, 1, SIZE, SIZE]
                && x.get(2).is_none_or(|b| b.shape.dims() == [d.c])
        };
        let Some(d) = dims.filter(fits) else {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "x (B, H, W, C), w (C, 1, 3, 3), b (C), stride 1 or 2";
            return Err(Error::shape(self.name(), expected, format!("{}, stride {}", got.join(", "), self.stride)));
        };
        let [h, w] = d.out();
        let g = if self.relu { d.out_pixels() * d.c } else { 1 };
        Ok(Outputs {
            y: vec![Spec::f32([d.images, h, w, d.c])],
            scratch: vec![Spec::f32([TAPS * d.c]), Spec::f32([g]), Spec::f32([d.slices(), TAPS + 1, d.c])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self.stride);
        self.pack(io, r);
        let (shader, width) = variants::by_row_texels(r.target, d.c, &SHADERS);
        let packed = io.scratch(0).view;
        let (bias, b_stride) = if io.inputs() == 3 { (io.x(2).view, io.x(2).stride) } else { (packed, 0) };
        let p = Params {
            has_bias: (io.inputs() == 3).into(),
            b_stride: (b_stride / width) as u32,
            relu: self.relu.into(),
            ..d.params(io.x(0), width)
        };
        let bindings = [("x", io.x(0).view), ("weights", packed), ("b", bias), ("y", io.y(0).view)];
        let [rows, columns] = d.out();
        let runs = d.images * rows.div_ceil(RUN) * columns;
        let launch = Grid::items(runs * d.c / width, 64, io.replicas).iterations(RUN);
        r.dispatch_with(shader, "depthwise_conv2d_forward", &self.constants(), &bindings, p, launch);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self.stride);
        let (shader, width) = variants::by_row_texels(r.target, d.c, &SHADERS);
        let mut g = io.dy(0).expect("backward runs only with a gradient");
        if self.relu {
            let views = [io.y(0).view, g, io.scratch(1).view];
            relu_gradient(r, Relu::PLAIN, views, io.replicas * d.out_pixels() * d.c);
            g = io.scratch(1).view;
        }
        let p = d.params(io.x(0), width);
        if let Some(dx) = io.dx(0) {
            self.pack(io, r);
            let p = Params { accumulate: dx.accumulate.into(), ..p };
            let bindings = [("grad_y", g), ("weights", io.scratch(0).view), ("grad_x", dx.view)];
            let elements = d.images * d.height * d.width * d.c / width;
            let launch = Grid::items(elements, 64, io.replicas).iterations(TAPS);
            r.dispatch_with(shader, "depthwise_conv2d_backward_input", &self.constants(), &bindings, p, launch);
        }
        if io.dx(1).is_none() && io.dx(2).is_none() {
            return Ok(());
        }
        let (partial, slices) = (io.scratch(2).view, d.slices());
        let bindings = [("x", io.x(0).view), ("grad_y", g), ("partial", partial)];
        let rounds = d.out_rows().div_ceil(slices) * d.out()[1];
        let launch = Grid::items(d.c / width, 64, io.replicas * slices).iterations(rounds);
        r.dispatch_with(shader, "depthwise_conv2d_backward_weight", &self.constants(), &bindings, p, launch);
        let p = d.params(io.x(0), 1);
        if let Some(dw) = io.dx(1) {
            let p = Params { accumulate: dw.accumulate.into(), w_stride: dw.stride as u32, ..p };
            let launch = Grid::items(TAPS * d.c, 64, io.replicas).iterations(slices);
            let bindings = [("sums", partial), ("grad_w", dw.view)];
            r.dispatch(&SHADER, "depthwise_conv2d_backward_slices", &bindings, p, launch);
        }
        if let Some(db) = io.dx(2) {
            let p = Params { accumulate: db.accumulate.into(), b_stride: db.stride as u32, ..p };
            let launch = Grid::items(d.c, 64, io.replicas).iterations(slices);
            let bindings = [("sums", partial), ("grad_b", db.view)];
            r.dispatch(&SHADER, "depthwise_conv2d_backward_bias", &bindings, p, launch);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let d = Dims::new(x[0].dims(), self.stride).expect("inferred before");
        let ([rows, columns], [top, left]) = (d.out(), d.before());
        let mut y = Array::zeros([d.images, rows, columns, d.c]);
        for pixel in 0..d.out_pixels() {
            let (image, h, w) = (pixel / (rows * columns), pixel / columns % rows, pixel % columns);
            for c in 0..d.c {
                let mut sum = x.get(2).map_or(0.0, |b| b[c]);
                for (i, j) in (0..SIZE).flat_map(|i| (0..SIZE).map(move |j| (i, j))) {
                    let (h, w) = ((h * self.stride + i).checked_sub(top), (w * self.stride + j).checked_sub(left));
                    if let (Some(h), Some(w)) = (h.filter(|h| *h < d.height), w.filter(|w| *w < d.width)) {
                        sum += x[1][c * TAPS + i * SIZE + j] * x[0].row((image * d.height + h) * d.width + w)[c];
                    }
                }
                y.row_mut(pixel)[c] = if self.relu { sum.max(0.0) } else { sum };
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let d = Dims::new(x[0].shape.dims(), self.stride).expect("inferred before");
        let (from, to) = (x[0].shape.len() as f64, (d.out_pixels() * d.c) as f64);
        Cost { flops: 2.0 * TAPS as f64 * to, bytes: 4.0 * (from + to + (TAPS * d.c) as f64) }
    }
}

impl DepthwiseConv2d {
    /// The shader's constants.
    fn constants(&self) -> [(&'static str, f64); 1] {
        [("STRIDE", self.stride as f64)]
    }
}

fn inputs(x: [usize; 4], bias: Fill) -> Vec<Input> {
    let w = Input::param([x[3], 1, SIZE, SIZE]).filled(Fill::Uniform(-1.0 / 3.0, 1.0 / 3.0));
    vec![Input::gradient(x), w, Input::param([x[3]]).filled(bias)]
}

fn case(name: &str, x: [usize; 4], stride: usize) -> Case {
    Case::new(name, DepthwiseConv2d { stride, relu: false }, inputs(x, Fill::Uniform(-1.0, 1.0)))
}

/// With ReLU: biases of +-3.5 keep its arguments, of at most 3, away from the kink.
fn relu_case(name: &str, x: [usize; 4], stride: usize) -> Case {
    let bias = (0..x[3]).map(|i| if i % 2 == 0 { 3.5 } else { -3.5 }).collect();
    Case::new(name, DepthwiseConv2d { stride, relu: true }, inputs(x, Fill::Given(bias)))
}

fn cases() -> Vec<Case> {
    let frozen = |mut case: Case| {
        case.inputs[1..].iter_mut().for_each(|input| input.kind = InputRole::Shared);
        case
    };
    let mut no_bias = case("no bias, shared images", [2, 5, 6, 4], 1);
    no_bias.inputs.pop();
    no_bias.inputs[0] = Input::data([2, 5, 6, 4]).shared();
    let mut cases = vec![
        case("one", [1, 1, 1, 1], 1),
        case("one, stride 2", [1, 1, 1, 1], 2),
        case("tiny", [2, 3, 4, 3], 1),
        relu_case("tiny, vec4, ReLU", [2, 4, 3, 4], 1),
        relu_case("even, stride 2, ReLU", [2, 4, 6, 3], 2),
        case("odd, stride 2", [2, 5, 7, 2], 2),
        case("odd and even, stride 2, vec4", [2, 7, 4, 8], 2),
        case("one row", [3, 1, 9, 5], 1),
        case("one column, stride 2, vec4", [3, 13, 1, 4], 2),
        case("primes", [3, 11, 13, 7], 1),
        relu_case("several slices", [5, 17, 6, 12], 2),
        frozen(case("shared weights", [2, 8, 5, 67], 2)),
        frozen(case("shared weights, vec4", [2, 14, 5, 20], 1)),
        no_bias,
    ];
    for (name, x, stride) in [
        ("YAMNet, first", [19, 48, 32, 32], 1),
        ("YAMNet, second", [19, 48, 32, 64], 2),
        ("YAMNet, eighth", [19, 6, 4, 512], 1),
        ("YAMNet, last", [19, 3, 2, 1024], 1),
    ] {
        cases.push(frozen(relu_case(name, x, stride)).bench());
    }
    cases
}

pub(crate) const OP: Entry = Entry {
    name: "depthwise_conv2d",
    about: "3 x 3 convolution of each channel alone, ReLU fused",
    shaders: &[
        &SHADERS[0],
        &SHADERS[1],
        &SHADERS[2],
        &relu_gradient::SHADERS[0],
        &relu_gradient::SHADERS[1],
        &relu_gradient::SHADERS[2],
    ],
    cases,
};
