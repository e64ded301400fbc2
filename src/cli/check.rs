//! `wmic check`: every kernel against its reference on this adapter.

use std::path::PathBuf;
use std::time::Instant;

use wmic::check::{Check, CheckReport, Row, list, share};
use wmic::core::numbers::duration;
use wmic::ops::select;
use wmic::report::tables::table::Style;
use wmic::web::page::write_checks;

use super::common::{Device, Status};
use super::output::{self, Progress, fit};

/// Check every kernel, forward and gradient, against its reference on this adapter
///
/// Each case runs with the portable kernels and, if there are kernels for this adapter, with those ("software/8": for a
/// software adapter with subgroups of 8), and where the adapter has half precision with kernels in it. Errors are
/// percentages of the tolerance: above 100 % fails. In half precision two operands are each rounded by up to 2^-11, so
/// the tolerance grows by 2^-10 of the sum of the absolute values of their products.
#[derive(clap::Args)]
pub struct Args {
    /// Check only this op [default: all]
    #[arg(long, value_name = "NAME")]
    op: Option<String>,

    #[command(flatten)]
    device: Device,

    /// Check nothing here, but write a web page into this new or empty folder that checks the smaller cases in the
    /// browser, on the visitor's GPU
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    web: Option<PathBuf>,

    /// Print JSON: {device, wmic_version, checks: [{op, case, variant, forward, gradient, passed, failures}], passed,
    /// failed}
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let ops = select(self.op.as_deref())?;
        if let Some(dir) = &self.web {
            let progress = Progress::new(ops.iter().map(|op| (op.cases)().len()).sum());
            let mut cases = 0;
            write_checks(dir, &ops, &mut |case| {
                cases += 1;
                progress.next(&format!("{}: {}", case.op.name(), case.name));
            })?;
            drop(progress);
            let dir = dir.display();
            output::note(&format!("{cases} checks written to {dir}; try it with: python3 -m http.server -d {dir}"));
            return Ok(Status::Done);
        }
        let gpu = self.device.open()?;
        let checks = list(&ops, gpu.adapter())?;
        let start = Instant::now();
        let columns = Columns::of(&checks, Style::of_stdout());
        let progress = Progress::new(checks.len());
        if !self.json {
            progress.print(&columns.header())?;
        }
        let mut rows = vec![];
        for check in &checks {
            progress.next(&format!("{}: {}", check.case.op.name(), check.case.name));
            for outcome in check.run(&gpu) {
                let row = Row::from(outcome);
                if !self.json {
                    progress.print(&columns.line(&row))?;
                }
                rows.push(row);
            }
        }
        drop(progress);
        let report = CheckReport::new(gpu.adapter().name.clone(), rows);
        let (total, failed, device) = (report.checks.len(), report.failed, &report.device);
        if self.json {
            output::print_json(&report)?;
        } else {
            let took = duration(start.elapsed().as_secs_f64());
            output::print(&match failed {
                0 => format!("\nAll {total} checks passed on {device} in {took}.\n"),
                _ => format!("\n{failed} of {total} checks FAILED on {device} in {took}.\n"),
            })?;
        }
        Ok(if failed == 0 { Status::Done } else { Status::Failed })
    }
}

/// Rows appear as checks finish, so their columns are as wide as the longest name to come.
struct Columns {
    style: Style,
    op: usize,
    case: usize,
    variant: usize,
}

impl Columns {
    fn of(checks: &[Check], style: Style) -> Columns {
        let widest = |text: fn(&Check) -> String| checks.iter().map(|c| text(c).chars().count()).max().unwrap_or(0);
        let variants = checks.iter().flat_map(|c| &c.targets).map(|t| t.to_string().chars().count()).max().unwrap_or(0);
        let (op, variant) = (widest(|c| c.case.op.name().into()).max(2), variants.max(7));
        // forward, gradient, result and the gaps between columns take 32.
        let room = style.width.map_or(usize::MAX, |w| usize::from(w).saturating_sub(op + variant + 32));
        Columns { style, op, case: widest(|c| c.case.name.clone()).max(4).min(room), variant }
    }

    fn cells(&self, op: &str, case: &str, variant: &str, forward: &str, gradient: &str, result: &str) -> String {
        let (case, (o, c, v)) = (fit(case, self.case), (self.op, self.case, self.variant));
        format!("{op:<o$}  {case:<c$}  {variant:<v$}  {forward:>8}  {gradient:>8}  {result}\n")
    }

    fn header(&self) -> String {
        let line = self.cells("op", "case", "variant", "forward", "gradient", "");
        format!("{}\n", self.styled(line.trim_end(), "1"))
    }

    fn line(&self, row: &Row) -> String {
        let result = if row.passed { self.styled("ok", "32") } else { self.styled("FAILED", "31") };
        let (forward, gradient) = (share(row.forward), row.gradient.map_or("-".into(), share));
        let mut line = self.cells(&row.op, &row.case, &row.variant, &forward, &gradient, &result);
        line.extend(row.failures.iter().map(|failure| format!("  {failure}\n")));
        line
    }

    /// `text` in an ANSI style, where there are colours.
    fn styled(&self, text: &str, style: &str) -> String {
        if self.style.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.into() }
    }
}
