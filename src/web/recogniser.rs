//! A recogniser as data: the plans of its front ends and models, and the numbers with which a page does the rest as
//! [`Recogniser`](crate::Recogniser) does.

use serde_json::{Value, json};

use super::pack::{Bound, Pack, Precision, unsupported};
use crate::audio::Level;
use crate::core::error::Result;
use crate::features::device_dataset::Dims;
use crate::features::extractor;
use crate::features::feature_config::FeatureConfig;
use crate::features::spectrum;
use crate::features::weights::Weights;
use crate::gpu::Target;
use crate::graph::Draft;
use crate::metrics::scores::Task;
use crate::nn;
use crate::nn::front_ends::kind::{FeatureKind, Output, SpectrogramFrames};
use crate::ops::gather::Encoding;
use crate::predict::clips::accept;
use crate::predict::domain::MAX_INSTANCES;
use crate::predict::mixture::Mixture;
use crate::predict::predictor::{self, Detail};
use crate::predict::recogniser::Options;
use crate::predict::trained::{Trained, TrainedModel};
use crate::run::network::{FROZEN, frozen_weights};

/// Everything but the contents of `pack`.
///
/// # Errors
/// `Usage` for models that a page cannot replay: forests, single-label ones and those of single notes; and the errors
/// of [`Recogniser::new`](crate::Recogniser::new).
pub(super) fn describe(mixture: Mixture, options: &Options, pack: &mut Pack) -> Result<Value> {
    let (name, classes) = (mixture.name.clone(), mixture.leader().about.classes.clone());
    if let Some(Trained { about, .. }) = mixture.models().find(|trained| trained.feature_config().is_err()) {
        return Err(unsupported(&format!("{} does not record the front end of its features", about.model)));
    }
    let (models, combinations) = mixture.split()?;
    let streams = models.iter().map(|models| stream(models, options, pack)).collect::<Result<Vec<_>>>()?;
    let segmentation = options.segmentation;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": name,
        "classes": classes,
        "thresholds": combinations.thresholds(),
        "streams": streams,
        "combinations": combinations,
        "gate": options.gate(),
        "aggregate": options.aggregate,
        "keep_unreliable": options.keep_unreliable,
        "min_duration": segmentation.min_duration,
        "median": segmentation.median,
    }))
}

/// Models with the same features.
fn stream(models: &[Trained], options: &Options, pack: &mut Pack) -> Result<Value> {
    for trained in models {
        options.check(trained)?;
        let (name, kind) = (&trained.about.model, trained.config.kind()?);
        if matches!(trained.model, TrainedModel::Forest(_)) {
            return Err(unsupported(&format!("{name} is a forest, which runs on the CPU")));
        }
        if kind.is_single_note() || kind.row().part.is_none() || trained.task()? != Task::MultiLabel {
            return Err(unsupported(&format!("{name} is a single-label model, or one of single notes")));
        }
    }
    let mut config = models[0].feature_config()?;
    let kind = config.kind;
    let (row, shown) = (kind.row(), kind.spectrogram());
    let weights = if row.weights.is_none() { None } else { config.load()? };
    let of_spectrum = models.iter().any(|model| model.domain.as_ref().is_some_and(|domain| domain.of_spectrum));
    let post = post_process(&config, weights.as_ref())?;
    let extractors = extractors(&config, weights.as_ref(), of_spectrum, pack)?;
    let encoding = if config.is_in_bytes() { Encoding::Bytes } else { Encoding::Floats };
    let (samples, width) = (kind.samples(), config.instance_len());
    let instances = kind.instances(samples);
    let dims = Dims {
        clips: 1,
        instances,
        stored: instances,
        width,
        classes: models[0].about.classes.len(),
        encoding: encoding.of_clips(instances * width),
        slots: 1,
        strong: false,
    };
    let level = match kind.format().level {
        Level::Original => json!("original"),
        Level::Peak => json!("peak"),
        Level::Rms(level) => json!(level),
    };
    let spectrum = of_spectrum.then(|| {
        json!({
            "bands": shown.bands,
            "offset": shown.offset,
            "frames": least_samples(shown.frames, samples),
            "per_instance": row.seconds / shown.hop,
            "group": shown.bands.div_ceil(spectrum::width(shown.bands) / 2),
        })
    });
    let knows_noise = models.iter().all(|model| model.domain.is_none());
    let models = models.iter().map(|trained| model(trained, kind, dims, pack)).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "kind": kind.name(),
        "sr": kind.format().sr,
        "level": level,
        "window": kind.window(),
        "hop": options.hop(kind),
        "part": row.part,
        "part_seconds": kind.part_seconds(),
        "instances": least_samples(row.instances, samples),
        "width": width,
        "packed": dims.encoding == Encoding::Bytes,
        "skips_noise": knows_noise && !options.keep_unreliable,
        "extractors": extractors,
        "post": post,
        "spectrum": spectrum,
        "models": models,
    }))
}

/// For each number of frames or instances, from 1 on, the fewest samples that have so many, up to `samples`.
fn least_samples(count: fn(usize) -> usize, samples: usize) -> Vec<usize> {
    let least = |wanted: usize| {
        let (mut below, mut enough) = (0, samples);
        while enough - below > 1 {
            let middle = below.midpoint(enough);
            if count(middle) >= wanted { enough = middle } else { below = middle }
        }
        enough
    };
    (1..=count(samples)).map(least).collect()
}

fn post_process(config: &FeatureConfig, weights: Option<&Weights>) -> Result<Value> {
    if let Some(post_process) = config.post_process(weights)? {
        return Ok(json!({ "pca": post_process }));
    }
    if !config.is_scaled() {
        return Ok(Value::Null);
    }
    let range = config.range();
    let range =
        range.ok_or_else(|| unsupported("the range of the embeddings that the model was trained on is lost"))?;
    Ok(json!({ "range": range }))
}

/// The plans for an excerpt of up to so many samples, rising.
fn extractors(
    config: &FeatureConfig,
    weights: Option<&Weights>,
    of_spectrum: bool,
    pack: &mut Pack,
) -> Result<Vec<Value>> {
    let kind = config.kind;
    let frames = if of_spectrum { SpectrogramFrames::Patches } else { SpectrogramFrames::None };
    let mut bound = Bound::new();
    if let (Some(weights), Some((_, prefix))) = (weights, kind.row().weights) {
        bind(weights, prefix, pack, &mut bound);
    }
    let mut lengths: Vec<usize> = vec![];
    let mut next = 1;
    while next <= kind.samples() {
        lengths.push(extractor::planned(kind, kind.samples(), next));
        next = lengths[lengths.len() - 1] + 1;
    }
    let plan = |samples: &usize| {
        let options = config.options(frames);
        let (draft, Output { features, spectrogram }) =
            extractor::draft(Target::PORTABLE, kind, options, [1, *samples])?;
        let plan = draft.data()?;
        let read: Vec<_> = [features].into_iter().chain(spectrogram).map(|tensor| plan.place(tensor)).collect();
        Ok(json!({ "samples": samples, "plan": pack.plan(&plan, &read, &bound) }))
    };
    lengths.iter().map(plan).collect()
}

fn bind(weights: &Weights, prefix: &str, pack: &mut Pack, bound: &mut Bound) {
    for (name, array) in weights.named(prefix) {
        bound.insert(name.clone(), pack.weights(array));
    }
}

/// The plan of a model for one excerpt, all seeds at once.
fn model(trained: &Trained, kind: FeatureKind, dims: Dims, pack: &mut Pack) -> Result<Value> {
    let TrainedModel::Network(network) = &trained.model else { unreachable!("checked before") };
    accept(&trained.about, dims.instances, dims.width)?;
    let model = nn::find(&trained.about.model)?;
    let mut bound = Bound::new();
    if let Some(weights) = frozen_weights(&trained.config)? {
        bind(&weights, FROZEN, pack, &mut bound);
    }
    let all = |of: fn(&crate::run::weights::Block) -> &[f32]| -> Vec<f32> {
        network.blocks.iter().flat_map(of).copied().collect()
    };
    let (params, stats) = (all(|block| &block.trained), all(|block| &block.stats));
    // Variances may be beyond what 16 bits hold.
    for (name, values, precision) in [("params", params, Precision::Half), ("stats", stats, Precision::Exact)] {
        bound.insert(name.into(), pack.content(bytemuck::cast_slice(&values), precision));
    }
    let (graph, outputs) = predictor::graph(&trained.config, dims, 1, Detail::Positions)?;
    let plan = Draft::new(&graph, Target::PORTABLE, network.blocks.len(), &outputs, &[])?.data()?;
    let read: Vec<_> = outputs.iter().map(|tensor| plan.place(*tensor)).collect();
    let [steps, bands] = model.positions;
    let instance = kind.instance(trained.config.settings(1).width);
    let rows = kind.row().part.unwrap_or(1) * instance.iter().rev().skip(1).product::<usize>();
    Ok(json!({
        "name": trained.about.model,
        "seeds": trained.about.seeds,
        "calibrations": trained.calibrations(),
        "attention": model.has_attention,
        "steps": steps,
        "bands": bands,
        "domain": trained.domain,
        // How clips are described for it: rows of an instance, and how many instances count.
        "rows": rows,
        "described": MAX_INSTANCES,
        "plan": pack.plan(&plan, &read, &bound),
    }))
}
