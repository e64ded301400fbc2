//! How much work goes into one submission: about 80 ms of it, long enough to keep the GPU busy, short enough for
//! desktop drivers, which abort submissions of seconds.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::device::Gpu;
use super::recording::Recording;
use super::submission::Ticket;
use crate::core::error::Result;

/// Target duration of a submission.
const SUBMISSION: Duration = Duration::from_millis(80);
/// Most rounds of a submission, however fast they are: each one is encoded.
const MAX_ROUNDS: usize = 64;

/// Measured durations of the dispatches of some recordings.
#[derive(Debug, Default)]
pub struct Pace {
    /// Seconds of each dispatch of a round, measured individually in the first; empty before.
    dispatches: Vec<f64>,
    /// Current ratio to these times, with several dispatches per submission.
    factor: f64,
}

/// A submission in flight.
struct Running {
    ticket: Ticket,
    /// Sum of the individual seconds of its dispatches.
    measured: f64,
    /// Rounds completed when it ends.
    rounds: usize,
}

impl Pace {
    /// Replays `recordings`, always the same ones, `rounds` times. Short rounds share a submission, at most `most` of
    /// them; long ones are split between dispatches; one submission is queued behind the running one. `before` prepares
    /// the rounds that are submitted next; `go_on` is called with the number of rounds done, and stops by returning
    /// false. Returns the number of rounds done.
    ///
    /// # Errors
    /// Those of `before`; `Gpu` if the device fails.
    pub fn replay(
        &mut self,
        gpu: &Gpu,
        recordings: &[&Recording],
        rounds: usize,
        most: usize,
        before: &mut dyn FnMut(Range<usize>) -> Result<()>,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<usize> {
        let (mut sent, mut done) = (0, 0);
        if self.dispatches.is_empty() && rounds > 0 && go_on(0) {
            before(0..1)?;
            self.measure(gpu, recordings)?;
            (sent, done) = (1, 1);
        }
        let mut running: Option<Running> = None;
        let mut since = Instant::now();
        while sent < rounds && go_on(done) {
            let whole: f64 = self.dispatches.iter().sum();
            let fitting = (SUBMISSION.as_secs_f64() / (whole * self.factor)) as usize;
            let n = fitting.clamp(1, MAX_ROUNDS).min(rounds - sent).min(most);
            before(sent..sent + n)?;
            let all = 0..self.dispatches.len();
            let pieces = if fitting > 0 { Vec::from([all]) } else { self.pieces() };
            for piece in pieces {
                let last = piece.end == self.dispatches.len();
                let measured = self.dispatches[piece.clone()].iter().sum::<f64>() * n as f64;
                let ticket = gpu.submit(|s| s.replay_part(recordings, piece, n))?;
                let next = Running { ticket, measured, rounds: if last { sent + n } else { sent } };
                if let Some(before) = running.replace(next) {
                    gpu.wait_for(before.ticket)?;
                    self.factor = (since.elapsed().as_secs_f64() / before.measured).clamp(1e-3, 1e3);
                    since = Instant::now();
                    done = before.rounds;
                }
            }
            sent += n;
        }
        gpu.wait()?;
        go_on(sent);
        Ok(sent)
    }

    /// Runs one round, dispatch by dispatch.
    fn measure(&mut self, gpu: &Gpu, recordings: &[&Recording]) -> Result<()> {
        gpu.wait()?;
        let count: usize = recordings.iter().map(|r| r.len()).sum();
        let timed = |dispatch: usize| {
            let start = Instant::now();
            gpu.run(|s| s.replay_part(recordings, dispatch..dispatch + 1, 1))?;
            Ok(start.elapsed().as_secs_f64().max(1e-9))
        };
        self.dispatches = (0..count).map(timed).collect::<Result<_>>()?;
        self.factor = 1.0;
        Ok(())
    }

    /// Splits a round that is too long for one submission into ranges of dispatches, each of at least one.
    fn pieces(&self) -> Vec<Range<usize>> {
        let (mut pieces, mut start, mut seconds) = (vec![], 0, 0.0);
        for (index, dispatch) in self.dispatches.iter().enumerate() {
            let dispatch = dispatch * self.factor;
            if index > start && seconds + dispatch > SUBMISSION.as_secs_f64() {
                pieces.push(start..index);
                (start, seconds) = (index, 0.0);
            }
            seconds += dispatch;
        }
        pieces.push(start..self.dispatches.len());
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rounds_are_divided_between_dispatches() {
        let pace = Pace { dispatches: vec![0.05, 0.04, 0.02, 0.3, 0.01], factor: 1.0 };
        assert_eq!(pace.pieces(), [0..1, 1..3, 3..4, 4..5]);
        let faster = Pace { factor: 0.2, ..pace };
        assert_eq!(faster.pieces(), [0..3, 3..5]);
    }
}
