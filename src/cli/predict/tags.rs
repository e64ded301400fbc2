//! `wmic predict --tags`: musicnn's tags, alone or beside the answers of a run.

use std::path::{Path, PathBuf};

use super::super::clips::Bar;
use super::super::common::Status;
use super::archive::ArchiveArgs;
use super::results::{ResultArgs, ResultWriter};
use wmic::gpu::Gpu;
use wmic::predict::recognition::Tag;
use wmic::predict::tagger::Tagger;
use wmic::{Error, Result};

/// Tags audio files without a run.
pub fn tag(gpu: &Gpu, results: &ResultArgs, archive: &ArchiveArgs, inputs: &[PathBuf]) -> anyhow::Result<Status> {
    let mut results = ResultWriter::of_tags(results)?;
    let files = archive.recordings(inputs)?.found.files;
    let bar = Bar::new(files.len(), "tagging");
    let mut faults = 0;
    let ended = Tagger::new(gpu).tag_files(&files, &mut |n, tagged| {
        match tagged {
            Ok(recognition) => {
                faults += usize::from(recognition.condition.damaged);
                for warning in &recognition.condition.warnings {
                    bar.note(&format!("warning: {}: {warning}", files[n].display()));
                }
                bar.suspend(|| results.take(&recognition, None, &files[n]))?;
            }
            Err(error @ (Error::Data { .. } | Error::Io { .. })) => {
                bar.note(&format!("skipped: {error}"));
                faults += 1;
            }
            Err(error) => return Err(error),
        }
        bar.show(n + 1);
        Ok(())
    });
    bar.finish();
    ended?;
    results.end()?;
    Ok(if faults > 0 { Status::Failed } else { Status::Done })
}

/// The tags of a recording that has been recognised.
pub fn of_file(tagger: &mut Tagger, file: &Path) -> Result<Vec<Tag>> {
    let mut tags = vec![];
    tagger.tag_files(&[file.into()], &mut |_, tagged| {
        tags = tagged?.tags;
        Ok(())
    })?;
    Ok(tags)
}
