//! The options of training, shared by `wmic train`, `plan` and `compare`: one for each setting of the library.

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use toml::Value as Toml;

use wmic::core::names::{named, names};
use wmic::run::config::{Config, MAX_SEEDS};
use wmic::run::given::Given;
use wmic::run::options::{option, rename};
use wmic::run::setting::{Setting, Value};
use wmic::run::settings::{self, SETTINGS};
use wmic::{Error, nn};

/// Every option of training but the dataset, the model and the seeds.
#[derive(Clone, Default)]
pub struct SettingArgs {
    pub given: Given,
}

impl clap::Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| command.arg(arg(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingArgs::augment_args(command)
    }
}

fn arg(setting: &'static Setting) -> Arg {
    let parse = |text: &str| setting.parse(text);
    let possible = |names: &'static [&'static str]| {
        ValueParser::new(PossibleValuesParser::new(names).try_map(move |name| setting.parse(&name)))
    };
    let (parser, name, action) = match setting.value {
        Value::Name(names) => (possible(names()), option(setting.key).to_uppercase(), ArgAction::Set),
        Value::Names(names) => (possible(names()), names().join(","), ArgAction::Append),
        Value::Number => (ValueParser::new(parse), "X".into(), ArgAction::Set),
        Value::Count(name) | Value::Path(name) | Value::PathOr(name, _) | Value::Text(name, _) => {
            (ValueParser::new(parse), name.into(), ArgAction::Set)
        }
    };
    let default = setting.default().filter(|_| !setting.help.contains("[default: "));
    let help = help(setting) + &default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
    // Leaked once: options live as long as the program.
    let (option, name): (&'static str, &'static str) = (option(setting.key).leak(), name.leak());
    let arg = Arg::new(setting.key).long(option).value_name(name).help(help).value_parser(parser);
    let arg = arg.action(action).help_heading(setting.group.title());
    if matches!(setting.value, Value::Names(_)) { arg.value_delimiter(',') } else { arg }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingArgs, clap::Error> {
        let mut given = Given::default();
        for setting in SETTINGS {
            let Some(values) = matches.get_many::<Toml>(setting.key) else { continue };
            let values: Vec<Toml> = values.cloned().collect();
            match setting.value {
                Value::Names(_) => given.push(setting, values.into()),
                _ => values.into_iter().for_each(|value| given.push(setting, value)),
            }
        }
        Ok(SettingArgs { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SettingArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

fn help(setting: &Setting) -> String {
    in_options(setting.help.to_owned())
}

/// The help of a training setting, for the same option of another command.
pub fn help_of(key: &str) -> String {
    help(settings::find(key).expect("a setting"))
}

/// As [`help_of`], of an option that stands for a setting of the run.
pub fn help_of_run(key: &str) -> String {
    format!("{} [default: the run's]", help_of(key))
}

/// The placeholder of VGGish's weights.
pub const WEIGHTS: &str = "FILE|vggish|random|random-glorot";

/// The option of a setting in `wmic compare`, whose default is the experiment's.
pub fn of_experiment(arg: Arg) -> Arg {
    let is_setting = arg.get_id() == "seeds" || settings::find(arg.get_id().as_str()).is_some();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match help.split_once(" [default: ") {
        Some((help, _)) if is_setting => arg.help(help.to_owned()),
        _ => arg,
    }
}

/// An option that does nothing for some inputs `I` of a command with the arguments `A`.
pub struct Limited<A, I> {
    pub option: &'static str,
    pub is_given: fn(&A) -> bool,
    /// The reason if an input does not support it: "--{option} {reason}: remove it".
    pub unsupported: fn(&I) -> Option<&'static str>,
}

/// # Errors
/// `Usage`, naming the first option that is given and does nothing for the input.
pub fn check_options<A, I>(options: &[Limited<A, I>], args: &A, input: &I) -> Result<(), Error> {
    let given = options.iter().filter(|of| (of.is_given)(args));
    let refused = given.filter_map(|of| Some((of.option, (of.unsupported)(input)?))).next();
    match refused {
        Some((option, reason)) => Err(Error::Usage(format!("--{option} {reason}: remove it"))),
        None => Ok(()),
    }
}

/// Puts an option without a heading, as the settings have them, under one of the run as a whole.
pub fn of_run(arg: Arg) -> Arg {
    match arg.is_positional() || arg.get_help_heading().is_some() {
        true => arg,
        false => arg.help_heading("Run and output"),
    }
}

/// Which seeds are trained side by side.
#[derive(Clone, clap::Args)]
pub struct SeedArgs {
    /// Number of seeds, 0 to N - 1, trained side by side [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "seed_list")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_SEEDS as u64))]
    seeds: Option<u64>,
    /// The seeds themselves, e.g. 0,7,42
    #[arg(long, value_name = "SEED,...", value_delimiter = ',')]
    seed_list: Option<Vec<u64>>,
}

impl SeedArgs {
    pub fn given(&self) -> Option<Vec<u64>> {
        self.seed_list.clone().or(self.seeds.map(|n| (0..n).collect()))
    }

    /// Overrides the seeds of `config`, if any were given.
    pub fn overlay(&self, config: &mut Config) {
        config.seeds = self.given().unwrap_or(std::mem::take(&mut config.seeds));
    }
}

/// The names of models.
pub fn models() -> PossibleValuesParser {
    PossibleValuesParser::new(nn::MODELS.iter().map(|m| m.name))
}

/// For options whose values are the variants of an enum.
pub fn variant<T>() -> impl TypedValueParser<Value = T>
where
    T: serde::de::DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names::<T>()).map(|name| named(&name).expect("one of its names"))
}

/// The message of an error, with options in place of the settings and arguments that the library quotes in backticks.
/// In errors about a run's own files and about unknown keys of a file, the keys stay.
pub fn message(error: &anyhow::Error) -> String {
    let text = error.to_string();
    if text.contains("unknown field `") {
        return text;
    }
    let in_run = matches!(error.downcast_ref(), Some(Error::Checkpoint { .. }));
    let name = |key: &str| if in_run { key.into() } else { format!("--{}", option(key)) };
    rename(text, &name)
}

/// The settings that `text` names, as options.
pub fn in_options(text: String) -> String {
    rename(text, &|key| format!("--{}", option(key)))
}
