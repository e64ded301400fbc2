//! The models that recordings are recognised with: the bundled one, runs, or a file of an ensemble.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::core::error::{Error, Result};
use crate::core::files::fingerprint;
use crate::features::front_end::Source;
use crate::nn::front_ends::vggish::Width;
use crate::predict::bundle::load_ensemble;
use crate::predict::bundled::{self, Bundled, Parts};
use crate::predict::ensemble::{Ensemble, Member};
use crate::predict::mixture::Mixture;
use crate::predict::trained::Trained;
use crate::run::run_dir::RunDir;

/// What answers, and what tells its weights from others.
pub struct Models {
    pub mixture: Mixture,
    /// Runs and files; 0 for the bundled model.
    given: usize,
    /// Fingerprints of the files.
    pub weights: Value,
    /// To be told to the user.
    pub notes: Vec<String>,
}

impl Models {
    /// Splits the values of a command line: the runs and files of weights at its beginning, and the rest.
    pub fn split(inputs: &[PathBuf]) -> (&[PathBuf], &[PathBuf]) {
        inputs.split_at(inputs.iter().position(|path| !is_model(path)).unwrap_or(inputs.len()))
    }

    /// Of one run or file of `wmic bundle`, or of several runs; of the bundled model if `paths` is empty.
    ///
    /// # Errors
    /// Errors of [`Trained::load`], [`load_ensemble`] and [`bundled::bundled`]; `Usage` for a file beside others, and
    /// for `parts` of the bundled model beside runs.
    pub fn load(paths: &[PathBuf], parts: Option<Parts>) -> Result<Models> {
        let ensemble = match paths {
            [] => return Models::bundled(parts.unwrap_or_default()),
            _ if parts.is_some() => {
                let reason = "`input` chooses from the bundled model, but a run has its own: remove one of them";
                return Err(Error::Usage(reason.into()));
            }
            [file] if is_file(file) => load_ensemble(file)?,
            [run] => Models::member(run)?.trained.into(),
            runs => match runs.iter().find(|path| is_file(path)) {
                Some(file) => {
                    let reason = format!("{} is an ensemble: give it alone, or runs", file.display());
                    return Err(Error::Usage(reason));
                }
                None => {
                    let members = runs.iter().map(|run| Models::member(run)).collect::<Result<Vec<_>>>()?;
                    Ensemble::new(&name_of(&members), members)?
                }
            },
        };
        let weights = |path: &PathBuf| match is_file(path) {
            true => fingerprint(path),
            false => fingerprint(RunDir::at(path).model()),
        };
        let each = paths.iter().map(|path| Ok(weights(path)?.into())).collect::<Result<Vec<Value>>>()?;
        let weights = if let [one] = &each[..] { one.clone() } else { each.into() };
        Ok(Models { mixture: ensemble.into(), given: paths.len(), weights, notes: vec![] })
    }

    fn bundled(parts: Parts) -> Result<Models> {
        let Bundled { mixture, weights, remark } = bundled::bundled(parts)?;
        let about = format!("model: {}, which hears {} less well than others", mixture.name, bundled::WEAK);
        Ok(Models { mixture, given: 0, weights: weights.into(), notes: remark.into_iter().chain([about]).collect() })
    }

    /// Says where the weights of the front end of a single run are now.
    ///
    /// # Errors
    /// `Usage` for the bundled model and for several runs; as [`Mixture::locate_front_ends`].
    pub fn locate_front_end(&mut self, weights: &Source, width: Option<Width>, pca: Option<&PathBuf>) -> Result<()> {
        match self.given {
            1 => self.mixture.locate_front_ends(weights, width, pca),
            _ => Err(Error::Usage("`front_end.weights` needs a single run".into())),
        }
    }

    /// A run as a model of an ensemble.
    pub fn member(run: &Path) -> Result<Member> {
        Ok(Member { trained: Trained::load(&RunDir::open(run)?)?, weight: 1.0 })
    }
}

/// The models' names, each once.
pub fn name_of(members: &[Member]) -> String {
    let mut names: Vec<&str> = vec![];
    for Member { trained, .. } in members {
        if !names.contains(&trained.about.model.as_str()) {
            names.push(&trained.about.model);
        }
    }
    names.join(" + ")
}

/// Whether it has the name of a file of `wmic bundle`.
pub fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

fn is_model(path: &Path) -> bool {
    is_file(path) || path.join("run.toml").is_file()
}
