//! Words and tags of sounds, and vectors of words, for pre-training.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::files::{open_file, read_limited};

/// Largest table of labels, bytes.
const MAX_TABLE: u64 = 256 << 20;
/// Longest line of a file of vectors, bytes.
const MAX_LINE: u64 = 1 << 20;

/// Vectors of the ten qualities of the paper's data: of spaCy's en_core_web_md 3.8 ("Explosion Vectors", CC0). It has
/// no "multiphonic", whose vector is that of "polyphonic".
static QUALITIES: &str = include_str!("../../assets/pretraining/word-vectors.txt");

/// Words and tags of a sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tagged {
    pub words: Vec<String>,
    pub tags: Vec<String>,
}

/// Reads a table with the columns file, words and tags, or one of these two; words and tags are separated by spaces.
/// Gives them by file.
///
/// # Errors
/// `Data` with the line for a file that is listed twice, and for a table without these columns.
pub fn read_tags(path: &Path) -> Result<BTreeMap<String, Tagged>> {
    let bytes = read_limited(path, MAX_TABLE)?;
    let mut table = csv::Reader::from_reader(bytes.as_slice());
    let damaged = |e: csv::Error| Error::data(path, e.to_string());
    let header = table.headers().map_err(damaged)?.clone();
    let column = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}').trim() == name);
    let (file, words, tags) = (column("file"), column("words"), column("tags"));
    let Some(file) = file.filter(|_| words.or(tags).is_some()) else {
        return Err(Error::data(path, "needs the columns file, and words or tags"));
    };
    let mut all = BTreeMap::new();
    for row in table.records() {
        let row = row.map_err(damaged)?;
        let list = |column: Option<usize>| -> Vec<String> {
            let distinct: BTreeSet<&str> = column.map_or("", |c| &row[c]).split_whitespace().collect();
            distinct.into_iter().map(str::to_owned).collect()
        };
        let name = row[file].trim().replace('\\', "/");
        if all.insert(name.clone(), Tagged { words: list(words), tags: list(tags) }).is_some() {
            let line = row.position().map_or(0, csv::Position::line);
            return Err(Error::data(path, format!("line {line}: {name} is listed twice")));
        }
    }
    match all.is_empty() {
        true => Err(Error::data(path, "has no rows")),
        false => Ok(all),
    }
}

/// The vectors, scaled to norm 1, of `words`, in this order: of a text file with a line `word v1 ... vD` each, as
/// GloVe's and word2vec's, or wmic's own.
///
/// # Errors
/// `Data` for words without a vector, and with the line for vectors of them of unequal length, that are not finite, or
/// zero.
pub fn word_vectors(path: Option<&Path>, words: &[String]) -> Result<Vec<Vec<f32>>> {
    let mut found: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    let shown = path.unwrap_or(Path::new("wmic's word vectors"));
    let mut reader: Box<dyn BufRead> = match path {
        Some(path) => Box::new(BufReader::new(open_file(path)?)),
        None => Box::new(QUALITIES.as_bytes()),
    };
    let (mut line, mut number, mut length) = (vec![], 0, None);
    while found.len() < words.len() {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(Error::io(shown))? == 0 {
            break;
        }
        number += 1;
        let fail = |reason: String| Err(Error::data(shown, format!("line {number}: {reason}")));
        let text = String::from_utf8_lossy(&line);
        let mut parts = text.split_ascii_whitespace();
        let (Some(word), values) = (parts.next(), parts.collect::<Vec<_>>()) else { continue };
        // word2vec's first line: numbers of words and of values.
        if number == 1 && values.len() == 1 && word.parse::<usize>().is_ok() {
            continue;
        }
        // Of others nothing is known: GloVe's file of 840 billion words has some with spaces.
        let Some(word) = words.iter().find(|known| *known == word && !found.contains_key(word)) else { continue };
        if *length.get_or_insert(values.len()) != values.len() {
            return fail(format!("{word} has {} values, the words before {}", values.len(), length.unwrap_or(0)));
        }
        let values: Option<Vec<f32>> = values.iter().map(|v| v.parse().ok().filter(|v: &f32| v.is_finite())).collect();
        let Some(values) = values else { return fail(format!("the vector of {word} is not of finite numbers")) };
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 || !norm.is_finite() {
            return fail(format!("the vector of {word} has no direction"));
        }
        found.insert(word, values.iter().map(|v| (f64::from(*v) / norm) as f32).collect());
    }
    let missing: Vec<&str> = words.iter().map(String::as_str).filter(|word| !found.contains_key(word)).collect();
    match missing.is_empty() {
        true => Ok(words.iter().map(|word| found[word.as_str()].clone()).collect()),
        false => Err(Error::data(shown, format!("has no vector for {}", missing.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_found_among_words_with_spaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.txt");
        std::fs::write(&path, "4 2\n. . 1 2\nbright 3 4\nat a b.c 1 2\nbright 0\ndark 0 -2\n").unwrap();
        let words = ["dark", "bright"].map(str::to_owned);
        assert_eq!(word_vectors(Some(&path), &words).unwrap(), [[0.0, -1.0], [0.6, 0.8]]);
    }
}
