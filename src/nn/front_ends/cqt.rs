//! The constant-Q transform: magnitudes on a logarithmic frequency scale (see
//! [`filters::wavelet`](crate::ops::filters::wavelet)).

use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::cqt::wavelets;
use crate::ops::filters::wavelet::{Cqt, WaveletBank};
use crate::ops::halve::halve;
use crate::ops::join_columns::join_columns;

/// Adds the magnitudes. `samples` (B, S) at `config.sr` -> (B, 1 + S / hop_length, n_bins); the centre of frame t is
/// sample t hop_length.
///
/// # Errors
/// `Usage` for values out of range, a highest filter beyond the Nyquist frequency, or filters that need too much
/// memory; `Shape` for clips without samples.
pub fn cqt(g: &mut Graph, samples: Tensor, config: &Cqt) -> Result<Tensor> {
    config.check()?;
    let frames = config.frames(g.shape(samples).last());
    let (mut x, mut done) = (samples, 0);
    let mut columns = vec![];
    for stage in config.stages() {
        for _ in done..stage.halvings {
            x = halve(g, x)?;
        }
        done = stage.halvings;
        let bank = WaveletBank::new(config, config.rate(done), stage.bins);
        columns.push(wavelets(g, x, &bank, config.hop_length >> done, frames)?);
    }
    columns.reverse();
    if columns.len() == 1 { Ok(columns[0]) } else { join_columns(g, &columns) }
}
