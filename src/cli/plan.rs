//! `wmic plan`

use std::path::PathBuf;

use super::common::{Device, Status, kept_tuning};
use super::output::{note, print, print_json};
use super::settings::{SeedArgs, SettingArgs, in_options, models, of_run};
use wmic::core::files::absolute;
use wmic::core::numbers;
use wmic::gpu::{Gpu, Target, Tuned};
use wmic::report::tables::table::{Align, Style, Table, printable};
use wmic::run::config::Config;
use wmic::run::tuning::Tuning;
use wmic::train::outline::{Extent, ForestOutline, Outline};

/// Show the dispatches, memory and work of a training run without running it
///
/// It takes every option of `wmic train`, also those that change nothing here, so that its command line can be planned
/// as it is.
#[derive(clap::Args)]
#[command(mut_args(of_run))]
pub struct Args {
    /// Dataset, as for `wmic train`
    dataset: PathBuf,
    /// Architecture
    #[arg(long, default_value = "att", value_parser = models(), help_heading = "Model")]
    model: String,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Number of classes, instead of the dataset's
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(2..=100_000))]
    classes: Option<u64>,
    /// With the kernels of any GPU, where this adapter has its own; limits of memory are still this adapter's
    #[arg(long)]
    portable: bool,
    #[command(flatten)]
    device: Device,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let mut config = Config::of(&self.model, absolute(&self.dataset)?)?;
        config = self.settings.given.apply_to(&config)?;
        self.seeds.overlay(&mut config);
        config.validate()?;
        let gpu = self.device.open()?;
        let mut extent = Extent::of(&gpu, &mut config)?;
        extent.warnings.iter().for_each(|line| note(&printable(&format!("warning: {line}"))));
        extent.dims.classes = self.classes.map_or(extent.dims.classes, |k| k as usize);
        if config.model()?.is_forest() {
            let outline = ForestOutline::of(&config, extent.dims);
            if self.json { print_json(&outline)? } else { print(&forest_table(outline))? }
        } else {
            config.tuning = kept_tuning(&gpu).filter(|_| !self.portable);
            let mut kernels = Tuning::kernels(config.tuning.as_ref(), gpu.adapter(), config.precision)?;
            if self.portable {
                kernels.target = Target::PORTABLE.with(config.precision);
            }
            show(&gpu, kernels, &config, &extent, self.json)?;
        }
        Ok(Status::Done)
    }
}

/// Prints what a run of a network takes.
pub fn show(gpu: &Gpu, kernels: Tuned, config: &Config, extent: &Extent, json: bool) -> anyhow::Result<()> {
    let outline = Outline::of(gpu, kernels, config, extent)?;
    if let Some(limit) = &outline.limit {
        note(&in_options(format!("warning: {} cannot run it: {limit}", gpu.adapter().name)));
    }
    if json {
        print_json(&outline)?
    } else {
        print(&tables(outline))?
    }
    Ok(())
}

fn forest_table(o: ForestOutline) -> String {
    let mut table = Table::new([("", Align::Left), ("", Align::Right)]);
    table.row(["model".to_owned(), o.model]);
    for (name, value) in [
        ("seeds", o.seeds),
        ("forests per seed (one per class)", o.forests_per_seed),
        ("trees per forest", o.trees_per_forest),
        ("maximum depth", o.splits_to_a_leaf),
        ("features tried per split", o.features_per_split),
        ("threads on the CPU", o.threads),
    ] {
        table.row([name.to_owned(), value.to_string()]);
    }
    table.render(Style::of_stdout())
}

fn tables(o: Outline) -> String {
    let mut table = Table::new([("", Align::Left), ("", Align::Right)]);
    let mut row = |name: &str, value: String| {
        table.row([name.to_owned(), value]);
    };
    row("model", o.model);
    row("seeds side by side", o.seeds.to_string());
    row("parameters per seed", numbers::count(o.parameters_per_seed as u64));
    row("batch size in clips", o.batch.to_string());
    row("steps per epoch", o.steps_per_epoch.to_string());
    row("dispatches per step: forward", o.dispatches_forward.to_string());
    row("dispatches per step: backward", o.dispatches_backward.to_string());
    row("dispatches per step: update", o.dispatches_update.to_string());
    row("barriers: forward and backward", o.barriers.to_string());
    row("dispatches per validation step", o.dispatches_validation.to_string());
    row("memory: dataset", numbers::bytes(o.memory_data));
    row("memory: parameters, gradients, moments, best", numbers::bytes(o.memory_parameters));
    row("memory: activations", numbers::bytes(o.memory_activations));
    row("memory: activations without reuse", numbers::bytes(o.memory_activations_unshared));
    row("work of a forward pass", numbers::si(o.forward_flops, "FLOP"));
    let mut kernels = Table::new([("kernel", Align::Left), ("calls per step", Align::Right)]);
    for (name, calls) in o.kernels {
        kernels.row([name.to_owned(), calls.to_string()]);
    }
    table.render(Style::of_stdout()) + &kernels.render(Style::of_stdout())
}
