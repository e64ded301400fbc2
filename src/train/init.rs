//! Initial weights from a run, also of one on other classes.

use std::collections::HashMap;
use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::data::Dataset;
use crate::graph::Layout;
use crate::predict::predictor;
use crate::run::config::Config;
use crate::run::run_dir::RunDir;
use crate::run::weights::{Block, ModelFile};

/// `fresh`, the initial weights of each seed, with those of the run at `path`: all but the rows of classes that it does
/// not have. Seed i begins with the weights of the run's seed i; beyond the last one with those of the first again.
///
/// # Errors
/// `Checkpoint` for a run of another model, or one whose weights do not fit.
pub(super) fn of_run(
    path: &Path,
    config: &Config,
    data: &Dataset,
    layout: &Layout,
    mut fresh: Vec<Block>,
) -> Result<Vec<Block>> {
    let run = RunDir::open(path)?;
    let of_run = run.record()?.config;
    let fail = |reason: String| Err(Error::checkpoint(path, reason));
    if of_run.model != config.model {
        return fail(format!("is a run of {}; {} cannot start from it", of_run.model, config.model));
    }
    let fingerprint = |config: &Config| config.front_end.as_ref().and_then(|front_end| front_end.fingerprint.clone());
    if let (Some(one), Some(other)) = (fingerprint(&of_run), fingerprint(config))
        && one != other
    {
        return fail("was trained on features of another front end".into());
    }
    let file = ModelFile::open(&run.model())?;
    let about = &file.about;
    let known = predictor::layout(&of_run, about.instances, about.width, about.classes.len())?;
    let blocks = file.blocks(&known)?;
    // A parameter with an axis over classes is recognised by its shape for one more class.
    let one_more = predictor::layout(config, data.features.instances, data.features.width, data.classes.len() + 1)?;
    let old: HashMap<&str, usize> = about.classes.iter().map(String::as_str).zip(0..).collect();
    let kept: Vec<Option<usize>> = data.classes.iter().map(|class| old.get(class.as_str()).copied()).collect();
    for (to, from) in layout.params.iter().zip(&known.params) {
        let wider = one_more.params.iter().find(|p| p.name == to.name).expect("the same model");
        let axis = (0..to.shape.rank()).find(|&axis| to.shape.dims()[axis] != wider.shape.dims()[axis]);
        if to.name != from.name || !is_alike(&to.shape, &from.shape, axis) {
            let (name, to, from) = (&to.name, &to.shape, &from.shape);
            return fail(format!("{name} has the shape {from} there, but {to} here: other settings or other inputs"));
        }
        for (r, block) in fresh.iter_mut().enumerate() {
            let source = &blocks[r % blocks.len()];
            let (source, block) = match to.trainable {
                true => (&source.trained, &mut block.trained),
                false => (&source.stats, &mut block.stats),
            };
            let source = &source[from.offset..from.offset + from.shape.len()];
            let target = &mut block[to.offset..to.offset + to.shape.len()];
            let Some(axis) = axis else {
                target.copy_from_slice(source);
                continue;
            };
            let inner: usize = to.shape.dims()[axis + 1..].iter().product();
            let rows = target.chunks_exact_mut(kept.len() * inner).zip(source.chunks_exact(old.len() * inner));
            for (target, source) in rows {
                for (class, from) in kept.iter().enumerate().filter_map(|(class, from)| Some((class, (*from)?))) {
                    target[class * inner..][..inner].copy_from_slice(&source[from * inner..][..inner]);
                }
            }
        }
    }
    Ok(fresh)
}

/// Whether two shapes differ only in this axis.
fn is_alike(one: &Shape, other: &Shape, axis: Option<usize>) -> bool {
    let (one, other) = (one.dims(), other.dims());
    one.len() == other.len() && (0..one.len()).all(|i| Some(i) == axis || one[i] == other[i])
}
