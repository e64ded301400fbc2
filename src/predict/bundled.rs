//! The model that is a part of wmic: an ensemble for each front end, see `assets/model/README.md`.
//!
//! The one on musicnn needs nothing else. Those on the embeddings of YAMNet and VGGish answer, too, once the user has
//! added these networks' weights, see [`weight_store`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use crate::features::front_end::{FrontEnd, Source};
use crate::features::scaling::Scaling;
use crate::features::weight_store::{self, Stored};
use crate::nn::front_ends::network::Network;
use crate::predict::bundle::read_ensemble;
use crate::predict::ensemble::Ensemble;
use crate::predict::mixture::{Mixture, Part};
use crate::run::settings::BUNDLED;

/// What it hears less well than others, as there is little real sound of them to train on.
pub const WEAK: &str = "accordion, organ, banjo and mandolin";

/// Which parts answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parts {
    /// All whose weights are there.
    #[default]
    Auto,
    Musicnn,
    Yamnet,
    Vggish,
}

/// A part of the model.
struct Asset {
    part: Parts,
    name: &'static str,
    /// A file of [`save_ensemble`](crate::predict::bundle::save_ensemble).
    bytes: &'static [u8],
    /// Whose weights it needs.
    network: Option<Network>,
    /// Of the mean of those that answer, relative to the others: .6 and .4 for YAMNet and musicnn, and VGGish's, whose
    /// models have learned from real recordings, as much as musicnn's.
    weight: f64,
}

const ASSETS: [Asset; 3] = [
    Asset {
        part: Parts::Musicnn,
        name: "musicnn",
        bytes: include_bytes!("../../assets/model/bundled.safetensors"),
        network: None,
        weight: 0.4,
    },
    Asset {
        part: Parts::Yamnet,
        name: "YAMNet",
        bytes: include_bytes!("../../assets/model/yamnet.safetensors"),
        network: Some(Network::Yamnet),
        weight: 0.6,
    },
    Asset {
        part: Parts::Vggish,
        name: "VGGish",
        bytes: include_bytes!("../../assets/model/vggish.safetensors"),
        network: Some(Network::Vggish),
        weight: 0.4,
    },
];

impl Asset {
    /// The models, with the weights that the user has added.
    fn ensemble(&self) -> Result<Ensemble> {
        let mut ensemble = read_ensemble(Path::new(BUNDLED), self.bytes.to_vec())?;
        for trained in ensemble.models_mut().filter(|_| self.network.is_some()) {
            let kind = trained.config.kind()?;
            let front_end = |network| FrontEnd {
                scaling: kind.row().embedding.then_some(Scaling::Pca8),
                ..FrontEnd::new(Source::Stored(network), None)
            };
            // Not by their fingerprint: YAMNet is published in 8 bits and in floats.
            trained.config.front_end = kind.network().map(front_end);
        }
        Ok(ensemble)
    }

    fn fingerprint(&self) -> String {
        let mut fingerprint = Fingerprint::default();
        fingerprint.mix_bytes(self.bytes);
        format!("{:016x}", fingerprint.finish())
    }
}

/// The model, as far as it can answer.
pub struct Bundled {
    pub mixture: Mixture,
    /// Fingerprints of its parts and of the weights that these need.
    pub weights: Vec<String>,
    /// Why a part does not answer whose weights are there.
    pub remark: Option<String>,
}

/// The model, or the parts of it that are asked for.
///
/// # Errors
/// `Usage` for weights that are missing, `Io` and `Checkpoint` for a store of weights that cannot be read.
pub fn bundled(parts: Parts) -> Result<Bundled> {
    let (mut answering, mut weights, mut remark) = (vec![], vec![], None);
    let stored = if parts == Parts::Musicnn { vec![] } else { weight_store::list()? };
    for asset in ASSETS.iter().filter(|asset| [Parts::Auto, asset.part].contains(&parts)) {
        if let Some(network) = asset.network {
            match usable(&stored, network) {
                Ok(stored) => weights.push(stored.sha256.clone()),
                Err(error) if parts != Parts::Auto => return Err(error),
                Err(error) => {
                    if stored.iter().any(|stored| stored.name == network.name()) {
                        remark = Some(error.to_string());
                    }
                    continue;
                }
            }
        }
        weights.push(asset.fingerprint());
        answering.push(asset);
    }
    let names: Vec<&str> = answering.iter().map(|asset| asset.name).collect();
    let part = |asset: &&Asset| Ok(Part { ensemble: asset.ensemble()?, weight: asset.weight });
    let answering = answering.iter().map(part).collect::<Result<_>>()?;
    Ok(Bundled { mixture: Mixture::new(&format!("{BUNDLED} ({})", names.join(" + ")), answering)?, weights, remark })
}

/// All parts, whether they can answer or not, to start a training from.
pub(crate) fn ensembles() -> Result<Vec<Ensemble>> {
    ASSETS.iter().map(Asset::ensemble).collect()
}

/// The weights of a network, if a part can use them.
fn usable(stored: &[Stored], network: Network) -> Result<&Stored> {
    let found = stored.iter().find(|stored| stored.name == network.name());
    let found = found.ok_or_else(|| weight_store::missing(network))?;
    match found.pca {
        Some(false) => Err(Error::Usage(
            "VGGish's weights are there without the PCA of its embeddings, which the bundled model needs: add it with \
             wmic weights add"
                .into(),
        )),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest that the model may be, in bytes, and with the parts that need the user's weights: all are in every
    /// binary.
    const MOST: usize = 6_000_000;
    const MOST_OF_ALL: usize = 7_000_000;

    #[test]
    fn every_part_is_complete_and_of_its_front_end() {
        let musicnn = include_bytes!("../../assets/musicnn/musicnn.safetensors").len();
        assert!(musicnn + ASSETS[0].bytes.len() <= MOST);
        assert!(musicnn + ASSETS.iter().map(|asset| asset.bytes.len()).sum::<usize>() <= MOST_OF_ALL);
        let ensembles = ensembles().unwrap();
        for (asset, ensemble) in ASSETS.iter().zip(&ensembles) {
            assert_eq!(ensemble.classes(), ensembles[0].classes());
            // What is more probable than not is named.
            let thresholds = ensemble.thresholds().unwrap();
            assert!(ensemble.fitted.is_some() && thresholds.iter().all(|t| (0.2..0.5).contains(t)), "{thresholds:?}");
            for member in ensemble.members() {
                assert_eq!(member.trained.config.kind().unwrap().network(), asset.network, "{}", asset.name);
            }
        }
    }
}
