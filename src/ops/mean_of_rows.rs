//! Last part of losses: the mean over the rows of a batch, in a fixed order.

use super::variants::{self, Lanes, lane_rounds};
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};

const SHADER: Shader = shader!("mean_of_rows.wgsl");
pub(super) static SHADERS: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];

params! {
    struct Params { rows: u32 }
}

const LANES: usize = 64;

/// Records it: `values` (R, rows, 2), each row's sum and what it counts, to `y` (R), 0 where nothing counts, and
/// `parts` (R, 2), its numerator and denominator.
pub(super) fn mean_of_rows(r: &mut Recorder, values: View, y: View, parts: View, rows: usize, replicas: usize) {
    let bindings = [("values", values), ("y", y), ("parts", parts)];
    let launch = Grid::folded(1, replicas).iterations(rows.div_ceil(LANES) + lane_rounds(LANES));
    r.dispatch(variants::lanes(r.target, &SHADERS), "mean_of_rows", &bindings, Params { rows: rows as u32 }, launch);
}
