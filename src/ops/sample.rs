//! Batches of shuffled clips: a keyed permutation of a split per epoch, computed from the clock.
//!
//! clock u32 (4) = (seed low, seed high, step, done), pool u32 (n) = dataset rows of the split, y u32 (B) = dataset
//! rows of the batch. A step begins here: in place, its number becomes that of the finished ones (see
//! [`super::track`]). An epoch has ceil(n / B) batches; batch step % batches holds positions i from batch B on,
//! [`PADDING`] from position n on. Shuffled, position i is clip perm(i) of the pool, where perm depends on (seed,
//! epoch) alone: a Feistel network with Philox as round function (Luby and Rackoff, "How to construct pseudorandom
//! permutations from pseudorandom functions", 1988) over the next power of two, with cycle walking (Black and Rogaway,
//! "Ciphers with arbitrary finite domains", 2002).

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, philox};
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};
use crate::graph::{Bound, Cost, Dtype, Graph, Io, Op, Outputs, Spec, Tensor};

pub(super) static SHADER: Shader = shader!("sample.wgsl", "shared/sample.wgsl");

params! {
    /// Of every kernel that draws.
    pub(super) struct DrawParams {
        n: u32, batch: u32, batches: u32, shuffled: u32,
        low_bits: u32, high_bits: u32, pool_stride: u32, stream: u32,
    }
}

params! {
    struct Params { draw: DrawParams }
}

/// The dataset row of a position past the end of the split, in the last batch of an epoch.
pub const PADDING: u32 = u32::MAX;

/// Rounds of the Feistel network, as in the shader.
const ROUNDS: u32 = 4;
/// Domain separation of the random stream of shuffles.
const STREAM: u32 = 0x5A_FF1E;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Another order in each epoch.
    Shuffled,
    /// In the order of the pool.
    InOrder,
    /// Shuffled, with another permutation for each number: the partners of a batch's clips.
    Partners(u32),
}

impl Order {
    /// Random stream of a shuffle.
    fn stream(self) -> Option<u32> {
        match self {
            Order::Shuffled => Some(STREAM),
            Order::Partners(which) => Some(STREAM + 1 + which),
            Order::InOrder => None,
        }
    }
}

/// The choice of `batch` dataset rows.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub batch: usize,
    pub order: Order,
}

/// Adds the choice of dataset rows, u32 (B), from `pool`, u32 (n), by `clock`, u32 (4), in which the step
/// begins. It comes before everything else that uses the clock.
///
/// # Errors
/// `Shape` for an empty pool or batch and for other shapes or types.
pub fn sample(g: &mut Graph, clock: Tensor, pool: Tensor, how: Sample) -> Result<Tensor> {
    Ok(g.push(how, &[clock, pool])?[0])
}

/// Bits of the low and the high half of a position below `n`. At least one each, so that a round has something to mix.
fn halves(n: usize) -> (u32, u32) {
    let bits = n.next_power_of_two().trailing_zeros().max(2);
    (bits / 2, bits - bits / 2)
}

fn feistel(value: u32, n: usize, epoch: u32, stream: u32, key: [u32; 2]) -> u32 {
    let (mut low_bits, mut high_bits) = halves(n);
    let (mut low, mut high) = (value & ((1 << low_bits) - 1), value >> low_bits);
    for round in 0..ROUNDS {
        let [word, ..] = philox([low, round, epoch, stream], key);
        (high, low) = (low, (high ^ word) & ((1 << high_bits) - 1));
        (low_bits, high_bits) = (high_bits, low_bits);
    }
    (high << low_bits) | low
}

/// Index in a pool of `n` of position `i` of an epoch.
fn permuted(i: usize, n: usize, epoch: u32, stream: u32, key: [u32; 2]) -> usize {
    let mut at = feistel(i as u32, n, epoch, stream, key);
    while at as usize >= n {
        at = feistel(at, n, epoch, stream, key);
    }
    at as usize
}

/// The kernel's output in step `step` of the replica of seed `key`, for callers that need it before the kernel runs.
pub(crate) fn batch_rows(pool: &[u32], batch: usize, order: Order, key: [u32; 2], step: usize) -> Vec<u32> {
    let n = pool.len();
    let batches = n.div_ceil(batch);
    let (epoch, first) = ((step / batches) as u32, step % batches * batch);
    let row = |i: usize| match order.stream() {
        _ if i >= n => PADDING,
        Some(stream) => pool[permuted(i, n, epoch, stream, key)],
        None => pool[i],
    };
    (first..first + batch).map(row).collect()
}

/// Bound of the rounds of cycle walking; each is needed with probability at most 1/2, so it is never reached.
const MAX_CYCLES: usize = 500;

/// Loop iterations of a draw.
pub(super) const DRAW_ROUNDS: usize = MAX_CYCLES * 4 * (1 + PHILOX_ROUNDS);

impl Sample {
    /// From a pool.
    pub(super) fn params(&self, pool: &Bound) -> DrawParams {
        let n = pool.shape.len();
        let (low_bits, high_bits) = halves(n);
        DrawParams {
            n: n as u32,
            batch: self.batch as u32,
            batches: n.div_ceil(self.batch) as u32,
            shuffled: self.order.stream().is_some().into(),
            low_bits,
            high_bits,
            pool_stride: pool.stride as u32,
            stream: self.order.stream().unwrap_or(0),
        }
    }

    /// Records the choice of `rows` (R, B).
    pub(super) fn record(&self, r: &mut Recorder, [clock, pool]: [&Bound; 2], rows: View, replicas: usize) {
        let bindings = [("clock", clock.view), ("pool", pool.view), ("y", rows)];
        let launch = Grid::items(self.batch, 64, replicas).iterations(DRAW_ROUNDS);
        r.dispatch(&SHADER, "sample_forward", &bindings, Params { draw: self.params(pool) }, launch);
    }

    /// Whether these are a clock and a pool to draw from.
    pub(super) fn fits(&self, [clock, pool]: [&Spec; 2]) -> bool {
        let shapes = *clock == Spec::u32([4]) && pool.dtype == Dtype::U32 && pool.shape.rank() == 1;
        shapes && !pool.shape.is_empty() && self.batch > 0
    }

    /// The rows from a clock and a pool, and the clock after the draw.
    pub(super) fn draw(&self, [clock, pool]: [&Array<f64>; 2]) -> [Array<f64>; 2] {
        let [low, high, _, done] = [0, 1, 2, 3].map(|i| clock[i] as u32);
        let pool: Vec<u32> = pool.data().iter().map(|v| *v as u32).collect();
        let rows = batch_rows(&pool, self.batch, self.order, [low, high], done as usize);
        [Array::from_fn([self.batch], |b| rows[b].into()), Array::from_fn([4], |i| clock[if i == 2 { 3 } else { i }])]
    }
}

impl Op for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        if !self.fits([&x[0], &x[1]]) {
            let got = format!("{}, {}, B = {}", x[0].shape, x[1].shape, self.batch);
            return Err(Error::shape("sample", "clock u32 (4), pool u32 (n), n > 0, B > 0", got));
        }
        let y = vec![Spec::u32([self.batch]), x[0].clone()];
        Ok(Outputs { y, in_place: vec![(1, 0)], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.record(r, [io.y(1), io.x(1)], io.y(0).view, io.replicas);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        self.draw([&x[0], &x[1]]).into()
    }

    fn cost(&self, _: &[Spec]) -> Cost {
        Cost { flops: 0.0, bytes: 8.0 * self.batch as f64 }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, n: usize, batch, step: u32, order| {
        let clock = Input::u32([4], Fill::Given([7.0, 9.0, 0.0, f64::from(step)].into()));
        let pool = Input::u32([n], Fill::Below(20_000));
        Case::new(name, Sample { batch, order }, vec![clock, pool]).forward_tolerance(0.0, 0.0)
    };
    let seeds = Case::new(
        "other seeds and steps",
        Sample { batch: 17, order: Order::Shuffled },
        vec![Input::u32([4], Fill::Below(u32::MAX)), Input::u32([67], Fill::Below(20_000)).shared()],
    );
    vec![
        case("one", 1, 1, 3, Order::Shuffled),
        case("batch beyond the pool", 3, 5, 1, Order::Shuffled),
        case("partial last batch", 131, 64, 5, Order::Shuffled),
        case("partners", 131, 64, 5, Order::Partners(1)),
        case("in order", 131, 65, 3, Order::InOrder),
        seeds.forward_tolerance(0.0, 0.0),
        case("real", 12_678, 128, 1234, Order::Shuffled).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "sample", about: "row indices of a shuffled batch", shaders: &[&SHADER], cases };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::random::key;

    fn order(n: usize, epoch: u32, seed: u64) -> Vec<usize> {
        (0..n).map(|i| permuted(i, n, epoch, STREAM, key(seed))).collect()
    }

    #[test]
    fn an_epoch_visits_every_clip_once() {
        for n in [1, 2, 3, 17, 128, 1000, 2211] {
            for epoch in 0..5 {
                let mut seen = order(n, epoch, 42);
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..n), "n = {n}, epoch {epoch}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        for n in [17, 128, 1000, 2211] {
            assert_ne!(order(n, 0, 1), order(n, 1, 1));
            assert_ne!(order(n, 0, 1), order(n, 0, 2));
            assert_ne!(order(n, 0, 1), order(n, 0, 1 << 32 | 1));
        }
    }

    #[test]
    fn every_clip_is_first_equally_often() {
        for n in [2, 3, 17, 128] {
            let epochs = 200 * n;
            let mut counts = vec![0.0; n];
            for epoch in 0..epochs {
                counts[permuted(0, n, epoch as u32, STREAM, key(3))] += 1.0;
            }
            let chi_square: f64 = counts.iter().map(|c| (c - 200.0_f64).powi(2) / 200.0).sum();
            // n - 1 degrees of freedom: mean n - 1, variance 2 (n - 1); four standard deviations, and room for the tail
            // of few degrees.
            let df = (n - 1) as f64;
            assert!(chi_square < df + 4.0 * (2.0 * df).sqrt() + 6.0, "n = {n}: {chi_square}");
        }
    }

    /// As independent permutations would: a clip has itself as its partner once an epoch in the mean.
    #[test]
    fn partners_are_other_clips() {
        let (pool, epochs): (Vec<u32>, usize) = ((0..128).collect(), 1000);
        let rows = |order: Order, epoch: usize| batch_rows(&pool, 128, order, key(3), epoch);
        for (a, b) in [(Order::Shuffled, Order::Partners(0)), (Order::Partners(0), Order::Partners(1))] {
            let same = |epoch: usize| rows(a, epoch).iter().zip(rows(b, epoch)).filter(|(a, b)| **a == *b).count();
            let mean = (0..epochs).map(same).sum::<usize>() as f64 / epochs as f64;
            // The number of fixed points has variance 1; four standard errors.
            assert!((mean - 1.0).abs() < 4.0 / (epochs as f64).sqrt(), "{a:?} and {b:?}: {mean} an epoch");
        }
    }
}
