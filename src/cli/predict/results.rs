//! The results of `wmic predict` on stdout, in pictures and on pages.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::super::output::note;
use wmic::core::files::{writable, writable_folder};
use wmic::core::numbers;
use wmic::output::format::{Detail, Format, Series};
use wmic::output::names::with_suffix;
use wmic::output::{self, FORMATS, json};
use wmic::predict::recognition::Recognition;
use wmic::predict::trained::Trained;
use wmic::predict::truth::Truth;
use wmic::report::pages::index::INDEX;
use wmic::report::plots::spectrogram::Picture;
use wmic::report::tables::table::Style;
use wmic::report::{pages, plots, tables};
use wmic::{Array, Error, Result};

/// What becomes of the results.
#[derive(clap::Args, Default)]
pub struct ResultArgs {
    /// Instruments shown per recording in the table, at least all that are present
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub top: usize,
    /// Output format [default: table; with --out json]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    pub format: Option<String>,
    /// The same as --format json; with --out: print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Add activity and attention over time (json, jsonl)
    #[arg(long)]
    pub attention: bool,
    /// Write a picture per recording (PNG) into this folder
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Write an HTML page with picture and player into FILE.html; or, for any number of recordings, a page each and an
    /// index into DIR
    #[arg(long, value_name = "FILE.html|DIR")]
    pub html: Option<PathBuf>,
    /// Ground-truth times, a table with file, instrument, start and end as in labels.csv, or with sample_key,
    /// instrument, start_s and end_s; reports precision, recall and F1 by instrument
    #[arg(long, value_name = "FILE.csv")]
    pub truth: Option<PathBuf>,
}

/// The format for the terminal, which has no file.
const TABLE: &str = "table";

/// Whether this is a single page, not a folder of pages.
fn is_page(html: &Path) -> bool {
    html.extension().is_some_and(|e| e == "html")
}

fn formats() -> impl TypedValueParser<Value = String> {
    let table = PossibleValue::new(TABLE).help("The most probable instruments of each recording, with a timeline");
    let others = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.about));
    PossibleValuesParser::new([table].into_iter().chain(others))
}

impl ResultArgs {
    /// `None`: a table. `in_files`: for results in a folder, whose default is JSON.
    ///
    /// # Errors
    /// `Usage` for options that contradict each other.
    pub fn format(&self, in_files: bool) -> Result<Option<&'static Format>> {
        let format = match (&self.format, in_files) {
            (Some(name), true) if name == TABLE => {
                let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
                let (last, others) = names.split_last().expect("there are formats");
                return Err(Error::Usage(format!("--out needs --format {} or {last}", others.join(", "))));
            }
            (Some(_), false) if self.json => {
                return Err(Error::Usage("--json is a format of its own without --out: remove --format".into()));
            }
            (Some(name), _) => output::find(name),
            (None, _) => Some(&json::FORMAT).filter(|_| in_files || self.json),
        };
        Ok(format)
    }

    pub fn detail(&self) -> Detail {
        Detail { activity: self.attention, attention: self.attention, tags: false }
    }

    /// The picture and the page of a recording in folders, by the path of its outputs without extension.
    pub fn files(&self, name: &Path) -> Vec<PathBuf> {
        let picture = self.plot.as_ref().map(|folder| folder.join(with_suffix(name, ".png")));
        let page = self.html.as_ref().filter(|html| !is_page(html)).map(|folder| pages::index::page(folder, name));
        picture.into_iter().chain(page).collect()
    }

    pub fn with_pictures(&self) -> bool {
        self.plot.is_some() || self.html.is_some()
    }
}

/// # Errors
/// `Usage` for a format that has no place for tags.
fn check_tags(format: Option<&'static Format>) -> Result<()> {
    match format {
        Some(format) if ![json::FORMAT.name, json::LINES.name].contains(&format.name) => {
            let name = format.name;
            Err(Error::Usage(format!("{name} has no place for tags: use --format json or jsonl")))
        }
        _ => Ok(()),
    }
}

/// Shows the results, one recording after the other.
pub struct ResultWriter<'a> {
    args: &'a ResultArgs,
    /// `None`: a table.
    format: Option<&'static Format>,
    /// Not on stdout.
    in_files: bool,
    /// The output to stdout, if the format is not the table.
    series: Option<Series>,
    truth: Option<Truth>,
    taken: usize,
    /// Frequencies of the spectrogram bands, Hz.
    band_hz: Vec<f64>,
    /// Name of the spectrogram, for pictures.
    spectrum: String,
}

/// The frequencies of the bands of a model's spectrograms (Hz), and their name, for pictures.
pub fn spectrum_of(trained: &Trained) -> Result<(Vec<f64>, String)> {
    let kind = trained.config.kind()?;
    let (shown, pace) = (kind.spectrogram(), if kind.is_single_note() { ", one-second frames" } else { "" });
    Ok(((shown.band_hz)(), format!("{}{pace}", shown.name)))
}

impl<'a> ResultWriter<'a> {
    pub fn new(args: &'a ResultArgs, trained: &Trained, in_files: bool, tags: bool) -> Result<ResultWriter<'a>> {
        let format = args.format(in_files)?;
        if tags {
            check_tags(format)?;
        }
        if let Some(reason) = format.and_then(|format| (format.unsupported)(&trained.about.classes)) {
            return Err(Error::Usage(reason));
        }
        let series = format.filter(|_| !in_files).map(Series::new);
        let truth = args.truth.as_deref().map(Truth::read).transpose()?;
        args.plot.iter().try_for_each(writable_folder)?;
        match &args.html {
            Some(page) if is_page(page) => writable(page)?,
            Some(folder) => writable_folder(folder)?,
            None => {}
        }
        let (band_hz, spectrum) = spectrum_of(trained)?;
        Ok(ResultWriter { args, format, in_files, series, truth, taken: 0, band_hz, spectrum })
    }

    pub fn format(&self) -> Option<&'static Format> {
        self.format
    }

    /// # Errors
    /// `Usage` for more recordings than the output format allows.
    pub fn expect(&self, recordings: usize) -> Result<()> {
        let alone = self.format.is_some_and(|format| format.several.is_none());
        if !self.in_files && recordings > 1 && alone {
            return Err(Error::Usage(format!("{recordings} recordings need one file each: --out DIR")));
        }
        if self.args.html.as_deref().is_some_and(is_page) && recordings > 1 {
            return Err(Error::Usage(format!("{recordings} recordings need a folder for their pages: --html DIR")));
        }
        Ok(())
    }

    /// `name`: path of its outputs in a folder, without extension.
    pub fn take(&mut self, r: &Recognition, spectrogram: Option<Array<f32>>, name: &Path) -> Result<()> {
        self.expect(self.taken + 1)?;
        if !self.in_files {
            let mut out = stdout().lock();
            let written = match &mut self.series {
                Some(series) => series.write(&mut out, r, self.args.detail()),
                None => write!(out, "{}", tables::recording::table(r, self.args.top, Style::of_stdout())),
            };
            written.and_then(|()| out.flush()).map_err(Error::io("stdout"))?;
        }
        if let Some(truth) = &mut self.truth {
            truth.compare(r);
        }
        if let Some(spectrogram) = spectrogram {
            if let Some(folder) = &self.args.plot {
                let path = folder.join(with_suffix(name, ".png"));
                let parent = path.parent().unwrap_or(folder);
                std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
                plots::recording::plot(&self.picture(r, &spectrogram), &path)?;
            }
            match &self.args.html {
                Some(page) if is_page(page) => {
                    pages::recording::write_page(page, &self.picture(r, &spectrogram), true)?;
                }
                Some(folder) => pages::index::add(folder, name, &self.picture(r, &spectrogram))?,
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

    pub fn end(&self) -> anyhow::Result<()> {
        if let Some(series) = &self.series {
            let mut out = stdout().lock();
            series.end(&mut out).and_then(|()| out.flush()).map_err(Error::io("stdout"))?;
        }
        match &self.args.html {
            Some(page) if is_page(page) => note(&format!("page written to {}", page.display())),
            Some(folder) => {
                let pages = pages::index::write(folder)?;
                let pages = numbers::of(pages, "page and an index", "pages and their index");
                note(&format!("{pages} written to {}", folder.join(INDEX).display()));
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
}
