//! `wmic eval`

use std::path::PathBuf;

use super::clips::load_clips;
use super::common::print_evaluation;
use super::common::{Device, Status};
use super::output::note;
use super::settings::{WEIGHTS, help_of, help_of_run, variant};
use wmic::Error;
use wmic::data::FeatureScale;
use wmic::features::front_end::Source;
use wmic::gpu::Precision;
use wmic::metrics::thresholds::Threshold;
use wmic::predict::evaluator::overlap_with_training;
use wmic::predict::trained::{Split, Trained};
use wmic::run::clips::Labels;
use wmic::run::config::Config;
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
        let mut trained = Trained::load(&run)?;
        if let Some(weights) = &self.frontend_weights {
            trained.config.locate_front_end(weights, None, None)?;
        }
        self.threshold.map_or(Ok(()), |level| trained.set_threshold(level))?;
        trained.config.precision = self.arithmetic.unwrap_or(trained.config.precision);
        let gpu = self.device.open()?;
        // Test clips do not depend on them.
        let val_keys = trained.config.val_keys.clone().filter(|_| matches!(self.split, Split::Val | Split::Train));
        let mut config = Config { dataset: self.dataset, features: self.features, val_keys, ..trained.config.clone() };
        // Only training uses them.
        config.times = None;
        config.feature_scale = self.feature_scale.or(config.feature_scale);
        let Some(mut data) = load_clips(&gpu, &mut config, Labels::Any)? else { return Ok(Status::Interrupted) };
        let trained_on = run.record()?.run;
        let restores = data.validation.is_some() && run.has_split_table();
        let unknown = run.restore_splits(&mut data)?;
        if unknown > 0 {
            note(&format!("warning: {unknown} clips are not in the run's splits.csv; only --split all includes them"));
        }
        match overlap_with_training(&trained_on, &data, restores, self.split) {
            Some(why) if !self.force => {
                let why = format!("{why}, and the scores would be too high; --force scores them anyway");
                return Err(Error::data(&data.path, why).into());
            }
            Some(why) => note(&format!("warning: {why}: the scores may be too high")),
            None if self.split == Split::Train => note("these are the clips that the run was trained on"),
            None => {}
        }
        print_evaluation(&trained.evaluate(&gpu, &data, self.split)?, self.json)?;
        Ok(Status::Done)
    }
}
