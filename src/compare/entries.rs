//! Runs the entries of a comparison one after the other; some may fail.

use crate::core::error::{Error, Result};
use crate::gpu::Gpu;

/// Results of the entries.
#[derive(Debug)]
pub struct Entries<T> {
    /// Finished entries, by index.
    pub ended: Vec<(usize, T)>,
    /// Skipped entries: label and reason.
    pub left_out: Vec<String>,
}

/// Runs `work` on the entries of these `labels` with `gpu`. One that diverges or needs too much memory does not affect
/// the others, and is skipped. A device that ran out of memory is unusable: `open` opens it again. `None` if the user
/// interrupted, i.e. `work` returned `None`.
///
/// # Errors
/// `Entry` with the first other error of `work`.
pub fn each<T>(
    labels: &[&str],
    gpu: &Gpu,
    open: &dyn Fn() -> Result<Gpu>,
    work: &mut dyn FnMut(&Gpu, usize) -> Result<Option<T>>,
) -> Result<Option<Entries<T>>> {
    let mut gpu = gpu.clone();
    let mut entries = Entries { ended: vec![], left_out: vec![] };
    for (i, label) in labels.iter().enumerate() {
        match work(&gpu, i) {
            Ok(Some(done)) => entries.ended.push((i, done)),
            Ok(None) => return Ok(None),
            Err(error @ (Error::Diverged { .. } | Error::Limit { .. })) => {
                entries.left_out.push(format!("{label}: {error}"));
            }
            Err(error) if error.is_out_of_memory() => {
                entries.left_out.push(format!("{label}: {error}"));
                gpu = open()?;
            }
            Err(error) => return Err(Error::Entry { label: (*label).into(), error: Box::new(error) }),
        }
    }
    Ok(Some(entries))
}
