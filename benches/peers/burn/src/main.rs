//! Times training steps of `att` with burn's wgpu backend and prints a line for `wmic bench --peer`:
//!
//! ```sh
//! cargo run --release --locked --manifest-path benches/peers/burn/Cargo.toml -- [SECONDS] [cpu] > burn.json
//! ```
//!
//! `cpu` takes a software adapter. The step is the one of `wmic bench`: a batch of 128 clips of noise, which is gathered
//! on the device, the network of `src/nn/models/att.rs`, masked binary cross-entropy, and Adam. Kernels are tuned and
//! compiled before the clock starts, and the host waits for the device once per sample of several steps.

use std::time::Instant;

use burn::module::{Initializer, Module};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor};

/// As in Cargo.toml.
const VERSION: &str = "0.22.1";
const BATCH: usize = 128;
const BATCHES: usize = 16;
const INSTANCES: usize = 10;
const WIDTH: usize = 128;
const CLASSES: usize = 20;
const LAYERS: usize = 3;
const DROPOUT: f64 = 0.6;
const LEARNING_RATE: f64 = 5e-4;
const WEIGHT_DECAY: f32 = 1e-5;
/// Of probabilities.
const LEAST: f64 = 1e-7;

/// Autotuning tries its candidates in the first steps.
const WARM_UP_STEPS: usize = 60;
const LEAST_SAMPLES: usize = 7;
const SAMPLE_SECONDS: f64 = 0.05;

#[derive(Module, Debug)]
struct Att {
    norm_of_input: BatchNorm,
    layers: Vec<Linear>,
    norms: Vec<BatchNorm>,
    dropout: Dropout,
    attention: Linear,
    classifier: Linear,
}

impl Att {
    fn new(device: &Device) -> Att {
        let linear = |outputs: usize, bias: bool| {
            let he = Initializer::KaimingUniform { gain: 2f64.sqrt(), fan_out_only: false };
            LinearConfig::new(WIDTH, outputs).with_bias(bias).with_initializer(he).init(device)
        };
        let norm = || BatchNormConfig::new(WIDTH).init(device);
        Att {
            norm_of_input: norm(),
            layers: (0..LAYERS).map(|_| linear(WIDTH, false)).collect(),
            norms: (0..LAYERS).map(|_| norm()).collect(),
            dropout: DropoutConfig::new(DROPOUT).init(),
            attention: linear(CLASSES, true),
            classifier: linear(CLASSES, true),
        }
    }

    /// Probabilities (B, K) of embeddings x (B, T, F).
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let clips = x.dims()[0];
        let rows: Tensor<2> = x.reshape([clips * INSTANCES, WIDTH]);
        let mut h = self.norm_of_input.forward(rows.clone());
        for (layer, norm) in self.layers.iter().zip(&self.norms) {
            h = self.dropout.forward(relu(norm.forward(layer.forward(h))));
        }
        let h = h + rows;
        let of_instances =
            |head: &Linear| -> Tensor<3> { sigmoid(head.forward(h.clone())).reshape([clips, INSTANCES, CLASSES]) };
        let weights = of_instances(&self.attention).clamp(LEAST, 1.0 - LEAST);
        let weights = weights.clone() / weights.sum_dim(1);
        (weights * of_instances(&self.classifier)).sum_dim(1).reshape([clips, CLASSES])
    }
}

/// Mean of the binary cross-entropy over the known labels; all (B, K).
fn loss(p: Tensor<2>, y: Tensor<2>, known: Tensor<2>) -> Tensor<1> {
    let p = p.clamp(LEAST, 1.0 - LEAST);
    let present = y.clone() * p.clone().log();
    let absent = (y.neg() + 1.0) * (p.neg() + 1.0).log();
    ((present + absent) * known.clone()).sum().neg() / known.sum()
}

struct Trainer {
    model: Att,
    optimiser: ModuleOptimizer,
    /// Embeddings (N, T, F), labels (N, K) and which are known (N, K), of all clips.
    x: Tensor<3>,
    y: Tensor<2>,
    known: Tensor<2>,
    /// Clips of each batch.
    batches: Vec<Tensor<1, Int>>,
    steps: usize,
}

impl Trainer {
    fn new(device: &Device) -> Trainer {
        device.seed(0);
        let plain = device.clone().without_autodiff();
        let clips = BATCHES * BATCH;
        let uniform = Distribution::Uniform(0.0, 1.0);
        let labels = |least: f64| Tensor::<2>::random([clips, CLASSES], uniform, device).greater_elem(least).float();
        let decay = WeightDecayConfig::new(WEIGHT_DECAY);
        Trainer {
            model: Att::new(device),
            optimiser: AdamConfig::new().with_epsilon(1e-8).with_weight_decay(Some(decay)).init(),
            x: Tensor::random([clips, INSTANCES, WIDTH], uniform, device),
            y: labels(0.5),
            known: labels(0.7),
            batches: Tensor::<1>::random([clips], uniform, &plain).argsort(0).chunk(BATCHES, 0),
            steps: 0,
        }
    }

    fn step(&mut self) -> Tensor<1> {
        let batch = self.batches[self.steps % BATCHES].clone();
        self.steps += 1;
        let labels = |of: &Tensor<2>| of.clone().select(0, batch.clone());
        let (y, known) = (labels(&self.y), labels(&self.known));
        let loss = loss(self.model.forward(self.x.clone().select(0, batch.clone())), y, known);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        self.model = self.optimiser.step(LEARNING_RATE, self.model.clone(), gradients);
        loss
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = words.iter().find_map(|word| word.parse::<f64>().ok()).unwrap_or(5.0);
    let software = words.iter().any(|word| word == "cpu");
    let device = Device::wgpu(if software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice }).autodiff();
    let mut trainer = Trainer::new(&device);
    let first = trainer.step().into_scalar::<f32>();
    // Seconds of a step in a sample of `steps`.
    let mut sample = |steps: usize| {
        let start = Instant::now();
        for _ in 0..steps {
            trainer.step();
        }
        device.sync().expect("the device is there");
        start.elapsed().as_secs_f64() / steps as f64
    };
    sample(WARM_UP_STEPS);
    let steps = (SAMPLE_SECONDS / sample(1)).ceil() as usize;
    let mut taken = vec![];
    while taken.len() < LEAST_SAMPLES || taken.iter().sum::<f64>() * (steps as f64) < seconds {
        taken.push(sample(steps));
    }
    taken.sort_by(f64::total_cmp);
    let last = trainer.step().into_scalar::<f32>();
    let (median, least, samples) = (1e3 * taken[taken.len() / 2], 1e3 * taken[0], taken.len());
    println!(
        "{{\"peer\": \"burn {VERSION} wgpu\", \"model\": \"att\", \"batch\": {BATCH}, \"samples\": {samples}, \
         \"ms_per_step\": {median}, \"ms_per_step_min\": {least}, \"loss\": [{first}, {last}]}}"
    );
}
