//! Comparison of the checks of several devices, browsers included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::bench::results::{BenchReport, MAX_BYTES, MAX_RESULTS, one_line, parsed};
use crate::check::{CheckReport, Row, share};
use crate::core::files::read_limited;
use crate::report::tables::table::{Align, Style, Table};
use crate::{Error, Result};

/// A file that `wmic bench --compare` reads.
#[derive(Clone, Debug)]
pub enum Results {
    /// Of `wmic bench`.
    Times(Box<BenchReport>),
    /// Of `wmic check --json`, or of the page of `wmic check --web`.
    Checks(CheckReport),
}

impl Results {
    /// # Errors
    /// `Data`, mostly with the line, for any other file.
    pub fn load(path: &Path) -> Result<Results> {
        #[derive(Deserialize)]
        struct Kind {
            checks: Option<IgnoredAny>,
        }
        let bytes = read_limited(path, MAX_BYTES)?;
        if !serde_json::from_slice(&bytes).is_ok_and(|kind: Kind| kind.checks.is_some()) {
            return Ok(Results::Times(BenchReport::parse(path, &bytes)?.into()));
        }
        let report: CheckReport = parsed(path, &bytes)?;
        match report.checks.len() > MAX_RESULTS {
            true => Err(Error::data(path, format!("lists more than {MAX_RESULTS} checks"))),
            false => Ok(Results::Checks(report)),
        }
    }
}

/// The devices, the largest error of each op, and what failed; nothing without reports.
pub fn compare(reports: &[CheckReport], style: Style) -> String {
    let mut out = String::new();
    for (i, report) in reports.iter().enumerate() {
        out += &format!("{}  {}\n", i + 1, one_line(&report.device));
        out.extend(report.agent.iter().map(|agent| format!("   {}\n", one_line(agent))));
        let failed = report.checks.iter().filter(|row| !row.passed).count();
        out += &match (failed, report.checks.len()) {
            (0, all) => format!("   all {all} checks passed"),
            (failed, all) => format!("   {failed} of {all} checks FAILED"),
        };
        let version = one_line(&report.wmic_version);
        out += &if version.is_empty() { "\n".into() } else { format!(", wmic {version}\n") };
    }
    let table = table(reports);
    if !table.is_empty() {
        out += &format!("\nLargest error of the cases that all have, of its tolerance\n{}", table.render(style));
    }
    for (i, report) in reports.iter().enumerate() {
        for Row { op, case, variant, failures, .. } in report.checks.iter().filter(|row| !row.passed) {
            let why = failures.first().map_or("no reason is given", String::as_str);
            out += &format!("FAILED on {}: {}\n", i + 1, one_line(&format!("{op}: {case} ({variant}): {why}")));
        }
    }
    out
}

/// A row for each op, of the cases that were checked on all devices.
fn table(reports: &[CheckReport]) -> Table {
    let errors: Vec<BTreeMap<(&str, &str), f64>> = reports.iter().map(errors).collect();
    let mut common: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for &(op, case) in errors.iter().flat_map(BTreeMap::keys) {
        if errors.iter().all(|of| of.contains_key(&(op, case))) {
            common.entry(op).or_default().insert(case);
        }
    }
    let columns = [("op".to_owned(), Align::Left), ("cases".to_owned(), Align::Right)];
    let mut table = Table::new(columns.into_iter().chain((1..=reports.len()).map(|i| (i.to_string(), Align::Right))));
    for (op, cases) in &common {
        let worst = |of: &BTreeMap<(&str, &str), f64>| cases.iter().map(|case| of[&(*op, *case)]).fold(0.0, larger);
        let cells = [one_line(op), cases.len().to_string()].into_iter();
        table.row(cells.chain(errors.iter().map(|of| share(worst(of)))));
    }
    table
}

/// The largest error of each case, over its outputs, gradients and kernel variants.
fn errors(report: &CheckReport) -> BTreeMap<(&str, &str), f64> {
    let mut errors = BTreeMap::new();
    for row in &report.checks {
        let worst = errors.entry((row.op.as_str(), row.case.as_str())).or_insert(0.0);
        *worst = [row.forward, row.gradient.unwrap_or(0.0)].into_iter().fold(*worst, larger);
    }
    errors
}

/// NaN if any is: an error that is not finite.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}
