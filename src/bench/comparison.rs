//! Comparison of benchmarks of several adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::bench::results::{BenchReport, PeerResult, StepResult, Work};
use crate::core::files::write_atomic;
use crate::core::numbers::{count, duration, percent, three_digits, times};
use crate::gpu::Precision;
use crate::report::tables::table::{Align, Style, Table};
use crate::{Error, Result};

/// Benchmarks aligned by what they measured. Every `Vec<Option<_>>` has one entry per adapter, `None` where its file
/// lacks the measurement. Ratios are relative to the first adapter: 2.0 means twice as fast.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub(super) reports: Vec<BenchReport>,
    /// One distinct label per report.
    pub adapters: Vec<String>,
    pub steps: Vec<StepRow>,
    pub ops: Vec<OpRow>,
    /// Differences between the files, for the reader.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct StepRow {
    pub work: Work,
    pub model: String,
    pub batch: usize,
    pub replicas: usize,
    pub ms: Vec<Option<f64>>,
    pub clips_per_s: Vec<Option<f64>>,
    pub peers: Vec<Vec<PeerResult>>,
    pub speed: Vec<Option<f64>>,
}

impl StepRow {
    /// "att, batch 128, 10 seeds" or "log-mel, 100 clips"
    pub fn label(&self) -> String {
        if self.work == Work::Forward {
            return format!("{}, {} clips", self.model, self.batch);
        }
        let plural = if self.replicas == 1 { "" } else { "s" };
        format!("{}, batch {}, {} seed{plural}", self.model, self.batch, self.replicas)
    }
}

/// Geometric means over the cases of an op that all adapters with this op have measured.
#[derive(Clone, Debug)]
pub struct OpRow {
    pub op: String,
    /// Number of cases the means are over.
    pub cases: usize,
    pub share_of_peak: Vec<Option<f64>>,
    pub speed: Vec<Option<f64>>,
}

/// Compares benchmarks with the first one.
pub fn compare(reports: &[BenchReport]) -> Result<Comparison> {
    if reports.is_empty() {
        return Err(Error::Usage("nothing to compare; name one or more benchmark files".into()));
    }
    let mut comparison = Comparison {
        adapters: labels(reports),
        steps: step_rows(reports),
        ops: vec![],
        notes: vec![],
        reports: reports.to_vec(),
    };
    for op in in_order(reports.iter().flat_map(|r| r.kernels.iter().map(|k| k.op.clone()))) {
        let (row, left_out) = op_row(reports, &op);
        if left_out > 0 {
            comparison.notes.push(format!("{op}: {left_out} case(s) in some files only, not in the means"));
        }
        comparison.ops.push(row);
    }
    let versions: BTreeSet<&str> = reports.iter().map(|r| r.wmic_version.as_str()).collect();
    if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        comparison.notes.push(format!("measured by different versions of wmic: {}", versions.join(", ")));
    }
    for row in &comparison.steps {
        let missing = row.ms.iter().filter(|ms| ms.is_none()).count();
        if missing > 0 {
            comparison.notes.push(format!("step {}: missing in {missing} of {} files", row.label(), reports.len()));
        }
    }
    Ok(comparison)
}

/// Adapter names, numbered if repeated (another driver, version or backend of the same adapter).
fn labels(reports: &[BenchReport]) -> Vec<String> {
    let name = |r: &BenchReport| {
        let precision = if r.precision == Precision::F32 { String::new() } else { format!(", {}", r.precision) };
        format!("{} ({}{precision})", r.adapter.name, r.adapter.backend)
    };
    let all: Vec<String> = reports.iter().map(name).collect();
    let again = |i: usize| all[..i].iter().filter(|l| **l == all[i]).count();
    (0..all.len())
        .map(|i| if again(i) > 0 { format!("{} #{}", all[i], again(i) + 1) } else { all[i].clone() })
        .collect()
}

fn in_order<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// How many times faster than the first entry each entry's time is.
fn speeds(times: &[Option<f64>]) -> Vec<Option<f64>> {
    times.iter().map(|t| Some(times[0]? / (*t)?)).collect()
}

fn step_rows(reports: &[BenchReport]) -> Vec<StepRow> {
    let keys = in_order(reports.iter().flat_map(|r| r.steps.iter().map(StepResult::key)));
    let row = |(model, batch, replicas): (&str, usize, usize)| {
        let found: Vec<Option<&StepResult>> =
            reports.iter().map(|r| r.steps.iter().find(|s| s.key() == (model, batch, replicas))).collect();
        let ms: Vec<Option<f64>> = found.iter().map(|s| s.map(|s| s.ms_per_step)).collect();
        StepRow {
            work: found.iter().flatten().next().map(|s| s.work).unwrap_or_default(),
            model: model.into(),
            batch,
            replicas,
            speed: speeds(&ms),
            ms,
            clips_per_s: found.iter().map(|s| s.map(|s| s.clips_per_s)).collect(),
            peers: found.iter().map(|s| s.map_or(vec![], |s| s.peers.clone())).collect(),
        }
    };
    keys.into_iter().map(row).collect()
}

/// The row of `op`, and how many of its cases were skipped because an adapter with this op lacks them.
/// Adapters may use different kernels for a case, so the time of a case is the sum over its kernels.
fn op_row(reports: &[BenchReport], op: &str) -> (OpRow, usize) {
    let of_op: Vec<BTreeMap<&str, CaseTime>> = reports.iter().map(|r| case_times(r, op)).collect();
    let keys: BTreeSet<&str> = of_op.iter().flat_map(|cases| cases.keys().copied()).collect();
    let in_all = |key: &&str| of_op.iter().filter(|cases| !cases.is_empty()).all(|cases| cases.contains_key(*key));
    let common: Vec<&str> = keys.iter().copied().filter(in_all).collect();
    let mean = |cases: &BTreeMap<&str, CaseTime>, value: fn(&CaseTime) -> f64| {
        geometric_mean(common.iter().filter_map(|key| cases.get(key)).map(value))
    };
    let times: Vec<Option<f64>> = of_op.iter().map(|cases| mean(cases, |c| c.time_us)).collect();
    let row = OpRow {
        op: op.into(),
        cases: common.len(),
        share_of_peak: of_op.iter().map(|cases| mean(cases, |c| c.at_peak_us / c.time_us)).collect(),
        speed: speeds(&times),
    };
    (row, keys.len() - common.len())
}

/// Sum over the kernels of a case.
#[derive(Default)]
struct CaseTime {
    time_us: f64,
    /// The time it would take at the measured peak.
    at_peak_us: f64,
}

fn case_times<'a>(report: &'a BenchReport, op: &str) -> BTreeMap<&'a str, CaseTime> {
    let mut cases: BTreeMap<&str, CaseTime> = BTreeMap::new();
    for k in report.kernels.iter().filter(|k| k.op == op) {
        let case = cases.entry(&k.case).or_default();
        case.time_us += k.time_us;
        case.at_peak_us += k.time_us * k.share_of_peak;
    }
    cases
}

/// `None` for no values; 0 if any is 0.
fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, log_sum) = values.fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v.ln()));
    (n > 0).then(|| (log_sum / n as f64).exp())
}

impl Comparison {
    /// The adapters, the training steps, the ops by geometric-mean share of peak, and the notes.
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for (i, (r, label)) in self.reports.iter().zip(&self.adapters).enumerate() {
            let (driver, host) = (&r.adapter.driver, &r.host);
            out += &format!("{}  {label}\n   driver {driver}\n", i + 1);
            out += &format!("   {}, {} cores, {}\n", host.cpu, host.cores, host.os);
            out += &format!("   measured peak {}\n", r.peak.text());
        }
        for (title, table) in self.tables() {
            out += &format!("\n{title}\n{}", table.render(style));
        }
        if !self.notes.is_empty() {
            out += &format!("\nNote: {}\n", self.notes.join("\nNote: "));
        }
        out
    }

    /// The tables that have rows, with their titles.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&'static str, Table)> {
        let ops = "Share of measured peak (geometric mean over cases), and speed relative to 1";
        let tables = [("Training step, or forward pass of clips of 10 s", self.step_table()), (ops, self.op_table())];
        tables.into_iter().filter(|(_, table)| !table.is_empty())
    }

    fn step_table(&self) -> Table {
        use Align::{Left, Right};
        let columns =
            [("step", Left), ("", Right), ("time", Right), ("speed", Right), ("clips/s", Right), ("peer", Right)];
        let mut t = Table::new(columns);
        for row in &self.steps {
            let label = row.label();
            let mut first = Some(label.as_str());
            for i in 0..self.adapters.len() {
                let (Some(ms), Some(clips)) = (row.ms[i], row.clips_per_s[i]) else { continue };
                let peers = row.peers[i].iter().map(|p| format!("{} {}", p.name, duration(p.ms_per_step / 1e3)));
                let peers = peers.collect::<Vec<_>>().join(", ");
                t.row([
                    first.take().unwrap_or_default().to_owned(),
                    (i + 1).to_string(),
                    duration(ms / 1e3),
                    row.speed[i].map_or("-".into(), times),
                    if clips < 100.0 { three_digits(clips) } else { count(clips as u64) },
                    if peers.is_empty() { "-".into() } else { peers },
                ]);
            }
        }
        t
    }

    fn op_table(&self) -> Table {
        let n = self.adapters.len();
        let mut columns = vec![("op".to_owned(), Align::Left), ("cases".to_owned(), Align::Right)];
        columns.extend((1..=n).map(|i| (i.to_string(), Align::Right)));
        columns.extend((2..=n).map(|i| (format!("speed {i}"), Align::Right)));
        let mut t = Table::new(columns);
        let text = |value: &Option<f64>, format: fn(f64) -> String| value.map_or("-".to_owned(), format);
        for row in &self.ops {
            let mut cells = vec![row.op.clone(), row.cases.to_string()];
            cells.extend(row.share_of_peak.iter().map(|s| text(s, percent)));
            cells.extend(row.speed.iter().skip(1).map(|s| text(s, times)));
            t.row(cells);
        }
        t
    }

    /// One line per measurement, for further analysis; empty cells where something was not measured.
    pub fn csv(&self) -> String {
        let mut out = csv::Writer::from_writer(vec![]);
        let mut write = |line: CsvLine| out.serialize(line).expect("plain fields go into a vector");
        let first = &self.reports[0];
        for (r, adapter) in self.reports.iter().zip(&self.adapters) {
            let who = CsvLine { adapter, driver: &r.adapter.driver, wmic: &r.wmic_version, ..CsvLine::default() };
            for k in &r.kernels {
                let base = first.kernels.iter().find(|f| f.key() == k.key());
                write(CsvLine {
                    kind: "kernel",
                    name: &k.kernel,
                    case: k.case.clone(),
                    time_ms: k.time_us / 1e3,
                    speed_vs_first: base.map(|f| f.time_us / k.time_us),
                    gflops: Some(k.gflops),
                    gbs: Some(k.gbs),
                    share_of_peak: Some(k.share_of_peak),
                    ..who.clone()
                });
            }
            for s in &r.steps {
                let base = first.steps.iter().find(|f| f.key() == s.key());
                write(CsvLine {
                    kind: if s.work == Work::Forward { "forward" } else { "step" },
                    name: &s.model,
                    case: format!("batch {}, {} replicas", s.batch, s.replicas),
                    time_ms: s.ms_per_step,
                    speed_vs_first: base.map(|f| f.ms_per_step / s.ms_per_step),
                    clips_per_s: Some(s.clips_per_s),
                    peer: s.fastest_peer().map(|p| p.name.as_str()),
                    peer_ms: s.fastest_peer().map(|p| p.ms_per_step),
                    ..who.clone()
                });
            }
        }
        String::from_utf8(out.into_inner().expect("flushed to a vector")).expect("written from strings")
    }

    /// Writes [`Self::csv`] into `path` atomically.
    pub fn save_csv(&self, path: &Path) -> Result<()> {
        write_atomic(path, |out| out.write_all(self.csv().as_bytes()))
    }
}

#[derive(Clone, Default, serde::Serialize)]
struct CsvLine<'a> {
    adapter: &'a str,
    driver: &'a str,
    wmic: &'a str,
    kind: &'a str,
    name: &'a str,
    case: String,
    time_ms: f64,
    speed_vs_first: Option<f64>,
    gflops: Option<f64>,
    gbs: Option<f64>,
    share_of_peak: Option<f64>,
    clips_per_s: Option<f64>,
    peer: Option<&'a str>,
    peer_ms: Option<f64>,
}
