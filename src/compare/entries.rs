//! The entries of a comparison, one after the other, of which some may fail.

use crate::core::error::{Error, Result};
use crate::gpu::Gpu;

/// What became of the entries.
#[derive(Debug)]
pub struct Entries<T> {
    /// Those that ended, by their place.
    pub ended: Vec<(usize, T)>,
    /// Why others did not, each with its label.
    pub left_out: Vec<String>,
}

/// Works on the entries of these `labels` with `gpu`. One that diverges or needs more memory than there is says nothing about the
/// others, and is left out. A device that ran out of memory on the way is good for nothing more: `open` opens another. `None` if the
/// user interrupted, as `work` says it by `None`.
///
/// # Errors
/// The first other error of `work`, with the label of its entry.
pub fn each<T>(
    labels: &[String],
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
            Err(error) => return Err(Error::Usage(format!("{label}: {error}"))),
        }
    }
    Ok(Some(entries))
}
