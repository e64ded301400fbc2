//! The instruments in many recordings.

use crate::core::numbers::{count, duration, percent};
use crate::output::archive::Summary;
use crate::report::tables::table::{Align, Style, Table};

/// A row for each instrument that is present anywhere: in how many recordings, and how long it plays in all. Empty
/// without any.
pub fn table(summary: &Summary, style: Style) -> String {
    let columns =
        [("instrument", Align::Left), ("recordings", Align::Right), ("", Align::Right), ("plays", Align::Right)];
    let mut table = Table::new(columns);
    for i in &summary.instruments {
        let share = i.recordings as f64 / summary.recordings as f64;
        table.row([i.name.clone(), count(i.recordings as u64), percent(share), duration(i.seconds)]);
    }
    if table.is_empty() { String::new() } else { table.render(style) }
}
