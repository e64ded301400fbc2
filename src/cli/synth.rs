//! `wmic synth`

use std::path::PathBuf;

use super::common::Status;
use super::output::note;
use wmic::data::{synth, synth_audio};

/// Write a small synthetic dataset with known labels, in OpenMIC-2018's layout
#[derive(clap::Args)]
pub struct Args {
    /// Folder to create
    dir: PathBuf,
    /// Write recordings of a built-in synthesiser (10 s WAV files) instead of features
    #[arg(long)]
    audio: bool,
    /// Number of clips, about three quarters of them for training [default: 1500, with --audio 300]
    #[arg(long, value_parser = clap::value_parser!(u32).range(40..=100_000))]
    clips: Option<u32>,
    /// Random seed; the same seed gives the same bytes
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let clips = self.clips.unwrap_or(if self.audio { 300 } else { 1500 }) as usize;
        let options = if self.audio {
            synth_audio(&self.dir, clips, self.seed)?;
            " --frontend-weights random --width 1/4"
        } else {
            synth(&self.dir, clips, self.seed)?;
            ""
        };
        let dir = self.dir.display();
        note(&format!("{clips} clips written to {dir}; train on them with: wmic train {dir}{options}"));
        Ok(Status::Done)
    }
}
