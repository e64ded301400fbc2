//! Reasons to distrust figures.

use std::fs::read_to_string;

use crate::bench::results::{BenchReport, KernelResult, Sampling};
use crate::core::numbers::{of, percent};

/// Share of the CPU time that others may take.
const MAX_LOAD: f64 = 0.05;
/// Interquartile range over the median.
const MAX_SPREAD: f64 = 0.1;
/// Share of the peak: repeated measurements of it agree less closely than this.
const MAX_SHARE: f64 = 1.05;

/// CPU time so far, in the ticks of Linux; other systems do not say.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Of all CPUs, idle or not.
    all: u64,
    /// Of all processes.
    busy: u64,
    /// Of this process.
    own: u64,
}

impl Load {
    pub fn now() -> Option<Load> {
        let numbers = |text: &str| text.split_whitespace().map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>();
        let cpus = read_to_string("/proc/stat").ok()?;
        // user, nice, system, idle, waiting for input, interrupts (2), stolen; guests are in `user`
        let cpus = numbers(cpus.lines().next()?.strip_prefix("cpu ")?)?;
        let [all, idle] = [cpus.get(..8)?, cpus.get(3..5)?].map(|ticks| ticks.iter().sum::<u64>());
        let process = read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in parentheses, may have blanks.
        let fields: Vec<&str> = process.rsplit_once(')')?.1.split_whitespace().collect();
        let own = numbers(&fields.get(11..13)?.join(" "))?.iter().sum();
        Some(Load { all, busy: all - idle, own })
    }

    /// The share of the CPU time from `self` until `now` that other processes took.
    pub fn of_others(self, now: Load) -> f64 {
        let passed = |of: fn(Load) -> u64| of(now).saturating_sub(of(self)) as f64;
        (passed(|l| l.busy) - passed(|l| l.own)).max(0.0) / passed(|l| l.all).max(1.0)
    }
}

/// Why the figures of a report may be wrong, a line each.
pub fn warnings(report: &BenchReport) -> Vec<String> {
    let load = report.load.filter(|share| *share > MAX_LOAD).map(|share| {
        format!("other processes took {} of the CPU time meanwhile: times may be too long", percent(share))
    });
    [load, spread(report), above_peak(report)].into_iter().flatten().collect()
}

fn spread(report: &BenchReport) -> Option<String> {
    let kernels = report.kernels.iter().map(|k| (k.kernel.as_str(), k.sampling));
    let steps = report.steps.iter().map(|s| (s.model.as_str(), s.sampling));
    let profiled = report.steps.iter().filter_map(|s| s.profile.as_ref()).flat_map(|p| &p.kernels);
    let profiled = profiled.map(|k| (k.kernel.as_str(), Some(k.sampling)));
    let all: Vec<(&str, Sampling)> =
        kernels.chain(steps).chain(profiled).filter_map(|(name, sampling)| Some((name, sampling?))).collect();
    let wide = all.iter().filter(|(_, sampling)| sampling.spread > MAX_SPREAD).count();
    let (name, widest) = all.iter().max_by(|a, b| a.1.spread.total_cmp(&b.1.spread))?;
    (wide > 0).then(|| {
        format!(
            "{wide} of {} spread by more than {} of their median (most: {name}, {}): is the machine idle?",
            of(all.len(), "time", "times"),
            percent(MAX_SPREAD),
            percent(widest.spread),
        )
    })
}

fn above_peak(report: &BenchReport) -> Option<String> {
    const NAMED: usize = 3;
    let mut above: Vec<&KernelResult> = report.kernels.iter().filter(|k| k.share_of_peak > MAX_SHARE).collect();
    above.sort_by(|a, b| b.share_of_peak.total_cmp(&a.share_of_peak));
    let named = above.iter().take(NAMED);
    let mut names: Vec<String> =
        named.map(|k| format!("{}, {} ({})", k.kernel, k.case, percent(k.share_of_peak))).collect();
    if above.len() > NAMED {
        names.push(format!("{} more", above.len() - NAMED));
    }
    let arithmetic = above.iter().any(|k| k.gflops / report.peak.arithmetic() > MAX_SHARE);
    let why = match arithmetic {
        true => "the machine was busy while the peak of arithmetic was measured",
        false => "data that fits a cache is faster there than the peak, which is the memory's",
    };
    (!above.is_empty()).then(|| format!("above the measured peak: {}; {why}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_of_others_is_what_is_busy_less_the_own() {
        let start = Load { all: 1000, busy: 400, own: 100 };
        assert_eq!(start.of_others(Load { all: 1200, busy: 500, own: 150 }), 0.25);
        assert_eq!(start.of_others(Load { all: 1200, busy: 500, own: 210 }), 0.0, "ticks are counted apart");
        assert_eq!(start.of_others(start), 0.0);
    }
}
