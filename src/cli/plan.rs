//! `wmic plan`

use std::path::PathBuf;

use serde::Serialize;

use super::clips::{Labels, audio_of, load_clips};
use super::output::{note, print, print_json};
use super::settings::{SeedArgs, SettingArgs, models};
use super::{Device, Status};
use wmic::data::validation_split;
use wmic::features::device_dataset::Dims;
use wmic::gpu::Gpu;
use wmic::ops::gather::Encoding;
use wmic::ops::sample::Order;
use wmic::predict::forest;
use wmic::report::numbers;
use wmic::report::tables::table::{Align, Style, Table};
use wmic::run::config::Config;
use wmic::run::front_end::Use;
use wmic::run::splits::Split;
use wmic::run::splits::splits;
use wmic::train::learner::Graphs;
use wmic::{Result, nn};

/// Show the dispatches, memory and work of a training run without running it
#[derive(clap::Args)]
pub struct Args {
    /// Dataset, as for `wmic train`
    dataset: PathBuf,
    /// Architecture
    #[arg(long, default_value = "att", value_parser = models())]
    model: String,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Number of classes, instead of the dataset's
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(2..=100_000))]
    classes: Option<u64>,
    #[command(flatten)]
    device: Device,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Sizes in bytes, work in floating-point operations, summed over all seeds.
#[derive(Serialize)]
struct Outline {
    model: String,
    seeds: usize,
    batch: usize,
    steps_per_epoch: usize,
    parameters_per_seed: usize,
    dispatches_forward: usize,
    dispatches_backward: usize,
    dispatches_update: usize,
    dispatches_validation: usize,
    memory_data: u64,
    memory_parameters: u64,
    memory_activations: u64,
    memory_activations_unshared: u64,
    forward_flops: f64,
    /// (kernel, calls per step)
    kernels: Vec<(&'static str, usize)>,
}

/// The plan of a forest.
#[derive(Serialize)]
struct ForestOutline {
    model: String,
    seeds: usize,
    forests_per_seed: usize,
    trees_per_forest: usize,
    splits_to_a_leaf: usize,
    features_per_split: usize,
    threads: usize,
}

impl ForestOutline {
    fn show(self, json: bool) -> anyhow::Result<Status> {
        if json {
            print_json(&self)?;
            return Ok(Status::Done);
        }
        let mut table = Table::new([("", Align::Left), ("", Align::Right)]);
        table.row(["model".to_owned(), self.model]);
        for (name, value) in [
            ("seeds", self.seeds),
            ("forests per seed (one per class)", self.forests_per_seed),
            ("trees per forest", self.trees_per_forest),
            ("maximum depth", self.splits_to_a_leaf),
            ("features tried per split", self.features_per_split),
            ("threads on the CPU", self.threads),
        ] {
            table.row([name.to_owned(), value.to_string()]);
        }
        print(&table.render(Style::of_stdout()))?;
        Ok(Status::Done)
    }
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let mut config = Config::of(&self.model, &self.dataset)?;
        config = self.settings.given.apply_to(&config)?;
        self.seeds.overlay(&mut config);
        config.validate()?;
        let gpu = self.device.open()?;
        let Some((mut dims, split)) = clips(&gpu, &mut config)? else { return Ok(Status::Interrupted) };
        dims.classes = self.classes.map_or(dims.classes, |k| k as usize);
        if nn::find(&config.model)?.is_forest() {
            let outline = ForestOutline {
                model: config.model,
                seeds: config.seeds.len(),
                forests_per_seed: dims.classes,
                trees_per_forest: forest::TREES,
                splits_to_a_leaf: forest::DEPTH,
                features_per_split: forest::features_per_split(dims.width),
                threads: forest::threads(),
            };
            return outline.show(self.json);
        }
        let graphs = Graphs::new(&config, dims, split.0.len(), split.1.len(), Order::Shuffled)?;
        let replicas = config.seeds.len();
        let [step, update, validation] = graphs.drafts(&gpu, replicas)?;

        let layout = graphs.step.layout();
        let (forward, backward) = step.dispatches();
        let (own, unshared) = step.memory();
        let floats = |n: usize| n as u64 * 4;
        let mut kernels: Vec<(&'static str, usize)> = vec![];
        for d in step.steps().iter().chain(update.steps()) {
            match kernels.iter_mut().find(|(name, _)| *name == d.entry) {
                Some((_, calls)) => *calls += 1,
                None => kernels.push((d.entry, 1)),
            }
        }
        let outline = Outline {
            model: config.model.clone(),
            seeds: replicas,
            batch: config.batch.min(split.0.len()),
            steps_per_epoch: split.0.len().div_ceil(config.batch.min(split.0.len())),
            parameters_per_seed: layout.count(),
            dispatches_forward: forward,
            dispatches_backward: backward,
            dispatches_update: update.dispatches().0,
            dispatches_validation: validation.dispatches().0,
            memory_data: dims.slots as u64 * dims.clip_bytes() + floats(dims.clips * (1 + dims.classes)),
            // Values, gradients, moments and the best so far; statistics and their best.
            memory_parameters: floats(
                replicas * ((3 + config.optimiser.moments()) * layout.trained + 2 * layout.stats),
            ),
            memory_activations: own + validation.memory().0,
            memory_activations_unshared: unshared + validation.memory().1,
            forward_flops: graphs.step.forward_cost().flops * replicas as f64,
            kernels,
        };
        if self.json {
            print_json(&outline)?;
            return Ok(Status::Done);
        }
        let o = outline;
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
        row("dispatches per validation step", o.dispatches_validation.to_string());
        row("memory: dataset", numbers::bytes(o.memory_data));
        row("memory: parameters, gradients, moments, best", numbers::bytes(o.memory_parameters));
        row("memory: activations", numbers::bytes(o.memory_activations));
        row("memory: activations without reuse", numbers::bytes(o.memory_activations_unshared));
        row("work of a forward pass", numbers::si(o.forward_flops, "FLOP"));
        print(&table.render(Style::of_stdout()))?;
        let mut table = Table::new([("kernel", Align::Left), ("calls per step", Align::Right)]);
        for (name, calls) in o.kernels {
            table.row([name.to_owned(), calls.to_string()]);
        }
        print(&table.render(Style::of_stdout()))?;
        Ok(Status::Done)
    }
}

/// The sizes of the dataset and its training and validation clips. For audio without extracted features, the sizes that
/// they will have; for single notes one second per file, since the true number is known only after decoding.
fn clips(gpu: &Gpu, config: &mut Config) -> Result<Option<(Dims, Split)>> {
    if let Some((set, recipe)) = audio_of(config)? {
        let (clips, classes) = (set.keys.len(), set.classes.len());
        let (instances, width) = (recipe.kind.instances(recipe.kind.samples()), recipe.instance_len());
        let narrow = if recipe.is_in_bytes() { Encoding::Bytes } else { Encoding::Halves };
        let encoding = narrow.of_clips(instances * width);
        let dims = Dims { clips, instances, width, classes, encoding, slots: clips };
        if recipe.kind.is_single_note() {
            note("one second per file is assumed; the true number is known after decoding");
        }
        let split = match config.val_fraction == 0.0 {
            true => (set.train.clone(), vec![]),
            false => validation_split(&set.train, config.val_fraction, 0)?,
        };
        return Ok(Some((dims.fitted(gpu.max_binding()), split)));
    }
    let Some(data) = load_clips(gpu, config, Labels::Required, Use::Training)? else { return Ok(None) };
    let dims = Dims::new(&data.features, data.classes.len(), gpu.max_binding());
    Ok(Some((dims, splits(config, &data)?.swap_remove(0))))
}
