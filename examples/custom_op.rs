//! A custom op, y = x^2: checked against its reference, then used in training.
//! `cargo run --release --example custom_op`

use wmic::check::{Case, Input, check};
use wmic::gpu::{Gpu, Grid, Recorder, Shader};
use wmic::graph::{Arenas, Cost, Draft, Graph, Init, Io, Mode, Op, Outputs, Spec};
use wmic::ops::adam::{Adam, adam};
use wmic::{Array, Result, params};

static SHADER: Shader = Shader::new("square.wgsl", include_str!("square.wgsl"));

params! { struct Params { len: u32, accumulate: u32 } }

#[derive(Debug)]
struct Square;

#[rustfmt::skip]
impl Op for Square {
    fn name(&self) -> &'static str { "square" }
    fn infer(&self, x: &[Spec]) -> Result<Outputs> { Ok(Outputs::one(x[0].clone())) }
    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (x, y) = (io.x(0).view, io.y(0).view);
        let p = Params { len: x.len as u32, accumulate: 0 };
        r.dispatch(&SHADER, "square_forward", &[("x", x), ("y", y)], p, Grid::items(x.len, 64, 1).no_loops());
        Ok(())
    }
    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (Some(dy), Some(dx), x) = (io.dy(0), io.dx(0), io.x(0).view) else { return Ok(()) };
        let p = Params { len: x.len as u32, accumulate: dx.accumulate.into() };
        let bindings = [("x", x), ("grad_y", dy), ("grad_x", dx.view)];
        r.dispatch(&SHADER, "square_backward", &bindings, p, Grid::items(x.len, 64, 1).no_loops());
        Ok(())
    }
    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> { vec![x[0].map(|v| v * v)] }
    fn cost(&self, x: &[Spec]) -> Cost { Cost { flops: x[0].shape.len() as f64, bytes: 8.0 * x[0].shape.len() as f64 } }
}

fn main() -> Result<()> {
    let (gpu, case) = (Gpu::open(None)?, Case::new("ragged", Square, vec![Input::gradient([3, 7])]));
    assert_eq!(check(&gpu, &case, gpu.adapter().target())?.failures, [""; 0]);

    // The sum of the squares of 8 parameters, minimised by Adam.
    let (mut model, mut update) = (Graph::new(Mode::Train), Graph::new(Mode::Train));
    let w = model.param("w", [8], Init::Constant(1.0));
    let y = model.push(Square, &[w])?[0];
    let [w, grad, m, v] = ["params", "grads", "m", "v"].map(|name| update.input(name, Spec::f32([8])));
    let clock = update.input("clock", Spec::u32([4]));
    adam(&mut update, [w, grad, m, v], clock, Adam { lr: 0.05, ..Adam::default() }, None)?;
    let arenas = Arenas::new(&gpu, model.layout(), 1, true)?;
    gpu.write(&arenas.params, 0, &model.layout().initial(0).0)?;
    let mut bound = arenas.named().to_vec();
    bound.extend([("grad_y", gpu.upload("ones", &[1f32; 8])?), ("clock", gpu.buffer("clock", 4)?)]);
    bound.extend([("m", gpu.buffer("m", 8)?), ("v", gpu.buffer("v", 8)?)]);
    let target = gpu.adapter().target();
    let model = Draft::new(&model, target, 1, &[y], &[(y, "grad_y")])?.realise(&gpu, &bound)?;
    let update = Draft::new(&update, target, 1, &[], &[])?.realise(&gpu, &bound)?;
    gpu.run(|s| s.replay(&[&model.recording, &update.recording], 100))?;
    println!("squares after 100 steps: {:?}", model.read::<f32>(&gpu, y)?);
    Ok(())
}
