//! `wmic demo`

mod browser;
mod train;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use super::common::{Device, Status};
use super::output::{note, print};
use super::predict::spectrum_of;
use wmic::Error;
use wmic::core::files::writable_folder;
use wmic::data::Piece;
use wmic::predict::models::Models;
use wmic::predict::recogniser::{Options, Recognised, Recogniser};
use wmic::predict::truth::Truth;
use wmic::report::pages::recording::write_page;
use wmic::report::plots::spectrogram::Picture;
use wmic::report::tables::table::{Style, printable};
use wmic::report::tables::truth::beside;

/// Play a short piece of music, recognise its instruments, and show when they really play
///
/// The piece is rendered from recorded notes that wmic contains, and analysed with the bundled model: about ten seconds
/// on two cores without a GPU. With --train the whole pipeline runs once instead: synthesise recordings, train,
/// evaluate, predict, report (three minutes).
#[derive(clap::Args)]
pub struct Args {
    /// Train a model on synthetic recordings instead; those of an earlier demo are reused, its run is replaced
    #[arg(long)]
    train: bool,
    /// Folder for what is made: piece.wav, its true times (piece.csv) and a page with a player (piece.html); with
    /// --train recordings, run and predictions
    #[arg(long, value_name = "DIR", default_value = "wmic-demo")]
    out: PathBuf,
    /// Do not open the page in the browser, as is done if stdout is a terminal on a desktop
    #[arg(long, conflicts_with = "train")]
    no_open: bool,
    #[command(flatten)]
    device: Device,
}

/// Name of the files.
const PIECE: &str = "piece";

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        if self.train {
            return train::run(&self.device.open()?, &self.out);
        }
        writable_folder(&self.out)?;
        let files = ["wav", "csv", "html"].map(|extension| self.out.join(PIECE).with_extension(extension));
        let piece = Piece::play()?;
        if let Some(file) = files.iter().find(|file| file.exists()).filter(|_| !piece.is_in(&self.out, PIECE)) {
            return Err(Error::data(file, "is no file of an earlier demo; choose another folder with --out").into());
        }
        piece.write(&self.out, PIECE)?;
        let [recording, times, page] = files;
        print(&format!("{} instruments play in {}\n", piece.instruments.len(), recording.display()))?;

        let Models { mixture, notes, .. } = Models::load(&[], None)?;
        notes.iter().for_each(|line| note(&printable(line)));
        let (band_hz, spectrum) = spectrum_of(mixture.leader())?;
        let options = Options { spectrogram: true, ..Options::default() };
        let mut recogniser = Recogniser::new(&self.device.open()?, mixture, options)?;
        let Recognised { recognition, spectrogram, .. } = recogniser.recognise_file(&recording)?;
        let mut truth = Truth::read(&times)?;
        truth.compare(&recognition);
        print(&beside(&recognition, &truth, Style::of_stdout()))?;
        let spectrogram = spectrogram.expect("it is requested");
        let picture = Picture {
            recognition: &recognition,
            spectrum: &spectrum,
            spectrogram: &spectrogram,
            band_hz: &band_hz,
            attention: false,
            truth: Some(&truth),
        };
        write_page(&page, &picture, true)?;
        let opened = !self.no_open && stdout().is_terminal() && browser::open(&page);
        let how = if opened { "opening in the browser" } else { "open it in a browser" };
        print(&format!("Page with a player: {} ({how})\n", page.display()))?;
        print("Next: wmic song.mp3 for your own music, wmic demo --train to see a model being trained\n")?;
        Ok(Status::Done)
    }
}
