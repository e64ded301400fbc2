//! Results as lines.

use wmic::bench::SECONDS;
use wmic::bench::markdown::sampling;
use wmic::bench::results::{BenchReport, KernelResult, PeerStep, StepResult, Work};
use wmic::check::Case;
use wmic::core::numbers::{duration, percent, rate, three_digits};

use super::super::output::fit;

/// All of a case's kernels forward, and all backward, with the times of matching peers.
pub fn passes(case: &Case, results: &[KernelResult], peers: &[PeerStep]) -> String {
    let batch = case.inputs[0].spec.shape.dims().first().copied().unwrap_or(1);
    let mut lines = String::new();
    for (pass, backward) in [("forward", false), ("backward", true)] {
        let of_pass = results.iter().filter(|r| r.kernel.contains("_backward") == backward);
        let ms = of_pass.map(|r| r.time_us).sum::<f64>() / 1e3;
        let model = format!("{}: {}, {pass}", case.op.name(), case.name);
        for peer in peers.iter().filter(|p| p.is(&model, batch)).map(PeerStep::result) {
            let ratio = three_digits(ms / peer.ms_per_step);
            lines += &format!("  {pass:<10}{:>9}  {ratio} of {}\n", duration(ms / 1e3), peer.name);
        }
    }
    lines
}

/// A step, its rate, and its time relative to other programs'.
pub fn step(s: &StepResult) -> String {
    let what = match s.work {
        Work::Training => {
            format!("training {}, {} seed{}", s.model, s.replicas, if s.replicas == 1 { "" } else { "s" })
        }
        Work::Forward => format!("{}, {} clips", s.model, s.batch),
    };
    let real_time = match s.work {
        Work::Training => String::new(),
        Work::Forward => format!("  {} x real time", three_digits(s.clips_per_s * SECONDS as f64)),
    };
    let peers = s.peers.iter().map(|p| format!("  {} of {}", three_digits(s.ms_per_step / p.ms_per_step), p.name));
    let (time, [spread, runs]) = (duration(s.ms_per_step / 1e3), sampling(s.sampling));
    let rate = rate(s.clips_per_s, "clips");
    format!("{what:<32}{time:>9}{spread:>7}{runs:>11}  {rate}{real_time}{}\n", peers.collect::<String>())
}

/// Columns of kernels only.
pub const RATES: &str = "  GFLOP/s    GB/s   peak";

/// Heads of the columns below.
pub fn columns(more: &str) -> String {
    format!("{:<32}{:>9}{:>7}{:>11}{more}\n", "", "time", "spread", "runs")
}

/// What measured.
pub fn header(report: &BenchReport) -> String {
    let (adapter, host) = (&report.adapter, &report.host);
    let named = format!("{}, {}\ndriver {}\n", adapter.name, adapter.backend, adapter.driver);
    let around = format!("{}, {} cores, {}\n", host.cpu, host.cores, host.os);
    let peak = format!("measured peak {}; products in {}\n", report.peak.text(), report.precision);
    format!("{named}{around}{peak}\n")
}

pub fn kernel(k: &KernelResult) -> String {
    let gflops = if k.gflops > 0.0 { three_digits(k.gflops) } else { "-".into() };
    let (time, [spread, runs]) = (duration(k.time_us / 1e6), sampling(k.sampling));
    let (name, gbs, share) = (fit(&k.kernel, 29), three_digits(k.gbs), percent(k.share_of_peak));
    format!("  {name:<30}{time:>9}{spread:>7}{runs:>11}{gflops:>9}{gbs:>8}{share:>7}\n")
}
