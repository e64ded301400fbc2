//! Any number of recordings as a folder of HTML pages: one for each, and an index that sorts and filters.
//!
//! A page holds the recording's entry for the index, so that an index can be written again from the pages, whoever
//! wrote them: memory does not grow with the number of recordings, and an interrupted run loses nothing.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::text::in_words;
use crate::output::names::with_suffix;
use crate::predict::recognition::{Instrument, Recognition};
use crate::report::pages::html;
use crate::report::pages::recording::{encoded, write_entry};
use crate::report::plots::spectrogram::Picture;
use crate::{Error, Result};

const STYLE: &str = include_str!("../../../assets/page/index.css");
const SCRIPT: &str = include_str!("../../../assets/page/index.js");
const BODY: &str = include_str!("../../../assets/page/index.html");
/// The index, and the folder of the pages.
pub const INDEX: &str = "index.html";
pub(crate) const PAGES: &str = "recordings";
/// Begin and end of the line of a page with its entry.
const OPEN: &str = "<script type=\"application/json\" id=\"entry\">";
const CLOSE: &str = "</script>";
/// Bytes of a page within which its entry begins and ends.
const LIMIT: u64 = 1 << 20;

/// What the index knows of a recording.
#[derive(Serialize, Deserialize)]
struct Entry {
    file: String,
    /// Seconds.
    duration: f64,
    /// The present instruments in words, the most probable first: probability, and seconds in which it plays.
    present: Vec<(String, f64, f64)>,
    /// What is odd about the file, or about what can be said of it.
    #[serde(default)]
    warnings: Vec<String>,
}

impl Entry {
    fn new(r: &Recognition) -> Entry {
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        let seconds = |i: &Instrument| i.segments.iter().map(|s| s.end - s.start).sum::<f64>();
        let present = r.present_first().into_iter().filter(|i| i.present);
        let present = present.map(|i| (in_words(&i.name), rounded(i.probability), rounded(seconds(i))));
        Entry {
            file: r.file.to_string_lossy().into_owned(),
            duration: rounded(r.duration),
            present: present.collect(),
            warnings: r.condition.warnings.clone(),
        }
    }
}

/// The page of a recording; `name` is a relative path without an extension.
pub fn page(folder: &Path, name: &Path) -> PathBuf {
    folder.join(PAGES).join(with_suffix(name, ".html"))
}

/// Writes the page of a recording, `folder`/recordings/`name`.html, atomically. `name` is a relative path without an
/// extension.
///
/// # Errors
/// `Usage` for a name that is not below the folder, and `Io`.
pub fn add(folder: &Path, name: &Path, picture: &Picture) -> Result<()> {
    let depth = name.components().count();
    if depth == 0 || !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::Usage(format!("{}: is not a relative path", name.display())));
    }
    let path = page(folder, name);
    let parent = path.parent().expect("below the folder");
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let entry = format!("{OPEN}{}{CLOSE}", script_json(&Entry::new(picture.recognition)));
    write_entry(&path, picture, &entry, &format!("{}{INDEX}", "../".repeat(depth)))
}

/// Writes `folder`/index.html from the pages in `folder`/recordings, sorted by path, atomically; returns how many there
/// are. Other files there are passed over.
///
/// # Errors
/// `Io`, naming the file or folder that cannot be read or written.
pub fn write(folder: &Path) -> Result<usize> {
    let mut count = 0;
    let pages = folder.join(PAGES);
    html::write(&folder.join(INDEX), "Instruments in recordings", STYLE, SCRIPT, |out| {
        out.write_all(BODY.as_bytes())?;
        write!(out, "<script type=\"application/json\" id=\"data\">[")?;
        count = 0;
        let mut add = |page: &Path| {
            let Some(entry) = entry(page)? else { return Ok(()) };
            let href = encoded(page.strip_prefix(folder).expect("below the folder"));
            let comma = if count > 0 { "," } else { "" };
            count += 1;
            write!(out, "{comma}\n{}", script_json(&(href, entry.file, entry.duration, entry.present, entry.warnings)))
        };
        walk(&pages, &mut add)?;
        writeln!(out, "]</script>")
    })?;
    Ok(count)
}

/// JSON that ends no script.
fn script_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values").replace('<', "\\u003c")
}

/// The entry of a page; `None` for any other file.
fn entry(page: &Path) -> io::Result<Option<Entry>> {
    let mut reader = BufReader::new(fs::File::open(page)?.take(LIMIT));
    let mut line = vec![];
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some(json) = line.strip_prefix(OPEN.as_bytes()) {
            let json = json.trim_ascii_end().strip_suffix(CLOSE.as_bytes());
            return Ok(json.and_then(|json| serde_json::from_slice(json).ok()));
        }
        line.clear();
    }
    Ok(None)
}

/// Calls `visit` for all pages below `folder`, sorted; there need not be any.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    let listed = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(named)?,
    };
    let mut entries = listed.collect::<io::Result<Vec<_>>>().map_err(named)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(named)?);
        if kind.is_dir() {
            walk(&path, visit)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "html") {
            visit(&path)?;
        }
    }
    Ok(())
}
