//! Defaults of the settings, user-provided settings, and checks of individual settings.

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::LazyLock;

use toml::{Table, Value as Toml};

use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::core::toml::value_error;
use crate::nn::{FeatureKind, MODELS, Model};
use crate::run::config::Config;
use crate::run::setting::{OnResume, Setting, find, insert, words};
use crate::run::settings::SETTINGS;

/// The settings of every model's paper, and of models on other inputs, by name.
static PROTOCOLS: LazyLock<Vec<(&Model, String, Table)>> = LazyLock::new(|| {
    let table = |model: &Model, input| Config::on(model.name, "", input).and_then(|config| config.table());
    let on = |model: &'static Model, input: Option<FeatureKind>| {
        let name = model.name.to_owned() + &input.map(|kind| format!(" on {kind}")).unwrap_or_default();
        (model, name, table(model, input).expect("defaults are a table"))
    };
    let others = |model: &'static Model| model.protocol.on.iter().map(move |(kind, _)| on(model, Some(*kind)));
    MODELS.iter().flat_map(|model| [on(model, None)].into_iter().chain(others(model))).collect()
});

impl Setting {
    /// Its defaults, as in "100; 250 for att"; `None` if it has none.
    pub fn default(&self) -> Option<String> {
        let mut defaults: Vec<(String, Vec<&str>)> = vec![];
        for (model, name, table) in PROTOCOLS.iter().filter(|(model, ..)| (self.unsupported)(model).is_none()) {
            let shown = match find(table, self.path(model, None))? {
                Toml::Array(items) if items.is_empty() => return None,
                Toml::String(text) => text.clone(),
                // Without a decimal point where none is needed.
                Toml::Float(v) => v.to_string(),
                other => other.to_string(),
            };
            match defaults.iter_mut().find(|(known, _)| *known == shown) {
                Some((_, models)) => models.push(name),
                None => defaults.push((shown, vec![name])),
            }
        }
        // The most common default is listed first, without model names; among equals, the first.
        defaults.sort_by_key(|(_, models)| std::cmp::Reverse(models.len()));
        let rest = defaults.iter().skip(1).map(|(value, models)| format!("; {value} for {}", models.join(", ")));
        Some(defaults.first()?.0.clone() + &rest.collect::<String>())
    }
}

/// User-provided settings, applied over defaults.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<(&'static Setting, Toml)>);

impl Given {
    pub fn push(&mut self, setting: &'static Setting, value: Toml) {
        self.0.push((setting, value));
    }

    /// Drops the settings that this model does not support but others among `all` do. Those that none supports stay, to
    /// be rejected.
    pub(crate) fn restrict_to(&self, model: &Model, all: &[&Model]) -> Given {
        let has = |setting: &Setting, model: &Model| (setting.unsupported)(model).is_none();
        let keep =
            |(setting, _): &&(&Setting, Toml)| has(setting, model) || !all.iter().any(|other| has(setting, other));
        Given(self.0.iter().filter(keep).cloned().collect())
    }

    /// Whether the setting is among them.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(setting, _)| setting.key == key)
    }

    pub(crate) fn without(mut self, key: &str) -> Given {
        self.0.retain(|(setting, _)| setting.key != key);
        self
    }

    /// `config` of a resumed run whose files have moved.
    ///
    /// # Errors
    /// `Usage` for anything else: a run keeps its settings.
    pub fn relocate(&self, config: &Config) -> Result<Config> {
        let mut table = config.table()?;
        for (Setting { key, on_resume, .. }, value) in &self.0 {
            let reason = match on_resume {
                OnResume::Keeps => format!("`{key}` cannot be used with `resume`"),
                OnResume::Moves if find(&table, key).is_none() => format!("the run was started without `{key}`"),
                OnResume::Moves | OnResume::Free => {
                    insert(&mut table, key, value.clone());
                    continue;
                }
            };
            return Err(Error::Usage(format!("{reason}: a run keeps its settings")));
        }
        table.try_into().map_err(|e: toml::de::Error| Error::Usage(value_error(&e)))
    }

    /// The settings of a new run of a recogniser: the protocol of the model's paper, overridden by a `file` with the
    /// keys of run.toml, overridden by these. The default model is att; a file may name model and dataset.
    ///
    /// # Errors
    /// `Usage` without a dataset, and for settings that the model does not support or that contradict each other; as
    /// [`Config::read`].
    pub fn new_run(
        &self,
        (model, dataset): (Option<&str>, Option<&Path>),
        file: Option<&Path>,
        seeds: Option<Vec<u64>>,
    ) -> Result<Config> {
        let mut config = match (file, dataset) {
            (Some(file), _) => Config::read(file, model, dataset)?,
            (None, Some(dataset)) => Config::of(model.unwrap_or("att"), absolute(dataset)?)?,
            (None, None) => return Err(Error::Usage("a run needs a `dataset`".into())),
        };
        config = self.apply_to(&config)?;
        config.seeds = seeds.unwrap_or(config.seeds);
        config.dataset = absolute(&config.dataset)?;
        config.validate()?;
        config.check_recogniser()?;
        Ok(config)
    }

    /// `config` with these settings.
    ///
    /// # Errors
    /// `Usage` for one that the model does not support, even if the value equals the default.
    pub fn apply_to(&self, config: &Config) -> Result<Config> {
        let model = config.model()?;
        let mut table = Table::new();
        for (setting, value) in &self.0 {
            let at = setting.path(model, Some(value));
            if at == "notes.init" && !model.is_single_note() {
                let reason = "has a fixed initialisation: `init` takes a weights file";
                return Err(Error::Usage(format!("{} {reason}", model.name)));
            }
            if let Some(reason) = (setting.unsupported)(model) {
                return Err(setting.unsupported_error(model, reason));
            }
            insert(&mut table, at, value.clone());
        }
        config.with(table)
    }
}

/// Checks settings individually: supported by the model, in range, required settings present.
///
/// # Errors
/// `Usage`, naming the first that is wrong.
pub(crate) fn check(config: &Config) -> Result<()> {
    config.check_supported()?;
    let model = config.model()?;
    let (table, defaults) = (config.table()?, Config::of(model.name, &config.dataset)?.table()?);
    for setting in SETTINGS.iter().filter(|setting| (setting.unsupported)(model).is_none()) {
        let number = match find(&table, setting.path(model, None)) {
            Some(Toml::Integer(n)) => *n as f64,
            Some(Toml::Float(v)) => *v,
            _ => continue,
        };
        if let Some(range) = setting.range.filter(|range| !range.contains(&number)) {
            return Err(Error::Usage(format!("`{}` must be {}, got {number}", setting.key, words(range))));
        }
    }
    let unmet = |(key, needed): &(&str, Option<&str>)| match (find(&table, key), needed) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(Toml::Array(items)), needed) => !items.iter().any(|item| item.as_str() == *needed),
        (Some(value), needed) => value.as_str() != *needed,
    };
    for setting in SETTINGS {
        if let Some(needs) = setting.needs.filter(|needs| setting.is_set(model, &table, &defaults) && unmet(needs)) {
            let alike: Vec<String> =
                SETTINGS.iter().filter(|s| s.needs == Some(needs)).map(|s| format!("`{}`", s.key)).collect();
            let (last, first) = alike.split_last().expect("the setting itself");
            let what = match first {
                [] => format!("{last} needs"),
                first => format!("{} and {last} need", first.join(", ")),
            };
            let value = needs.1.map(|value| format!(" {value}")).unwrap_or_default();
            return Err(Error::Usage(format!("{what} `{}`{value}", needs.0)));
        }
    }
    Ok(())
}
