//! Results go to stdout, progress to stderr; a closed pipe (`wmic check | head`) ends the command silently.

use std::io::{ErrorKind, Write, stderr, stdout};

use indicatif::{ProgressBar, ProgressStyle};
use wmic::report::tables::table::printable;

/// Writes `text` to stdout as it is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(written.map_err(wmic::Error::io("stdout"))?)
}

/// Writes a line to stderr; errors are ignored.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// `text` on one line, without control characters.
pub fn one_line(text: &str) -> String {
    printable(&text.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}

/// Writes `value` to stdout as indented JSON.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Whether the error is a closed stdout.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |e: &std::io::Error| e.kind() == ErrorKind::BrokenPipe;
    let csv = |e: &csv::Error| matches!(e.kind(), csv::ErrorKind::Io(e) if io(e));
    let ours = |e: &wmic::Error| matches!(e, wmic::Error::Io { source, .. } if io(source));
    error.downcast_ref().is_some_and(io)
        || error.downcast_ref().is_some_and(csv)
        || error.downcast_ref().is_some_and(ours)
}

/// Progress bar at the bottom of the terminal; nothing if stderr is not a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(steps: usize) -> Progress {
        let style = ProgressStyle::with_template("{pos:>4}/{len} {bar:16.cyan} {wide_msg}");
        Progress(ProgressBar::new(steps as u64).with_style(style.expect("a valid template")))
    }

    /// Starts the next step.
    pub fn next(&self, what: &str) {
        self.0.inc(1);
        self.message(what);
    }

    /// What is done in this step now.
    pub fn message(&self, what: &str) {
        self.0.set_message(printable(what));
        self.0.tick();
    }

    /// Prints above the line.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        self.0.suspend(|| print(text))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// `text` in at most `width` characters, the rest replaced by an ellipsis.
pub fn fit(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}
