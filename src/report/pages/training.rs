//! Report of a finished run: learning curves, scores of classes and seeds, and confusion matrix as figures, and all of
//! it on one HTML page.

use std::io::{self, Write};
use std::path::Path;

use time::OffsetDateTime;

use crate::Result;
use crate::core::numbers::{count, score};
use crate::core::text::in_words;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::{ClassMetrics, Metric, Task};
use crate::metrics::thresholds::Threshold;
use crate::report::pages::html::{self, Escaped, PageFigure};
use crate::report::plots::class_bars::{ClassBar, ClassBars};
use crate::report::plots::confusion::ConfusionMatrix;
use crate::report::plots::examples::Examples;
use crate::report::plots::learning_curves::LearningCurves;
use crate::report::plots::reliability::ReliabilityDiagram;
use crate::report::plots::seed_boxes::SeedBoxes;
use crate::report::tables::table::printable;
use crate::run::run_dir::{
    CLASSES, CONFUSION, EXAMPLES, LEARNING_CURVES, METRICS, MODEL, RELIABILITY, REPORT, RUN, RunDir, RunRecord, SEEDS,
    TEST,
};
use crate::run::state::EpochRow;

const STYLE: &str = include_str!("../../../assets/page/training.css");
/// Longest setting that is shown in full, in characters.
const LONGEST: usize = 80;

/// Writes `learning_curves.png` (not for a forest), `classes.png`, `seeds.png`, `confusion.png` (single-label models),
/// `reliability.png` (runs with calibrations),
/// `examples.png` (if there are any) and then `report.html` into `run_dir`, replacing older ones, each atomically.
///
/// `rows` are the epochs of `metrics.jsonl`, in its order. The page is self-contained; it only links the files of the
/// run.
///
/// # Errors
/// `Io`, naming the file that cannot be written.
pub fn write(
    run_dir: &Path,
    record: &RunRecord,
    rows: &[EpochRow],
    evaluation: &Evaluation,
    examples: Option<&Examples>,
) -> Result<()> {
    let e = evaluation;
    let title = printable(&format!("{} on {}", e.subject.model, e.subject.dataset));
    let seeds = seeds(e);
    // A forest has no epochs.
    let learns = record.config.has_setting("epochs");
    let curves = learns.then(|| LearningCurves::new(&format!("Learning curves: {title}, {seeds}"), rows));
    let f1 = e.subject.task().class_f1();
    let bars = e.per_class.iter().map(|(name, m)| {
        let ((f1, std), positives, observed) = ((f1.of)(m), m.positives, m.observed);
        ClassBar { name, f1, std, positives, observed }
    });
    let split = printable(&e.subject.split);
    let heading = format!("Classes: F1 on the {split} split, {seeds}");
    let classes = ClassBars::new(&heading, f1.name, bars.collect(), (f1.mean)(&e.mean));
    let boxes = SeedBoxes::new(&format!("Seeds: scores on the {split} split, {seeds}"), e);
    let mut figures = vec![];
    if let Some(curves) = curves {
        curves.save(&run_dir.join(LEARNING_CURVES))?;
        figures.push(PageFigure::new(&curves, LEARNING_CURVES)?);
    }
    classes.save(&run_dir.join(CLASSES))?;
    boxes.save(&run_dir.join(SEEDS))?;
    figures.extend([PageFigure::new(&boxes, SEEDS)?, PageFigure::new(&classes, CLASSES)?]);
    if let Some(confusion) = &e.confusion {
        let who = if e.per_seed.len() > 1 { format!("ensemble of {seeds}") } else { seeds };
        let names: Vec<&str> = e.per_class.iter().map(|(name, _)| name.as_str()).collect();
        let matrix = ConfusionMatrix::new(&format!("Confusion matrix, {split} split, {who}"), &names, confusion);
        matrix.save(&run_dir.join(CONFUSION))?;
        figures.push(PageFigure::new(&matrix, CONFUSION)?);
    }
    if let Some(reliability) = &e.reliability {
        let diagram = ReliabilityDiagram::new(&format!("Reliability on the {split} split"), reliability);
        diagram.save(&run_dir.join(RELIABILITY))?;
        figures.push(PageFigure::new(&diagram, RELIABILITY)?);
    }
    if let Some(examples) = examples {
        examples.save(&run_dir.join(EXAMPLES))?;
    }
    let clips = RunDir::at(run_dir).clips_per_class()?;
    html::write(&run_dir.join(REPORT), &title, STYLE, "", |out| {
        head(out, &title, record, e)?;
        figures.iter().try_for_each(|figure| figure.write(out))?;
        examples.map_or(Ok(()), |examples| examples.write(out, EXAMPLES))?;
        class_table(out, e)?;
        clip_table(out, &clips)?;
        seed_table(out, e, rows)?;
        settings(out, record)
    })
}

pub(crate) fn seeds(e: &Evaluation) -> String {
    match e.per_seed[..] {
        [one] => format!("seed {}", one.seed),
        _ => format!("{} seeds", count(e.per_seed.len() as u64)),
    }
}

/// ".868 ± .002"
pub(crate) fn with_std(mean: Option<f64>, std: Option<f64>) -> String {
    let std = std.map(|std| format!(" <small>± {}</small>", score(Some(std)))).unwrap_or_default();
    format!("{}{std}", score(mean))
}

fn head(out: &mut dyn Write, title: &str, record: &RunRecord, e: &Evaluation) -> io::Result<()> {
    let run = &record.run;
    writeln!(out, "<section class=\"card\"><h1>{}</h1>", Escaped(title))?;
    let date = OffsetDateTime::now_utc().date();
    let parameters = match run.parameters {
        0 => String::new(),
        n => format!(" · {} parameters each", count(n as u64)),
    };
    let (adapter, backend) = (Escaped(&run.adapter), Escaped(&run.backend));
    writeln!(out, "<p class=\"meta\">{date} · {adapter} ({backend}) · {}{parameters}</p>", seeds(e))?;
    let several = e.per_seed.len() > 1;
    writeln!(out, "<ul class=\"tiles\">")?;
    for Metric { name, meaning, of } in &e.subject.task().metrics()[..3] {
        let figures = with_std(of(&e.mean), of(&e.std));
        writeln!(out, "<li><b>{figures}</b><span>{name}</span><small>{meaning}</small></li>")?;
    }
    writeln!(
        out,
        "</ul>\n<div class=\"scroll\"><table>\n<caption>Scores on the {} split</caption>",
        Escaped(&e.subject.split)
    )?;
    let ensemble = if several { "<th scope=\"col\">ensemble</th>" } else { "" };
    let mean = if several { "mean ± deviation" } else { "score" };
    writeln!(
        out,
        "<thead><tr><th scope=\"col\">{} split</th><th \
         scope=\"col\">{mean}</th>{ensemble}<th></th></tr></thead>\n<tbody>",
        Escaped(&e.subject.split)
    )?;
    for Metric { name, meaning, of } in e.subject.task().metrics() {
        let figures = with_std(of(&e.mean), of(&e.std));
        let ensemble = if several { format!("<td>{}</td>", score(of(&e.ensemble))) } else { String::new() };
        writeln!(out, "<tr><td>{name}</td><td>{figures}</td>{ensemble}<td class=\"meaning\">{meaning}</td></tr>")?;
    }
    let decided: String = match (e.subject.task(), e.subject.threshold) {
        (Task::SingleLabel, _) => "The prediction is the most probable class".into(),
        (_, Threshold::Fixed(v)) => format!("F1, precision and recall use a decision threshold of {v}"),
        (_, Threshold::Tuned) => {
            "F1, precision and recall use per-class thresholds tuned on the validation clips".into()
        }
        (_, Threshold::Precision(p)) => {
            format!("F1, precision and recall use per-class thresholds for a precision of {p} on the validation clips")
        }
    };
    writeln!(out, "</tbody></table></div>\n<p class=\"note\">{decided}.</p>")?;
    writeln!(out, "<p class=\"note\">Files of this run: ")?;
    for (i, file) in [TEST, METRICS, MODEL, RUN].iter().enumerate() {
        writeln!(out, "{}<a href=\"{file}\">{file}</a>", if i == 0 { "" } else { " · " })?;
    }
    writeln!(out, "</p></section>")
}

/// A cell that sorts by its value, optionally marked as the best; empty without a value.
pub(crate) fn cell(out: &mut dyn Write, value: Option<f64>, text: &str, best: bool) -> io::Result<()> {
    let class = if best { " class=\"best\"" } else { "" };
    match value {
        Some(v) => write!(out, "<td{class} data-v=\"{v}\">{text}</td>"),
        None => write!(out, "<td data-v=\"\">–</td>"),
    }
}

/// A column of the classes' table.
type Column = (&'static str, fn(&ClassMetrics) -> Option<f64>);

fn class_table(out: &mut dyn Write, e: &Evaluation) -> io::Result<()> {
    let f1 = e.subject.task().class_f1();
    let columns: &[Column] = match e.subject.task() {
        Task::MultiLabel => &[
            ("f1_pos", |m| m.f1_pos),
            ("ap", |m| m.ap),
            ("auc", |m| m.auc),
            ("precision", |m| m.precision),
            ("recall", |m| m.recall),
        ],
        Task::SingleLabel => {
            &[("precision", |m| m.precision), ("recall", |m| m.recall), ("ap", |m| m.ap), ("auc", |m| m.auc)]
        }
    };
    writeln!(out, "<section class=\"card\"><h2>Classes</h2>\n<div class=\"scroll\"><table>")?;
    writeln!(out, "<caption>Scores of each class; the headers sort</caption>\n<thead><tr>")?;
    let names = columns.iter().map(|(name, _)| *name);
    for name in ["class", f1.name].into_iter().chain(names).chain(["present", "absent"]) {
        html::header(out, name, name == "class", name == f1.name)?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    let mut classes: Vec<_> = e.per_class.iter().collect();
    let order = |m: &ClassMetrics| (f1.of)(m).0.unwrap_or(-1.0);
    classes.sort_by(|a, b| order(&b.1).total_cmp(&order(&a.1)));
    for (name, m) in classes {
        let name = in_words(name);
        let name = Escaped(&name);
        write!(out, "<tr><td title=\"{name}\">{name}</td>")?;
        let (mean, std) = (f1.of)(m);
        cell(out, mean, &with_std(mean, std), false)?;
        for value in columns.iter().map(|(_, of)| of(m)) {
            cell(out, value, &score(value), false)?;
        }
        for clips in [m.positives, m.observed.saturating_sub(m.positives)] {
            cell(out, Some(clips as f64), &count(clips), false)?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

/// Clips of each class in each split, if the run drew the splits.
fn clip_table(out: &mut dyn Write, classes: &[(String, [usize; 3])]) -> io::Result<()> {
    if classes.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section class=\"card\"><h2>Clips</h2>\n<div class=\"scroll\"><table>")?;
    writeln!(out, "<caption>Clips of each class; the headers sort</caption>\n<thead><tr>")?;
    for name in ["class", "training", "validation", "test", "all"] {
        html::header(out, name, name == "class", name == "class")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    let sum = |of: usize| classes.iter().map(|(_, clips)| clips[of]).sum();
    let all = ("all".to_owned(), [sum(0), sum(1), sum(2)]);
    for (name, clips) in classes.iter().chain([&all]) {
        write!(out, "<tr><td>{}</td>", Escaped(&in_words(name)))?;
        for n in clips.iter().copied().chain([clips.iter().sum()]) {
            cell(out, Some(n as f64), &count(n as u64), false)?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

fn seed_table(out: &mut dyn Write, e: &Evaluation, rows: &[EpochRow]) -> io::Result<()> {
    let mut trained = std::collections::HashMap::new();
    rows.iter().for_each(|row| *trained.entry(row.seed).or_insert(0u64) += 1);
    let open = if e.per_seed.len() <= 12 { " open" } else { "" };
    writeln!(out, "<section class=\"card\"><h2>Seeds</h2>\n<details{open}><summary>Scores of each seed</summary>")?;
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<caption>Scores of each seed; the headers sort</caption>\n<thead><tr>"
    )?;
    html::header(out, "seed", true, false)?;
    html::header(out, "best epoch", true, false)?;
    html::header(out, "epochs", true, false)?;
    for Metric { name, .. } in e.subject.task().metrics() {
        html::header(out, name, *name == "loss", false)?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for s in &e.per_seed {
        write!(out, "<tr><td>{}</td>", s.seed)?;
        let epochs = trained.get(&s.seed).copied();
        for epoch in [Some(s.best_epoch as u64 + 1), epochs] {
            cell(out, epoch.map(|n| n as f64), &epoch.map(count).unwrap_or_default(), false)?;
        }
        for Metric { of, .. } in e.subject.task().metrics() {
            cell(out, of(&s.scores), &score(of(&s.scores)), false)?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")?;
    writeln!(
        out,
        "<p class=\"note\">Epochs count from 1 here, and from 0 in {METRICS} and {TEST}.</p></details></section>"
    )
}

/// All settings of `run.toml`.
pub(crate) fn settings(out: &mut dyn Write, record: &RunRecord) -> io::Result<()> {
    let all = record.table().map_err(io::Error::other)?;
    writeln!(out, "<section class=\"card\"><h2>Settings</h2>\n<dl>")?;
    let mut tables = vec![];
    for (name, value) in &all {
        match value {
            toml::Value::Table(table) => tables.push(table),
            value => setting(out, name, value)?,
        }
    }
    tables.into_iter().flatten().try_for_each(|(name, value)| setting(out, name, value))?;
    writeln!(out, "</dl></section>")
}

pub(crate) fn setting(out: &mut dyn Write, name: &str, value: &toml::Value) -> io::Result<()> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = match text.chars().count() > LONGEST && value.is_array() {
        true => text.chars().take(LONGEST).chain(['…']).collect(),
        false => text,
    };
    writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", Escaped(&name.replace('_', " ")), Escaped(&text))
}
