//! An evaluation as a per-class table and one summary line.

use super::numbers::score;
use super::table::{Align, Look, Table, bar};
use crate::train::{Evaluation, Level, Scores};

/// One row per class: f1_pn, f1_pos, average precision, precision, recall (means over the seeds), positive and observed
/// clips, and on a terminal a bar of f1_pn from 0 to 1. Below them the means over the classes, and for
/// several seeds those of the ensemble.
pub fn class_table(e: &Evaluation, look: Look) -> String {
    let numeric = ["f1_pn", "f1_pos", "AP", "P", "R", "pos/obs"];
    let mut columns = vec![("class", Align::Left)];
    columns.extend(numeric.map(|name| (name, Align::Right)));
    if look.borders {
        columns.push(("f1_pn", Align::Left));
    }
    let mut table = Table::new(columns);
    let cells = |name: &str, metrics: [Option<f64>; 5], clips: String| {
        let mut row = vec![name.to_owned()];
        row.extend(metrics.map(score));
        row.push(clips);
        if look.borders {
            row.push(metrics[0].map_or(String::new(), |f1| bar(f1, 8)));
        }
        row
    };
    for (name, m) in &e.per_class {
        let metrics = [m.f1_pn, m.f1_pos, m.ap, m.precision, m.recall];
        table.row(cells(name, metrics, format!("{}/{}", m.positives, m.observed)));
    }
    let sum = |field: fn(&crate::train::ClassMetrics) -> u64| e.per_class.iter().map(|(_, m)| field(m)).sum::<u64>();
    let clips = format!("{}/{}", sum(|m| m.positives), sum(|m| m.observed));
    let ensemble = (e.per_seed.len() > 1).then_some(("ensemble", &e.ensemble));
    for (name, m) in [("mean", &e.mean)].into_iter().chain(ensemble) {
        table.total(cells(name, [m.f1_pn, m.f1_pos, m.map, m.precision, m.recall], clips.clone()));
    }
    table.render(look)
}

/// "test: map .912 ± .003  f1_pn .868 ± .002  f1_pos .820 ± .004  over 3 seeds" (mean and sample deviation), and the threshold if it
/// is not 0.5.
pub fn summary(e: &Evaluation) -> String {
    let metric = |name: &str, field: fn(&Scores) -> Option<f64>| match field(&e.std) {
        Some(std) => format!("{name} {} ± {}", score(field(&e.mean)), score(Some(std))),
        None => format!("{name} {}", score(field(&e.mean))),
    };
    let metrics = [metric("map", |s| s.map), metric("f1_pn", |s| s.f1_pn), metric("f1_pos", |s| s.f1_pos)];
    let line = format!("{}: {}", e.subject.split, metrics.join("  "));
    let line = match e.per_seed.len() {
        1 => format!("{line}  with seed {}", e.per_seed[0].seed),
        n => format!("{line}  over {n} seeds"),
    };
    match e.subject.threshold {
        Level::Tuned => format!("{line}, thresholds tuned"),
        Level::Fixed(0.5) => line,
        Level::Fixed(v) => format!("{line}, threshold {v}"),
    }
}
