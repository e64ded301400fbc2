//! Early stopping in settings files: a number of epochs, or `none`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "patience must be a number of epochs, or \"none\"")]
enum Patience {
    None,
    #[serde(untagged)]
    Epochs(usize),
}

pub(super) fn serialize<S: Serializer>(value: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map_or(Patience::None, Patience::Epochs).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(match Patience::deserialize(deserializer)? {
        Patience::Epochs(epochs) => Some(epochs),
        Patience::None => None,
    })
}
