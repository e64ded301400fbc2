//! A value axis: its ends, its labelled ticks, and the position of a value between them.

use crate::core::numbers::{count, duration};

pub(crate) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `low` to `high`, with up to `most` ticks at round numbers.
    pub fn between(low: f64, high: f64, most: usize) -> Axis {
        let step = round_step(high - low, most);
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        let name = |t: f64| match decimals {
            0 if t >= 0.0 => count(t.round() as u64),
            _ => format!("{t:.decimals$}"),
        };
        let ticks = (first..=last).map(|i| i as f64 * step).map(|t| (t, name(t))).collect();
        Axis { low, high, log: false, ticks }
    }

    /// From the round number below `low` to that above `high`.
    pub fn around(low: f64, high: f64, most: usize) -> Axis {
        // An axis needs some length even for (nearly) equal values.
        let pad = ((low.abs() * 1e-3).max(1e-3) - (high - low)).max(0.0) / 2.0;
        let (low, high) = (low - pad, high + pad);
        let step = round_step(high - low, most);
        Axis::between((low / step).floor() * step, (high / step).ceil() * step, most + 2)
    }

    /// Around scores between 0 and 1, with up to `most` ticks; `None` for no scores.
    pub(crate) fn of_scores(scores: impl Iterator<Item = f64>, most: usize) -> Option<Axis> {
        let (low, high) = scores.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        // With a minimum length, so that a negligible spread does not look like one.
        let pad = (0.05 - (high - low)).max(0.0) / 2.0;
        (low <= high).then(|| Axis::around((low - pad).max(0.0), (high + pad).min(1.0), most))
    }

    /// `low` (above 0) to `high` in powers of ten; with 2 and 5 between them if there are few.
    pub fn log(low: f64, high: f64) -> Axis {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let steps: &[u32] = if last - first > 3 { &[1] } else { &[1, 2, 5] };
        // Parsed, since a product might not be the nearest number, and print as such.
        let all = (first..=last).flat_map(|e| steps.iter().filter_map(move |s| format!("{s}e{e}").parse::<f64>().ok()));
        let name = |t: f64| if (1e-3..1e5).contains(&t) { format!("{t}") } else { format!("{t:e}") };
        let ticks = all.filter(|t| (low..=high).contains(t)).map(|t| (t, name(t))).collect();
        Axis { low, high, log: true, ticks }
    }

    /// Powers of ten around all of `values` (seconds); with 2 and 5 between them if there are few.
    pub(crate) fn log_seconds(values: &[f64]) -> Axis {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        let first = (min * 0.8).log10().floor() as i32;
        let last = (max.log10().ceil() as i32).max(first + 1);
        let steps: &[f64] = if last - first > 2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let (low, top) = (10f64.powi(first), 10f64.powi(last));
        let all = (first..=last).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
        // The axis ends at the first tick that covers the longest bar.
        let ticks: Vec<f64> = all.filter(|&t| t <= top * 1.001).collect();
        let high = ticks.iter().copied().find(|&t| t >= max * 0.999).unwrap_or(top);
        let name = |t: f64| duration(t).replacen(".00", "", 1).replacen(".0 ", " ", 1);
        let ticks = ticks.into_iter().filter(|&t| t <= high * 1.001).map(|t| (t, name(t))).collect();
        Axis { low, high, log: true, ticks }
    }

    /// Percentages of fractions, from 0 to the maximum of `values`.
    pub fn percent(values: &[f64]) -> Axis {
        let max = values.iter().copied().fold(0.0, f64::max);
        let step = [0.02, 0.05, 0.1, 0.2].into_iter().find(|s| max <= s * 5.0).unwrap_or(max / 5.0);
        let n = (max / step).ceil().max(1.0) as usize;
        let ticks = (0..=n).map(|i| (i as f64 * step, format!("{:.0} %", i as f64 * step * 100.0))).collect();
        Axis { low: 0.0, high: n as f64 * step, log: false, ticks }
    }

    /// The position of `value` between the ends, 0 to 1.
    pub fn at(&self, value: f64) -> f64 {
        let share = |v: f64| (v - self.low) / (self.high - self.low);
        let at = if self.log { (value / self.low).ln() / (self.high / self.low).ln() } else { share(value) };
        at.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten: the least that divides `span` into fewer than `most` parts.
pub(crate) fn round_step(span: f64, most: usize) -> f64 {
    let least = span / (most - 1) as f64;
    let decade = 10f64.powi(least.log10().floor() as i32);
    [1.0, 2.0, 5.0, 10.0].map(|s| s * decade).into_iter().find(|s| *s >= least * 0.999).unwrap_or(10.0 * decade)
}
