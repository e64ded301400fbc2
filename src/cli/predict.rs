//! `wmic predict`

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::output::{print, print_json};
use super::{Device, Verdict};
use wmic::Error;
use wmic::data::{Dataset, Features, load_features};
use wmic::gpu::Gpu;
use wmic::report::Look;
use wmic::report::table::{Align, Table, bar, printable};
use wmic::train::metrics::std_dev;
use wmic::train::predictor::Predictions;
use wmic::train::weights::About;
use wmic::train::{RunDir, Trained};

/// Say which instruments are in clips: ensemble mean and spread of the seeds, and where attention looks
#[derive(clap::Args)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Folder in OpenMIC-2018's layout, or an .npz with X (N, T, 128) and optionally sample_key
    #[arg(value_name = "DATASET|FEATURES.npz")]
    features: PathBuf,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Add each instance's share of the attention (models with attention)
    #[arg(long)]
    attention: bool,
    /// Instruments shown per clip in the table
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    #[command(flatten)]
    device: Device,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The likeliest instruments of each clip
    Table,
    /// One object with every probability
    Json,
    /// A row per clip and instrument
    Csv,
}

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    classes: &'a [String],
    seeds: &'a [u64],
    clips: Vec<Clip<'a>>,
}

#[derive(Serialize)]
struct Clip<'a> {
    key: &'a str,
    probabilities: BTreeMap<&'a str, Probability>,
    /// Mean over the seeds; one weight per instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<BTreeMap<&'a str, Vec<f32>>>,
}

#[derive(Clone, Copy, Serialize)]
struct Probability {
    mean: f32,
    /// Sample standard deviation over the seeds; null for one seed.
    std: Option<f32>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trained = Trained::load(&RunDir::open(&self.run)?)?;
        let (keys, features) = load_features(&self.features)?;
        let gpu = self.device.open()?;
        let predictions = trained.predict(&gpu, &features)?;
        if self.attention && predictions.instances.is_none() {
            return Err(Error::Usage(format!("{} has no attention; leave out --attention", trained.about.model)).into());
        }
        let all: Vec<usize> = (0..keys.len()).collect();
        let answer = answer(&trained, &predictions, &keys, &features, &all, self.attention);
        match self.format {
            Format::Json => print_json(&answer)?,
            Format::Csv => csv(&answer)?,
            Format::Table => table(&answer, self.top)?,
        }
        Ok(Verdict::Done)
    }
}

/// Prints what a run says about some clips of a dataset, with attention. For `wmic demo`.
pub fn show(gpu: &Gpu, run: &RunDir, data: &Dataset, clips: &[usize]) -> anyhow::Result<()> {
    let trained = Trained::load(run)?;
    let predictions = trained.predict(gpu, &data.features)?;
    table(&answer(&trained, &predictions, &data.keys, &data.features, clips, true), 4)
}

fn answer<'a>(
    trained: &'a Trained,
    predictions: &Predictions,
    keys: &'a [String],
    features: &Features,
    clips: &[usize],
    attention: bool,
) -> Answer<'a> {
    let About { model, classes, seeds, .. } = &trained.about;
    let named = || classes.iter().map(String::as_str).enumerate();
    let clip = |&i: &usize| Clip {
        key: &keys[i],
        probabilities: named().map(|(k, name)| (name, probability(predictions, i, k))).collect(),
        attention: attention.then(|| {
            let length = features.lengths[i] as usize;
            named().map(|(k, name)| (name, weights(predictions, i, k, length))).collect()
        }),
    };
    Answer { model, classes, seeds, clips: clips.iter().map(clip).collect() }
}

fn probability(p: &Predictions, clip: usize, class: usize) -> Probability {
    let values = || p.probabilities.iter().map(|p| Some(f64::from(p.row(clip)[class])));
    let mean = values().flatten().sum::<f64>() / p.probabilities.len() as f64;
    Probability { mean: mean as f32, std: std_dev(values()).map(|s| s as f32) }
}

/// Attention of the valid instances, averaged over the seeds.
fn weights(p: &Predictions, clip: usize, class: usize, length: usize) -> Vec<f32> {
    let seeds = &p.instances.as_ref().expect("checked before").attention;
    let instances = seeds[0].dims()[1];
    let at = |t: usize| seeds.iter().map(|a| a.row(clip * instances + t)[class]).sum::<f32>() / seeds.len() as f32;
    (0..length).map(at).collect()
}

fn csv(answer: &Answer) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(std::io::stdout().lock());
    let longest =
        answer.clips.iter().filter_map(|c| c.attention.as_ref()?.values().map(Vec::len).max()).max().unwrap_or(0);
    let mut header = vec!["key".to_owned(), "instrument".into(), "mean".into(), "std".into()];
    header.extend((0..longest).map(|t| format!("attention_{t}")));
    out.write_record(&header)?;
    for clip in &answer.clips {
        for name in answer.classes {
            let p = clip.probabilities[name.as_str()];
            let mut row = vec![clip.key.to_owned(), name.clone(), p.mean.to_string()];
            row.push(p.std.map(|s| s.to_string()).unwrap_or_default());
            let weights = clip.attention.as_ref().map(|a| a[name.as_str()].as_slice()).unwrap_or(&[]);
            row.extend((0..longest).map(|t| weights.get(t).map(|w| w.to_string()).unwrap_or_default()));
            out.write_record(&row)?;
        }
    }
    Ok(out.flush()?)
}

fn table(answer: &Answer, top: usize) -> anyhow::Result<()> {
    let with_attention = answer.clips.iter().any(|c| c.attention.is_some());
    let mut columns = vec![("clip", Align::Left), ("instrument", Align::Left), ("", Align::Left), ("p", Align::Right)];
    columns.push(("±", Align::Right));
    if with_attention {
        columns.push(("attention", Align::Left));
    }
    let mut table = Table::new(columns);
    for clip in &answer.clips {
        let mut ranked: Vec<(&str, Probability)> = clip.probabilities.iter().map(|(n, p)| (*n, *p)).collect();
        ranked.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
        for (i, (name, p)) in ranked.into_iter().take(top).enumerate() {
            let key = if i == 0 { printable(clip.key) } else { String::new() };
            let spread = p.std.map(|s| format!("{s:.2}")).unwrap_or_default();
            let mut row = vec![key, name.to_owned(), bar(p.mean.into(), 12), format!("{:.2}", p.mean), spread];
            if let Some(attention) = &clip.attention {
                row.push(sparkline(&attention[name]));
            }
            table.row(row);
        }
    }
    print(&table.render(Look::of_stdout()))
}

/// A block per instance, as high as its share of the attention.
fn sparkline(weights: &[f32]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = weights.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    weights.iter().map(|w| BLOCKS[((w / most * 7.0).round() as usize).min(7)]).collect()
}
