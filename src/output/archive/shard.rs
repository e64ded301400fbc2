//! A part of the recordings, for one of several machines or processes.

use std::path::Path;
use std::str::FromStr;

use crate::core::hash::Fingerprint;
use crate::core::random::philox;

/// Part `index` of `count`, from 1. A recording belongs to one of them by a hash of its place (see
/// [`crate::audio::Found`]), so neither other recordings nor where the folder is mounted matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    pub fn takes(self, place: &Path) -> bool {
        let mut fingerprint = Fingerprint::default();
        place.iter().for_each(|part| fingerprint.mix_bytes(part.as_encoded_bytes()));
        let hash = fingerprint.finish();
        philox([hash as u32, (hash >> 32) as u32, 0, 0], [0, 0])[0] % self.count == self.index - 1
    }

    /// The name of its own file: `journal.jsonl` is `journal.1-of-4.jsonl`.
    pub(super) fn name(of: Option<Shard>, stem: &str, extension: &str) -> String {
        match of {
            Some(Shard { index, count }) => format!("{stem}.{index}-of-{count}.{extension}"),
            None => format!("{stem}.{extension}"),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err("i/n with i from 1 to n is expected, e.g. 2/4".into()),
        }
    }
}
