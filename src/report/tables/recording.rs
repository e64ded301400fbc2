//! The result of a recording as a table for the terminal.

use crate::core::numbers::{clock, duration};
use crate::core::text::in_words;
use crate::predict::recognition::Recognition;
use crate::predict::timeline::resample;
use crate::report::tables::table::{Align, Style, Table, bar, printable, sparkline};

/// Maximum length of names in characters; on a narrow terminal.
const NAME: usize = 20;
const SHORT_NAME: usize = 13;
/// Width of the columns of bars, probabilities, spreads and marks.
const BAR: usize = 8;
const NUMBER: usize = 4;
const TAG_BAR: usize = 20;
const MARK: usize = 1;
/// Timelines: below the first the bars, and then the spreads, are left out.
const ENOUGH: usize = 16;
const LONGEST: usize = 60;
const SHORTEST: usize = 8;

/// A line with the recording's name, a sentence about it, and a table of the present instruments, and then the most
/// probable of the others until there are `top`: probability, ± spread over the seeds, a mark if it is present, and a
/// timeline (see [`crate::predict::recognition::Instrument::answer`]). Then the `top` most probable tags, if there are
/// any.
pub fn table(recognition: &Recognition, top: usize, style: Style) -> String {
    let r = recognition;
    let length = duration(r.duration) + if r.is_unreliable() { "  unreliable" } else { "" };
    let room = style.width.map_or(usize::MAX, |w| usize::from(w).saturating_sub(length.chars().count() + 2));
    let name = shortened(&printable(&r.file.to_string_lossy()), room, true);
    let tags = if r.tags.is_empty() { String::new() } else { tags(r, top, style) };
    format!("{name}  {length}\n{}{tags}", instruments(r, top, style))
}

fn tags(r: &Recognition, top: usize, style: Style) -> String {
    let mut table = Table::new([("tag", Align::Left), ("", Align::Left), ("p", Align::Right)]);
    for tag in r.ranked_tags().into_iter().take(top) {
        table.row([tag.name.into(), bar(tag.probability, TAG_BAR), format!("{:.2}", tag.probability)]);
    }
    table.render(style)
}

/// The sentence and the table of instruments.
fn instruments(r: &Recognition, top: usize, style: Style) -> String {
    let present = r.instruments.iter().filter(|i| i.present).count();
    let shown: Vec<_> = r.present_first().into_iter().take(top.max(present)).collect();
    let longest = shown.iter().map(|i| i.name.chars().count()).max().unwrap_or(0).max("instrument".len());
    let several = shown.iter().any(|i| i.spread.is_some());
    // Columns that may be left out: bars and spreads.
    let left = |[bars, spreads]: [bool; 2], name: usize| {
        let widths = [Some(name), bars.then_some(BAR), Some(NUMBER), spreads.then_some(NUMBER), Some(MARK), Some(0)];
        let used: usize = widths.iter().flatten().map(|width| width + 2).sum();
        style.width.map_or(40, |w| usize::from(w).saturating_sub(used + 2))
    };
    let layouts = [([true, several], NAME), ([false, several], NAME), ([false, false], SHORT_NAME)];
    let fits = |&&(columns, name): &&([bool; 2], usize)| left(columns, longest.min(name)) >= ENOUGH;
    let &([bars, spreads], name) = layouts.iter().find(fits).unwrap_or(&layouts[2]);
    let width = left([bars, spreads], longest.min(name)).clamp(SHORTEST, LONGEST);
    let end = clock(r.duration, r.duration, 0.1);
    let axis = format!("0{end:>rest$}", rest = width - 1);
    let columns = [
        (true, "instrument", Align::Left),
        (bars, "", Align::Left),
        (true, "p", Align::Right),
        (spreads, "±", Align::Right),
        (true, "", Align::Left),
        (true, &axis, Align::Left),
    ];
    let mut table = Table::new(columns.iter().filter(|c| c.0).map(|&(_, name, align)| (name, align)));
    for i in shown {
        let cells = [
            shortened(&in_words(&i.name), name, false),
            bar(i.probability, BAR),
            format!("{:.2}", i.probability),
            i.spread.map(|s| format!("{s:.2}")).unwrap_or_default(),
            if i.present { "✓" } else { "" }.into(),
            sparkline(&resample(&i.answer(), r.cell, 0.0..r.duration, width)),
        ];
        table.row(columns.iter().zip(cells).filter(|(column, _)| column.0).map(|(_, cell)| cell));
    }
    format!("{}\n{}", printable(&r.summary()), table.render(style))
}

/// `text` in at most `width` characters: its end or its beginning, and an ellipsis for the rest.
fn shortened(text: &str, width: usize, end: bool) -> String {
    let all: Vec<char> = text.chars().collect();
    let room = width.saturating_sub(1);
    match end {
        _ if all.len() <= width => text.to_owned(),
        true => ['…'].iter().chain(&all[all.len() - room..]).collect(),
        false => all[..room].iter().chain(['…'].iter()).collect(),
    }
}
