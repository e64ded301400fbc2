//! What a setting of training is. The table of all is [`SETTINGS`](crate::run::config::SETTINGS), beside the fields of
//! [`Config`](crate::run::config::Config); what follows from it is in [`crate::run::given`] and in the command line.

use std::path::Path;

use serde::Serialize;
use toml::{Table, Value as Toml};

use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::nn::Model;

/// A setting of training: declared here, in the table of all, as a field of `Config` and with its default in `Config::of`, all of them
/// in one file; used wherever it is used. Everything else is derived.
#[derive(Debug)]
pub struct Setting {
    /// In `run.toml`; tables are parted from what they hold by a dot.
    pub key: &'static str,
    pub value: Value,
    /// For help texts; possible values and defaults are added.
    pub help: &'static str,
    /// Why a model does not have it, if it has not: "{model} {reason}: leave it out".
    pub lacks: fn(&Model) -> Option<&'static str>,
    /// Another setting and the value without which this one means nothing.
    pub needs: Option<(&'static str, &'static str)>,
}

/// A [`Setting`] that needs no other.
pub(crate) const fn setting(
    key: &'static str,
    value: Value,
    lacks: fn(&Model) -> Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, value, help, lacks, needs: None }
}

/// What a setting can be.
#[derive(Debug)]
pub enum Value {
    /// A whole number, at least 1, of what is named.
    Count(&'static str),
    /// A number, from the first on to below the second if there are bounds.
    Number(Option<(f64, f64)>),
    /// One of these; numbers among them are numbers.
    Name(fn() -> &'static [&'static str]),
    /// Any of these.
    Names(fn() -> &'static [&'static str]),
    /// A file or a folder.
    Path(&'static str),
    /// Anything else, under its name, from text.
    Text(&'static str, fn(&str) -> Result<Toml, String>),
}

impl Setting {
    pub(crate) const fn needing(mut self, key: &'static str, value: &'static str) -> Setting {
        self.needs = Some((key, value));
        self
    }

    /// What a text on the command line says; of a list an item.
    ///
    /// # Errors
    /// What is wrong with it. Ranges are checked by `Config::validate`.
    pub fn parse(&self, text: &str) -> Result<Toml, String> {
        match &self.value {
            Value::Count(_) => {
                let n: u64 = text.parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
                Ok(Toml::Integer(i64::try_from(n).unwrap_or(i64::MAX)))
            }
            Value::Number(_) => text.parse().map(Toml::Float).map_err(|e: std::num::ParseFloatError| e.to_string()),
            Value::Name(_) | Value::Names(_) => {
                Ok(text.parse().map_or_else(|_| Toml::String(text.into()), Toml::Integer))
            }
            Value::Path(_) => path(text),
            Value::Text(_, parse) => parse(text),
        }
    }

    /// Where in the settings of a model it lies. Two are at home in either of two tables.
    pub(super) fn path(&self, model: &Model, value: Option<&Toml>) -> &'static str {
        match self.key {
            "width" if model.single_label => "notes.width",
            "width" => "front_end.width",
            "init" if value.and_then(Toml::as_str).is_some_and(|v| v == "normal" || v == "he") => "notes.init",
            key => key,
        }
    }

    pub(crate) fn lacking(&self, model: &Model, reason: &str) -> Error {
        Error::Usage(format!("{} {reason}: leave out `{}`", model.name, self.key))
    }
}

/// A path as files of settings hold it.
pub(crate) fn path(text: &str) -> Result<Toml, String> {
    let path = absolute(Path::new(text)).map_err(|e| e.to_string())?;
    Ok(Toml::String(path.to_str().expect("absolute paths are text").into()))
}

/// The value at a path of keys with dots between them.
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

/// Puts what `over` says into `table`, table by table.
pub(crate) fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Toml::Table(inner)), Toml::Table(value)) => merge(inner, value),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

// Which models have a setting, as `lacks` says it.

pub(crate) fn all(_: &Model) -> Option<&'static str> {
    None
}

pub(crate) fn networks(model: &Model) -> Option<&'static str> {
    model.is_forest().then_some("is no network")
}

pub(crate) fn with_thresholds(model: &Model) -> Option<&'static str> {
    model.single_label.then_some("names the most probable class of a clip")
}

pub(crate) fn with_known_labels(model: &Model) -> Option<&'static str> {
    networks(model).or(model.single_label.then_some("names one class per clip: its loss is the mean over clips"))
}

pub(crate) fn with_mixed_clips(model: &Model) -> Option<&'static str> {
    networks(model).or(model.single_label.then_some("names one class per clip, which mixed clips have not"))
}

pub(crate) fn with_attention(model: &Model) -> Option<&'static str> {
    networks(model).or((!model.has_attention).then_some("pools nothing by attention"))
}

pub(crate) fn with_dropout(model: &Model) -> Option<&'static str> {
    networks(model).or((model.protocol.dropout == 0.0).then_some("has no dropout"))
}

pub(crate) fn on_vggish(model: &Model) -> Option<&'static str> {
    (!model.needs_vggish()).then_some("takes spectra and needs no VGGish")
}

pub(crate) fn on_maps(model: &Model) -> Option<&'static str> {
    let reason = match (model.trains_vggish(), model.needs_vggish()) {
        (true, _) => None,
        (false, true) => Some("takes embeddings as they are"),
        (false, false) => Some("takes spectra as they are"),
    };
    networks(model).or(reason)
}

pub(crate) fn with_width(model: &Model) -> Option<&'static str> {
    if model.single_label { None } else { on_vggish(model) }
}

pub(crate) fn on_notes(model: &Model) -> Option<&'static str> {
    (!model.single_label).then_some("is not for single notes")
}

/// As files of settings hold it.
pub(crate) fn as_toml(value: impl Serialize) -> Result<Toml, String> {
    Toml::try_from(value).map_err(|e| e.to_string())
}
