//! `wmic predict --out`: results of many recordings in a folder.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::output::{note, print_json};
use wmic::audio::{Found, audio_files, listed_files};
use wmic::core::numbers::{count, duration, of};
use wmic::output::archive::{Archive, Job, Shard, Summary};
use wmic::output::format::{Detail, Format};
use wmic::report::tables;
use wmic::report::tables::table::{Style, printable};
use wmic::{Result, output};

/// Which recordings, and where their results are kept.
#[derive(clap::Args, Default)]
pub struct ArchiveArgs {
    /// Write results into this folder instead of stdout: a tree like that of the recordings (json, jams, audacity,
    /// reaper, elan), or one file of all (jsonl, csv, mirex), with a journal
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue in a folder with results: recordings are done once, unless their size or time has changed
    #[arg(long, requires = "out", conflicts_with = "truth")]
    pub resume: bool,
    /// Also try the recordings again that failed
    #[arg(long, requires = "resume")]
    retry: bool,
    /// Read the paths of recordings from a file, one per line; - for stdin
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// Paths in --files-from end with NUL bytes, as from find -print0
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,
    /// Only part I of N of the recordings, for one of N processes or machines
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

/// The recordings of a command, and the names of their outputs.
pub struct Recordings {
    pub found: Found,
    pub names: Vec<PathBuf>,
}

impl ArchiveArgs {
    pub fn in_files(&self) -> bool {
        self.out.is_some()
    }

    pub fn recordings(&self, inputs: &[PathBuf]) -> Result<Recordings> {
        let found = match &self.files_from {
            Some(list) => listed_files(list, self.null)?,
            None => audio_files(inputs)?,
        };
        found.note().iter().for_each(|line| note(line));
        Ok(Recordings::of(found))
    }

    /// Clips with known features, which are all predicted.
    pub fn clips(&self, keys: &[String]) -> Recordings {
        let files: Vec<PathBuf> = keys.iter().map(PathBuf::from).collect();
        let places = files.iter().map(|file| wmic::audio::place(file)).collect();
        Recordings::of(Found { files, places, ..Found::default() })
    }

    /// The folder of results, if there is one; else the recordings are reduced to those of the shard.
    pub fn open<'a>(
        &'a self,
        mut settings: Map<String, Value>,
        weights: Value,
        (format, detail): (Option<&'static Format>, Detail),
        is_complete: &'a dyn Fn(&Path) -> bool,
        recordings: &mut Recordings,
    ) -> Result<Option<Archive<'a>>> {
        let (Some(folder), Some(format)) = (&self.out, format) else {
            if let Some(shard) = self.shard {
                recordings.keep(|place| shard.takes(place));
            }
            return Ok(None);
        };
        let with: [(&str, Value); 4] = [
            ("format", format.name.into()),
            ("attention", detail.attention.into()),
            ("weights", weights),
            ("wmic", env!("CARGO_PKG_VERSION").into()),
        ];
        settings.extend(with.map(|(key, value)| (key.to_owned(), value)));
        if detail.tags {
            settings.insert("tags".into(), true.into());
        }
        let Recordings { found, names } = recordings;
        for (i, name) in
            names.iter().enumerate().filter(|(i, name)| output::names::is_numbered(&found.places[*i], name))
        {
            note(&printable(&format!(
                "{}: written as {}, because another recording has its name",
                found.files[i].display(),
                name.display()
            )));
        }
        let (shard, resume, retry) = (self.shard, self.resume, self.retry);
        let job = Job { folder, format, detail, settings, shard, resume, retry, is_complete };
        let archive = Archive::open(job, found, names)?;
        let files = archive.waiting();
        let done = archive.recordings() - files.len();
        if self.resume {
            note(&format!("{} of {} recordings are done", count(done as u64), count(archive.recordings() as u64)));
        }
        *names = (0..files.len()).map(|n| archive.name(n)).collect();
        *found = Found { files, ..Found::default() };
        Ok(Some(archive))
    }

    /// Ends the results, with a summary of all that are in the folder. Returns how many recordings failed or are
    /// damaged.
    pub fn end(&self, archive: Archive, json: bool) -> anyhow::Result<usize> {
        let journal = archive.journal();
        let summary = archive.finish()?;
        let Summary { failed, damaged, .. } = summary;
        if json {
            let mut object = serde_json::to_value(&summary)?;
            object["journal"] = json!(journal.to_string_lossy());
            print_json(&object)?;
            return Ok(failed + damaged);
        }
        tables::archive::table(&summary, Style::of_stdout()).lines().for_each(note);
        let Summary { recordings, seconds, with_warnings, .. } = summary;
        let mut line = format!("{}, {} in all", of(recordings, "recording", "recordings"), duration(seconds));
        if with_warnings > 0 {
            line +=
                &format!("; {} with warnings, {} of them damaged", count(with_warnings as u64), count(damaged as u64));
        }
        note(&line);
        if failed > 0 {
            let of = format!("{} failed, see {}", count(failed as u64), journal.display());
            note(&printable(&format!("{of}; --resume --retry tries again")));
        }
        Ok(failed + damaged)
    }

    pub fn interrupted(&self, archive: Archive) -> Result<()> {
        archive.finish()?;
        note("wmic: interrupted; the results so far are saved, run the same command with --resume to continue");
        Ok(())
    }
}

impl Recordings {
    fn of(found: Found) -> Recordings {
        let names = output::names::output_names(&found.places);
        Recordings { found, names }
    }

    fn keep(&mut self, takes: impl Fn(&Path) -> bool) {
        let kept: Vec<bool> = self.found.places.iter().map(|place| takes(place)).collect();
        let (mut of_files, mut of_names) = (kept.iter(), kept.iter());
        self.found.files.retain(|_| of_files.next() == Some(&true));
        self.names.retain(|_| of_names.next() == Some(&true));
    }
}
