//! `wmic song.mp3`: a command line without a subcommand is one of `wmic predict`, if it names recordings.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use wmic::audio::is_audio;

/// `args` with the subcommand `predict`, if they have none of `commands` and name recordings: first, or after options.
/// So a misspelt subcommand stays one. `args`: with the program's name.
pub fn with_predict(mut args: Vec<OsString>, commands: &[&str]) -> Vec<OsString> {
    let is_command = |arg: &OsString| arg.to_str().is_some_and(|arg| commands.contains(&arg));
    let is_option = |arg: &OsString| arg != "-" && arg.as_encoded_bytes().starts_with(b"-");
    let of_all = ["-h", "--help", "-v", "-vv", "--verbose"];
    let mut meant = args.iter().skip(1).skip_while(|arg| of_all.iter().any(|of_all| *of_all == arg.as_os_str()));
    let is_predict = match meant.next() {
        // Which of the others are values of options, only the subcommand knows.
        Some(first) if is_option(first) => !meant.clone().any(is_command) && meant.any(|arg| is_recording(arg)),
        Some(first) => !is_command(first) && is_recording(first),
        None => false,
    };
    if is_predict {
        args.insert(1, "predict".into());
    }
    args
}

/// Whether it can be meant as recordings: something that exists, that is called like audio, a path with separators or a
/// pattern; or standard input.
fn is_recording(arg: &OsStr) -> bool {
    let is_path = arg.as_encoded_bytes().iter().any(|b| b"/\\*?[".contains(b));
    arg == "-" || is_path || is_audio(Path::new(arg)) || Path::new(arg).exists()
}
