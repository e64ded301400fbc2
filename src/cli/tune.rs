//! `wmic tune`: which tiles of matrix products are the fastest on this adapter.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use serde::Serialize;
use wmic::bench::Timer;
use wmic::bench::tune::{Measured, choices, example_graphs, graphs, tune};
use wmic::core::error::excess;
use wmic::core::files::absolute;
use wmic::core::numbers::{duration, percent};
use wmic::gpu::{Gpu, Tilings};
use wmic::nn::{MODELS, find};
use wmic::report::tables::table::{Align, Style, Table};
use wmic::run::config::Config;
use wmic::run::tuning::Tuning;
use wmic::train::outline::Extent;
use wmic::{Error, Result};

use super::common::{Device, Status};
use super::output::{Progress, note, print, print_json};
use super::settings::{SettingArgs, of_run};

/// Measure which tiles of matrix products are the fastest on this adapter, and keep the choice for later runs
///
/// For each matrix product of a training step and of a prediction, tiles of 32, 64 and 128 rows and columns are tried,
/// sums of gradients also in fewer slices; what is faster than the default by more than 3 % and more than the times
/// spread is kept in the user's cache folder, for this adapter and driver. Tiles change the order of sums and so the
/// last bits of results: a run records those that it uses in run.toml, and keeps them when it is resumed.
#[derive(clap::Args)]
#[command(mut_args(of_run))]
pub struct Args {
    /// Tune for training on this dataset, as for `wmic train` [default: for clips as long as OpenMIC-2018's]
    #[arg(conflicts_with_all = ["status", "clear"])]
    dataset: Option<PathBuf>,
    /// Architecture [default: with a dataset att, without one all networks]
    #[arg(long, value_name = "NAME", value_parser = networks(), help_heading = "Model")]
    #[arg(conflicts_with_all = ["status", "clear"])]
    model: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    device: Device,
    /// Time each tiling for about 20 ms instead of 0.4 s
    #[arg(long)]
    quick: bool,
    /// Show what is kept for this adapter instead of measuring
    #[arg(long, conflicts_with = "clear")]
    status: bool,
    /// Forget what is kept for this adapter
    #[arg(long)]
    clear: bool,
    /// Print JSON: {device, driver, file, kept: {problem: tiling}, products: [{problem, default, chosen, ...}]}
    #[arg(long)]
    json: bool,
}

fn networks() -> PossibleValuesParser {
    PossibleValuesParser::new(MODELS.iter().filter(|model| !model.is_forest()).map(|model| model.name))
}

#[derive(Serialize)]
struct Answer {
    device: String,
    driver: String,
    file: Option<PathBuf>,
    /// All choices for this adapter.
    kept: Tilings,
    /// What was measured now.
    products: Vec<Measured>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let gpu = self.device.open()?;
        let adapter = gpu.adapter();
        if self.clear {
            let had = Tuning::clear(adapter)?;
            let what = if had { "the tiles of" } else { "no tiles are kept for" };
            note(&format!("{what} {}{}", adapter.name, if had { " are the default again" } else { "" }));
            return self.answer(&gpu, &Tuning::none(adapter), vec![]);
        }
        if self.status {
            return self.answer(&gpu, &Tuning::kept(adapter)?, vec![]);
        }
        Tuning::writable(adapter)?;
        // A damaged file is replaced.
        let replaced = |error| note(&format!("warning: {error}; it is replaced"));
        let mut kept = Tuning::kept(adapter).map_err(replaced).unwrap_or_else(|_| Tuning::none(adapter));
        let measured = self.measure(&gpu)?;
        kept.tiles.0.retain(|problem, _| measured.iter().all(|of| of.problem != *problem));
        kept.tiles.0.extend(choices(&measured).0);
        kept.keep(adapter)?;
        self.answer(&gpu, &kept, measured)
    }

    fn measure(&self, gpu: &Gpu) -> Result<Vec<Measured>> {
        let timer = if self.quick { Timer::quick(gpu) } else { Timer::new(gpu) };
        let all = match (&self.dataset, &self.model) {
            (Some(dataset), model) => {
                let config = Config::of(model.as_deref().unwrap_or("att"), absolute(dataset)?)?;
                let mut config = self.settings.given.apply_to(&config)?;
                config.validate()?;
                let extent = Extent::of(gpu, &mut config)?;
                vec![(graphs(&config, &extent)?, config.precision)]
            }
            (None, Some(model)) => vec![example_graphs(gpu, find(model)?, &self.settings.given)?],
            (None, None) => {
                let models = MODELS.iter().filter(|model| !model.is_forest());
                models.map(|model| example_graphs(gpu, model, &self.settings.given)).collect::<Result<_>>()?
            }
        };
        let (mut measured, progress) = (vec![], Progress::new(all.len()));
        for (graphs, precision) in &all {
            progress.next("measuring");
            let result = tune(&timer, graphs, *precision, &mut measured, &mut |of| {
                progress.message(&of.problem);
                Ok(())
            });
            match result {
                // Another model may fit.
                Err(Error::Limit { what, unit, need, have, .. }) if all.len() > 1 => {
                    note(&format!("skipped: {}", excess(&what, unit, need, have)));
                }
                result => result?,
            }
        }
        Ok(measured)
    }

    fn answer(&self, gpu: &Gpu, kept: &Tuning, products: Vec<Measured>) -> anyhow::Result<Status> {
        let (adapter, file) = (gpu.adapter(), Tuning::file(gpu.adapter()).filter(|file| file.is_file()));
        if self.json {
            let (device, driver) = (adapter.name.clone(), adapter.driver.clone());
            print_json(&Answer { device, driver, file, kept: kept.tiles.clone(), products })?;
        } else if self.status {
            print(&status(kept))?;
        } else if !self.clear {
            print(&table(&products))?;
            let (faster, count) = (products.iter().filter(|of| of.chosen != of.default).count(), products.len());
            let file = file.map(|file| format!(", kept in {}", file.display())).unwrap_or_default();
            print(&format!(
                "{faster} of {count} products have other tiles than by default on {}{file}\n",
                adapter.name
            ))?;
        }
        Ok(Status::Done)
    }
}

fn table(products: &[Measured]) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new([
        ("product (rows x columns x terms)", left),
        ("default", right),
        ("chosen", right),
        ("default time", right),
        ("chosen time", right),
        ("ratio", right),
        ("spread", right),
    ]);
    for of in products {
        table.row([
            of.problem.clone(),
            Measured::name(of.default),
            Measured::name(of.chosen),
            duration(of.default_us * 1e-6),
            duration(of.chosen_us * 1e-6),
            format!("{:.2}", of.ratio()),
            percent(of.spread),
        ]);
    }
    table.render(Style::of_stdout())
}

fn status(kept: &Tuning) -> String {
    if kept.tiles.0.is_empty() {
        return format!("no tiles are kept for {}: the default ones are used\n", kept.adapter);
    }
    let mut table = Table::new([("product (rows x columns x terms)", Align::Left), ("tiles", Align::Right)]);
    for (problem, tiling) in &kept.tiles.0 {
        table.row([problem.clone(), tiling.to_string()]);
    }
    table.render(Style::of_stdout())
}
