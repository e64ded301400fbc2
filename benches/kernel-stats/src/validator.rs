//! `spirv-val` of SPIRV-Tools, where it is installed.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use wmic::gpu::Spirv;

/// # Errors
/// What is wrong with the module.
pub fn validate(spirv: &Spirv) -> Result<()> {
    let mut command = Command::new("spirv-val");
    command.args(["--target-env", "vulkan1.3", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let bytes: Vec<u8> = spirv.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    child.stdin.take().context("it has no input")?.write_all(&bytes)?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}
