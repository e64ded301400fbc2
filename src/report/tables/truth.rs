//! Agreement of results with ground-truth times as text.

use crate::core::numbers::{clock, percent, score};
use crate::core::text::in_words;
use crate::metrics::counts::Counts;
use crate::predict::recognition::{Instrument, Recognition};
use crate::predict::timeline::resample;
use crate::predict::truth::{Agreement, Truth};
use crate::report::tables::table::{Align, PLAYS, SILENT, Style, Table, sparkline};

/// Columns of timelines: of a narrow terminal, and at most.
const SHORTEST: usize = 8;
const LONGEST: usize = 60;
/// Columns of "mallet percussion", "missed" and a probability, with what is between columns and a border.
const OTHERS: usize = 17 + 6 + 4 + 3 * 2 + 4;

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

/// When the instruments of a recording really play, and under it when they were heard: a table of timelines, in the
/// order in which they begin, and a sentence. `truth` has been compared with this recording alone.
pub fn beside(r: &Recognition, truth: &Truth, style: Style) -> String {
    let times = |i: &Instrument| truth.times(r, &i.name);
    let begins = |i: &Instrument| times(i).iter().map(|(start, _)| *start).fold(f64::INFINITY, f64::min);
    let mut shown: Vec<&Instrument> = r.ranked().into_iter().filter(|i| i.present || !times(i).is_empty()).collect();
    shown.sort_by(|a, b| begins(a).total_cmp(&begins(b)));

    let width = style.width.map_or(43, |w| usize::from(w).saturating_sub(OTHERS)).clamp(SHORTEST, LONGEST);
    let axis = format!("0{:>rest$}", clock(r.duration, r.duration, 0.1), rest = width - 1);
    let columns = [("instrument", Align::Left), ("", Align::Left), ("p", Align::Right), (&axis, Align::Left)];
    let mut table = Table::new(columns);
    for i in &shown {
        let line = |within: &[(f64, f64)], drawn: &[char]| -> String {
            let middle = |column: usize| (column as f64 + 0.5) / width as f64 * r.duration;
            let inside = |t: f64| within.iter().any(|(start, end)| (*start..*end).contains(&t));
            (0..width).map(|column| if inside(middle(column)) { drawn[column] } else { SILENT }).collect()
        };
        let found: Vec<(f64, f64)> = i.segments.iter().map(|s| (s.start, s.end)).collect();
        let heard: Vec<char> = sparkline(&resample(&i.answer(), r.cell, 0.0..r.duration, width)).chars().collect();
        let plays = if times(i).is_empty() { "silent" } else { "plays" };
        table.row([in_words(&i.name), plays.into(), String::new(), line(times(i), &vec![PLAYS; width])]);
        let answer = if i.present { "heard" } else { "missed" };
        table.row([String::new(), answer.into(), format!("{:.2}", i.probability), line(&found, &heard)]);
    }

    let real = shown.iter().filter(|i| !times(i).is_empty()).count();
    let right = shown.iter().filter(|i| i.present && !times(i).is_empty()).count();
    let wrong = match shown.len() - real {
        0 => "nothing else".into(),
        n => format!("{n} that {} not play", if n == 1 { "does" } else { "do" }),
    };
    let mut text = format!("{}Heard {right} of {real} instruments, and {wrong}.\n", table.render(style));
    let all = truth.agreement().frames.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts);
    if let (Some(precision), Some(recall)) = (all.precision_pos(), all.recall_pos())
        && all.tp + all.fp > 0
    {
        let [right, marked] = [precision, recall].map(percent);
        text += &format!("Of the seconds marked as heard {right} are right; of those played {marked} are marked.\n");
    }
    text
}
