//! `wmic completions`: scripts for shells.

use clap::Command;
use clap_complete::Shell;

use super::common::Status;
use super::output;

/// Print a completion script for a shell
///
/// For example `wmic completions bash > ~/.local/share/bash-completion/completions/wmic`.
#[derive(clap::Args)]
pub struct Args {
    /// Shell
    shell: Shell,
}

impl Args {
    /// `command`: the whole command line.
    pub fn run(self, mut command: Command) -> anyhow::Result<Status> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut command, "wmic", &mut script);
        output::print(&String::from_utf8(script)?)?;
        Ok(Status::Done)
    }
}
