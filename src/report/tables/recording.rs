//! The result of a recording as a table for the terminal.

use crate::predict::recognition::Recognition;
use crate::predict::timeline::resample;
use crate::report::numbers::{clock, duration};
use crate::report::tables::table::{Align, Style, Table, bar, printable, sparkline};

/// Maximum length of names in characters.
const NAME: usize = 20;
const BAR: usize = 8;
/// Characters besides name, bar and timeline: numbers, mark and frame.
const BESIDE: usize = 23;

/// A line with the recording's name, and a table of its `top` most probable instruments: probability, ± spread over the
/// seeds, a mark if it is present, and a timeline of its activity.
pub fn table(recognition: &Recognition, top: usize, style: Style) -> String {
    let r = recognition;
    let shown: Vec<_> = r.ranked().into_iter().take(top).collect();
    let longest = shown.iter().map(|i| i.name.chars().count()).max().unwrap_or(0).clamp("instrument".len(), NAME);
    let width = style.width.map_or(40, |w| usize::from(w).saturating_sub(longest + BAR + BESIDE)).clamp(10, 60);
    let end = clock(r.duration, r.duration, 0.1);
    let axis = format!("0{end:>rest$}", rest = width - 1);
    let right = Align::Right;
    let mut table = Table::new([
        ("instrument", Align::Left),
        ("", Align::Left),
        ("p", right),
        ("±", right),
        ("", Align::Left),
        (axis.as_str(), Align::Left),
    ]);
    for i in shown {
        table.row([
            shortened(&i.name, NAME, false),
            bar(i.probability, BAR),
            format!("{:.2}", i.probability),
            i.spread.map(|s| format!("{s:.2}")).unwrap_or_default(),
            if i.present { "✓" } else { "" }.into(),
            sparkline(&resample(&i.activity, r.cell, r.duration, width)),
        ]);
    }
    let length = duration(r.duration) + if r.is_unreliable() { "  unreliable" } else { "" };
    let room = style.width.map_or(usize::MAX, |w| usize::from(w).saturating_sub(length.chars().count() + 2));
    format!("{}  {length}\n{}", shortened(&printable(&r.file.to_string_lossy()), room, true), table.render(style))
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
