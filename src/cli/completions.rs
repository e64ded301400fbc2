//! `wmic completions`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Status, output};

/// Print a completion script for a shell
///
/// For example `wmic completions bash > ~/.local/share/bash-completion/completions/wmic`.
#[derive(clap::Args)]
pub struct Args {
    /// Shell
    shell: Shell,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "wmic", &mut script);
        output::print(&String::from_utf8(script)?)?;
        Ok(Status::Done)
    }
}
