//! L6: the command line. One file per subcommand; what they share is here.

mod bench;
mod check;
mod clips;
mod common;
mod compare;
mod completions;
mod demo;
mod devices;
mod eval;
mod export;
mod features;
mod output;
mod plan;
mod predict;
mod settings;
mod synth;
mod train;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use wmic::gpu::Gpu;

/// Recognise musical instruments from weak labels, on any GPU.
#[derive(Parser)]
#[command(name = "wmic", version, after_help = AFTER_HELP)]
struct Cli {
    /// Log to stderr what is done (-vv: in detail); WMIC_LOG=wmic=debug,wgpu=info says it exactly
    #[arg(short, long, global = true, display_order = 900, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit status: 0 done, 1 a check failed, 2 an error, 130 interrupted (and saved).";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Train(Box<train::Args>),
    Compare(Box<compare::Args>),
    Eval(eval::Args),
    Predict(predict::Args),
    Features(features::Args),
    Export(export::Args),
    Plan(plan::Args),
    Synth(synth::Args),
    Devices(devices::Args),
    Check(check::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// What a command ends with when nothing went wrong on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    /// A check or a gate failed.
    Failed,
    /// Ctrl-C; what was done is saved.
    Interrupted,
}

/// Option for commands that run kernels.
#[derive(clap::Args)]
struct Device {
    /// Adapter to use: its index in `wmic devices`, or a part of its name [default: the first discrete GPU, else
    /// integrated, virtual, software]
    #[arg(long, value_name = "NAME|INDEX")]
    device: Option<String>,
}

impl Device {
    fn open(&self) -> wmic::Result<Gpu> {
        Gpu::open(self.device.as_deref())
    }
}

/// Parses the command line, runs the command and reports an error as one line.
pub fn run() -> ExitCode {
    calm_drivers();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() => {
            // Nobody may be reading.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
        Err(error) => return complain(&usage(&error)),
    };
    log(cli.verbose);
    // A limit on the size of files is an error like a full disk, not an end without a word.
    #[cfg(unix)]
    // SAFETY: nothing else handles this signal, and ignoring it has no other effect than EFBIG.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let verdict = match cli.command {
        Command::Demo(args) => args.run(),
        Command::Train(args) => args.run(),
        Command::Compare(args) => args.run(),
        Command::Eval(args) => args.run(),
        Command::Predict(args) => args.run(),
        Command::Features(args) => args.run(),
        Command::Export(args) => args.run(),
        Command::Plan(args) => args.run(),
        Command::Synth(args) => args.run(),
        Command::Devices(args) => args.run(),
        Command::Check(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Completions(args) => args.run(),
    };
    match verdict {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Ok(Verdict::Interrupted) => ExitCode::from(130),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => complain(&settings::said(&error)),
    }
}

/// An error takes one line, whatever names and texts of strangers it quotes.
fn complain(what: &str) -> ExitCode {
    output::note(&format!("wmic: {}", output::one_line(what)));
    ExitCode::from(2)
}

/// What clap has to say, without its outline of the usage.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let outline = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let said: Vec<&str> =
        text.lines().take_while(|line| !outline(line)).map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{}; see --help", said.join(" ").trim_start_matches("error: "))
}

/// Mesa prints "error: XDG_RUNTIME_DIR is invalid or not set" on machines without a desktop, which is no error for us.
fn calm_drivers() {
    if cfg!(unix) && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| dir.is_empty()) {
        // SAFETY: the first thing that main does; there is no other thread yet that could read the environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}

fn log(verbose: u8) {
    let filter = match (std::env::var("WMIC_LOG"), verbose) {
        (Ok(filter), _) if !filter.is_empty() => filter,
        (_, 0) => return,
        (_, 1) => "wmic=info".into(),
        _ => "wmic=debug,wgpu_core=info,wgpu_hal=info".into(),
    };
    match filter.parse::<Targets>() {
        Ok(targets) => {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            tracing_subscriber::registry().with(targets).with(lines).init();
        }
        Err(e) => eprintln!("warning: WMIC_LOG is ignored ({e}); it is like wmic=debug,wgpu_core=info"),
    }
}
