//! What settings and arguments are called where a user gives them: as options of the command line, and, with
//! underscores for dashes, as arguments in Python.

use crate::run::settings::SETTINGS;

/// Options whose name is not the last key of the setting with dashes for underscores.
const OPTIONS: [(&str, &str); 5] = [
    ("input", "frontend"),
    ("inputs.dropout", "input-dropout"),
    ("inputs.noise", "input-noise"),
    ("front_end.weights", "frontend-weights"),
    ("train_front_end", "train-frontend"),
];

/// Arguments of the library beside the settings that its messages name.
#[rustfmt::skip]
const ARGUMENTS: [&str; 16] = [
    "seeds", "out", "force", "resume", "device", "split", "dataset", "labels", "words", "negatives", "absolute",
    "pretrain_sounds", "pretrain_labels", "hop", "gate", "aggregate",
];

/// The option of a setting, or of another argument of the library, without its dashes.
pub fn option(key: &str) -> String {
    match OPTIONS.iter().find(|(known, _)| *known == key) {
        Some((_, option)) => (*option).into(),
        None => key.rsplit('.').next().unwrap_or(key).replace('_', "-"),
    }
}

/// `text` with the `name` of each setting and argument that it quotes in backquotes.
pub fn rename(text: String, name: &dyn Fn(&str) -> String) -> String {
    let keys = SETTINGS.iter().map(|setting| setting.key).chain(ARGUMENTS);
    keys.fold(text, |text, key| text.replace(&format!("`{key}`"), &name(key)))
}
