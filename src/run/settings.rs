//! What a setting of training is, and all that follows from the table of them ([`SETTINGS`], beside [`Config`]): the keys of
//! files, options and their help, which models have which, and what does not go together.

use std::path::Path;

use serde::Serialize;
use toml::{Table, Value as Toml};

use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::nn::{MODELS, Model};
use crate::run::config::{Config, SETTINGS};

/// A setting of training: declared here, in [`SETTINGS`], as a field of [`Config`] and with its default in [`Config::of`], all of
/// them in one file; used wherever it is used. Everything else is derived.
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
    /// What is wrong with it. Ranges are checked by [`Config::validate`].
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

    /// Its defaults, as in "100; 250 for att"; `None` if it has none.
    pub fn default(&self) -> Option<String> {
        let mut defaults: Vec<(String, Vec<&str>)> = vec![];
        for model in MODELS.iter().filter(|model| (self.lacks)(model).is_none()) {
            let table = Config::of(model.name, "").and_then(|config| config.table()).expect("defaults are a table");
            let shown = match find(&table, self.path(model, None))? {
                Toml::Array(items) if items.is_empty() => return None,
                Toml::String(text) => text.clone(),
                other => other.to_string(),
            };
            match defaults.iter_mut().find(|(known, _)| *known == shown) {
                Some((_, models)) => models.push(model.name),
                None => defaults.push((shown, vec![model.name])),
            }
        }
        // The most frequent one goes without saying whose it is; of equals the first.
        defaults.sort_by_key(|(_, models)| std::cmp::Reverse(models.len()));
        let rest = defaults.iter().skip(1).map(|(value, models)| format!("; {value} for {}", models.join(", ")));
        Some(defaults.first()?.0.clone() + &rest.collect::<String>())
    }

    /// Where in the settings of a model it lies. Two are at home in either of two tables.
    fn path(&self, model: &Model, value: Option<&Toml>) -> &'static str {
        match self.key {
            "width" if model.exclusive => "notes.width",
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

/// Settings that a user gives, over those that a run has anyway.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<(&'static Setting, Toml)>);

impl Given {
    pub fn push(&mut self, setting: &'static Setting, value: Toml) {
        self.0.push((setting, value));
    }

    /// The key of the first.
    pub fn first(&self) -> Option<&'static str> {
        self.0.first().map(|(setting, _)| setting.key)
    }

    /// Those that a model has, less those that only others among `all` have. What none of them has stays, to be refused.
    pub fn of(&self, model: &Model, all: &[&Model]) -> Given {
        let has = |setting: &Setting, model: &Model| (setting.lacks)(model).is_none();
        let keep =
            |(setting, _): &&(&Setting, Toml)| has(setting, model) || !all.iter().any(|other| has(setting, other));
        Given(self.0.iter().filter(keep).cloned().collect())
    }

    /// `config`, which a run goes on with, where its front end or its cache lies elsewhere by now.
    ///
    /// # Errors
    /// `Usage` for anything else: a run keeps its settings.
    pub fn relocate(&self, config: &Config) -> Result<Config> {
        if let Some((other, _)) = self.0.iter().find(|(s, _)| !["front_end.weights", "cache"].contains(&s.key)) {
            return Err(Error::Usage(format!(
                "`{}` cannot be used with `resume`: a run keeps its settings",
                other.key
            )));
        }
        let mut config = config.clone();
        for (setting, value) in &self.0 {
            let place = value.as_str().unwrap_or_default();
            match (setting.key, &mut config.front_end) {
                ("cache", _) => config.cache = Some(place.into()),
                (_, Some(front_end)) => front_end.weights = place.parse()?,
                (_, None) => {}
            }
        }
        Ok(config)
    }

    /// `config` with these settings.
    ///
    /// # Errors
    /// `Usage` for one that the model does not have, even where it says what is the case anyway.
    pub fn over(&self, config: &Config) -> Result<Config> {
        let model = config.model()?;
        let mut table = Table::new();
        for (setting, value) in &self.0 {
            let at = setting.path(model, Some(value));
            if at == "notes.init" && !model.exclusive {
                let reason = "starts as its paper says: `init` names a file of weights";
                return Err(Error::Usage(format!("{} {reason}", model.name)));
            }
            if let Some(reason) = (setting.lacks)(model) {
                return Err(setting.lacking(model, reason));
            }
            insert(&mut table, at, value.clone());
        }
        config.with(table)
    }
}

/// The value at a path of keys with dots between them.
fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Toml> {
    match path.split_once('.') {
        None => table.get(path),
        Some((key, rest)) => find(table.get(key)?.as_table()?, rest),
    }
}

fn insert(table: &mut Table, path: &str, value: Toml) {
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

/// Whether a key of `run.toml` means something for a model: for a forest most do not.
pub(crate) fn has_key(model: &Model, key: &str) -> bool {
    let mut mine = SETTINGS.iter().filter(|s| s.key.split('.').next() == Some(key)).peekable();
    mine.peek().is_none() || mine.any(|setting| (setting.lacks)(model).is_none())
}

/// What can be said of settings one by one: that the model has them, that they are in range, that others they need are there.
///
/// # Errors
/// `Usage`, naming the first that is wrong.
pub(crate) fn check(config: &Config) -> Result<()> {
    let model = config.model()?;
    let (table, defaults) = (config.table()?, Config::of(model.name, &config.dataset)?.table()?);
    let set = |setting: &Setting| {
        let at = setting.path(model, None);
        find(&table, at).filter(|value| Some(*value) != find(&defaults, at))
    };
    for setting in SETTINGS {
        if let (Some(_), Some(reason)) = (set(setting), (setting.lacks)(model)) {
            return Err(setting.lacking(model, reason));
        }
    }
    for Setting { key, value, .. } in SETTINGS {
        match (value, find(&table, key)) {
            (Value::Count(_), Some(Toml::Integer(0))) => {
                return Err(Error::Usage(format!("`{key}` must be at least 1")));
            }
            (Value::Number(Some((low, high))), Some(Toml::Float(v))) if !(low <= v && v < high) => {
                return Err(Error::Usage(format!("`{key}` must be at least {low} and below {high}, got {v:?}")));
            }
            _ => {}
        }
    }
    let unmet = |needs: &(&str, &str)| match find(&table, needs.0) {
        Some(Toml::Array(items)) => !items.iter().any(|item| item.as_str() == Some(needs.1)),
        value => value.and_then(Toml::as_str) != Some(needs.1),
    };
    for setting in SETTINGS {
        if let Some(needs) = setting.needs.filter(|needs| set(setting).is_some() && unmet(needs)) {
            let alike: Vec<String> =
                SETTINGS.iter().filter(|s| s.needs == Some(needs)).map(|s| format!("`{}`", s.key)).collect();
            let (last, first) = alike.split_last().expect("the setting itself");
            let what = match first {
                [] => format!("{last} needs"),
                first => format!("{} and {last} need", first.join(", ")),
            };
            return Err(Error::Usage(format!("{what} `{}` {}", needs.0, needs.1)));
        }
    }
    Ok(())
}

// Which models have a setting, as `lacks` says it.

pub(crate) fn all(_: &Model) -> Option<&'static str> {
    None
}

pub(crate) fn networks(model: &Model) -> Option<&'static str> {
    model.is_forest().then_some("is no network")
}

pub(crate) fn with_thresholds(model: &Model) -> Option<&'static str> {
    model.exclusive.then_some("names the most probable class of a clip")
}

pub(crate) fn with_mixed_clips(model: &Model) -> Option<&'static str> {
    networks(model).or(model.exclusive.then_some("names one class per clip, which mixed clips have not"))
}

pub(crate) fn with_attention(model: &Model) -> Option<&'static str> {
    networks(model).or((!model.attends).then_some("pools nothing by attention"))
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
    if model.exclusive { None } else { on_vggish(model) }
}

pub(crate) fn on_notes(model: &Model) -> Option<&'static str> {
    (!model.exclusive).then_some("is not for single notes")
}

/// As files of settings hold it.
pub(crate) fn as_toml(value: impl Serialize) -> Result<Toml, String> {
    Toml::try_from(value).map_err(|e| e.to_string())
}
