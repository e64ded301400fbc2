//! `wmic predict`

mod archive;
mod results;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::clips::{Bar, stop_on_interrupt};
use super::common::{Device, Status, kept_tuning};
use super::output::note;
use super::settings::{Limited, WEIGHTS, check_options, help_of, help_of_run, variant};
use super::user_config::user;
use archive::ArchiveArgs;
pub use results::spectrum_of;
use results::{ResultArgs, ResultWriter};
use wmic::data::{FeatureScale, has_features};
use wmic::features::front_end::Source;
use wmic::gpu::{Gpu, Precision};
use wmic::metrics::thresholds::Threshold;
use wmic::nn::front_ends::vggish::Width;
use wmic::output::archive::Archive;
use wmic::output::format::Detail;
use wmic::predict::bundled::Parts;
use wmic::predict::mixture::Mixture;
use wmic::predict::models::Models;
use wmic::predict::recogniser::{Aggregate, Options, Recognised, Recogniser, Segmentation, recognise_clips};
use wmic::predict::recognition::Recognition;
use wmic::predict::tagger::Tagger;
use wmic::predict::trained::Trained;
use wmic::report::tables::table::printable;
use wmic::run::run_dir::RunDir;
use wmic::{Array, Error, Result};

const FRONT_END: &str = "Front end and features";

/// Recognise the instruments in recordings, and when they play
///
/// Recordings of any length are analysed in excerpts of 10 s (aacnn: 1 s). Files that cannot be decoded are
/// listed and skipped; the exit status is then 1.
#[derive(clap::Args)]
pub struct Args {
    /// Audio files, folders or patterns; or features: a dataset with features, or an .npz with X (N, T, 128). Before
    /// them, in place of the bundled model, a run directory of `wmic train`, or several, whose answers are combined, or
    /// a file of `wmic bundle`
    #[arg(value_name = "RUN|AUDIO|FEATURES")]
    inputs: Vec<PathBuf>,
    /// Tag the recordings, too, with musicnn, whose weights wmic contains: 50 tags of genres, moods, voices and
    /// instruments, from 3 s of sound at a time, averaged over the recording
    #[arg(long)]
    tags: bool,
    /// Hop between excerpts in seconds, at most their length [default: 4.8; on log-mel patches, musicnn and YAMNet 9.1
    /// to 10; for aacnn 1, at least 0.5]
    #[arg(long, value_name = "S")]
    hop: Option<f64>,
    /// How the probabilities of the excerpts are combined [default: power; mean for aacnn]
    #[arg(long, value_parser = variant::<Aggregate>())]
    aggregate: Option<Aggregate>,
    #[arg(long, value_name = "P|tuned|precision:P", help = help_of_run("threshold"))]
    threshold: Option<Threshold>,
    /// Lowest decision threshold with this expected precision, 0.5 to 0.99, from the run's validation clips
    #[arg(long, value_name = "P", conflicts_with = "threshold", value_parser = precision)]
    precision: Option<Threshold>,
    /// Precision of the operands of matrix products and convolutions [default: that of the run, f32 or f16]
    #[arg(long, value_parser = variant::<Precision>())]
    arithmetic: Option<Precision>,
    /// Whether probabilities are calibrated as the run's validation clips suggest
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    calibrate: bool,
    /// Parts this many dB below the peak of a recording are silent, as are parts below -80 dB of full scale [default:
    /// 60]
    #[arg(long, value_name = "DB")]
    gate: Option<f32>,
    /// Instruments can be present even in recordings that are unlike the run's training clips, which are marked as
    /// unreliable
    #[arg(long)]
    keep_unreliable: bool,
    /// Shortest segment in seconds; the most active one of a present instrument stays
    #[arg(long, value_name = "S", default_value_t = Segmentation::default().min_duration)]
    min_duration: f64,
    /// Median filter over the activity before segments are found, in seconds; 0 for none
    #[arg(long, value_name = "S", default_value_t = Segmentation::default().median)]
    median: f64,
    #[command(flatten)]
    device: Device,
    #[command(flatten, next_help_heading = "Output")]
    results: ResultArgs,
    #[command(flatten, next_help_heading = "Many recordings")]
    archive: ArchiveArgs,
    /// Which parts of the bundled model answer: musicnn's, which needs nothing else, YAMNet's or VGGish's, which need
    /// weights that you have added (`wmic weights`), or auto: all whose weights are there [default: auto, or the `run`
    /// in wmic.toml]
    #[arg(long, value_parser = variant::<Parts>(), help_heading = FRONT_END)]
    frontend: Option<Parts>,
    #[arg(long, value_name = WEIGHTS, help_heading = FRONT_END, help = help_of_run("front_end.weights"))]
    frontend_weights: Option<Source>,
    #[arg(long, value_name = "W", requires = "frontend_weights")]
    #[arg(help_heading = FRONT_END, help = help_of("width"))]
    width: Option<Width>,
    #[arg(long, value_name = "FILE.npz", requires = "frontend_weights")]
    #[arg(help_heading = FRONT_END, help = help_of("front_end.pca"))]
    pca: Option<PathBuf>,
    #[arg(long, value_parser = variant::<FeatureScale>())]
    #[arg(help_heading = FRONT_END, help = help_of_run("feature_scale"))]
    feature_scale: Option<FeatureScale>,
}

/// What is recognised.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Audio,
    Features,
}

fn of_audio(input: &Input) -> Option<&'static str> {
    (*input == Input::Features).then_some("needs audio, not features")
}

fn of_features(input: &Input) -> Option<&'static str> {
    (*input != Input::Features).then_some("needs features, not audio")
}

#[rustfmt::skip]
const LIMITED: &[Limited<Args, Input>] = &[
    Limited { option: "hop", is_given: |args| args.hop.is_some(), unsupported: of_audio },
    Limited { option: "aggregate", is_given: |args| args.aggregate.is_some(), unsupported: of_audio },
    Limited { option: "gate", is_given: |args| args.gate.is_some(), unsupported: of_audio },
    Limited { option: "plot", is_given: |args| args.results.plot.is_some(), unsupported: of_audio },
    Limited { option: "html", is_given: |args| args.results.html.is_some(), unsupported: of_audio },
    Limited { option: "resume", is_given: |args| args.archive.resume, unsupported: of_audio },
    Limited { option: "shard", is_given: |args| args.archive.shard.is_some(), unsupported: of_audio },
    Limited { option: "tags", is_given: |args| args.tags, unsupported: of_audio },
    Limited { option: "feature-scale", is_given: |args| args.feature_scale.is_some(), unsupported: of_features },
];

fn precision(text: &str) -> Result<Threshold, String> {
    format!("precision:{text}").parse().map_err(|_| "a number from 0.5 to 0.99 is expected".into())
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let (mut runs, inputs) = Models::split(&self.inputs);
        if let (Some(run), [], None) = (&user().run, runs, self.frontend) {
            note(&format!("model: {}, as wmic.toml says", printable(&run.display().to_string())));
            runs = std::slice::from_ref(run);
        }
        match (inputs, &self.archive.files_from) {
            ([], None) => {
                return Err(Error::Usage("no recordings: give audio files, folders or patterns".into()).into());
            }
            ([first, ..], Some(_)) => {
                let reason = format!("recordings are read from --files-from: remove {}", first.display());
                return Err(Error::Usage(reason).into());
            }
            _ => {}
        }
        self.predict(&self.device.open()?, runs, inputs)
    }

    fn predict(&self, gpu: &Gpu, runs: &[PathBuf], inputs: &[PathBuf]) -> anyhow::Result<Status> {
        let mut models = Models::load(runs, self.frontend)?;
        if let Some(weights) = &self.frontend_weights {
            models.locate_front_end(weights, self.width, self.pca.as_ref())?;
        }
        let Models { mut mixture, weights, notes, .. } = models;
        self.threshold.or(self.precision).map_or(Ok(()), |level| mixture.set_threshold(level))?;
        mixture.set_calibrated(self.calibrate);
        mixture.set_kernels(kept_tuning(gpu).as_ref(), self.arithmetic);
        let options = Options {
            hop: self.hop,
            aggregate: self.aggregate,
            spectrogram: self.results.with_pictures(),
            gate: self.gate,
            keep_unreliable: self.keep_unreliable,
            segmentation: Segmentation { min_duration: self.min_duration, median: self.median },
        };
        let input = input_of(inputs, &mixture)?;
        check_options(LIMITED, self, &input)?;
        let results = ResultWriter::new(&self.results, mixture.leader(), self.archive.in_files(), self.tags)?;
        let known = match input {
            Input::Features => Some(self.features(&inputs[0], mixture.leader())?),
            Input::Audio => None,
        };
        let mut recordings = match &known {
            Some((keys, _)) => self.archive.clips(keys),
            None => self.archive.recordings(inputs)?,
        };
        results.expect(recordings.names.len())?;
        let output = (results.format(), Detail { tags: self.tags, ..self.results.detail() });
        let is_complete = |name: &Path| self.results.files(name).iter().all(|file| file.is_file());
        let archive = self.archive.open(mixture.settings(&options)?, weights, output, &is_complete, &mut recordings)?;
        let files = recordings.found.files;
        let done = archive.as_ref().map_or(0, |archive| archive.recordings() - files.len());
        notes.iter().for_each(|line| note(&printable(line)));
        let tagger = self.tags.then(|| Tagger::new(gpu));
        let mut outputs = Outputs { results, archive, tagger, names: recordings.names, done, faults: 0 };
        let ended = match known {
            _ if files.is_empty() => true,
            Some((keys, features)) => {
                let mut n = 0..;
                let each = &mut |recognition: Recognition| {
                    for warning in &recognition.condition.warnings {
                        note(&printable(&format!("warning: {}: {warning}", recognition.file.display())));
                    }
                    outputs.take(n.next().expect("endless"), recognition, None)
                };
                recognise_clips(gpu, mixture.leader(), &keys, &features, &options, each)?;
                true
            }
            None => self.recognise(gpu, mixture, options, &files, &mut outputs)?,
        };
        let Outputs { results, archive, mut faults, .. } = outputs;
        match archive {
            Some(archive) if !ended => {
                self.archive.interrupted(archive)?;
                return Ok(Status::Interrupted);
            }
            Some(archive) => faults = self.archive.end(archive, self.results.json)?,
            None => {}
        }
        results.end()?;
        Ok(if faults > 0 { Status::Failed } else { Status::Done })
    }

    fn features(&self, input: &Path, trained: &Trained) -> Result<(Vec<String>, wmic::data::Features)> {
        let (keys, features, remark) = trained.load_features(input, self.feature_scale)?;
        remark.iter().for_each(|remark| note(&printable(remark)));
        Ok((keys, features))
    }

    /// Recognises the files; returns whether the user has not interrupted it.
    fn recognise(
        &self,
        gpu: &Gpu,
        mixture: Mixture,
        options: Options,
        files: &[PathBuf],
        outputs: &mut Outputs,
    ) -> anyhow::Result<bool> {
        let mut recogniser = Recogniser::new(gpu, mixture, options)?;
        // Without a folder of results, nothing is left to be saved.
        let stop = self.archive.in_files().then(stop_on_interrupt);
        let is_stopped = || stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        let bar = Bar::new(outputs.done + files.len(), "recognising");
        bar.show(outputs.done);
        let ended = recogniser.recognise_files(files, &is_stopped, &mut |n, recognised| {
            match recognised.and_then(|recognised| outputs.tagged(recognised)) {
                Ok(Recognised { recognition, spectrogram, .. }) => {
                    for warning in &recognition.condition.warnings {
                        bar.note(&format!("warning: {}: {warning}", files[n].display()));
                    }
                    bar.suspend(|| outputs.take(n, recognition, spectrogram))?;
                }
                Err(error @ (Error::Data { .. } | Error::Io { .. })) => {
                    bar.note(&format!("skipped: {error}"));
                    outputs.fail(n, &error)?;
                }
                Err(error) => return Err(error),
            }
            bar.show(outputs.done + n + 1);
            Ok(())
        });
        bar.finish();
        Ok(ended?)
    }
}

fn input_of(inputs: &[PathBuf], mixture: &Mixture) -> Result<Input> {
    let published = mixture.leader().config.kind()?.row().published;
    let features = match inputs {
        [one] if is_archive(one) || published && has_features(one) => one,
        more => match more.iter().find(|path| is_archive(path)) {
            Some(npz) => {
                let reason = "has features, which are recognised alone: give one archive at a time";
                return Err(Error::data(npz, reason));
            }
            None => return Ok(Input::Audio),
        },
    };
    match mixture.models().count() {
        1 => Ok(Input::Features),
        _ => Err(Error::data(features, "has features of one kind: several models, as the bundled one has, need audio")),
    }
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "npz")
}

/// Where the results go.
struct Outputs<'a> {
    results: ResultWriter<'a>,
    archive: Option<Archive<'a>>,
    /// For tags beside the answers.
    tagger: Option<Tagger>,
    /// Names of the recordings' outputs.
    names: Vec<PathBuf>,
    /// Recordings done before.
    done: usize,
    /// Recordings that failed or are damaged.
    faults: usize,
}

impl Outputs<'_> {
    /// With its tags, if they are asked for.
    fn tagged(&mut self, mut recognised: Recognised) -> Result<Recognised> {
        if let Some(tagger) = &mut self.tagger {
            recognised.recognition.tags = tagger.tag_file(&recognised.recognition.file)?;
        }
        Ok(recognised)
    }

    fn take(&mut self, n: usize, r: Recognition, spectrogram: Option<Array<f32>>) -> Result<()> {
        self.faults += usize::from(r.condition.damaged);
        // Pictures and pages first: what the journal has is not done again.
        self.results.take(&r, spectrogram, &self.names[n])?;
        if let Some(archive) = &mut self.archive
            && let Some(error) = archive.add(n, &r)?
        {
            note(&printable(&format!("skipped: {error}")));
        }
        Ok(())
    }

    fn fail(&mut self, n: usize, error: &Error) -> Result<()> {
        self.faults += 1;
        self.archive.as_mut().map_or(Ok(()), |archive| archive.fail(n, error))
    }
}

/// Recognises recordings as with `--plot` and `--html`, into `folder`. For `wmic demo --train`.
pub fn show(gpu: &Gpu, run: &RunDir, files: &[PathBuf], folder: &Path) -> anyhow::Result<()> {
    let args = Args {
        inputs: vec![],
        tags: false,
        hop: None,
        aggregate: None,
        threshold: Some(Threshold::Tuned),
        precision: None,
        arithmetic: None,
        calibrate: true,
        gate: None,
        keep_unreliable: false,
        min_duration: Segmentation::default().min_duration,
        median: Segmentation::default().median,
        results: ResultArgs { top: 4, plot: Some(folder.into()), html: Some(folder.into()), ..ResultArgs::default() },
        archive: ArchiveArgs::default(),
        frontend: None,
        frontend_weights: None,
        width: None,
        pca: None,
        feature_scale: None,
        device: Device::default(),
    };
    args.predict(gpu, &[run.path().to_owned()], files)?;
    Ok(())
}
