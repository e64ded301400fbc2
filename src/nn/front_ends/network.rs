//! The networks whose weights are not a part of wmic.

use serde::Deserialize;

/// A network whose weights are not a part of wmic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    Vggish,
    Yamnet,
}

impl Network {
    pub const ALL: [Network; 2] = [Network::Vggish, Network::Yamnet];

    /// In options and names of files.
    pub fn name(self) -> &'static str {
        match self {
            Network::Vggish => "vggish",
            Network::Yamnet => "yamnet",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Network::Vggish => "VGGish",
            Network::Yamnet => "YAMNet",
        }
    }
}
