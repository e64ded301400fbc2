//! Datasets of clip features with partially observed labels, in the layout of OpenMIC-2018
//! (Humphrey, Durand, McFee: "OpenMIC-2018: An open dataset for multiple instrument recognition", ISMIR 2018).
//!
//! All input is untrusted: memory is bounded by the size of the files, nothing in them is executed, and errors name the
//! file.

mod audio_set;
mod class_folders;
mod dataset;
mod excerpts;
mod features;
mod features_npz;
mod json_features;
mod labels;
mod layout;
mod mapped;
mod mix;
mod names;
mod npz;
mod openmic;
mod own_labels;
mod pickled_strings;
mod split;
mod synth;
mod synth_audio;
mod tagged;

pub use audio_set::AudioSet;
pub use dataset::{Dataset, Drawn, FeatureValues, Features, instance};
pub use excerpts::Excerpts;
pub use features::FeatureScale;
pub use features_npz::{npz_note, write_npz};
pub use mapped::Mapped;
pub(crate) use mix::SR as MIXTURE_SR;
pub use mix::{MixConfig, Mixer, Mixing, Mixture, Notes, Part, Piece, write_mixtures};
pub(crate) use names::{class_named, normalised};
pub(crate) use npz::{has_array, read_array};
pub use openmic::{features_npz, has_class_map, has_features, load_features};
pub(crate) use own_labels::Times;
pub(crate) use own_labels::read_times;
pub use own_labels::{Unlisted, has_own_labels};
pub use split::{SplitBy, SplitConfig, validation_split};
pub use synth::synth;
pub use synth_audio::synth_audio;
pub use tagged::{Tagged, read_tags, word_vectors};
