//! Report of a pre-training run: learning curves beside the best constant's loss, and what was learned, on one HTML
//! page.

use std::io::{self, Write};

use super::training::settings;
use crate::core::numbers::count;
use crate::nn::models::pretraining::TAGS;
use crate::report::pages::html::{self, Escaped, Image, PageFigure};
use crate::report::plots::learning_curves::LearningCurves;
use crate::report::plots::png::indexed;
use crate::report::plots::spectrogram::{colour_map, levels, pixels};
use crate::report::tables::table::printable;
use crate::run::run_dir::{LEARNING_CURVES, REPORT};
use crate::run::state::EpochRow;
use crate::train::findings::{Findings, RANKS};
use crate::train::session::FrontEnds;
use crate::{Array, Result};

const STYLE: &str = include_str!("../../../assets/page/training.css");

/// Writes `learning_curves.png` and then `report.html` into the run, atomically.
///
/// # Errors
/// `Io`, naming the file that cannot be written.
pub fn write(front_ends: &FrontEnds) -> Result<()> {
    let FrontEnds { run, history, best, constant, findings } = front_ends;
    let record = run.record()?;
    let (config, about) = (&record.config, &record.run);
    let sounds = config.dataset.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let title = printable(&format!("{} on {sounds}", config.model));
    let curves = LearningCurves::new(&format!("Learning curves: {title}; best constant {constant:.4}"), history);
    let curves = if config.model == TAGS { curves } else { curves.without_scores() };
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
        for name in ["seed", "best epoch", "training loss", "validation loss", "constant dimensions"] {
            html::header(out, name, true, false)?;
        }
        writeln!(out, "<th scope=\"col\">front end</th></tr></thead>\n<tbody>")?;
        for ((row, file), found) in best.iter().zip(findings) {
            let EpochRow { seed, epoch, train_loss, val_loss, .. } = row;
            let file = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let (file, Findings { constant, dimensions, .. }) = (Escaped(&file), found);
            let share = 100.0 * *constant as f64 / *dimensions as f64;
            writeln!(
                out,
                "<tr><td>{seed}</td><td>{}</td><td>{train_loss:.4}</td><td>{val_loss:.4}</td><td>{constant} of \
                 {dimensions} ({share:.0} %)</td><td><a href=\"{file}\">{file}</a></td></tr>",
                epoch + 1
            )?;
        }
        writeln!(out, "</tbody></table></div>")?;
        writeln!(
            out,
            "<p class=\"note\">Constant dimensions of the embedding are the same for all validation patches: behind \
             the last ReLU, dead units.</p></section>"
        )?;
        figure.write(out)?;
        let of_seed = match best.len() {
            1 => String::new(),
            _ => format!(" (seed {})", best[0].0.seed),
        };
        findings.first().map_or(Ok(()), |found| learned(out, found, &of_seed))?;
        settings(out, &record)
    })
}

/// What the front end of a seed has learned.
fn learned(out: &mut dyn Write, found: &Findings, of_seed: &str) -> io::Result<()> {
    let Findings { restored, nearest, recall, .. } = found;
    if !restored.is_empty() {
        writeln!(
            out,
            "<section class=\"card\"><h2>Validation patches{of_seed}</h2><div class=\"scroll\"><table>\n<thead><tr>"
        )?;
        for name in ["clean", "corrupted", "restored"] {
            writeln!(out, "<th scope=\"col\">{name}</th>")?;
        }
        writeln!(out, "</tr></thead>\n<tbody>")?;
        restored.iter().try_for_each(|patches| patch_row(out, patches))?;
        writeln!(out, "</tbody></table></div></section>")?;
    }
    if !nearest.is_empty() {
        writeln!(
            out,
            "<section class=\"card\"><h2>Nearest words{of_seed}</h2>\n<p class=\"note\">To the mean output for the \
             validation patches with a word, by cosine.</p>\n<div class=\"scroll\"><table>\n<tbody>"
        )?;
        for (word, words) in nearest {
            let near: Vec<String> = words.iter().map(|(word, cosine)| format!("{word} {cosine:.2}")).collect();
            writeln!(out, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", Escaped(word), Escaped(&near.join(", ")))?;
        }
        writeln!(out, "</tbody></table></div></section>")?;
    }
    if let Some((shares, sets)) = recall {
        writeln!(
            out,
            "<section class=\"card\"><h2>From sound to labels{of_seed}</h2>\n<p class=\"note\">How many validation \
             patches have their own tags or words among the nearest of {sets} different sets.</p>\n<div \
             class=\"scroll\"><table>\n<tbody>"
        )?;
        for (rank, share) in RANKS.iter().zip(shares) {
            writeln!(out, "<tr><th scope=\"row\">recall at {rank}</th><td>{:.1} %</td></tr>", 100.0 * share)?;
        }
        writeln!(out, "</tbody></table></div></section>")?;
    }
    Ok(())
}

/// Log-mel patches (96, 64) with the same colours, low bands at the bottom.
fn patch_row(out: &mut dyn Write, patches: &[Array<f32>]) -> io::Result<()> {
    let [frames, bands] = *patches[0].dims() else { unreachable!("a patch has two axes") };
    let all: Vec<f32> = patches.iter().flat_map(|patch| patch.data()).copied().collect();
    let levels = levels(&Array::new([patches.len() * frames, bands], all));
    let (width, height) = (3 * frames, 3 * bands);
    write!(out, "<tr>")?;
    for i in 0..patches.len() {
        let part = |n: usize| n as f64 / patches.len() as f64;
        let image = indexed(width, height, &pixels(&levels, part(i)..part(i + 1), width, height), &colour_map(), None)?;
        write!(out, "<td><img alt=\"log-mel patch\" width=\"{}\" src=\"{}\"></td>", 2 * frames, Image(&image))?;
    }
    writeln!(out, "</tr>")
}
