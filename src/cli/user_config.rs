//! Defaults of the user: `wmic/wmic.toml` in the platform's folder for settings (Linux: `~/.config`), or the file named
//! by `WMIC_CONFIG`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Value;
use wmic::core::files::set_cache_folder;
use wmic::core::toml::read_toml;
use wmic::{Error, Result};

const VARIABLE: &str = "WMIC_CONFIG";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// Where it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// As `--device`, a name or an index.
    #[serde(default, deserialize_with = "device")]
    pub device: Option<String>,
    /// Folder for features and log-mel patches of audio, as `--cache`.
    cache: Option<PathBuf>,
    /// What `wmic predict` recognises with if no run is given: a run directory or a file of `wmic bundle`.
    pub run: Option<PathBuf>,
}

static CONFIG: OnceLock<UserConfig> = OnceLock::new();

/// Reads it, once, before a command runs.
///
/// # Errors
/// `Io` for a file that cannot be read; `Data`, with the line, for one that is not TOML or has other keys.
pub fn load() -> Result<()> {
    let config = match place() {
        Some((path, asked)) if asked || path.exists() => read(&path)?,
        _ => UserConfig::default(),
    };
    if let Some(cache) = &config.cache {
        set_cache_folder(cache.clone());
    }
    CONFIG.get_or_init(|| config);
    Ok(())
}

/// The user's defaults; none before [`load`].
pub fn user() -> &'static UserConfig {
    CONFIG.get_or_init(UserConfig::default)
}

/// The file, and whether the user has named it; `None` if there shall be none (`WMIC_CONFIG=`).
fn place() -> Option<(PathBuf, bool)> {
    match std::env::var_os(VARIABLE) {
        Some(path) if path.is_empty() => None,
        Some(path) => Some((path.into(), true)),
        None => Some((dirs::config_dir()?.join("wmic").join("wmic.toml"), false)),
    }
}

fn device<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<String>, D::Error> {
    match Value::deserialize(from)? {
        Value::String(name) => Ok(Some(name)),
        Value::Integer(index) => Ok(Some(index.to_string())),
        _ => Err(D::Error::custom("a part of the adapter's name, or its index, is expected")),
    }
}

fn read(path: &Path) -> Result<UserConfig> {
    let mut config: UserConfig = read_toml(path)?;
    config.file = path.into();
    for path_of in [&mut config.cache, &mut config.run].into_iter().flatten() {
        if path_of.as_os_str().is_empty() {
            return Err(Error::data(path, "has an empty path"));
        }
        *path_of = absolute(path_of, path);
    }
    Ok(config)
}

/// A path in `file`: `~` is the user's folder, others are relative to the file's.
fn absolute(path: &Path, file: &Path) -> PathBuf {
    match (path.strip_prefix("~"), dirs::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => file.parent().unwrap_or(Path::new("")).join(path),
    }
}
