//! Training and validation clips of each seed, and `splits.csv`.

use std::collections::{BTreeMap, HashMap};

use crate::core::error::{Error, Result};
use crate::core::files::{read_limited, write_atomic};
use crate::core::toml::one_line;
use crate::data::{Dataset, validation_split};
use crate::run::config::Config;
use crate::run::run_dir::{CLASS_MAP, RunDir, SPLITS};

/// Maximum size of the table.
const LIMIT: u64 = 1 << 30;

/// A replica's training clips and validation clips.
pub type Split = (Vec<u32>, Vec<u32>);

/// Training and validation clips of each seed: drawn per seed, or the dataset's own; no validation clips if
/// `val_fraction` is 0.
pub fn splits(config: &Config, data: &Dataset) -> Result<Vec<Split>> {
    match &data.validation {
        Some(validation) => Ok(vec![(data.train.clone(), validation.clone()); config.seeds.len()]),
        None if config.val_fraction == 0.0 => Ok(vec![(data.train.clone(), vec![]); config.seeds.len()]),
        None => config.seeds.iter().map(|&seed| validation_split(&data.train, config.val_fraction, seed)).collect(),
    }
}

impl RunDir {
    /// Writes the splits, if they were drawn on loading: `splits.csv` with the columns sample_key, class (those that
    /// are present, between semicolons) and split, and `class-map.json`.
    pub(crate) fn write_splits(&self, data: &Dataset) -> Result<()> {
        let Some(validation) = data.validation.as_ref().filter(|_| data.drawn.is_some()) else {
            return Ok(());
        };
        let numbers: serde_json::Map<_, _> = data.classes.iter().cloned().zip((0..).map(|k: u64| k.into())).collect();
        write_atomic(self.path().join(CLASS_MAP), |out| {
            serde_json::to_writer_pretty(out, &numbers).map_err(Into::into)
        })?;
        let mut table = csv::Writer::from_writer(vec![]);
        let mut row = |cells: [&str; 3]| table.write_record(cells).expect("a vector takes all");
        row(["sample_key", "class", "split"]);
        for (split, clips) in [("train", &data.train), ("validation", validation), ("test", &data.test)] {
            for &clip in clips {
                let k = data.classes.len();
                let entries = clip as usize * k..(clip as usize + 1) * k;
                let labels = data.targets[entries.clone()].iter().zip(&data.observed[entries]).zip(&data.classes);
                let present =
                    labels.filter(|((target, seen), _)| **target >= 0.5 && **seen).map(|(_, class)| class.as_str());
                row([&data.keys[clip as usize], &present.collect::<Vec<&str>>().join(";"), split]);
            }
        }
        let bytes = table.into_inner().expect("flushed to a vector");
        write_atomic(self.path().join(SPLITS), |out| out.write_all(&bytes))
    }

    /// Number of training, validation and test clips of each class by `splits.csv`: AACNN's Table I.
    ///
    /// # Errors
    /// `Data` for a damaged table.
    pub(crate) fn clips_per_class(&self) -> Result<Vec<(String, [usize; 3])>> {
        let mut classes: BTreeMap<String, [usize; 3]> = BTreeMap::new();
        for [_, class, split] in self.split_table()? {
            let of = ["train", "validation", "test"].iter().position(|name| *name == split);
            if let Some(of) = of {
                let present = class.split(';').filter(|class| !class.is_empty());
                present.for_each(|class| classes.entry(class.into()).or_default()[of] += 1);
            }
        }
        Ok(classes.into_iter().collect())
    }

    /// The rows of `splits.csv`; none if the run has no such table.
    fn split_table(&self) -> Result<Vec<[String; 3]>> {
        let path = self.path().join(SPLITS);
        if !path.is_file() {
            return Ok(vec![]);
        }
        let bytes = read_limited(&path, LIMIT)?;
        let rows = csv::Reader::from_reader(&bytes[..]).into_deserialize::<[String; 3]>();
        let fail = |e: csv::Error| Error::data(&path, format!("is damaged ({})", one_line(&e.to_string())));
        rows.map(|row| row.map_err(fail)).collect()
    }

    /// Whether there is a `splits.csv`.
    pub fn has_split_table(&self) -> bool {
        self.path().join(SPLITS).is_file()
    }

    /// Restores the splits of `splits.csv`, if there is one: with files added or removed since, a new draw would test
    /// the run on its training clips. Clips that it does not list are in no split; returns their number.
    ///
    /// # Errors
    /// `Data` for a damaged table.
    pub fn restore_splits(&self, data: &mut Dataset) -> Result<usize> {
        if data.validation.is_none() || !self.path().join(SPLITS).is_file() {
            return Ok(0);
        }
        let split_of: HashMap<String, String> =
            self.split_table()?.into_iter().map(|[key, _, split]| (key, split)).collect();
        let of = |wanted: &str| -> Vec<u32> {
            let is = |key: &String| split_of.get(key).is_some_and(|split| split == wanted);
            data.keys.iter().zip(0..).filter(|(key, _)| is(key)).map(|(_, clip)| clip).collect()
        };
        let unknown = data.keys.iter().filter(|key| !split_of.contains_key(*key)).count();
        (data.train, data.validation, data.test) = (of("train"), Some(of("validation")), of("test"));
        Ok(unknown)
    }
}
