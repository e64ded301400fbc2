//! Pages in the browser of the desktop.

use std::path::Path;
use std::process::{Command, Stdio};

/// Asks the desktop to show a page; returns whether there is one to ask. Nothing is awaited: some browsers run until
/// their window is closed.
pub fn open(page: &Path) -> bool {
    let Ok(page) = page.canonicalize() else { return false };
    let Some(mut opener) = opener() else { return false };
    opener.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()
}

/// The system's program that opens files, if this is a session on a desktop.
fn opener() -> Option<Command> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if cfg!(windows) {
        Some(Command::new("explorer"))
    } else if cfg!(target_os = "macos") {
        // From another machine it would open on a screen that the user does not see.
        (!set("SSH_CONNECTION")).then(|| Command::new("open"))
    } else {
        (set("DISPLAY") || set("WAYLAND_DISPLAY")).then(|| Command::new("xdg-open"))
    }
}
