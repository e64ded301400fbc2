//! Cases of the recurrent layer.

use super::kernels::{MAX_HIDDEN, Recurrent};
use crate::check::{Case, Fill, Input};
use crate::gpu::MAX_ITERATIONS;
use crate::ops::recurrent_cell::Cell;

/// Steps beyond what a software adapter loops through in one dispatch.
const LONG: usize = 100_000;

/// Options of a case.
#[derive(Clone, Copy, Default)]
struct Options {
    masked: bool,
    started: bool,
    rounds: Option<usize>,
    forward_only: bool,
}

fn case(name: &str, cell: Cell, directions: usize, [b, t, h]: [usize; 3], lengths: Fill, options: Options) -> Case {
    let Options { masked, started, .. } = options;
    let gates = cell.gates() * h;
    let mut inputs = vec![Input::gradient([b, t, directions * gates])];
    // PyTorch's initialisation; much larger values make the recurrence chaotic.
    let bound = 1.0 / (h as f64).sqrt();
    inputs.extend(vec![Input::param([gates, h]).filled(Fill::Uniform(-bound, bound)); directions]);
    inputs.extend(vec![Input::param([gates]); directions]);
    inputs.push(Input::u32([b], lengths));
    if masked {
        let half = Fill::Given((0..b * directions * h).map(|i| f64::from(i as u32 % 3 % 2 * 2)).collect());
        inputs.push(Input::data([b, directions * h]).filled(half));
    }
    if started {
        inputs.extend(vec![Input::gradient([b, directions * h]); cell.states()]);
    }
    let rounds = options.rounds.unwrap_or(MAX_ITERATIONS);
    Case::new(name, Recurrent { cell, directions, masked, started, rounds, forward_only: options.forward_only }, inputs)
}

pub(super) fn cases() -> Vec<Case> {
    let whole = |b: usize, t: usize| Fill::Given(vec![t as f64; b]);
    let ragged = |b: usize, t: usize| Fill::Given((0..b).map(|i| ((i * 3 + 1) % (t + 1)) as f64).collect());
    let plain = Options::default();
    let started = Options { started: true, ..plain };
    let masked = Options { masked: true, ..plain };
    let both = Options { masked: true, ..started };
    let long = Options { forward_only: true, ..both };
    let stepwise = Options { rounds: Some(1), ..both };
    vec![
        case("tanh, one", Cell::Tanh, 1, [1, 1, 1], whole(1, 1), plain),
        case("GRU, one", Cell::Gru, 1, [1, 1, 1], whole(1, 1), plain),
        case("LSTM, one", Cell::Lstm, 2, [1, 1, 1], whole(1, 1), plain),
        case("tanh, bidirectional, ragged", Cell::Tanh, 2, [5, 4, 3], ragged(5, 4), started),
        case("GRU, bidirectional, ragged", Cell::Gru, 2, [3, 5, 4], ragged(3, 5), started),
        case("LSTM, bidirectional, ragged", Cell::Lstm, 2, [3, 4, 4], ragged(3, 4), started),
        case("GRU, mask", Cell::Gru, 2, [3, 3, 5], ragged(3, 3), both),
        case("LSTM, mask", Cell::Lstm, 2, [3, 3, 4], ragged(3, 3), both),
        case("LSTM, mask, ragged units", Cell::Lstm, 2, [3, 3, 5], ragged(3, 3), masked),
        case("GRU, gradient of the state only", Cell::Gru, 1, [3, 3, 4], ragged(3, 3), started).seeded(&[1]),
        case("GRU, gradient of y only", Cell::Gru, 2, [3, 3, 4], ragged(3, 3), plain).seeded(&[0]),
        case("LSTM, gradient of y only", Cell::Lstm, 2, [3, 3, 5], ragged(3, 3), started).seeded(&[0]),
        case("GRU, more clips than a workgroup", Cell::Gru, 2, [37, 3, 36], ragged(37, 3), plain),
        case("GRU, more units than invocations", Cell::Gru, 1, [3, 2, 67], whole(3, 2), plain),
        case("LSTM, maximum units", Cell::Lstm, 1, [2, 2, MAX_HIDDEN], whole(2, 2), plain),
        case(
            "tanh, one step per dispatch",
            Cell::Tanh,
            2,
            [5, 4, 3],
            ragged(5, 4),
            Options { rounds: Some(1), ..plain },
        ),
        case("GRU, one step per dispatch", Cell::Gru, 2, [3, 5, 4], ragged(3, 5), stepwise),
        case("LSTM, one step per dispatch", Cell::Lstm, 2, [3, 4, 4], ragged(3, 4), stepwise),
        case("LSTM, one step per dispatch, ragged units", Cell::Lstm, 2, [3, 3, 5], ragged(3, 3), stepwise),
        case("LSTM, long", Cell::Lstm, 2, [1, LONG, 4], whole(1, LONG), long).seeded(&[]),
        case("rnn's first layer", Cell::Gru, 2, [128, 10, 64], whole(128, 10), plain).bench(),
        case("bilstm-att", Cell::Lstm, 2, [32, 10, 64], whole(32, 10), masked).bench(),
    ]
}
