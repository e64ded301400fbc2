//! What several commands share.

use super::output::{note, one_line, print, print_json};
use super::user_config::user;
use wmic::Error;
use wmic::gpu::Gpu;
use wmic::metrics::evaluation::Evaluation;
use wmic::report::tables::evaluation::{calibration, class_table, summary};
use wmic::report::tables::table::Style;
use wmic::run::tuning::Tuning;

/// How a command without an error ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Done,
    /// A check or a gate failed.
    Failed,
    /// By Ctrl-C; the state is saved.
    Interrupted,
}

/// Option for commands that run kernels.
#[derive(clap::Args, Default)]
pub struct Device {
    /// Adapter to use: its index in `wmic devices`, or a part of its name [default: the first discrete GPU, else
    /// integrated, virtual, software; or `device` in wmic.toml]
    #[arg(long, value_name = "NAME|INDEX")]
    device: Option<String>,
}

impl Device {
    pub fn open(&self) -> wmic::Result<Gpu> {
        match (&self.device, &user().device) {
            (Some(asked), _) => Gpu::open(Some(asked)),
            (None, Some(default)) => Gpu::open(Some(default)).map_err(|error| match error {
                Error::NoAdapter { .. } => {
                    Error::Usage(format!("{error}; the device is that of {}", user().file.display()))
                }
                other => other,
            }),
            (None, None) => Gpu::open(None),
        }
    }
}

/// The tilings that `wmic tune` keeps for the adapter, for new runs and predictions.
pub fn kept_tuning(gpu: &Gpu) -> Option<Tuning> {
    Tuning::usable(gpu.adapter(), &mut |line| note(&one_line(line)))
}

/// The per-class table and the summary line, or the JSON object.
pub fn print_evaluation(evaluation: &Evaluation, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(evaluation);
    }
    let calibration = calibration(evaluation).map(|line| format!("{line}\n")).unwrap_or_default();
    print(&format!("{}\n{}\n{calibration}", class_table(evaluation, Style::of_stdout()), summary(evaluation)))
}
