//! Where a normalisation's backward pass writes the gradients of gamma and beta: one binding for both, as parameters
//! lie in one arena.

use crate::core::error::{Error, Result};
use crate::gpu::{View, params};
use crate::graph::{Io, Sink};

params! {
    /// Where a tensor lies in a binding, in vectors, for a kernel's parameters.
    pub(super) struct Place { at: u32, stride: u32, wanted: u32, accumulate: u32 }
}

impl Place {
    /// From `at` on, and again every `stride` for the next replica.
    pub fn new(at: usize, stride: usize) -> Place {
        Place { at: at as u32, stride: stride as u32, wanted: 0, accumulate: 0 }
    }
}

/// The range of the gradients of the inputs 2 and 3, gamma and beta, if one is wanted, and their places in it, in
/// vectors of `width`; of one that is not wanted, zeros.
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
        accumulate: sink.accumulate.into(),
        ..Place::new((sink.view.offset - range.offset) / width, sink.stride / width)
    };
    Ok((range, sinks.map(|sink| range.zip(sink).map_or(Place::new(0, 0), |(range, sink)| place(range, sink)))))
}
