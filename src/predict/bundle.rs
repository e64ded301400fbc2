//! An ensemble in one file: safetensors with the weights of all models in f16, and their settings and metadata under
//! the key `wmic`.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::tensors::{File, Tensor, reject_extra, save, to_bytes};
use crate::metrics::thresholds::Threshold;
use crate::predict::ensemble::{Ensemble, Fitted, Member};
use crate::predict::predictor::layout;
use crate::predict::trained::{Network, Trained, TrainedModel};
use crate::run::config::Config;
use crate::run::setting::Setting;
use crate::run::settings::{self, SETTINGS};
use crate::run::weights::{self, About};

/// Most models of a file.
const MOST: usize = 64;

/// The metadata of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: String,
    name: String,
    threshold: Threshold,
    fitted: Option<Fitted>,
    /// Their tensors have their number and a dot before their names.
    members: Vec<MemberRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberRecord {
    weight: f64,
    /// Keys of [`Config`].
    settings: toml::Table,
    about: About,
}

/// Writes an ensemble of networks, without the paths of what they were trained on.
///
/// # Errors
/// `Usage` for a forest.
pub fn save_ensemble(path: &Path, ensemble: &Ensemble) -> Result<()> {
    let (tensors, record) = content(ensemble)?;
    save(path, &tensors, &record)
}

/// The ensemble that [`load_ensemble`] would read after [`save_ensemble`], with rounded weights: what is to be
/// calibrated. Nothing is written; `path` for messages.
///
/// # Errors
/// As [`save_ensemble`].
pub fn as_saved(path: &Path, ensemble: &Ensemble) -> Result<Ensemble> {
    let (tensors, record) = content(ensemble)?;
    read_ensemble(path, to_bytes(path, &tensors, Some(&record))?)
}

fn content(ensemble: &Ensemble) -> Result<(Vec<Tensor>, Record)> {
    let (mut members, mut tensors) = (vec![], vec![]);
    for (m, Member { trained, weight }) in ensemble.members().iter().enumerate() {
        let TrainedModel::Network(network) = &trained.model else {
            let model = &trained.about.model;
            return Err(Error::Usage(format!("{model} is not a neural network: only those can be put into one file")));
        };
        tensors.extend(weights::tensors(&network.layout, &network.blocks, &prefix(m), Dtype::F16));
        let (settings, about) = (portable(&trained.config)?, trained.about.clone());
        members.push(MemberRecord { weight: *weight, settings, about });
    }
    let record = Record {
        version: env!("CARGO_PKG_VERSION").into(),
        name: ensemble.name.clone(),
        threshold: ensemble.leader().config.threshold,
        fitted: ensemble.fitted.clone(),
        members,
    };
    Ok((tensors, record))
}

/// Reads an ensemble as [`save_ensemble`] wrote it.
///
/// # Errors
/// `Checkpoint` for a damaged file, and for one of something else.
pub fn load_ensemble(path: &Path) -> Result<Ensemble> {
    parsed(path, File::read(path)?)
}

/// As [`load_ensemble`], of a file in memory; `path` for messages.
pub(super) fn read_ensemble(path: &Path, bytes: Vec<u8>) -> Result<Ensemble> {
    parsed(path, File::parse(path, bytes)?)
}

/// Whether `path` is a file of an ensemble, and not of other weights.
pub(crate) fn is_ensemble(path: &Path) -> bool {
    File::read(path).is_ok_and(|file| file.about::<Record>(path).is_ok())
}

fn parsed(path: &Path, file: File) -> Result<Ensemble> {
    let damaged = |what: &str| Error::checkpoint(path, what);
    let record: Record = file.about(path).map_err(|_| damaged("is not a file of wmic bundle"))?;
    if record.members.is_empty() || record.members.len() > MOST {
        return Err(damaged("has no models, or too many"));
    }
    let tensors = file.tensors();
    let is_known = |name: &str| (0..record.members.len()).any(|m| name.starts_with(&prefix(m)));
    reject_extra(path, &tensors, &is_known)?;
    let members = record.members.into_iter().enumerate().map(|(m, of)| member(path, &tensors, m, of));
    let mut ensemble = Ensemble::new(&record.name, members.collect::<Result<_>>()?)?;
    if record.fitted.as_ref().is_some_and(|fitted| !fitted.is_valid(ensemble.classes().len())) {
        return Err(damaged("has inconsistent metadata"));
    }
    ensemble.fitted = record.fitted;
    ensemble.set_threshold(record.threshold)?;
    Ok(ensemble)
}

fn member(path: &Path, tensors: &SafeTensors, m: usize, record: MemberRecord) -> Result<Member> {
    let MemberRecord { weight, settings, about } = record;
    about.check(path)?;
    if !(weight.is_finite() && weight > 0.0) {
        return Err(Error::checkpoint(path, "has inconsistent metadata"));
    }
    let of_settings = |e: Error| Error::checkpoint(path, format!("has settings of model {}: {e}", m + 1));
    let mut config = Config::of_table(&about.model, Path::new(""), settings).map_err(of_settings)?;
    config.seeds = about.seeds.clone();
    config.validate().map_err(of_settings)?;
    let layout = layout(&config, about.instances, about.width, about.classes.len())?;
    let blocks = weights::blocks(path, tensors, &prefix(m), &layout, about.seeds.len())?;
    let model = TrainedModel::Network(Network { layout, blocks });
    Ok(Member { trained: Trained { config, about, calibrated: true, model, domain: None }, weight })
}

fn prefix(member: usize) -> String {
    format!("{member}.")
}

/// The settings of a model without paths of data, which another machine does not have, and those that need them.
///
/// # Errors
/// `Usage` for settings that are no TOML.
pub fn portable(config: &Config) -> Result<toml::Table> {
    let mut table = config.table()?;
    ["dataset", "model", "seeds"].iter().for_each(|key| drop(table.remove(*key)));
    let is_path = |setting: &&Setting| setting.is_path() && !setting.key.contains('.');
    let needs = |setting: &Setting| setting.needs.and_then(|(key, _)| settings::find(key));
    for setting in SETTINGS.iter().filter(|setting| is_path(setting) || needs(setting).as_ref().is_some_and(is_path)) {
        table.remove(setting.key);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_paths_are_those_of_a_model() {
        let given = "mix = 'notes'\nmix_clips = 20\nmix_seconds = 2.0\nval_keys = 'keys.csv'\nepochs = 3";
        let config = Config::of_table("att", Path::new("data"), given.parse().unwrap()).unwrap();
        let settings = portable(&config).unwrap();
        assert!(["mix", "mix_clips", "mix_seconds", "val_keys"].iter().all(|key| !settings.contains_key(*key)));
        let read = Config::of_table("att", Path::new(""), settings).unwrap();
        read.validate().unwrap();
        assert_eq!(read.epochs, 3);
    }
}
