//! Options of models on single notes, which `wmic train`, `wmic plan` and `wmic compare` share.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::clips::kinds;
use wmic::data::SplitBy;
use wmic::nn::Kind;
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::models::aacnn::FirstValues;
use wmic::run::config::{Config, Notes};
use wmic::{Error, Result};

#[derive(Clone, clap::Args)]
pub struct NotesArgs {
    /// Spectrum that aacnn sees [default: stft]
    #[arg(long, value_name = "KIND", value_parser = kinds(|row| row.note))]
    pub input: Option<Kind>,
    /// Percent of the filters of aacnn's last blocks that are attention's [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = PossibleValuesParser::new(["0", "25", "50", "75", "100"]).map(|s| s.parse::<u32>().expect("a number")))]
    pub attention: Option<u32>,
    #[command(flatten)]
    pub making: CommonNotesArgs,
}

/// What is done to all notes alike.
#[derive(Clone, clap::Args)]
pub struct CommonNotesArgs {
    /// Magnitudes as they are, or their logarithms, standardised in each second (aacnn) [default: magnitude]
    #[arg(long, value_enum)]
    pub scale: Option<Scale>,
    /// What goes into one split as a whole (aacnn): a file, so that no recording is heard in training and in the test; or a
    /// one-second segment, as in the paper [default: file]
    #[arg(long, value_enum)]
    pub split_by: Option<SplitBy>,
}

impl NotesArgs {
    /// # Errors
    /// `Usage` if the model is not one on single notes.
    pub fn overlay(&self, config: &mut Config) -> Result<()> {
        let notes = of_notes(config, self.input.is_some() || self.attention.is_some())?;
        if let Some(notes) = notes {
            notes.input = self.input.unwrap_or(notes.input);
            notes.attention = self.attention.unwrap_or(notes.attention);
        }
        self.making.overlay(config)
    }
}

impl CommonNotesArgs {
    /// # Errors
    /// As [`NotesArgs::overlay`].
    pub fn overlay(&self, config: &mut Config) -> Result<()> {
        if let Some(notes) = of_notes(config, self.scale.is_some() || self.split_by.is_some())? {
            notes.scale = self.scale.unwrap_or(notes.scale);
            notes.split_by = self.split_by.unwrap_or(notes.split_by);
        }
        Ok(())
    }
}

/// The settings for single notes; an error if the model has none and any were `given`.
fn of_notes(config: &mut Config, given: bool) -> Result<Option<&mut Notes>> {
    let refused = given && config.notes.is_none();
    if refused {
        let reason = "is not for single notes: leave out options that only such models have (see --help)";
        return Err(Error::Usage(format!("{} {reason}", config.model)));
    }
    Ok(config.notes.as_mut())
}

/// `--init`: how first weights are drawn, or a file that has them.
#[derive(Clone, Debug)]
pub enum First {
    Drawn(FirstValues),
    Weights(PathBuf),
}

impl std::str::FromStr for First {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<First, Self::Err> {
        Ok(match text {
            "normal" => First::Drawn(FirstValues::Normal),
            "he" => First::Drawn(FirstValues::He),
            path => First::Weights(path.into()),
        })
    }
}

impl First {
    /// # Errors
    /// `Usage` if the model's first weights are not to be chosen.
    pub fn overlay(&self, config: &mut Config) -> Result<()> {
        match (self, &mut config.notes) {
            (First::Weights(path), _) => config.init = Some(path.clone()),
            (First::Drawn(init), Some(notes)) => notes.init = *init,
            (First::Drawn(_), None) => {
                let reason = "starts as its paper says: --init names a file of weights";
                return Err(Error::Usage(format!("{} {reason}", config.model)));
            }
        }
        Ok(())
    }
}
