//! Labels of the user's own recordings: one table, or annotation files beside the recordings.

mod collect;
mod labels;
mod table;
mod times;
mod tracks;

pub use collect::has_own_labels;
pub(super) use collect::load;
pub(super) use labels::has_table;
pub use labels::{OwnLabels, Part, Unlisted};
pub(crate) use table::read_times;
pub use times::Times;
