//! Report of a pre-training run: learning curves beside the best constant's loss, on one HTML page.

use std::path::PathBuf;

use super::training::settings;
use crate::Result;
use crate::core::numbers::count;
use crate::report::pages::html::{self, Escaped, PageFigure};
use crate::report::plots::learning_curves::LearningCurves;
use crate::report::tables::table::printable;
use crate::run::run_dir::{LEARNING_CURVES, REPORT, RunDir};
use crate::run::state::EpochRow;

const STYLE: &str = include_str!("../../../assets/page/training.css");

/// Writes `learning_curves.png` and then `report.html` into the run, atomically. `front_ends`: each seed's best epoch and its file;
/// `constant`: the validation loss of the best constant output.
///
/// # Errors
/// `Io`, naming the file that cannot be written.
pub fn write(run: &RunDir, rows: &[EpochRow], front_ends: &[(EpochRow, PathBuf)], constant: f64) -> Result<()> {
    let record = run.record()?;
    let (config, about) = (&record.config, &record.run);
    let sounds = config.dataset.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let title = printable(&format!("{} on {sounds}", config.model));
    let curves = LearningCurves::new(&format!("Learning curves: {title}; best constant {constant:.4}"), rows);
    curves.save(&run.path().join(LEARNING_CURVES))?;
    let figure = PageFigure::new(&curves, LEARNING_CURVES)?;
    html::write(&run.path().join(REPORT), &title, STYLE, "", |out| {
        let (adapter, parameters) = (Escaped(&about.adapter), count(about.parameters as u64));
        let [train, val] = [about.train_clips, about.val_clips].map(|n| count(n as u64));
        writeln!(out, "<section class=\"card\"><h1>{}</h1>", Escaped(&title))?;
        writeln!(
            out,
            "<p class=\"meta\">{adapter} · {train} patches for training, {val} for validation · {parameters} \
                       parameters</p>"
        )?;
        writeln!(out, "<p>A constant output has a validation loss of {constant:.4}.</p>")?;
        writeln!(out, "<div class=\"scroll\"><table>\n<thead><tr>")?;
        for (name, up) in [("seed", true), ("best epoch", true), ("training loss", true), ("validation loss", true)] {
            html::header(out, name, up, false)?;
        }
        writeln!(out, "<th scope=\"col\">front end</th></tr></thead>\n<tbody>")?;
        for (row, file) in front_ends {
            let EpochRow { seed, epoch, train_loss, val_loss, .. } = row;
            let file = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let file = Escaped(&file);
            writeln!(
                out,
                "<tr><td>{seed}</td><td>{}</td><td>{train_loss:.4}</td><td>{val_loss:.4}</td><td><a href=\"{file}\">{file}</a></td></tr>",
                epoch + 1
            )?;
        }
        writeln!(out, "</tbody></table></div></section>")?;
        figure.write(out)?;
        settings(out, &record)
    })
}
