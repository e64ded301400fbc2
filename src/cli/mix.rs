//! `wmic mix`

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::clips::{Bar, stop_on_interrupt};
use super::common::Status;
use super::output::note;
use wmic::data::{MixConfig, Mixing, write_mixtures};
use wmic::report::tables::table::printable;

/// Write mixtures of isolated notes as a dataset with full labels and times, in OpenMIC-2018's layout
#[derive(clap::Args)]
pub struct Args {
    /// Folder of notes and short phrases: a folder of audio files for each class
    notes: PathBuf,
    /// Folder to create
    out: PathBuf,
    /// Number of mixtures; a tenth of them are of held-out notes, for the test
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    clips: u32,
    /// Length of a mixture in seconds, 1 to 60
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Random seed; the same seed gives the same bytes
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let config = MixConfig { clips: self.clips as usize, seconds: self.seconds, seed: self.seed };
        let interrupted = stop_on_interrupt();
        let (notes, mixtures) = (OnceLock::new(), OnceLock::new());
        let written =
            write_mixtures(&self.notes, &self.out, &config, &|| interrupted.load(Ordering::Relaxed), &|event| {
                match event {
                    Mixing::Notes { done, of } => notes.get_or_init(|| Bar::new(of, "reading")).show(done),
                    Mixing::Mixtures { done, of } => {
                        notes.get().iter().for_each(|bar| Bar::finish(bar));
                        mixtures.get_or_init(|| Bar::new(of, "mixing")).show(done);
                    }
                }
            });
        notes.get().into_iter().chain(mixtures.get()).for_each(Bar::finish);
        let Some((count, warnings)) = written? else {
            note("wmic: interrupted; nothing was written");
            return Ok(Status::Interrupted);
        };
        warnings.iter().for_each(|line| note(&printable(&format!("warning: {line}"))));
        let (out, clips) = (self.out.display(), self.clips);
        note(&format!(
            "{clips} mixtures of {count} notes written to {out}; train on them with: wmic train {out} --times \
             {out}/activity.csv --frontend-weights random --width 1/4"
        ));
        Ok(Status::Done)
    }
}
