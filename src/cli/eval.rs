//! `wmic eval`

use std::path::PathBuf;

use super::clips::load_clips;
use super::common::print_evaluation;
use super::common::{Device, Status};
use super::output::note;
use super::settings::{WEIGHTS, help_of, help_of_run, in_options, variant};
use wmic::data::FeatureScale;
use wmic::features::front_end::Source;
use wmic::gpu::Precision;
use wmic::metrics::thresholds::Threshold;
use wmic::predict::run_evaluation::RunEvaluation;
use wmic::predict::trained::Split;
use wmic::run::clips::Labels;
use wmic::run::run_dir::RunDir;

/// Evaluate a run on a split of a dataset: every seed, their ensemble, each class
#[derive(clap::Args)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Dataset with the classes the run was trained on, as for `wmic train`
    dataset: PathBuf,
    #[arg(long, value_name = "FILE.npz", help = help_of("features"))]
    features: Option<PathBuf>,
    #[arg(long, value_parser = variant::<FeatureScale>(), help = help_of_run("feature_scale"))]
    feature_scale: Option<FeatureScale>,
    #[arg(long, value_name = WEIGHTS, help = help_of_run("front_end.weights"))]
    frontend_weights: Option<Source>,
    /// Split to score: test, val and train (each seed's own), or all clips
    #[arg(long, value_parser = variant::<Split>(), default_value = "test")]
    split: Split,
    /// Score clips even if the run may have been trained on them: another dataset, other features, or all clips of its
    /// own
    #[arg(long)]
    force: bool,
    #[arg(long, value_name = "P|tuned|precision:P", help = help_of_run("threshold"))]
    threshold: Option<Threshold>,
    /// Precision of the operands of matrix products and convolutions [default: that of the run, f32 or f16]
    #[arg(long, value_parser = variant::<Precision>())]
    arithmetic: Option<Precision>,
    #[command(flatten)]
    device: Device,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let run = RunDir::open(&self.run)?;
        let evaluation = RunEvaluation {
            dataset: self.dataset,
            features: self.features,
            feature_scale: self.feature_scale,
            front_end: self.frontend_weights,
            split: self.split,
            threshold: self.threshold,
            precision: self.arithmetic,
            force: self.force,
        };
        let gpu = self.device.open()?;
        let mut load = |config: &mut _| load_clips(&gpu, config, Labels::Any);
        let evaluation = evaluation.of(&gpu, &run, &mut load, &mut |line| note(&in_options(line.into())))?;
        let Some(evaluation) = evaluation else { return Ok(Status::Interrupted) };
        print_evaluation(&evaluation, self.json)?;
        Ok(Status::Done)
    }
}
