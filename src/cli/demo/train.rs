//! `wmic demo --train`

use std::path::{Path, PathBuf};

use super::super::clips::load_clips;
use super::super::common::{Status, kept_tuning};
use super::super::output::print;
use super::super::{predict, train};
use wmic::Error;
use wmic::core::files::absolute;
use wmic::data::{Dataset, synth_audio};
use wmic::features::front_end::{FrontEnd, Source};
use wmic::gpu::Gpu;
use wmic::nn::front_ends::vggish::Width;
use wmic::run::clips::Labels;
use wmic::run::config::Config;
use wmic::run::run_dir::RunDir;

const CLIPS: usize = 300;
const EPOCHS: usize = 16;
const SEEDS: u64 = 2;
/// Few steps: a higher learning rate and less dropout than in the paper's protocol.
const LR: f64 = 2e-3;
const DROPOUT: f64 = 0.2;
/// Test recordings analysed at the end.
const SHOWN: usize = 3;

/// Synthesises recordings in `out`, trains on them, and analyses those held out.
pub fn run(gpu: &Gpu, out: &Path) -> anyhow::Result<Status> {
    let (recordings, run, predictions) = (out.join("recordings"), out.join("run"), out.join("predictions"));
    print(&format!("1. {CLIPS} synthetic recordings of 20 instruments with known labels: {}\n", recordings.display()))?;
    if !recordings.join("class-map.json").is_file() {
        synth_audio(&recordings, CLIPS, 0)?;
    }
    print(&format!(
        "2. Training att-tf on a randomly initialised VGGish of 1/8 width: {SEEDS} seeds side by side for {EPOCHS} \
         epochs\n"
    ))?;
    let dataset = absolute(&recordings)?;
    if RunDir::at(&run).record().is_ok_and(|old| old.config.dataset != dataset) {
        return Err(Error::data(run, "is no run of an earlier demo; choose another folder with --out").into());
    }
    let mut config = Config {
        seeds: (0..SEEDS).collect(),
        epochs: EPOCHS,
        lr: LR,
        dropout: DROPOUT,
        front_end: Some(FrontEnd::new(Source::Random(0), Width::Eighth)),
        cache: Some(out.join("features")),
        tuning: kept_tuning(gpu),
        ..Config::of("att-tf", dataset)?
    };
    let Some(data) = load_clips(gpu, &mut config, Labels::Required)? else { return Ok(Status::Interrupted) };
    let status = train::train(gpu, &config, &data, &run, true, false)?;
    if status != Status::Done {
        return Ok(status);
    }
    print("3. Instruments found in the first test recordings, and when they play\n")?;
    let first: Vec<PathBuf> = data.test.iter().take(SHOWN).map(|&clip| file(&recordings, &data, clip)).collect();
    predict::show(gpu, &RunDir::open(&run)?, &first, &predictions)?;
    let (report, page) = (run.join("report.html"), predictions.join("index.html"));
    print(&format!("Training report: {}; predictions with players: {}\n", report.display(), page.display()))?;
    print(&format!("Try it on your own files: wmic predict {} song.mp3\n", run.display()))?;
    Ok(Status::Done)
}

/// The recording of a clip, where `wmic synth --audio` writes it.
fn file(recordings: &Path, data: &Dataset, clip: u32) -> PathBuf {
    let key = &data.keys[clip as usize];
    recordings.join("audio").join(&key[..3]).join(format!("{key}.wav"))
}
