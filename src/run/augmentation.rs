//! Augmentation of training clips.

use serde::{Deserialize, Serialize};

use crate::ops::sample::Order;

/// Augmentation of training clips. Validation and test clips are not augmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Each clip becomes a weighted sum with another clip.
    Mixup,
    /// Half of the clips get another clip appended; after mixup.
    Concat,
}

impl Augmentation {
    /// How its partners are drawn.
    pub fn partners(self) -> Order {
        Order::Partners(self as u32)
    }
}
