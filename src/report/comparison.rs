//! The files of a comparison: machine-readable tables, figures, and a page.

use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::compare::comparison::Comparison;
use crate::core::files::write_atomic;
use crate::metrics::scores::ClassMetrics;
use crate::report::pages::comparison::{self, seeds};
use crate::report::pages::html::PageFigure;
use crate::report::plots::comparison::{InstrumentBars, ScoreBoxes};
use crate::report::plots::figure;
use crate::report::tables::table::printable;

pub use crate::report::pages::comparison::{CLASSES, CLASSES_PLOT, JSON, REPORT, SCORES, SCORES_PLOT};

/// Writes `compare.json`, `scores.csv`, `classes.csv`, `scores.png`, `classes.png` and then `report.html` into
/// `folder`, replacing older ones, each atomically.
///
/// # Errors
/// `Io`, naming the file that cannot be written.
pub fn write(folder: &Path, c: &Comparison) -> Result<()> {
    write_atomic(folder.join(JSON), |out| {
        serde_json::to_writer_pretty(&mut *out, c)?;
        out.write_all(b"\n")
    })?;
    write_atomic(folder.join(SCORES), |out| out.write_all(scores_csv(c).as_bytes()))?;
    write_atomic(folder.join(CLASSES), |out| out.write_all(classes_csv(c).as_bytes()))?;
    let about = printable(&format!("{} on {}, {}", c.experiment.name, c.dataset, seeds(c)));
    let boxes = ScoreBoxes::new(&format!("Scores on the test split: {about}"), c);
    let bars =
        InstrumentBars::new(&format!("Classes, {} on the test split: {about}", c.experiment.metric.class_name()), c);
    figure::save(&boxes, &folder.join(SCORES_PLOT))?;
    figure::save(&bars, &folder.join(CLASSES_PLOT))?;
    comparison::write(
        &folder.join(REPORT),
        c,
        [PageFigure::new(&boxes, SCORES_PLOT)?, PageFigure::new(&bars, CLASSES_PLOT)?],
    )
}

/// A line per entry, seed and metric; undefined ones are omitted.
fn scores_csv(c: &Comparison) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        entry: &'a str,
        seed: u64,
        metric: &'a str,
        value: f64,
    }
    let lines = c.entries.iter().flat_map(|entry| {
        entry.evaluation.per_seed.iter().flat_map(move |s| {
            c.task().metrics().iter().filter_map(move |metric| {
                let value = (metric.of)(&s.scores)?;
                Some(Line { entry: &entry.label, seed: s.seed, metric: metric.name, value })
            })
        })
    });
    csv_text(lines)
}

/// A line per entry and class: means over the seeds.
fn classes_csv(c: &Comparison) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        entry: &'a str,
        class: &'a str,
        f1_pn: Option<f64>,
        f1_pn_std: Option<f64>,
        f1_pos: Option<f64>,
        f1_pos_std: Option<f64>,
        ap: Option<f64>,
        auc: Option<f64>,
        precision: Option<f64>,
        recall: Option<f64>,
        positives: u64,
        observed: u64,
    }
    let lines = c.entries.iter().flat_map(|entry| {
        entry.evaluation.per_class.iter().map(|(class, m)| {
            let ClassMetrics { f1_pn, f1_pn_std, f1_pos, f1_pos_std, ap, auc, precision, recall, positives, observed } =
                *m;
            let entry = &entry.label;
            Line { entry, class, f1_pn, f1_pn_std, f1_pos, f1_pos_std, ap, auc, precision, recall, positives, observed }
        })
    });
    csv_text(lines)
}

fn csv_text(lines: impl Iterator<Item = impl Serialize>) -> String {
    let mut out = csv::Writer::from_writer(vec![]);
    lines.for_each(|line| out.serialize(line).expect("plain fields go into a vector"));
    String::from_utf8(out.into_inner().expect("flushed to a vector")).expect("written from strings")
}
