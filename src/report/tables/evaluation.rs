//! An evaluation as a per-class table and one summary line.

use crate::core::numbers::score;
use crate::core::text::in_words;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::{ClassMetrics, Scores, Task};
use crate::metrics::thresholds::Threshold;
use crate::report::tables::table::{Align, Style, Table, bar};

/// A column: its name, the metric of a class, and the mean of it over the classes.
type Column = (&'static str, fn(&ClassMetrics) -> Option<f64>, fn(&Scores) -> Option<f64>);

const OF_MULTI_LABEL: [Column; 5] = [
    ("f1_pn", |m| m.f1_pn, |s| s.f1_pn),
    ("f1_pos", |m| m.f1_pos, |s| s.f1_pos),
    ("AP", |m| m.ap, |s| s.map),
    ("P", |m| m.precision, |s| s.precision),
    ("R", |m| m.recall, |s| s.recall),
];

const OF_SINGLE_LABEL: [Column; 5] = [
    ("f1_pos", |m| m.f1_pos, |s| s.f1_pos),
    ("P", |m| m.precision, |s| s.precision),
    ("R", |m| m.recall, |s| s.recall),
    ("AP", |m| m.ap, |s| s.map),
    ("AUC", |m| m.auc, |s| s.auc),
];

/// One row per class: f1_pn, f1_pos, average precision, precision, recall (means over the seeds), positive and observed
/// clips, and on a terminal a bar of f1_pn from 0 to 1; for single-label models f1_pos first and the ROC-AUC last.
/// Below them the means over the classes, and for several seeds those of the ensemble.
pub fn class_table(e: &Evaluation, style: Style) -> String {
    let metrics = match e.subject.task() {
        Task::MultiLabel => OF_MULTI_LABEL,
        Task::SingleLabel => OF_SINGLE_LABEL,
    };
    let mut columns = vec![("class", Align::Left)];
    columns.extend(metrics.iter().map(|(name, ..)| *name).chain(["pos/obs"]).map(|name| (name, Align::Right)));
    if style.borders {
        columns.push((metrics[0].0, Align::Left));
    }
    let mut table = Table::new(columns);
    let cells = |name: &str, values: [Option<f64>; 5], clips: String| {
        let mut row = vec![name.to_owned()];
        row.extend(values.map(score));
        row.push(clips);
        if style.borders {
            row.push(values[0].map_or(String::new(), |f1| bar(f1, 8)));
        }
        row
    };
    for (name, m) in &e.per_class {
        let values = metrics.map(|(_, of_class, _)| of_class(m));
        table.row(cells(&in_words(name), values, format!("{}/{}", m.positives, m.observed)));
    }
    let sum = |field: fn(&ClassMetrics) -> u64| e.per_class.iter().map(|(_, m)| field(m)).sum::<u64>();
    let clips = format!("{}/{}", sum(|m| m.positives), sum(|m| m.observed));
    let ensemble = (e.per_seed.len() > 1).then_some(("ensemble", &e.ensemble));
    for (name, s) in [("mean", &e.mean)].into_iter().chain(ensemble) {
        table.total(cells(name, metrics.map(|(.., of_all)| of_all(s)), clips.clone()));
    }
    table.render(style)
}

/// "calibration error .043, after calibration .021"; `None` for runs without calibrations.
pub fn calibration(e: &Evaluation) -> Option<String> {
    let r = e.reliability.as_ref()?;
    let [before, after] = [r.error_before, r.error_after].map(|error| score(Some(error)));
    Some(format!("calibration error {before}, after calibration {after}"))
}

/// "test: map .912 ± .003  f1_pn .868 ± .002  f1_pos .820 ± .004  over 3 seeds" (mean and sample deviation), and the
/// threshold if it is not 0.5; "test: accuracy .951 ± .002  f1_macro .859 ± .004  P .850 ± .005  R .868 ± .004  over 3
/// seeds" for single-label models.
pub fn summary(e: &Evaluation) -> String {
    let metric = |name: &str, field: fn(&Scores) -> Option<f64>| match field(&e.std) {
        Some(std) => format!("{name} {} ± {}", score(field(&e.mean)), score(Some(std))),
        None => format!("{name} {}", score(field(&e.mean))),
    };
    let metrics = match e.subject.task() {
        Task::MultiLabel => {
            vec![metric("map", |s| s.map), metric("f1_pn", |s| s.f1_pn), metric("f1_pos", |s| s.f1_pos)]
        }
        Task::SingleLabel => vec![
            metric("accuracy", |s| s.accuracy),
            metric("f1_macro", |s| s.f1_macro),
            metric("P", |s| s.precision),
            metric("R", |s| s.recall),
        ],
    };
    let line = format!("{}: {}", e.subject.split, metrics.join("  "));
    let line = match e.per_seed.len() {
        1 => format!("{line}  with seed {}", e.per_seed[0].seed),
        n => format!("{line}  over {n} seeds"),
    };
    match e.subject.threshold {
        _ if e.subject.single_label => line,
        Threshold::Tuned => format!("{line}, thresholds tuned"),
        Threshold::Precision(p) => format!("{line}, thresholds for precision {p}"),
        Threshold::Fixed(0.5) => line,
        Threshold::Fixed(v) => format!("{line}, threshold {v}"),
    }
}
