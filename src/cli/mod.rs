//! The command line: one file per subcommand, and what they share.

mod bench;
mod bundle;
mod check;
mod clips;
mod common;
mod compare;
mod completions;
mod demo;
mod devices;
mod download;
mod eval;
mod export;
mod features;
mod manual;
mod mix;
mod output;
mod plan;
mod predict;
mod pretrain;
mod settings;
mod short;
mod synth;
mod train;
mod tune;
mod user_config;
mod weights;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use common::Status;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Recognise musical instruments in recordings, and learn to from weak labels, on any GPU.
///
/// `wmic song.mp3` tells which instruments play, and when, with the model that is a part of wmic: the same as `wmic
/// predict song.mp3`, with the same options.
#[derive(Parser)]
#[command(name = "wmic", version, override_usage = USAGE, after_help = AFTER_HELP)]
struct Cli {
    /// Log progress to stderr (-vv: more detail); WMIC_LOG=wmic=debug,wgpu=info sets the filter
    #[arg(short, long, global = true, display_order = 900, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

const USAGE: &str = "wmic [OPTIONS] <COMMAND>\n       wmic [OPTIONS OF PREDICT] <RECORDING>...";
const AFTER_HELP: &str = "Exit status: 0 success, 1 a check failed, 2 error, 130 interrupted (state saved).";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Train(Box<train::Args>),
    Pretrain(Box<pretrain::Args>),
    Compare(Box<compare::Args>),
    Eval(eval::Args),
    Predict(predict::Args),
    Features(features::Args),
    Bundle(bundle::Args),
    Export(export::Args),
    Weights(weights::Args),
    Plan(plan::Args),
    Mix(mix::Args),
    Synth(synth::Args),
    Devices(devices::Args),
    Check(check::Args),
    Bench(bench::Args),
    Tune(Box<tune::Args>),
    Completions(completions::Args),
    Manual(manual::Args),
}

/// Parses the command line, runs the command and reports an error as one line.
pub fn run() -> ExitCode {
    prepare_software_drivers();
    let (command, args) = (command(), std::env::args_os().collect());
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).chain(["help"]).collect();
    let args = short::with_predict(args, &names);
    let parsed = command.try_get_matches_from(args).and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() => {
            // stdout may be closed.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
        Err(error) => return report_error(&usage(&error)),
    };
    log(cli.verbose);
    if let Err(error) = user_config::load() {
        return report_error(&error.to_string());
    }
    // A limit on the file size is an error like a full disk, not a silent exit.
    #[cfg(unix)]
    // SAFETY: nothing else handles this signal, and ignoring it has no other effect than EFBIG.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let status = match cli.command {
        Command::Demo(args) => args.run(),
        Command::Train(args) => args.run(),
        Command::Pretrain(args) => args.run(),
        Command::Compare(args) => args.run(),
        Command::Eval(args) => args.run(),
        Command::Predict(args) => args.run(),
        Command::Features(args) => args.run(),
        Command::Bundle(args) => args.run(),
        Command::Export(args) => args.run(),
        Command::Weights(args) => args.run(),
        Command::Plan(args) => args.run(),
        Command::Mix(args) => args.run(),
        Command::Synth(args) => args.run(),
        Command::Devices(args) => args.run(),
        Command::Check(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Tune(args) => args.run(),
        Command::Completions(args) => args.run(self::command()),
        Command::Manual(args) => args.run(self::command()),
    };
    match status {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Failed) => ExitCode::from(1),
        Ok(Status::Interrupted) => ExitCode::from(130),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => report_error(&settings::message(&error)),
    }
}

/// The commands and options. A negative number after an option is its value, so that the error names the values that
/// are allowed.
fn command() -> clap::Command {
    let negative = |arg: Arg| {
        let takes_value = !arg.is_positional() && arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_value)
    };
    Cli::command().mut_subcommands(|command| command.mut_args(negative))
}

/// Prints an error on one line, even if it quotes untrusted names with line breaks.
fn report_error(what: &str) -> ExitCode {
    output::note(&format!("wmic: {}", output::one_line(what)));
    ExitCode::from(2)
}

/// Clap's message without its usage lines.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let is_usage = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let lines: Vec<&str> =
        text.lines().take_while(|line| !is_usage(line)).map(str::trim).filter(|line| !line.is_empty()).collect();
    let what = lines.join(" ").replace("invalid digit found in string", "a whole number, 0 or above, is expected");
    let what = what.replace("invalid float literal", "a number is expected").replace("..=", " to ");
    format!("{}; see --help", what.trim_start_matches("error: "))
}

/// Sets what Mesa's drivers read from the environment, where it is not set. To be called before there are threads.
fn prepare_software_drivers() {
    let set = |name: &str, value: &OsStr| {
        if std::env::var_os(name).is_none_or(|value| value.is_empty()) {
            // SAFETY: main calls this first, so there is no other thread that could read the environment.
            unsafe { std::env::set_var(name, value) };
        }
    };
    if cfg!(unix) {
        // Without it on machines without a desktop, Mesa prints "error: XDG_RUNTIME_DIR is invalid or not set", which
        // is not an error here.
        set("XDG_RUNTIME_DIR", std::env::temp_dir().as_os_str());
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        if let Some(threads) = llvmpipe_threads(cores) {
            set("LP_NUM_THREADS", threads.to_string().as_ref());
        }
    }
}

/// llvmpipe splits a dispatch into one part for each of its threads and waits for the slowest. With its default of one
/// thread for each core, two threads that land on the same core double the time; more and smaller parts balance better.
/// Every version of llvmpipe takes 16 threads; with more cores than half as many its default stays.
fn llvmpipe_threads(cores: usize) -> Option<usize> {
    (2..=8).contains(&cores).then_some(2 * cores)
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
