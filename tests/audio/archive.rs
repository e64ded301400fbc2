//! Folders with the results of many recordings: interrupted anywhere, they end in the bytes of an undisturbed job.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use tempfile::TempDir;
use wmic::audio::{Found, audio_files, listed_files};
use wmic::output::archive::{Archive, Job, Shard, Summary};
use wmic::output::format::{Detail, Format};
use wmic::output::names::output_names;
use wmic::output::{csv, json};
use wmic::{Error, Result};

use crate::recognition::recognition;

/// Recordings in folders, two of them of the same name.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let mut names: Vec<PathBuf> =
            ["a.wav", "a.mp3", "bad.wav", "x/b.wav", "x/y/c.d.flac"].map(PathBuf::from).into();
        #[cfg(unix)]
        names.push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"x/\xff.wav").into());
        for name in names {
            let path = folder.path().join("in").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "sound").unwrap();
        }
        Fixture { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job<'a>(&self, folder: &'a Path, format: &'static Format) -> Job<'a> {
        let settings = Map::from_iter([("hop".to_owned(), json!(4.8))]);
        Job {
            folder,
            format,
            detail: Detail::default(),
            settings,
            shard: None,
            resume: true,
            retry: false,
            is_complete: &|_| true,
        }
    }

    fn found(&self) -> Found {
        audio_files(&[self.at("in")]).unwrap()
    }

    fn open<'a>(&self, job: Job<'a>) -> Result<Archive<'a>> {
        let found = self.found();
        Archive::open(job, &found, &output_names(&found.places))
    }

    /// Recognises at most `most` recordings; those with the name and the content "bad" fail. Killed if there are more.
    fn work(&self, job: Job, most: usize) -> Option<Summary> {
        let mut archive = self.open(job).unwrap();
        let waiting = archive.waiting();
        for (n, file) in waiting.iter().enumerate().take(most) {
            match file.ends_with("bad.wav") && fs::read(file).unwrap() == b"sound" {
                true => archive.fail(n, &Error::data("bad.wav", "is damaged")).unwrap(),
                false => drop(archive.add(n, &recognition(file)).unwrap()),
            }
        }
        (waiting.len() <= most).then(|| archive.finish().unwrap())
    }

    fn finish(&self, folder: &Path, format: &'static Format) -> BTreeMap<PathBuf, Vec<u8>> {
        self.work(self.job(folder, format), usize::MAX).unwrap();
        tree(folder)
    }
}

fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn visit(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => visit(&path, root, found),
                false => drop(found.insert(path.strip_prefix(root).unwrap().into(), fs::read(&path).unwrap())),
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, folder, &mut found);
    found
}

fn write(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    fs::remove_dir_all(folder).unwrap_or(());
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

const JOURNAL: &str = "journal.jsonl";
const FORMATS: [(&Format, Option<&str>); 3] =
    [(&json::FORMAT, None), (&json::LINES, Some("predictions.jsonl")), (&csv::FORMAT, Some("predictions.csv"))];

/// Such a result was the end of the job, and of each that was to continue it.
#[test]
fn a_result_that_cannot_have_its_name_is_one_failure() {
    let fixture = Fixture::new();
    for name in ["song.wav".to_owned(), "song.json/x.wav".into(), "z".repeat(251) + ".wav"] {
        let path = fixture.at("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "sound").unwrap();
    }
    let out = fixture.at("out");
    let summary = fixture.work(fixture.job(&out, &json::FORMAT), usize::MAX).unwrap();
    assert_eq!((summary.recordings, summary.failed), (5 + usize::from(cfg!(unix)), 3));
    assert!(out.join("song.json/x.json").is_file() != out.join("song.json").is_file());
    assert!(
        fixture.open(fixture.job(&out, &json::FORMAT)).unwrap().waiting().is_empty(),
        "failures are not tried again"
    );
}

#[test]
fn results_mirror_the_tree() {
    let fixture = Fixture::new();
    let files = fixture.finish(&fixture.at("out"), &json::FORMAT);
    let names: Vec<String> = files.keys().map(|name| name.to_string_lossy().into_owned()).collect();
    let mut expected = vec!["a.mp3.json", "a.wav.json", JOURNAL, "x/b.json", "x/y/c.d.json"];
    if cfg!(unix) {
        expected.push("x/\u{fffd}.json");
    }
    assert_eq!(names, expected);
    let summary = fixture.work(fixture.job(&fixture.at("out"), &json::FORMAT), 0).unwrap();
    assert_eq!((summary.recordings, summary.failed), (expected.len() - 1, 1));
    let piano = summary.instruments.iter().find(|i| i.name == "piano").unwrap();
    assert_eq!((summary.instruments.len(), piano.recordings), (2, summary.recordings));
    assert!((piano.seconds - 8.84 * piano.recordings as f64).abs() < 1e-9, "{piano:?}");
}

/// Whatever is lost at the ends of the journal and of the results.
#[test]
fn a_killed_job_ends_in_the_same_bytes() {
    let fixture = Fixture::new();
    for (format, collected) in FORMATS {
        let whole = fixture.finish(&fixture.at(format.name), format);
        let out = fixture.at("out");
        for done in 0..fixture.found().files.len() {
            let _ = fs::remove_dir_all(&out);
            fixture.work(fixture.job(&out, format), done);
            let killed = tree(&out);
            for torn in [JOURNAL].into_iter().chain(collected) {
                let length = killed[Path::new(torn)].len();
                for kept in [length / 2, length - 1, length] {
                    let mut files = killed.clone();
                    files.get_mut(Path::new(torn)).unwrap().truncate(kept);
                    files.insert(".wmic-unfinished.tmp".into(), b"half".into());
                    files.insert(".wmic-sorted.tmp".into(), b"half".into());
                    write(&out, &files);
                    let mut resumed = fixture.finish(&out, format);
                    // Only formats of one file sort it.
                    collected.is_none().then(|| resumed.remove(Path::new(".wmic-sorted.tmp")));
                    assert!(resumed == whole, "{}, {done} done, {kept} bytes of {torn}", format.name);
                }
            }
            // A result that the journal does not know yet.
            if let Some(name) = collected {
                let mut files = killed.clone();
                files.get_mut(Path::new(name)).unwrap().extend(b"a line\nand a half");
                write(&out, &files);
                assert!(fixture.finish(&out, format) == whole, "{}, {done} done, an unknown result", format.name);
            }
        }
    }
}

#[test]
fn changed_recordings_are_done_again_and_failed_ones_on_request() {
    let fixture = Fixture::new();
    for (format, collected) in FORMATS {
        let out = fixture.at("out");
        let (bad, changing) = (fixture.at("in/bad.wav"), fixture.at("in/a.mp3"));
        let reset = || [&bad, &changing].iter().for_each(|path| fs::write(path, "sound").unwrap());
        reset();
        let _ = fs::remove_dir_all(&out);
        let first = fixture.finish(&out, format);
        // Nothing is to be done; a retry fails again.
        assert!(fixture.open(fixture.job(&out, format)).unwrap().waiting().is_empty());
        let retry = || Job { retry: true, ..fixture.job(&out, format) };
        assert_eq!(fixture.open(retry()).unwrap().waiting(), [bad.as_path()]);
        fixture.work(retry(), usize::MAX);
        assert!(tree(&out) == first);
        // A recording whose picture or page is missing is recognised again.
        let lacking = |name: &Path| name != Path::new("x/b");
        let pages = Job { is_complete: &lacking, ..fixture.job(&out, format) };
        assert_eq!(fixture.open(pages).unwrap().waiting(), [fixture.at("in/x/b.wav")]);
        fixture.work(Job { is_complete: &lacking, ..fixture.job(&out, format) }, usize::MAX);
        assert!(tree(&out) == first);

        fs::write(&changing, "another sound").unwrap();
        fs::write(&bad, "repaired").unwrap();
        let whole = fixture.at("whole");
        let _ = fs::remove_dir_all(&whole);
        let expected = fixture.finish(&whole, format);
        fixture.work(fixture.job(&out, format), 1);
        assert!(fixture.finish(&out, format) == expected, "{}", format.name);

        // Killed while the results are sorted: before the journal is replaced, and after.
        if let Some(name) = collected.map(Path::new) {
            for journal in [&first, &expected] {
                let mut files = first.clone();
                files.insert(JOURNAL.into(), journal[Path::new(JOURNAL)].clone());
                files.insert(".wmic-sorted.tmp".into(), expected[name].clone());
                write(&out, &files);
                assert!(fixture.finish(&out, format) == expected, "{}", format.name);
            }
        }
        // A recording that fails now has no result from before.
        fs::write(&bad, "sound").unwrap();
        let failed = fixture.finish(&out, format);
        assert!(!failed.contains_key(Path::new("bad.json")));
        let _ = fs::remove_dir_all(&whole);
        assert!(fixture.finish(&whole, format) == failed, "{}", format.name);
    }
}

#[test]
fn shards_are_disjoint_and_complete() {
    let fixture = Fixture::new();
    let whole = fixture.finish(&fixture.at("whole"), &json::FORMAT);
    let out = fixture.at("out");
    let lines = |files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<String> {
        let journals = files.iter().filter(|(name, _)| name.to_string_lossy().starts_with("journal"));
        let lines = journals.flat_map(|(_, bytes)| std::str::from_utf8(bytes).unwrap().lines().skip(1));
        let mut lines: Vec<String> = lines.map(String::from).collect();
        lines.sort();
        lines
    };
    for shard in ["1/2", "2/2"] {
        fixture.work(Job { shard: Some(shard.parse().unwrap()), ..fixture.job(&out, &json::FORMAT) }, usize::MAX);
    }
    let mut parts = tree(&out);
    assert_eq!(lines(&parts), lines(&whole));
    parts.retain(|name, _| !name.to_string_lossy().starts_with("journal"));
    assert!(whole.iter().filter(|(name, _)| *name != Path::new(JOURNAL)).eq(parts.iter()));
    let mixed = fixture.open(fixture.job(&out, &json::FORMAT)).err().unwrap().to_string();
    assert!(mixed.contains("divided otherwise into shards (journal.") && mixed.contains("-of-2.jsonl)"), "{mixed}");
    let parts = |n: u32| {
        let of = |i: u32| format!("{i}/{n}").parse::<Shard>().unwrap();
        let count = |i: u32| (0..1000).filter(|k| of(i).takes(format!("note {k}.wav").as_ref())).count();
        (1..=n).map(count).collect::<Vec<usize>>()
    };
    for n in [1, 2, 4, 5] {
        let sizes = parts(n);
        assert_eq!(sizes.iter().sum::<usize>(), 1000);
        assert!(sizes.iter().all(|size| size.abs_diff(1000 / n as usize) < 80), "{sizes:?}");
    }
    assert!(["0/2", "3/2", "1", "1/0", "a/b"].iter().all(|text| text.parse::<Shard>().is_err()));
}

#[test]
fn jobs_are_not_mixed() {
    let fixture = Fixture::new();
    let out = fixture.at("out");
    let error = |job: Job| fixture.open(job).err().unwrap().to_string();
    let job = || fixture.job(&out, &json::LINES);
    // Nothing is begun before the first result.
    fixture.work(Job { settings: Map::new(), ..job() }, 0);
    fixture.work(Job { resume: false, ..job() }, 2);
    assert!(error(Job { resume: false, ..job() }).ends_with(
        "journal.jsonl: results of an earlier run are there; `resume` continues it, or choose another folder"
    ));
    let settings = Map::from_iter([("hop".to_owned(), json!(2.0))]);
    assert!(
        error(Job { settings, ..job() })
            .ends_with("was begun with hop 4.8, not 2.0; use the same, or choose another folder")
    );
    let settings = Map::from_iter([("hop".to_owned(), json!(2.0)), ("model".to_owned(), json!("att"))]);
    assert!(error(Job { settings, ..job() }).contains("was begun without model, not with \"att\"; use the same"));
    let first = fixture.open(job()).unwrap();
    assert!(error(job()).contains("journal.jsonl is in use"));
    drop(first);
    let journal = out.join(JOURNAL);
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replacen("\"status\"", "\"sta", 1)).unwrap();
    assert!(error(job()).contains("journal.jsonl:2: is damaged ("), "{}", error(job()));
}

#[test]
fn lists_name_files() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let read = |text: &[u8], null: bool| {
        fs::write(&list, text).unwrap();
        listed_files(&list, null).map(|found| (found.files, found.places)).map_err(|e| e.to_string())
    };
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    let lines = b"/music/a.wav\r\n\nb/../c.wav\n./-\n-\nb/../c.wav";
    let expected = (paths(&["/music/a.wav", "b/../c.wav", "./-", "./-"]), paths(&["music/a.wav", "b/c.wav", "-", "-"]));
    assert_eq!(read(lines, false), Ok(expected));
    assert_eq!(read(b"a\nb\0c\0", true).unwrap().0, paths(&["a\nb", "c"]));
    assert!(
        read(b"a\0b\0", false)
            .unwrap_err()
            .ends_with("list:1: has a NUL byte: the paths are separated by NUL bytes, not lines")
    );
    assert!(read(b"\n", false).unwrap_err().ends_with("list: names no files"));
    #[cfg(unix)]
    assert_eq!(output_names(&read(b"x/\xff.wav", false).unwrap().1)[0].as_os_str().as_encoded_bytes(), b"x/\xff");
}
