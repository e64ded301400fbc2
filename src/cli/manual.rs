//! `wmic manual`: manual pages.

use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;

use super::common::Status;
use super::output::note;
use wmic::core::files::{writable_folder, write_atomic};

/// Write manual pages into a folder: wmic.1, and one for each command
///
/// For example `wmic manual ~/.local/share/man/man1`, then `man wmic-train`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder, which is created if necessary
    dir: PathBuf,
}

impl Args {
    /// `command`: the whole command line.
    pub fn run(self, mut command: Command) -> anyhow::Result<Status> {
        writable_folder(&self.dir)?;
        // Names the pages of the commands: wmic-train.
        command.build();
        let mut pages = vec![command];
        let mut written = 0;
        while let Some(page) = pages.pop() {
            pages.extend(page.get_subcommands().filter(|of| !of.is_hide_set() && of.get_name() != "help").cloned());
            let page = Man::new(page);
            write_atomic(self.dir.join(page.get_filename()), |mut out| page.render(&mut out))?;
            written += 1;
        }
        note(&format!("{written} pages written to {}", self.dir.display()));
        Ok(Status::Done)
    }
}
