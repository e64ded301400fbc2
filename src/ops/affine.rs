//! Where a normalisation's backward pass writes the gradients of gamma and beta: one binding for both, as parameters lie in one arena.

use crate::core::error::{Error, Result};
use crate::gpu::View;
use crate::graph::{Io, Sink};

/// One of both gradients in the range of [`gradients`], for a kernel's parameters; zeros if it is not wanted. In vectors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub wanted: u32,
    pub at: u32,
    pub stride: u32,
    pub accumulate: u32,
}

/// The range of the gradients of the inputs 2 and 3, gamma and beta, if one is wanted, and their places in it, in vectors of `width`.
///
/// # Errors
/// `NoGradient` for `op` on inputs that are not parameters.
pub(super) fn gradients(io: &Io, width: usize, op: &'static str) -> Result<(Option<View>, [Place; 2])> {
    let sinks = [io.dx(2), io.dx(3)];
    let mut range: Option<View> = None;
    for view in sinks.into_iter().flatten().map(|sink| sink.view) {
        let both = range.map_or(Some(view), |range| range.cover(view));
        range = Some(both.ok_or(Error::NoGradient { op })?);
    }
    let place = |range: View, sink: &Sink| Place {
        wanted: 1,
        at: ((sink.view.offset - range.offset) / width) as u32,
        stride: (sink.stride / width) as u32,
        accumulate: sink.accumulate.into(),
    };
    Ok((range, sinks.map(|sink| range.zip(sink).map_or(Place::default(), |(range, sink)| place(range, sink)))))
}
