//! Agreement of results with ground-truth times as text.

use crate::core::numbers::score;
use crate::core::text::in_words;
use crate::predict::truth::Agreement;
use crate::report::tables::table::{Align, Style, Table};

/// A row for each instrument that is in the ground truth or was found, by frames of 1 s.
pub fn table(agreement: &Agreement, style: Style) -> String {
    let columns = ["instrument", "P", "R", "F1", "true s", "found s"];
    let align = |(i, name)| (name, if i == 0 { Align::Left } else { Align::Right });
    let mut table = Table::new(columns.into_iter().enumerate().map(align));
    for (name, counts) in &agreement.frames {
        let (real, found) = (counts.positives(), counts.tp + counts.fp);
        if real + found > 0 {
            let scores = [counts.precision_pos(), counts.recall_pos(), counts.f1_pos()].map(score);
            let [p, r, f1] = scores;
            table.row([in_words(name), p, r, f1, real.to_string(), found.to_string()]);
        }
    }
    table.render(style)
}
