//! The clips of a run, with a progress bar while their features are extracted; interruption by the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::note;
use wmic::Result;
use wmic::data::Dataset;
use wmic::gpu::Gpu;
use wmic::report::tables::table::printable;
use wmic::run::clips::{self, Labels, Loading};
use wmic::run::config::Config;

/// As [`clips::load_clips`], with progress and warnings on stderr. `None` if the user interrupted.
pub fn load_clips(gpu: &Gpu, config: &mut Config, labels: Labels) -> Result<Option<Dataset>> {
    with_progress("features of", "features", |stop, progress| clips::load_clips(gpu, config, labels, stop, progress))
}

/// Loads a dataset with progress and warnings on stderr: `what` is shown beside the files, and `extracted` is kept of
/// an interrupted extraction. `None` if the user interrupted.
pub fn with_progress(
    what: &'static str,
    extracted: &str,
    load: impl FnOnce(&dyn Fn() -> bool, &mut dyn FnMut(Loading)) -> Result<Option<Dataset>>,
) -> Result<Option<Dataset>> {
    // Also where nothing is extracted: a run that has begun is to save its state.
    let interrupted = stop_on_interrupt();
    let stop = || interrupted.load(Ordering::Relaxed);
    let (mut bar, mut notes): (Option<Bar>, Option<Bar>) = (None, None);
    let data = load(&stop, &mut |event| match event {
        Loading::Files { done, of } => bar.get_or_insert_with(|| Bar::new(of, what)).show(done),
        Loading::Notes { done, of } => {
            bar.iter().for_each(Bar::finish);
            notes.get_or_insert_with(|| Bar::new(of, "notes in")).show(done);
        }
        Loading::Fault(line) => {
            bar.iter().for_each(Bar::finish);
            note(&printable(line));
        }
    })?;
    bar.iter().chain(&notes).for_each(Bar::finish);
    match &data {
        Some(data) => data.warnings.iter().for_each(|line| note(&printable(&format!("warning: {line}")))),
        None => note(&format!(
            "wmic: interrupted; the {extracted} extracted so far are saved, run the same command to continue"
        )),
    }
    Ok(data)
}

/// Progress bar over files.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(files: usize, what: &'static str) -> Bar {
        let style = "{msg} {pos}/{len} files {wide_bar:.cyan/238} {eta} left";
        let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━━━");
        Bar(ProgressBar::new(files as u64).with_style(style).with_message(what))
    }

    /// Files done by an earlier run do not count for the time left.
    pub fn show(&self, done: usize) {
        if self.0.position() == 0 && done > 1 {
            self.0.set_position(done as u64);
            self.0.reset_eta();
        }
        self.0.set_position(done as u64);
    }

    /// Runs `work` with the bar hidden.
    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }

    /// Writes a line to stderr, above the bar.
    pub fn note(&self, text: &str) {
        self.suspend(|| note(&printable(text)));
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Set by the first Ctrl-C or SIGTERM: save and stop. A second one exits at once.
pub fn stop_on_interrupt() -> Arc<AtomicBool> {
    static STOP: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();
    let handle = || {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // Fails only when a handler is set already, and then that one is ours.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        stop
    };
    STOP.get_or_init(handle).clone()
}
