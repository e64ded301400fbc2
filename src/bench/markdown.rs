//! A benchmark, and a comparison of benchmarks, as a page of Markdown.

use crate::bench::comparison::Comparison;
use crate::bench::results::{BenchReport, KernelResult, Peak, Profile, Sampling, StepResult, Work};
use crate::core::numbers::{count, duration, percent, rate, si, three_digits};
use crate::report::tables::table::{Align, Table};

use Align::{Left, Right};

const ABOUT: &str = "A time is the median of several submissions of so many repetitions that the cost of a submission
is negligible; the spread is the interquartile range of the submissions relative to it.
";

impl BenchReport {
    /// Machine, date and warnings, the measured peak, steps with their peers, profiles and kernels.
    pub fn markdown(&self) -> String {
        let (adapter, host) = (&self.adapter, &self.host);
        let mut page = format!("# {}, {}\n\n", adapter.name, adapter.backend);
        let (version, date, driver) = (&self.wmic_version, &self.date, &adapter.driver);
        page += &format!("wmic {version}, {date}. Driver {driver}. Products in {}.\n", self.precision);
        page += &format!("{}, {} cores, {}.\n\n{ABOUT}", host.cpu, host.cores, host.os);
        for warning in &self.warnings {
            page += &format!("\n> **Warning:** {warning}\n");
        }
        page += &format!("\n## Measured peak\n\n{}", peak(self.peak));
        for (title, work) in [("Training steps", Work::Training), ("From audio to features", Work::Forward)] {
            let steps: Vec<&StepResult> = self.steps.iter().filter(|s| s.work == work).collect();
            if !steps.is_empty() {
                page += &format!("\n## {title}\n\n{}", step_table(&steps, work).markdown());
            }
        }
        for step in &self.steps {
            if let Some(profile) = &step.profile {
                let (launches, table) = (profile.launches(self.peak), profile.table(step.ms_per_step).markdown());
                page += &format!("\n## A step of {}\n\n{launches}\n\n{table}", step.model);
            }
        }
        if !self.kernels.is_empty() {
            page += &format!("\n## Kernels\n\n{}", kernel_table(&self.kernels).markdown());
        }
        page
    }
}

impl Comparison {
    /// The adapters, steps and ops, and the notes.
    pub fn markdown(&self) -> String {
        let mut adapters = Table::new([("", Right), ("adapter", Left), ("machine", Left), ("measured peak", Left)]);
        for (i, (report, label)) in self.reports.iter().zip(&self.adapters).enumerate() {
            let (host, driver) = (&report.host, &report.adapter.driver);
            let machine = format!("{}, {} cores, {}; driver {driver}", host.cpu, host.cores, host.os);
            adapters.row([(i + 1).to_string(), label.clone(), machine, report.peak.text()]);
        }
        let mut page = format!("# Benchmarks\n\n{}", adapters.markdown());
        for (title, table) in self.tables() {
            page += &format!("\n## {title}\n\n{}", table.markdown());
        }
        if !self.notes.is_empty() {
            page += &format!("\n- {}\n", self.notes.join("\n- "));
        }
        page
    }
}

impl Profile {
    /// "49 dispatches, whose launches alone take about 200 µs in a row."
    pub fn launches(&self, peak: Peak) -> String {
        let calls = self.calls();
        let time = peak.launch_us.map(|us| duration(us * 1e-6 * calls as f64));
        let time = time.map_or_else(String::new, |t| format!(", whose launches alone take about {t} in a row"));
        format!("{calls} dispatches{time}.")
    }

    /// Kernel by kernel, with what is between them and their sum, the step of `ms`.
    pub fn table(&self, ms: f64) -> Table {
        let columns = [("kernel", Left), ("calls", Right), ("time", Right), ("spread", Right), ("runs", Right)];
        let mut table = Table::new(columns.into_iter().chain([("share", Right)]));
        for k in &self.kernels {
            let [spread, runs] = sampling(Some(k.sampling));
            let cells = [k.calls.to_string(), duration(k.ms / 1e3), spread, runs, percent(k.ms / ms)];
            table.row([k.kernel.clone()].into_iter().chain(cells));
        }
        let blank = String::new;
        let sign = if self.difference_ms < 0.0 { "-" } else { "" };
        let time = format!("{sign}{}", duration(self.difference_ms.abs() / 1e3));
        let share = percent(self.difference_ms / ms);
        table.row([self.difference().into(), blank(), time, blank(), blank(), share]);
        let calls = self.calls().to_string();
        table.total(["step".into(), calls, duration(ms / 1e3), blank(), blank(), percent(1.0)]);
        table
    }
}

/// Spread and number of repetitions; dashes for files of versions that did not record them.
pub fn sampling(sampling: Option<Sampling>) -> [String; 2] {
    match sampling {
        Some(s) => [percent(s.spread), format!("{} x {}", s.samples, count(s.repetitions as u64))],
        None => ["-".into(), "-".into()],
    }
}

fn peak(peak: Peak) -> String {
    let columns = [("arithmetic, f32", Right), ("matrices, f16", Right), ("memory", Right), ("launch", Right)];
    let mut table = Table::new(columns);
    let launch = peak.launch_us.map_or("-".into(), |us| duration(us * 1e-6));
    let flops = |gflops: f64| si(gflops * 1e9, "FLOP/s");
    let matrices = peak.matrix_gflops.map_or("-".into(), flops);
    table.row([flops(peak.f32_gflops), matrices, si(peak.bandwidth_gbs * 1e9, "B/s"), launch]);
    format!(
        "Fused multiply-adds in registers, products of cooperative matrices where kernels use them, copies of\n\
         64 MiB, and a dispatch that does nothing in a chain of which each waits for the one before.\n\n{}",
        table.markdown()
    )
}

fn step_table(steps: &[&StepResult], work: Work) -> Table {
    let training = work == Work::Training;
    let mut columns = vec![("", Left), ("clips", Right)];
    columns.extend(training.then_some(("seeds", Right)));
    columns.extend([("time", Right), ("spread", Right), ("runs", Right), ("rate", Right)]);
    let compared = steps.iter().any(|s| !s.peers.is_empty());
    columns.extend(compared.then_some(("others (wmic's time / theirs)", Left)));
    let mut table = Table::new(columns);
    for s in steps {
        let mut cells = vec![s.model.clone(), s.batch.to_string()];
        if training {
            cells.push(s.replicas.to_string());
        }
        let peers = s.peers.iter().map(|p| {
            let ratio = three_digits(s.ms_per_step / p.ms_per_step);
            format!("{} {} ({ratio})", p.name, duration(p.ms_per_step / 1e3))
        });
        let [spread, runs] = sampling(s.sampling);
        cells.extend([duration(s.ms_per_step / 1e3), spread, runs, rate(s.clips_per_s, "clips")]);
        cells.extend(compared.then(|| peers.collect::<Vec<_>>().join("; ")));
        table.row(cells);
    }
    table
}

fn kernel_table(kernels: &[KernelResult]) -> Table {
    let columns = [("kernel", Left), ("case", Left), ("time", Right), ("spread", Right), ("runs", Right)];
    let rates = [("GFLOP/s", Right), ("GB/s", Right), ("peak", Right)];
    let mut table = Table::new(columns.into_iter().chain(rates));
    for k in kernels {
        let [spread, runs] = sampling(k.sampling);
        let gflops = if k.gflops > 0.0 { three_digits(k.gflops) } else { "-".into() };
        let cells = [k.kernel.clone(), k.case.clone(), duration(k.time_us / 1e6), spread, runs];
        table.row(cells.into_iter().chain([gflops, three_digits(k.gbs), percent(k.share_of_peak)]));
    }
    table
}
