//! The tiles of matrix products: those that kernels choose by themselves, or others that were measured to be faster on
//! an adapter.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::adapter::{Precision, Target};

/// A matrix product whose tiles can be chosen: `copies` of (rows, columns) results, each a sum of `terms`. Replicas are
/// not counted, as no choice depends on R.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its entry point.
    pub kernel: &'static str,
    pub result: [usize; 2],
    pub terms: usize,
    pub copies: usize,
    /// Of its operands.
    pub precision: Precision,
}

/// "linear_forward 1280 x 128 x 1506": rows, columns and terms; with copies "linear_forward 24 x 40 x 512 x 64"; in
/// half precision "linear_forward 1280 x 128 x 1506 f16".
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Problem { kernel, result: [rows, columns], terms, copies, precision } = self;
        let copies = if *copies > 1 { format!("{copies} x ") } else { String::new() };
        write!(f, "{kernel} {copies}{rows} x {columns} x {terms}")?;
        if *precision == Precision::F32 { Ok(()) } else { write!(f, " {precision}") }
    }
}

/// How a product is computed: in tiles of `side` x `side` results, its sums in so many slices, which are added up
/// afterwards. As text "64", or "64 / 4" with slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tiling {
    pub side: usize,
    pub slices: usize,
}

impl Tiling {
    /// The sides of tiles that kernels have.
    pub const SIDES: [usize; 3] = [32, 64, 128];
}

impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.side)?;
        if self.slices > 1 { write!(f, " / {}", self.slices) } else { Ok(()) }
    }
}

impl From<Tiling> for String {
    fn from(tiling: Tiling) -> String {
        tiling.to_string()
    }
}

impl TryFrom<String> for Tiling {
    type Error = String;

    fn try_from(text: String) -> Result<Tiling, String> {
        let (side, slices) = text.split_once(" / ").unwrap_or((&text, "1"));
        match (side.parse(), slices.parse()) {
            (Ok(side), Ok(slices)) if Tiling::SIDES.contains(&side) && slices > 0 => Ok(Tiling { side, slices }),
            _ => Err(format!("tiles must be 32, 64 or 128, as in \"64\", or \"64 / 4\" with slices, not {text:?}")),
        }
    }
}

/// Tilings of problems by their text; others have the kernels' own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tilings(pub BTreeMap<String, Tiling>);

impl Tilings {
    pub fn get(&self, problem: &Problem) -> Option<Tiling> {
        self.0.get(&problem.to_string()).copied()
    }

    /// With that of one problem.
    pub fn with(&self, problem: &Problem, tiling: Tiling) -> Tilings {
        let mut all = self.clone();
        all.0.insert(problem.to_string(), tiling);
        all
    }
}

/// What the kernels of a plan depend on: the target, and the tilings that were chosen for it.
#[derive(Clone, Debug)]
pub struct Tuned {
    pub target: Target,
    pub tilings: Tilings,
}

/// The kernels' own tilings.
impl From<Target> for Tuned {
    fn from(target: Target) -> Tuned {
        Tuned { target, tilings: Tilings::default() }
    }
}

/// A problem of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TiledProduct {
    /// The op that it belongs to.
    pub op: &'static str,
    pub problem: Problem,
    /// Most slices of its sums.
    pub slices: usize,
    /// Its tiling without a choice; `None` for a kernel without tiles.
    pub default: Option<Tiling>,
}

impl TiledProduct {
    /// The tilings that it can have besides its own.
    pub fn others(&self) -> Vec<Tiling> {
        let mut slices = vec![self.slices, self.slices.div_ceil(2), self.slices.div_ceil(4)];
        slices.dedup();
        let all = Tiling::SIDES.iter().flat_map(|&side| slices.iter().map(move |&slices| Tiling { side, slices }));
        all.filter(|tiling| Some(*tiling) != self.default).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilings_are_parsed_as_they_are_shown() {
        for (text, side, slices) in [("32", 32, 1), ("128", 128, 1), ("64 / 4", 64, 4)] {
            let tiling = Tiling { side, slices };
            assert_eq!(tiling.to_string(), text);
            assert_eq!(Tiling::try_from(text.to_owned()), Ok(tiling));
        }
        for text in ["", "48", "64 / 0", "64 / ", "64/4", "64 / 4 / 2", "-32", "64 / 99999999999999999999"] {
            assert!(Tiling::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
