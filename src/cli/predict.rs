//! `wmic predict`

use std::collections::HashSet;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::clips::Bar;
use super::output::note;
use super::settings::variant;
use super::{Device, Status};
use wmic::audio::audio_files;
use wmic::core::files::write_atomic;
use wmic::data::{FeatureScale, features_npz, has_features, load_features};
use wmic::features::front_end::{FrontEnd, Source};
use wmic::features::scaling::Scaling;
use wmic::gpu::Gpu;
use wmic::metrics::thresholds::Level;
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::{self, FeatureKind};
use wmic::output::format::{Detail, Format, Series};
use wmic::output::{self, FORMATS, json};
use wmic::predict::recogniser::{Aggregate, Options, Recognised, Recogniser, Segmentation, recognise_clips};
use wmic::predict::recognition::Recognition;
use wmic::predict::trained::Trained;
use wmic::predict::truth::Truth;
use wmic::report::pages::index::INDEX;
use wmic::report::plots::spectrogram::Picture;
use wmic::report::tables::table::{Style, printable};
use wmic::report::{pages, plots, tables};
use wmic::run::clips::check_features;
use wmic::run::run_dir::RunDir;
use wmic::{Array, Error, Result};

/// Recognise the instruments in recordings, and when they play
///
/// Recordings of any length are analysed in overlapping excerpts of 10 s (aacnn: 1 s). Files that cannot be decoded are
/// listed and skipped; the exit status is then 1.
#[derive(clap::Args)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Audio files, folders or patterns; or features: a dataset with features, or an .npz with X (N, T, 128)
    #[arg(value_name = "AUDIO|FEATURES", required = true)]
    inputs: Vec<PathBuf>,
    /// Hop between excerpts in seconds, at most their length [default: 4.8; for aacnn 1, at least 0.5]
    #[arg(long, value_name = "S")]
    hop: Option<f64>,
    /// How the probabilities of the excerpts are combined [default: power; mean for aacnn]
    #[arg(long, value_parser = variant::<Aggregate>())]
    aggregate: Option<Aggregate>,
    /// Decision threshold: a number, or tuned (per class, from the run) [default: the run's]
    #[arg(long, value_name = "P|tuned")]
    threshold: Option<Level>,
    /// Lowest decision thresholds with this expected precision, 0.5 to 0.99, from the run's validation clips
    #[arg(long, value_name = "P", conflicts_with = "threshold", value_parser = precision)]
    precision: Option<Level>,
    /// Whether probabilities are calibrated as the run's validation clips suggest
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    calibrate: bool,
    /// Parts this many dB below the loudest one of a recording are silent, as are parts below -80 dB of full scale [default: 60]
    #[arg(long, value_name = "DB")]
    gate: Option<f32>,
    /// Shortest segment in seconds; the most active one of a present instrument stays
    #[arg(long, value_name = "S", default_value_t = Segmentation::default().min_duration)]
    min_duration: f64,
    /// Median filter over the activity before segments are found, in seconds; 0 for none
    #[arg(long, value_name = "S", default_value_t = Segmentation::default().median)]
    median: f64,
    /// Instruments shown per recording in the table, at least all that are present
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = TABLE, value_parser = formats())]
    format: String,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Add activity and attention over time (json, jsonl)
    #[arg(long)]
    attention: bool,
    /// Write a file per recording into this folder instead of stdout (json, csv, jams, audacity)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write a picture per recording (PNG) into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Write an HTML page with picture and player into FILE.html; or, for any number of recordings, a page each and an index into
    /// DIR
    #[arg(long, value_name = "FILE.html|DIR")]
    html: Option<PathBuf>,
    /// Ground-truth times, a CSV with sample_key, instrument, start_s and end_s; reports the F1 of 1 s frames
    #[arg(long, value_name = "FILE.csv")]
    truth: Option<PathBuf>,
    /// VGGish weights, a safetensors file or random: for runs that do not record their front end, or if the file has
    /// moved
    #[arg(long, value_name = "FILE|random")]
    frontend_weights: Option<Source>,
    /// Width of VGGish as a fraction of its channels, with --frontend-weights
    #[arg(long, value_name = "W", requires = "frontend_weights")]
    width: Option<Width>,
    /// PCA of its embeddings, with --frontend-weights [default: the PCA in the weights file]
    #[arg(long, value_name = "FILE.npz", requires = "frontend_weights")]
    pca: Option<PathBuf>,
    /// Scale of features stored as floats: unit, inputs of 0 to 1, or byte, codes of 0 to 255 [default: as in the run]
    #[arg(long, value_name = "unit|byte", value_parser = variant::<FeatureScale>())]
    feature_scale: Option<FeatureScale>,
    #[command(flatten)]
    device: Device,
}

fn precision(text: &str) -> Result<Level, String> {
    format!("precision:{text}").parse().map_err(|_| "a number from 0.5 to 0.99 is expected".into())
}

/// The format for the terminal, which has no file.
const TABLE: &str = "table";

fn formats() -> impl TypedValueParser<Value = String> {
    let table = PossibleValue::new(TABLE).help("The most probable instruments of each recording, with a timeline");
    let others = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.about));
    PossibleValuesParser::new([table].into_iter().chain(others))
}

/// Whether this is a single page, not a folder of pages.
fn is_page(html: &Path) -> bool {
    html.extension().is_some_and(|e| e == "html")
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let run = RunDir::open(&self.run)?;
        self.predict(&self.device.open()?, &run)
    }

    fn predict(&self, gpu: &Gpu, run: &RunDir) -> anyhow::Result<Status> {
        let mut trained = Trained::load(run)?;
        self.set_front_end(&mut trained)?;
        self.threshold.or(self.precision).map_or(Ok(()), |level| trained.set_threshold(level))?;
        trained.calibrated = self.calibrate;
        let with_pictures = self.plot.is_some() || self.html.is_some();
        let options = Options {
            hop: self.hop,
            aggregate: self.aggregate,
            spectrogram: with_pictures,
            gate: self.gate,
            segmentation: Segmentation { min_duration: self.min_duration, median: self.median },
        };
        let truth = self.truth.as_deref().map(Truth::read).transpose()?;
        let mut results = ResultWriter::new(self, &trained, truth)?;
        let faults = match self.features(&trained)? {
            Some((keys, features)) => {
                if with_pictures {
                    let reason = "--plot and --html need audio, not features, e.g. DATASET/audio";
                    return Err(Error::Usage(reason.into()).into());
                }
                results.expect(keys.len())?;
                let all = recognise_clips(gpu, &trained, &keys, &features, &options)?;
                all.iter().try_for_each(|recognition| results.take(recognition, None))?;
                0
            }
            None => self.recognise(gpu, trained, options, &mut results)?,
        };
        results.end()?;
        Ok(if faults > 0 { Status::Failed } else { Status::Done })
    }

    /// The features given as input; `None` for audio.
    fn features(&self, trained: &Trained) -> Result<Option<(Vec<String>, wmic::data::Features)>> {
        let [input] = self.inputs.as_slice() else { return Ok(None) };
        let npz = input.extension().is_some_and(|e| e == "npz");
        if !npz && (!has_features(input) || trained.config.kind()? != FeatureKind::Vggish) {
            return Ok(None);
        }
        let archive = if npz { Some(input.clone()) } else { features_npz(input) };
        if let Some(archive) = archive {
            check_features(&mut trained.config.clone(), &archive)?;
        }
        let (keys, features, remark) = load_features(input, self.feature_scale.or(trained.config.feature_scale))?;
        remark.iter().for_each(|remark| note(&printable(remark)));
        Ok(Some((keys, features)))
    }

    /// Recognises the files; returns how many were skipped or are damaged.
    fn recognise(
        &self,
        gpu: &Gpu,
        trained: Trained,
        options: Options,
        results: &mut ResultWriter,
    ) -> anyhow::Result<usize> {
        let found = audio_files(&self.inputs)?;
        found.note().iter().for_each(|line| note(line));
        let files = found.files;
        results.expect(files.len())?;
        let needs_vggish = nn::find(&trained.config.model)?.needs_vggish();
        if trained.config.front_end.is_none() && needs_vggish {
            let reason = "the run does not record the front end of its features; give the VGGish weights: \
                          --frontend-weights FILE";
            return Err(Error::Usage(reason.into()).into());
        }
        let mut recogniser = Recogniser::new(gpu, trained, options)?;
        let bar = Bar::new(files.len(), "recognising");
        let mut faults = 0;
        recogniser.recognise_files(&files, &mut |file, recognised| {
            bar.show(file + 1);
            match recognised {
                Ok(Recognised { recognition, spectrogram }) => {
                    faults += usize::from(recognition.condition.damaged);
                    for warning in &recognition.condition.warnings {
                        bar.note(&format!("warning: {}: {warning}", files[file].display()));
                    }
                    bar.suspend(|| results.take(&recognition, spectrogram))
                }
                Err(error @ (Error::Data { .. } | Error::Io { .. })) => {
                    faults += 1;
                    bar.note(&format!("skipped: {error}"));
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })?;
        bar.finish();
        Ok(faults)
    }

    /// Applies the options to the run's front end: its new path, or, if the run does not record one, what it is.
    fn set_front_end(&self, trained: &mut Trained) -> Result<()> {
        let Some(weights) = &self.frontend_weights else { return Ok(()) };
        if !nn::find(&trained.config.model)?.needs_vggish() {
            let reason = "does not use VGGish: remove --frontend-weights";
            return Err(Error::Usage(format!("{} {reason}", trained.config.model)));
        }
        if trained.config.front_end.is_some() {
            if self.width.is_some() || self.pca.is_some() {
                return Err(Error::Usage(
                    "the run records the width and PCA of its front end: remove --width and --pca".into(),
                ));
            }
            return trained.relocate_front_end(weights);
        }
        let front_end = FrontEnd::new(weights.clone(), self.width.unwrap_or_default());
        trained.config.front_end = Some(FrontEnd { pca: self.pca.clone(), scaling: Some(Scaling::Pca8), ..front_end });
        Ok(())
    }
}

/// Writes the results, one recording after the other.
struct ResultWriter<'a> {
    args: &'a Args,
    /// `None`: a table.
    format: Option<&'static Format>,
    /// The output to stdout, if the format is not the table.
    series: Option<Series>,
    truth: Option<Truth>,
    taken: usize,
    /// Names of the files written so far, without extension.
    names: HashSet<String>,
    /// Frequencies of the spectrogram bands, Hz.
    band_hz: Vec<f64>,
    /// Name of the spectrogram, for pictures.
    spectrum: String,
}

impl<'a> ResultWriter<'a> {
    fn new(args: &'a Args, trained: &Trained, truth: Option<Truth>) -> Result<ResultWriter<'a>> {
        let format = output::find(if args.json { json::FORMAT.name } else { &args.format });
        if args.out.is_some() && format.is_none_or(|format| format.extension.is_none()) {
            let names: Vec<&str> = FORMATS.iter().filter(|f| f.extension.is_some()).map(|f| f.name).collect();
            let (last, others) = names.split_last().expect("some formats are files'");
            return Err(Error::Usage(format!("--out needs --format {} or {last}", others.join(", "))));
        }
        let series = format.filter(|_| args.out.is_none()).map(Series::new);
        for folder in [&args.out, &args.plot].into_iter().flatten() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        match &args.html {
            Some(page) if is_page(page) => wmic::core::files::writable(page)?,
            Some(folder) => std::fs::create_dir_all(folder).map_err(Error::io(folder))?,
            None => {}
        }
        let kind = trained.config.kind()?;
        let (shown, pace) = (kind.spectrogram(), if kind.is_single_note() { ", one-second frames" } else { "" });
        let (band_hz, spectrum) = ((shown.band_hz)(), format!("{}{pace}", shown.name));
        Ok(ResultWriter { args, format, series, truth, taken: 0, names: HashSet::new(), band_hz, spectrum })
    }

    /// # Errors
    /// `Usage` for more recordings than the output format allows.
    fn expect(&self, recordings: usize) -> Result<()> {
        let alone = self.format.is_some_and(|format| format.several.is_none());
        if self.args.out.is_none() && recordings > 1 && alone {
            return Err(Error::Usage(format!("{recordings} recordings need one file each: --out DIR")));
        }
        if self.args.html.as_deref().is_some_and(is_page) && recordings > 1 {
            return Err(Error::Usage(format!("{recordings} recordings need a folder for their pages: --html DIR")));
        }
        Ok(())
    }

    fn take(&mut self, r: &Recognition, spectrogram: Option<Array<f32>>) -> Result<()> {
        self.expect(self.taken + 1)?;
        let name = self.name(r);
        let detail = Detail { activity: self.args.attention, attention: self.args.attention };
        match (self.format, &self.args.out) {
            (Some(format), Some(folder)) => {
                let path = folder.join(format!("{name}.{}", format.extension.expect("checked before")));
                write_atomic(path, |out| format.write_alone(out, r, detail))?;
            }
            _ => {
                let mut out = stdout().lock();
                let written = match &mut self.series {
                    Some(series) => series.write(&mut out, r, detail),
                    None => write!(out, "{}", tables::recording::table(r, self.args.top, Style::of_stdout())),
                };
                written.and_then(|()| out.flush()).map_err(Error::io("stdout"))?;
            }
        }
        if let Some(truth) = &mut self.truth {
            truth.compare(r);
        }
        if let Some(spectrogram) = spectrogram {
            if let Some(folder) = &self.args.plot {
                let picture = self.picture(r, &spectrogram);
                plots::recording::plot(&picture, &folder.join(format!("{name}.png")))?;
            }
            match &self.args.html {
                Some(page) if is_page(page) => {
                    pages::recording::write_page(page, &self.picture(r, &spectrogram), true)?;
                }
                Some(folder) => pages::index::add(folder, name.as_ref(), &self.picture(r, &spectrogram))?,
                None => {}
            }
        }
        self.taken += 1;
        Ok(())
    }

    fn picture<'b>(&'b self, recognition: &'b Recognition, spectrogram: &'b Array<f32>) -> Picture<'b> {
        Picture {
            recognition,
            spectrum: &self.spectrum,
            spectrogram,
            band_hz: &self.band_hz,
            attention: self.args.attention,
            truth: self.truth.as_ref(),
        }
    }

    fn end(&self) -> anyhow::Result<()> {
        if let Some(series) = &self.series {
            let mut out = stdout().lock();
            series.end(&mut out).and_then(|()| out.flush()).map_err(Error::io("stdout"))?;
        }
        match &self.args.html {
            Some(page) if is_page(page) => note(&format!("page written to {}", page.display())),
            Some(folder) => {
                let pages = pages::index::write(folder)?;
                note(&format!("{pages} pages and their index written to {}", folder.join(INDEX).display()));
            }
            None => {}
        }
        if let Some(truth) = &self.truth {
            if truth.agreement().recordings > 0 {
                let table = tables::truth::table(truth.agreement(), Style::of_stdout());
                table.lines().for_each(note);
            }
            truth.summary().lines().for_each(note);
        }
        Ok(())
    }

    /// File name for a recording's results: its own name, or a numbered one if that is taken, with a note if a file is
    /// written.
    fn name(&mut self, r: &Recognition) -> String {
        let own = printable(&r.name()).replace(['/', '\\'], "_");
        let own = if own.is_empty() { "recording".to_owned() } else { own };
        let mut numbered = (2..).map(|n| format!("{own}-{n}"));
        let mut name = own.clone();
        // Some file systems are case-insensitive.
        while !self.names.insert(name.to_lowercase()) {
            name = numbered.next().expect("there is always a free number");
        }
        if name != own && (self.args.out.is_some() || self.args.plot.is_some()) {
            note(&format!("{}: written as {name}, because another recording is called {own}", r.file.display()));
        }
        name
    }
}

/// Recognises recordings as with `--plot` and `--html`, into `folder`. For `wmic demo`.
pub fn show(gpu: &Gpu, run: &RunDir, files: &[PathBuf], folder: &Path) -> anyhow::Result<()> {
    let args = Args {
        run: run.path().into(),
        inputs: files.to_vec(),
        hop: None,
        aggregate: None,
        threshold: Some(Level::Tuned),
        precision: None,
        calibrate: true,
        gate: None,
        min_duration: Segmentation::default().min_duration,
        median: Segmentation::default().median,
        top: 4,
        format: TABLE.into(),
        json: false,
        attention: false,
        out: None,
        plot: Some(folder.into()),
        html: Some(folder.into()),
        truth: None,
        frontend_weights: None,
        width: None,
        pca: None,
        feature_scale: None,
        device: Device { device: None },
    };
    args.predict(gpu, run)?;
    Ok(())
}
