//! A training setting: its key, values, help and the models that support it.
//! [`SETTINGS`](crate::run::settings::SETTINGS) lists them all; defaults and checks are in [`crate::run::given`],
//! options in the command line.

use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::path::Path;

use serde::Serialize;
use toml::{Table, Value as Toml};

use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::nn::{FeatureKind, Model, is_objective};

/// A training setting. Adding one takes an entry in `SETTINGS`, a field of `Config` and a default in `Config::of`;
/// help, options, checks, and what it means for a resumed run or the dataset of a comparison are derived.
#[derive(Debug)]
pub struct Setting {
    /// Key in `run.toml`; tables and their keys are separated by a dot.
    pub key: &'static str,
    pub group: Group,
    pub value: Value,
    /// Help text; possible values and defaults are appended.
    pub help: &'static str,
    /// The reason if a model does not support it: "{model} {reason}: remove it".
    pub unsupported: fn(&Model) -> Option<&'static str>,
    /// Another setting that this one requires, and the value of it; `None`: any.
    pub needs: Option<(&'static str, Option<&'static str>)>,
    /// Of a number.
    pub range: Option<Range>,
    pub on_resume: OnResume,
}

/// Allowed numbers.
pub type Range = (Bound<f64>, Bound<f64>);

/// What a setting is about: the heading of its option, and whether it changes the clips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Model,
    Loss,
    Optimisation,
    Data,
    FrontEnd,
    Notes,
}

impl Group {
    pub const fn title(self) -> &'static str {
        match self {
            Group::Model => "Model",
            Group::Loss => "Loss",
            Group::Optimisation => "Optimisation",
            Group::Data => "Data",
            Group::FrontEnd => "Front end",
            Group::Notes => "Single notes",
        }
    }
}

/// Whether a setting can be given when a run is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResume {
    /// No: a run keeps it.
    Keeps,
    /// Yes, if the run has it: a file that has moved.
    Moves,
    /// Yes.
    Free,
}

/// A [`Setting`] that does not require another, which runs keep.
pub(crate) const fn setting(
    key: &'static str,
    group: Group,
    value: Value,
    unsupported: fn(&Model) -> Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, group, value, help, unsupported, needs: None, range: None, on_resume: OnResume::Keeps }
}

/// The type of a setting.
#[derive(Debug)]
pub enum Value {
    /// An integer, with its placeholder.
    Count(&'static str),
    Number,
    /// One of these; digits are parsed as integers.
    Name(fn() -> &'static [&'static str]),
    /// Any of these.
    Names(fn() -> &'static [&'static str]),
    /// A file or a folder.
    Path(&'static str),
    /// A file, a folder or certain words: its placeholder and parser.
    PathOr(&'static str, fn(&str) -> Result<Toml, String>),
    /// Anything else: its placeholder and parser.
    Text(&'static str, fn(&str) -> Result<Toml, String>),
}

impl Setting {
    pub(crate) const fn needing(mut self, key: &'static str, value: Option<&'static str>) -> Setting {
        self.needs = Some((key, value));
        self
    }

    pub(crate) const fn within(mut self, low: Bound<f64>, high: Bound<f64>) -> Setting {
        self.range = Some((low, high));
        self
    }

    pub(crate) const fn on_resume(mut self, on_resume: OnResume) -> Setting {
        self.on_resume = on_resume;
        self
    }

    /// Parses a command-line value; for lists, one item.
    ///
    /// # Errors
    /// What is wrong with it. Ranges are checked by `Config::validate`.
    pub fn parse(&self, text: &str) -> Result<Toml, String> {
        match &self.value {
            Value::Count(_) => {
                let n: u64 = text.parse().map_err(|_| "a whole number, 0 or above, is expected")?;
                Ok(Toml::Integer(i64::try_from(n).unwrap_or(i64::MAX)))
            }
            Value::Number => text.parse().map(Toml::Float).map_err(|_| "a number is expected".into()),
            Value::Name(_) | Value::Names(_) => {
                Ok(text.parse().map_or_else(|_| Toml::String(text.into()), Toml::Integer))
            }
            Value::Path(_) => path(text),
            Value::PathOr(_, parse) | Value::Text(_, parse) => parse(text),
        }
    }

    /// Path of the setting in `run.toml`; two settings exist in two tables.
    pub(crate) fn path(&self, model: &Model, value: Option<&Toml>) -> &'static str {
        match self.key {
            "width" if model.is_single_note() => "notes.width",
            "width" => "front_end.width",
            "init" if value.and_then(Toml::as_str).is_some_and(|v| v == "normal" || v == "he") => "notes.init",
            key => key,
        }
    }

    /// Whether it changes the clips of a model or their splits, and not the training alone.
    pub(crate) fn changes_clips(&self, model: &Model) -> bool {
        matches!(self.group, Group::Data | Group::FrontEnd | Group::Notes) && self.path(model, None) != "notes.width"
    }

    /// Whether it is set in the settings `table` of a model, to another value than among its `defaults`.
    pub(super) fn is_set(&self, model: &Model, table: &Table, defaults: &Table) -> bool {
        let at = self.path(model, None);
        find(table, at).is_some_and(|value| Some(value) != find(defaults, at))
    }

    /// Whether it is a path of data, which may differ between runs of the same data.
    pub(crate) fn is_place(&self) -> bool {
        matches!(self.value, Value::Path(_)) && self.on_resume != OnResume::Keeps
    }

    /// Whether its value is a path, or may be.
    pub(crate) fn is_path(&self) -> bool {
        matches!(self.value, Value::Path(_) | Value::PathOr(..))
    }

    pub(crate) fn unsupported_error(&self, model: &Model, reason: &str) -> Error {
        Error::Usage(format!("{} {reason}: remove `{}`", model.name, self.key))
    }
}

/// "at least 0 and below 1".
pub(super) fn words((low, high): Range) -> String {
    let low = match (low, high) {
        (Included(low), Included(high)) => return format!("between {low} and {high}"),
        (Included(low), _) => format!("at least {low}"),
        (Excluded(low), _) => format!("above {low}"),
        (Unbounded, _) => String::new(),
    };
    let high = match high {
        Included(high) => format!("at most {high}"),
        Excluded(high) => format!("below {high}"),
        Unbounded => String::new(),
    };
    let both: Vec<String> = [low, high].into_iter().filter(|part| !part.is_empty()).collect();
    both.join(" and ")
}

/// A path as stored in settings files.
pub(crate) fn path(text: &str) -> Result<Toml, String> {
    let path = absolute(Path::new(text)).map_err(|e| e.to_string())?;
    Ok(Toml::String(path.to_str().expect("absolute paths are text").into()))
}

/// The value at a dotted path of keys.
pub(super) fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Toml> {
    match path.split_once('.') {
        None => table.get(path),
        Some((key, rest)) => find(table.get(key)?.as_table()?, rest),
    }
}

pub(super) fn insert(table: &mut Table, path: &str, value: Toml) {
    match path.split_once('.') {
        None => drop(table.insert(path.into(), value)),
        Some((key, rest)) => {
            if let Toml::Table(inner) = table.entry(key).or_insert_with(|| Toml::Table(Table::new())) {
                insert(inner, rest, value);
            }
        }
    }
}

/// Removes the value at a dotted path of keys, if there is one.
pub(crate) fn remove(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((key, rest)) => {
            if let Some(Toml::Table(inner)) = table.get_mut(key) {
                remove(inner, rest);
            }
        }
    }
}

/// Merges `over` into `table`, recursively.
pub(crate) fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Toml::Table(inner)), Toml::Table(value)) => merge(inner, value),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

// The values of `unsupported`: which models support a setting.

pub(crate) fn all(_: &Model) -> Option<&'static str> {
    None
}

pub(crate) fn networks(model: &Model) -> Option<&'static str> {
    model.is_forest().then_some("is not a neural network")
}

pub(crate) fn with_thresholds(model: &Model) -> Option<&'static str> {
    model.single_label.then_some("is single-label and has no thresholds")
}

pub(crate) fn with_known_labels(model: &Model) -> Option<&'static str> {
    networks(model).or(model.single_label.then_some("is single-label: its loss is the mean over clips"))
}

pub(crate) fn with_mixed_clips(model: &Model) -> Option<&'static str> {
    networks(model).or(model.single_label.then_some("is single-label, so clips cannot be mixed"))
}

pub(crate) fn on_mixtures(model: &Model) -> Option<&'static str> {
    with_mixed_clips(model)
        .or(is_objective(model).then_some("is an objective of pre-training and has sounds of its own"))
}

pub(crate) fn with_attention(model: &Model) -> Option<&'static str> {
    networks(model).or((!model.has_attention).then_some("has no attention pooling"))
}

pub(crate) fn on_instances(model: &Model) -> Option<&'static str> {
    networks(model).or((!model.has_attention).then_some("has no probabilities of instances, so it cannot use times"))
}

pub(crate) fn with_dropout(model: &Model) -> Option<&'static str> {
    networks(model).or((model.protocol.dropout == 0.0).then_some("has no dropout"))
}

pub(crate) fn with_norm(model: &Model) -> Option<&'static str> {
    model.protocol.norm.is_none().then_some("has no choice of normalisation")
}

pub(crate) fn on_log_mel(model: &Model) -> Option<&'static str> {
    model.protocol.spec_augment.is_none().then_some("does not take log-mel patches")
}

pub(crate) fn on_embeddings(model: &Model) -> Option<&'static str> {
    model.protocol.inputs.is_none().then_some("does not take embeddings")
}

pub(crate) fn uses_vggish(model: &Model) -> Option<&'static str> {
    (!model.needs_vggish()).then_some("does not use VGGish")
}

pub(crate) fn with_front_ends(model: &Model) -> Option<&'static str> {
    (!model.inputs.contains(&FeatureKind::Musicnn)).then_some("has no choice of front ends")
}

pub(crate) fn on_feature_maps(model: &Model) -> Option<&'static str> {
    networks(model).or((!model.trains_vggish()).then_some("does not train a front end"))
}

pub(crate) fn with_width(model: &Model) -> Option<&'static str> {
    if model.is_single_note() { None } else { uses_vggish(model) }
}

pub(crate) fn single_note(model: &Model) -> Option<&'static str> {
    (!model.is_single_note()).then_some("is not a single-note model")
}

/// As stored in settings files.
pub(crate) fn as_toml(value: impl Serialize) -> Result<Toml, String> {
    Toml::try_from(value).map_err(|e| e.to_string())
}
