//! Labels in a table, `labels.csv`: a row per statement, or a row per file and a column per instrument.

use super::labels::{Part, Statement, read_text, segment};
use crate::core::error::{Error, Result};
use crate::data::names::{normalised, shorten};
use std::path::Path;

/// The columns that a table can have, each with its other names.
const COLUMNS: [(&str, &[&str]); 7] = [
    ("file", &["filename", "path", "sample_key"]),
    ("instrument", &["label", "class"]),
    ("present", &["y_true", "relevance"]),
    ("start", &["start_s", "onset"]),
    ("end", &["end_s", "offset"]),
    ("group", &["artist", "album"]),
    ("split", &[]),
];

/// A table, parsed.
struct Table<'a> {
    path: &'a Path,
    reader: csv::Reader<&'a [u8]>,
    header: Vec<String>,
    /// Numbers may have a decimal comma: it does not separate fields.
    decimal_comma: bool,
    /// The place of each of [`COLUMNS`].
    columns: [Option<usize>; COLUMNS.len()],
}

/// Field separators, the first of those that separate the most names of columns wins.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

impl<'a> Table<'a> {
    fn open(path: &'a Path, text: &'a str) -> Result<Table<'a>> {
        let of = |separator: u8| -> Result<Table<'a>> {
            let mut builder = csv::ReaderBuilder::new();
            let mut reader = builder.delimiter(separator).trim(csv::Trim::All).from_reader(text.as_bytes());
            let header = reader.headers().map_err(|e| damaged(path, &e))?;
            let header: Vec<String> = header.iter().map(|name| name.to_lowercase()).collect();
            let place = |(name, others): &(&str, &[&str])| {
                [name].into_iter().chain(others.iter()).find_map(|name| header.iter().position(|h| h == name))
            };
            let columns = COLUMNS.each_ref().map(place);
            Ok(Table { path, reader, columns, decimal_comma: separator != b',', header })
        };
        let mut tables = SEPARATORS.map(of).into_iter().collect::<Result<Vec<_>>>()?;
        let known = |table: &Table| table.columns.iter().flatten().count();
        let best =
            (0..tables.len()).max_by_key(|&i| (known(&tables[i]), std::cmp::Reverse(i))).expect("there are three");
        let table = tables.swap_remove(best);
        let mut names: Vec<&String> = table.header.iter().collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::data_at(path, 1, format!("has two columns {:?}", shorten(twice[0]))));
        }
        Ok(table)
    }

    fn column(&self, name: &str) -> Option<usize> {
        let index = COLUMNS.iter().position(|(known, _)| *known == name).expect("one of the columns");
        self.columns[index]
    }

    fn needed(&self, name: &str) -> Result<usize> {
        self.column(name).ok_or_else(|| {
            let expected = "file,instrument,present and optionally start,end,group,split are expected";
            Error::data_at(self.path, 1, format!("has no column {name}; {expected}"))
        })
    }

    fn number(&self, text: &str) -> Option<f64> {
        match self.decimal_comma {
            true => text.replace(',', ".").parse().ok(),
            false => text.parse().ok(),
        }
    }
}

fn damaged(path: &Path, e: &csv::Error) -> Error {
    let line = e.position().map_or(1, |p| p.line());
    let reason = match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields, but the first line has {expected_len}")
        }
        _ => format!("is not a table ({e})"),
    };
    Error::data_at(path, line, reason)
}

/// A cell that says whether an instrument is present; empty: unknown.
fn presence(text: &str) -> Option<Option<bool>> {
    match text.to_lowercase().as_str() {
        "" => Some(None),
        "1" | "1.0" | "true" => Some(Some(true)),
        "0" | "0.0" | "false" => Some(Some(false)),
        _ => None,
    }
}

fn part(text: &str) -> Option<Option<Part>> {
    match text.to_lowercase().as_str() {
        "" => Some(None),
        "train" | "training" => Some(Some(Part::Train)),
        "val" | "valid" | "validation" => Some(Some(Part::Validation)),
        "test" => Some(Some(Part::Test)),
        _ => None,
    }
}

/// Reads a table of labels.
///
/// # Errors
/// `Data`, with the line, for a missing column and for cells that are not what their column says.
pub(super) fn read(path: &Path) -> Result<Vec<Statement>> {
    let text = read_text(path)?;
    let mut table = Table::open(path, &text)?;
    let file = table.needed("file")?;
    let others: Vec<usize> = (0..table.header.len()).filter(|i| !table.columns.contains(&Some(*i))).collect();
    let long = ["instrument", "present", "start", "end"].iter().any(|name| table.column(name).is_some());
    // With a column per instrument; else this one is missing.
    let instruments = if long || others.is_empty() { vec![] } else { others.clone() };
    let instrument = if instruments.is_empty() { Some(table.needed("instrument")?) } else { None };
    let [group, split] = ["group", "split"].map(|name| table.column(name));
    let mut statements = vec![];
    let records: Vec<csv::StringRecord> =
        table.reader.records().collect::<Result<_, _>>().map_err(|e| damaged(path, &e))?;
    if long && table.column("present").is_none() {
        // Its 0 would be taken for 1.
        let is_zero = |cell: &str| presence(cell) == Some(Some(false));
        let says_presence = |column: &&usize| {
            let cells = || records.iter().map(|record| &record[**column]);
            cells().all(|cell| presence(cell).is_some()) && cells().any(is_zero)
        };
        if let Some(column) = others.iter().find(says_presence) {
            let header = shorten(&table.header[*column]);
            let reason = format!("has no column present; if {header}, of 1 and 0, says it, call it so, else remove it");
            return Err(Error::data_at(path, 1, reason));
        }
    }
    for record in &records {
        let line = record.position().map_or(0, |p| p.line());
        let fail = |reason: String| Error::data_at(path, line, reason);
        let cell = |column: Option<usize>| column.map_or("", |column| &record[column]);
        let name = cell(Some(file)).to_owned();
        if record.iter().all(str::is_empty) {
            continue;
        }
        if name.is_empty() {
            return Err(fail("names no file".into()));
        }
        let part = part(cell(split))
            .ok_or_else(|| fail(format!("split {:?} is not train, validation or test", shorten(cell(split)))))?;
        let group = Some(cell(group).to_owned()).filter(|group| !group.is_empty());
        let of_file = |instrument, present, times| Statement {
            name: name.clone(),
            instrument,
            present,
            times,
            group: group.clone(),
            part,
            line,
        };
        let Some(instrument) = instrument else {
            for &column in &instruments {
                let value = &record[column];
                let present = presence(value).ok_or_else(|| {
                    let header = &table.header[column];
                    fail(format!("{:?} in column {header} is not 1, 0 or empty", shorten(value)))
                })?;
                let name = normalised(&table.header[column]).map_err(|reason| Error::data_at(path, 1, reason))?;
                statements.push(of_file(Some(name), present, None));
            }
            continue;
        };
        let stated = presence(cell(table.column("present"))).ok_or_else(|| {
            let value = shorten(cell(table.column("present")));
            fail(format!("present is {value:?}; 1, 0 or an empty cell is expected"))
        })?;
        let times = [cell(table.column("start")), cell(table.column("end"))];
        let times = match times.map(|time| (time, table.number(time))) {
            [("", _), ("", _)] => None,
            [(_, Some(start)), (_, Some(end))] => Some(segment(start, end).map_err(fail)?),
            [(start, _), (end, _)] => {
                return Err(fail(format!("{:?} to {:?} are not times in seconds", shorten(start), shorten(end))));
            }
        };
        if cell(Some(instrument)).is_empty() {
            if stated.is_some() || times.is_some() {
                return Err(fail("names no instrument".into()));
            }
            statements.push(of_file(None, None, None));
            continue;
        }
        let present = match (stated, times) {
            (Some(false), Some(_)) => {
                return Err(fail("says that the instrument is absent (0), but gives times".into()));
            }
            (_, Some(_)) => Some(true),
            // Without the column a row is a statement of presence.
            (None, None) if table.column("present").is_none() => Some(true),
            (stated, None) => stated,
        };
        let name = normalised(cell(Some(instrument))).map_err(fail)?;
        statements.push(of_file(Some(name), present, times));
    }
    if statements.is_empty() {
        return Err(Error::data(path, "has no labels"));
    }
    Ok(statements)
}

/// The name of a clip, an instrument, and start and end of a segment.
type Timed = (String, String, [f64; 2]);

/// Reads a table of times alone. Rows without times are left out.
pub(crate) fn read_times(path: &Path) -> Result<Vec<Timed>> {
    let statements = read(path)?.into_iter();
    let rows: Vec<_> = statements.filter_map(|s| Some((s.name, s.instrument?, s.times?))).collect();
    match rows.is_empty() {
        true => Err(Error::data(path, "has no times: columns start and end, in seconds, are expected")),
        false => Ok(rows),
    }
}
