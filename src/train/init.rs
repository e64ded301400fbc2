//! Initial weights from a run, from an ensemble, or from the bundled model, also of one on other classes.

use std::collections::HashMap;
use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::data::Dataset;
use crate::graph::Layout;
use crate::predict::bundle::{is_ensemble, load_ensemble};
use crate::predict::bundled;
use crate::predict::ensemble::{Ensemble, Member};
use crate::predict::predictor;
use crate::predict::trained::{Network, Trained, TrainedModel};
use crate::run::config::Config;
use crate::run::run_dir::RunDir;
use crate::run::settings::BUNDLED;
use crate::run::weights::{self, Block};

/// `fresh`, the initial weights of each seed, with those at `path`: a run's, or those of the same model in an ensemble
/// or in the bundled model ([`BUNDLED`]), or a file's with PyTorch's names. Seed i begins with the weights of the run's
/// seed i; beyond the last one with those of the first again.
///
/// # Errors
/// `Checkpoint` for another model, or weights that do not fit.
pub(super) fn initial(
    path: &Path,
    config: &Config,
    data: &Dataset,
    layout: &Layout,
    fresh: Vec<Block>,
) -> Result<Vec<Block>> {
    let ensembles = match path {
        _ if path == Path::new(BUNDLED) => bundled::ensembles()?,
        _ if path.is_dir() => vec![Trained::load(&RunDir::open(path)?)?.into()],
        _ if is_ensemble(path) => vec![load_ensemble(path)?],
        _ => return Ok(vec![weights::import(path, layout)?; fresh.len()]),
    };
    let kind = config.kind()?;
    let fits = |member: &&Member| {
        let of = &member.trained.config;
        of.model == config.model && of.kind().is_ok_and(|of| of == kind)
    };
    let members = || ensembles.iter().flat_map(Ensemble::members);
    match members().find(fits) {
        Some(member) => of_trained(path, &member.trained, config, data, layout, fresh),
        None => {
            let of =
                |member: &Member| Ok(format!("{} on {}", member.trained.about.model, member.trained.config.kind()?));
            let known = members().map(of).collect::<Result<Vec<_>>>()?.join(", ");
            let reason = format!("is of {known}; {} on {kind} cannot start from it", config.model);
            Err(Error::checkpoint(path, reason))
        }
    }
}

/// `fresh` with the weights of `trained`: all but the rows of classes that it does not have.
fn of_trained(
    path: &Path,
    trained: &Trained,
    config: &Config,
    data: &Dataset,
    layout: &Layout,
    mut fresh: Vec<Block>,
) -> Result<Vec<Block>> {
    let fail = |reason: String| Err(Error::checkpoint(path, reason));
    let Trained { config: of_run, about, model: TrainedModel::Network(Network { layout: known, blocks }), .. } =
        trained
    else {
        return fail("is a forest, which has no weights".into());
    };
    let fingerprint = |config: &Config| config.front_end.as_ref().and_then(|front_end| front_end.fingerprint.clone());
    if let (Some(one), Some(other)) = (fingerprint(of_run), fingerprint(config))
        && one != other
    {
        return fail("was trained on features of another front end".into());
    }
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
