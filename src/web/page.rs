//! Pages as folders of static files.

use std::path::Path;

use serde_json::Value;

use super::pack::Pack;
pub use super::pack::Stored;
use super::{checks, recogniser};
use crate::check::{Case, Entry};
use crate::core::error::Result;
use crate::core::files::{vacant_folder, write_atomic, write_dir_atomic};
use crate::predict::mixture::Mixture;
use crate::predict::recogniser::Options;
use crate::report::pages::{html, recording};

/// A file of the repository, and its name in the folder.
macro_rules! asset {
    ($name:literal) => {
        asset!($name, $name)
    };
    ($name:literal, $file:literal) => {
        ($name, include_str!(concat!("../../assets/web/", $file)))
    };
}

/// Name of the file that describes plans.
const PLAN: &str = "plan.json";
/// Of the style of all pages.
const STYLE: &str = "page.css";

const PLAYER: (&str, &str) = asset!("player.js");
const RECOGNISER: [(&str, &str); 6] = [
    asset!("index.html"),
    asset!("page.js"),
    asset!("recognise.js"),
    asset!("excerpts.js"),
    asset!("audio.js"),
    asset!("fft.js"),
];
const CHECKS: [(&str, &str); 2] = [asset!("index.html", "checks.html"), asset!("checks.js")];
const WORKER: &str = include_str!("../../assets/web/sw.js");
const WEB_STYLE: &str = include_str!("../../assets/web/web.css");

/// Writes a page that recognises recordings with these models into the folder `dir`, which must not exist or be empty.
///
/// # Errors
/// `Usage` for models that a page cannot replay (see the message), and those of
/// [`Recogniser::new`](crate::Recogniser::new).
pub fn write_recogniser(dir: &Path, mixture: Mixture, options: &Options, stored: Stored) -> Result<()> {
    vacant_folder(dir)?;
    let mut pack = Pack::storing(stored);
    let description = recogniser::describe(mixture, options, &mut pack)?;
    write(dir, &pack, description, &RECOGNISER)
}

/// Writes a page that checks these ops on the visitor's GPU into the folder `dir`, which must not exist or be empty.
/// `each` is called before a case.
///
/// # Errors
/// As [`list`](crate::check::list), and for a folder that cannot be written.
pub fn write_checks(dir: &Path, ops: &[&Entry], each: &mut dyn FnMut(&Case)) -> Result<()> {
    vacant_folder(dir)?;
    let mut pack = Pack::default();
    let description = checks::describe(ops, &mut pack, each)?;
    write(dir, &pack, description, &CHECKS)
}

fn write(dir: &Path, pack: &Pack, mut description: Value, assets: &[(&str, &str)]) -> Result<()> {
    write_dir_atomic(dir, |folder| {
        let put = |name: &str, text: &str| write_atomic(folder.join(name), |out| out.write_all(text.as_bytes()));
        let (shared, mut files) = pack.write(folder)?;
        description["shared"] = shared;
        let description = description.to_string();
        put(PLAN, &description)?;
        let style = [html::STYLE, recording::STYLE, WEB_STYLE].join("\n");
        put(STYLE, &style)?;
        for (name, text) in assets.iter().chain([&PLAYER]) {
            put(name, text)?;
        }
        files.extend(assets.iter().chain([&PLAYER]).map(|(name, _)| (*name).to_owned()));
        files.extend([PLAN, STYLE, "./"].map(str::to_owned));
        // Kept by the browser until any of them is another.
        let texts: String = assets.iter().chain([&PLAYER]).map(|(_, text)| *text).collect();
        let version = pack.fingerprint(&(description.clone() + &style + &texts))?;
        let files = serde_json::to_string(&files).expect("names serialise");
        put("sw.js", &WORKER.replace("__VERSION__", &version).replace("__FILES__", &files))
    })
}
