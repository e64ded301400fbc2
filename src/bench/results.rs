//! Benchmark files: what `wmic bench --out` writes and `--compare` reads.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::core::files::{read_limited, write_atomic};
use crate::core::numbers::{duration, si};
use crate::gpu::Precision;
use crate::{Error, Result};

/// A benchmark file larger than this is not one.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Kernel and step results in one file.
pub(super) const MAX_RESULTS: usize = 10_000;

/// One benchmark of one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    pub wmic_version: String,
    /// ISO 8601, UTC.
    pub date: String,
    pub adapter: AdapterInfo,
    /// Of the operands of matrix products; files of earlier versions do not have it.
    #[serde(default)]
    pub precision: Precision,
    pub host: Host,
    pub peak: Peak,
    pub kernels: Vec<KernelResult>,
    pub steps: Vec<StepResult>,
    /// Share of the CPU time that other processes took meanwhile; `None` where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Why the figures may be wrong, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo {
    pub name: String,
    pub vendor: String,
    /// "Vulkan", "Metal" or "Dx12".
    pub backend: String,
    pub driver: String,
    /// "discrete", "integrated", "virtual", "cpu" or "other".
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub os: String,
    pub cpu: String,
    pub cores: usize,
}

/// Measured peak of the adapter, in 10^9 per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    pub f32_gflops: f64,
    /// Of cooperative matrices in half precision with sums in f32, where kernels use them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix_gflops: Option<f64>,
    pub bandwidth_gbs: f64,
    /// Time of a dispatch that does nothing, in a chain in which each waits for the one before, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_us: Option<f64>,
}

impl Peak {
    /// The larger of the fractions of peak arithmetic and bandwidth.
    pub(crate) fn share(&self, gflops: f64, gbs: f64) -> f64 {
        (gflops / self.arithmetic()).max(gbs / self.bandwidth_gbs)
    }

    /// What kernels can reach.
    pub(super) fn arithmetic(&self) -> f64 {
        self.matrix_gflops.map_or(self.f32_gflops, |of_matrices| of_matrices.max(self.f32_gflops))
    }

    /// "1.23 TFLOP/s, 456 GB/s, a launch 4.10 µs"; with cooperative matrices "1.23 TFLOP/s (matrices 9.87 TFLOP/s),
    /// ..."
    pub fn text(&self) -> String {
        let flops = |gflops: f64| si(gflops * 1e9, "FLOP/s");
        let matrices = self.matrix_gflops.map_or_else(String::new, |of| format!(" (matrices {})", flops(of)));
        let launch = self.launch_us.map_or_else(String::new, |us| format!(", a launch {}", duration(us * 1e-6)));
        format!("{}{matrices}, {}{launch}", flops(self.f32_gflops), si(self.bandwidth_gbs * 1e9, "B/s"))
    }

    /// The better one of each figure.
    fn best(self, other: Peak) -> Peak {
        Peak {
            f32_gflops: self.f32_gflops.max(other.f32_gflops),
            matrix_gflops: [self.matrix_gflops, other.matrix_gflops].into_iter().flatten().reduce(f64::max),
            bandwidth_gbs: self.bandwidth_gbs.max(other.bandwidth_gbs),
            launch_us: [self.launch_us, other.launch_us].into_iter().flatten().reduce(f64::min),
        }
    }
}

/// How a time was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Submissions that were timed, after some that warm up; the time is their median.
    pub samples: usize,
    /// Repetitions in each of them.
    pub repetitions: usize,
    /// Interquartile range of the samples divided by their median.
    pub spread: f64,
}

/// A measured time, and how it was measured.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Median of the samples, of one repetition.
    pub seconds: f64,
    pub sampling: Sampling,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelResult {
    pub op: String,
    /// WGSL entry point; with a running number where a case calls it several times.
    pub kernel: String,
    /// Shapes and options, the same on every adapter.
    pub case: String,
    /// Median time of one dispatch, in microseconds.
    pub time_us: f64,
    /// `None` in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    pub gflops: f64,
    /// 10^9 bytes per second.
    pub gbs: f64,
    /// The larger fraction of the measured arithmetic and bandwidth peaks; about 0 to 1.
    pub share_of_peak: f64,
}

/// Work of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Forward, backward and update of all replicas.
    #[default]
    Training,
    /// Forward only: a part of an audio front end.
    Forward,
}

/// A whole step on a batch of clips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    #[serde(default)]
    pub work: Work,
    /// The model, or the part of a front end.
    pub model: String,
    pub batch: usize,
    pub replicas: usize,
    pub ms_per_step: f64,
    /// `None` in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Clips of all replicas together, per second.
    pub clips_per_s: f64,
    /// Other programs doing the same step on the same machine. Files of earlier versions have one.
    #[serde(default, alias = "peer", deserialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerResult>,
    /// Where the time goes, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// A step kernel by kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Longest first.
    pub kernels: Vec<StepKernel>,
    /// The time of the step less the sum of its kernels, in milliseconds: above 0 gaps between dispatches and cold
    /// caches, below 0 the overlap of dispatches, each of which was timed on its own.
    pub difference_ms: f64,
}

impl Profile {
    /// What the difference is.
    pub fn difference(&self) -> &'static str {
        if self.difference_ms < 0.0 { "overlap of dispatches" } else { "gaps between dispatches" }
    }

    /// Dispatches of a step.
    pub fn calls(&self) -> usize {
        self.kernels.iter().map(|k| k.calls).sum()
    }
}

/// A kernel's part of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepKernel {
    pub kernel: String,
    /// Dispatches per step.
    pub calls: usize,
    /// Sum of the medians of all of them, each timed on its own.
    pub ms: f64,
    /// Of the dispatch whose time varies most.
    pub sampling: Sampling,
}

pub(crate) fn fastest(peers: &[PeerResult]) -> Option<&PeerResult> {
    peers.iter().min_by(|a, b| a.ms_per_step.total_cmp(&b.ms_per_step))
}

fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PeerResult>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Peers {
        One(PeerResult),
        Several(Vec<PeerResult>),
    }
    Ok(match Peers::deserialize(from)? {
        Peers::One(peer) => vec![peer],
        Peers::Several(peers) => peers,
    })
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerResult {
    pub name: String,
    pub ms_per_step: f64,
}

/// One object as printed by the scripts in `benches/peers`; other keys are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerStep {
    peer: String,
    model: String,
    batch: usize,
    ms_per_step: f64,
}

impl PeerStep {
    /// The objects of a file, one after the other.
    ///
    /// # Errors
    /// `Data` for any other file, and for an empty one.
    pub fn load(path: &Path) -> Result<Vec<PeerStep>> {
        let bytes = read_limited(path, MAX_BYTES)?;
        let bad = |e: &str| Error::data(path, format!("is not a result of a script in benches/peers: {e}"));
        let peers = serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<Vec<PeerStep>, _>>();
        let peers = peers.map_err(|e| bad(&one_line(&e.to_string())))?;
        if peers.is_empty() {
            return Err(bad("it is empty"));
        }
        match peers.iter().find(|p| !(p.ms_per_step.is_finite() && p.ms_per_step > 0.0)) {
            Some(p) => Err(Error::data(path, format!("ms_per_step must be above 0, got {}", p.ms_per_step))),
            None => Ok(peers),
        }
    }

    /// Whether it is of the same step.
    pub fn is_of(&self, step: &StepResult) -> bool {
        self.is(&step.model, step.batch)
    }

    /// Whether it is of `model`, with a batch of that size.
    pub fn is(&self, model: &str, batch: usize) -> bool {
        self.model == model && self.batch == batch
    }

    pub fn result(&self) -> PeerResult {
        PeerResult { name: self.peer.clone(), ms_per_step: self.ms_per_step }
    }
}

impl KernelResult {
    /// Key by which results of adapters are matched.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.op, &self.kernel, &self.case)
    }
}

impl StepResult {
    /// A measured step without peers.
    pub(crate) fn new(work: Work, model: String, batch: usize, replicas: usize, time: Time) -> StepResult {
        StepResult {
            work,
            model,
            batch,
            replicas,
            ms_per_step: time.seconds * 1e3,
            sampling: Some(time.sampling),
            clips_per_s: (batch * replicas) as f64 / time.seconds,
            peers: vec![],
            profile: None,
        }
    }

    pub(crate) fn fastest_peer(&self) -> Option<&PeerResult> {
        fastest(&self.peers)
    }

    /// Key by which results of adapters are matched.
    pub fn key(&self) -> (&str, usize, usize) {
        (&self.model, self.batch, self.replicas)
    }
}

impl BenchReport {
    /// Reads and validates a benchmark file.
    pub fn load(path: &Path) -> Result<Self> {
        BenchReport::parse(path, &read_limited(path, MAX_BYTES)?)
    }

    /// As [`BenchReport::load`], of the content of the file `path`.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let report: BenchReport = parsed(path, bytes)?;
        report.validate().map_err(|reason| Error::data(path, one_line(&reason)))?;
        Ok(report)
    }

    /// Adds these results to `earlier` ones of the same adapter. What both have is replaced, and shares are relative to
    /// the better peak.
    ///
    /// # Errors
    /// `Usage` if `earlier` is of another adapter, driver or version.
    pub fn after(self, earlier: BenchReport) -> Result<BenchReport> {
        let who = |r: &BenchReport| (r.adapter.clone(), r.precision, r.wmic_version.clone());
        if who(&self) != who(&earlier) {
            let AdapterInfo { name, driver, .. } = &earlier.adapter;
            let (precision, version) = (earlier.precision, &earlier.wmic_version);
            let of = format!("{name}, driver {driver}, in {precision}, by wmic {version}");
            return Err(Error::Usage(format!("cannot add to results of {of}: name another file")));
        }
        let peak = self.peak.best(earlier.peak);
        let (mut kernels, mut steps) = (earlier.kernels, earlier.steps);
        kernels.retain(|k| self.kernels.iter().all(|new| new.key() != k.key()));
        kernels.extend(self.kernels);
        kernels.iter_mut().for_each(|k| k.share_of_peak = peak.share(k.gflops, k.gbs));
        for mut step in self.steps {
            // Another program's times and a profile stay where they were not measured again.
            if let Some(at) = steps.iter().position(|old| old.key() == step.key()) {
                let old = steps.remove(at);
                step.profile = step.profile.or(old.profile);
                if step.peers.is_empty() {
                    step.peers = old.peers;
                }
            }
            steps.push(step);
        }
        let load = [self.load, earlier.load].into_iter().flatten().reduce(f64::max);
        Ok(BenchReport { peak, kernels, steps, load, ..self })
    }

    /// Writes the file atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
        text.push('\n');
        write_atomic(path, |out| out.write_all(text.as_bytes()))
    }

    /// Validates: names are printable, measurements are positive, no result is listed twice.
    fn validate(&self) -> Result<(), String> {
        if let Some(text) = self.texts().find(|t| t.len() > 200 || t.contains(char::is_control)) {
            return Err(format!("{text:?} is not a name of at most 200 printable bytes"));
        }
        let positive = |value: f64, what: &str| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(format!("{what} is {value}, expected a positive number"))
            }
        };
        let not_negative = |value: f64, what: &str| {
            if value >= 0.0 { Ok(()) } else { Err(format!("{what} is {value}, expected 0 or more")) }
        };
        if self.kernels.len() + self.steps.len() > MAX_RESULTS {
            return Err(format!("lists more than {MAX_RESULTS} results"));
        }
        positive(self.peak.f32_gflops, "peak.f32_gflops")?;
        positive(self.peak.matrix_gflops.unwrap_or(1.0), "peak.matrix_gflops")?;
        positive(self.peak.bandwidth_gbs, "peak.bandwidth_gbs")?;
        positive(self.peak.launch_us.unwrap_or(1.0), "peak.launch_us")?;
        if let Some(text) = self.warnings.iter().find(|t| t.len() > 1000 || t.contains(char::is_control)) {
            return Err(format!("{text:?} is not a warning of at most 1000 printable bytes"));
        }
        not_negative(self.load.unwrap_or(0.0), "load")?;
        let sampled = |sampling: Option<Sampling>, what: &str| {
            sampling.map_or(Ok(()), |s| not_negative(s.spread, &format!("spread of {what}")))
        };
        let (mut kernels, mut steps) = (HashSet::new(), HashSet::new());
        for k in &self.kernels {
            let name = format!("kernel {} ({})", k.kernel, k.case);
            positive(k.time_us, &format!("time_us of {name}"))?;
            sampled(k.sampling, &name)?;
            not_negative(k.gflops, &format!("gflops of {name}"))?;
            not_negative(k.gbs, &format!("gbs of {name}"))?;
            not_negative(k.share_of_peak, &format!("share_of_peak of {name}"))?;
            if !kernels.insert(k.key()) {
                return Err(format!("{name} is listed twice"));
            }
        }
        for s in &self.steps {
            let name = format!("step {} (batch {}, {} replicas)", s.model, s.batch, s.replicas);
            positive(s.ms_per_step, &format!("ms_per_step of {name}"))?;
            positive(s.clips_per_s, &format!("clips_per_s of {name}"))?;
            sampled(s.sampling, &name)?;
            for peer in &s.peers {
                positive(peer.ms_per_step, &format!("ms_per_step of the peer of {name}"))?;
            }
            for k in s.profile.iter().flat_map(|p| &p.kernels) {
                positive(k.ms, &format!("ms of {} of {name}", k.kernel))?;
                sampled(Some(k.sampling), &k.kernel)?;
            }
            if !steps.insert(s.key()) {
                return Err(format!("{name} is listed twice"));
            }
        }
        Ok(())
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let (a, h) = (&self.adapter, &self.host);
        let about = [&self.wmic_version, &self.date, &a.name, &a.vendor, &a.backend, &a.driver, &a.kind, &h.os, &h.cpu];
        let kernels = self.kernels.iter().flat_map(|k| [&k.op, &k.kernel, &k.case]);
        let models = self.steps.iter().map(|s| &s.model);
        let peers = self.steps.iter().flat_map(|s| &s.peers).map(|p| &p.name);
        let profiles = self.steps.iter().filter_map(|s| s.profile.as_ref());
        let profiled = profiles.flat_map(|p| &p.kernels).map(|k| &k.kernel);
        about.into_iter().chain(kernels).chain(models).chain(peers).chain(profiled).map(String::as_str)
    }
}

/// Parses the content of the file `path`.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::data_at(path, e.line() as u64, format!("not a benchmark file of wmic: {}", one_line(&e.to_string())))
    })
}

/// A message built from an untrusted file as one short, printable line.
pub(super) fn one_line(message: &str) -> String {
    let mut line: String = crate::report::tables::table::printable(message).chars().take(200).collect();
    if line.len() < message.len() {
        line.push('…');
    }
    line
}
