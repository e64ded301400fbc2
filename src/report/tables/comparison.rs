//! A comparison as tables for the terminal.

use crate::compare::comparison::Comparison;
use crate::compare::experiment::MainMetric;
use crate::core::numbers::{p_value, score, signed};
use crate::report::tables::table::{Align, Style, Table};

/// The columns that fit a terminal of 80: the experiment's metric first, next to it the other F1; for single-label
/// models those of the papers.
fn columns(main: MainMetric) -> [&'static str; 5] {
    match main {
        MainMetric::F1Pn => ["f1_pn", "f1_pos", "map", "precision", "recall"],
        MainMetric::F1Pos => ["f1_pos", "micro_f1", "map", "precision", "recall"],
        MainMetric::Accuracy => ["accuracy", "precision", "recall", "micro_f1", "f1_macro"],
    }
}

/// Mean and standard deviation over the seeds of each entry, the best in bold; below, each entry against the best one.
pub fn text(c: &Comparison, style: Style) -> String {
    let main = c.experiment.metric;
    let heads = columns(main);
    let mut table = Table::new([("", Align::Left)].into_iter().chain(heads.map(|name| (name, Align::Right))));
    let metrics = heads.map(|name| c.task().metric(name));
    let best = metrics.map(|metric| c.best(&metric));
    for (i, entry) in c.entries.iter().enumerate() {
        let e = &entry.evaluation;
        let cells = metrics.map(|m| mean_and_spread((m.of)(&e.mean), (m.of)(&e.std)));
        table.row([entry.label.clone()].into_iter().chain(cells));
        best.iter().enumerate().filter(|(_, best)| **best == Some(i)).for_each(|(m, _)| table.embolden(m + 1));
    }
    let mut out = table.render(style);
    let other = if main == MainMetric::Accuracy { "f1_macro" } else { "map" };
    for name in [main.name(), other] {
        out += &against_best(c, name, style);
    }
    if c.seeds() == 1 {
        out += "\nOne seed each: no significance over seeds.\n";
    }
    out
}

/// ".868±.002": five of them fit a terminal of 80 columns.
fn mean_and_spread(mean: Option<f64>, std: Option<f64>) -> String {
    match std {
        Some(std) => format!("{}±{}", score(mean), score(Some(std))),
        None => score(mean),
    }
}

fn against_best(c: &Comparison, name: &str, style: Style) -> String {
    let metric = c.compared().iter().position(|m| m.name == name).expect("a compared metric");
    let Some(best) = c.best(&c.compared()[metric]) else { return String::new() };
    let heads = ["difference", "over seeds", "p", "over clips", "p"];
    let columns = [("", Align::Left)].into_iter().chain(heads.map(|head| (head, Align::Right)));
    let mut table = Table::new(columns);
    for (i, entry) in c.entries.iter().enumerate() {
        let Some(d) = c.difference(i, best, metric) else { continue };
        let test = |test: Option<crate::metrics::significance::Test>| match test {
            Some(t) => [format!("{} to {}", signed(Some(t.low)), signed(Some(t.high))), p_value(t.p_holm)],
            None => ["-".into(), "-".into()],
        };
        let tests = [test(d.seeds), test(d.clips)].concat();
        table.row([entry.label.clone(), signed(d.difference)].into_iter().chain(tests));
    }
    if table.is_empty() {
        return String::new();
    }
    let best = crate::report::tables::table::printable(&c.entries[best].label);
    format!("\n{name} against {best}: 95 % intervals, p for all pairs (Holm)\n{}", table.render(style))
}
