//! A comparison as one HTML page.

use std::io::{self, Write};
use std::path::Path;

use crate::Result;
use crate::compare::comparison::{ComparedRun, Comparison, Difference};
use crate::core::numbers::{count, p_value, score, signed};
use crate::core::text::in_words;
use crate::metrics::significance::{Test, followed};
use crate::report::pages::html::{self, Escaped, PageFigure};
use crate::report::pages::training::{self, cell, setting, with_std};
use crate::report::tables::table::printable;
use crate::run::run_dir;

// The files of a comparison in its folder, linked from the page.
pub const JSON: &str = "compare.json";
pub const SCORES: &str = "scores.csv";
pub const CLASSES: &str = "classes.csv";
pub const SCORES_PLOT: &str = "scores.png";
pub const CLASSES_PLOT: &str = "classes.png";
pub const REPORT: &str = "report.html";

const STYLE: &str =
    concat!(include_str!("../../../assets/page/training.css"), include_str!("../../../assets/page/comparison.css"));
/// Below this a difference is marked.
const SURE: f64 = 0.05;

/// Writes the page to `path`; `figures` are those of the scores and of the classes.
pub fn write(path: &Path, c: &Comparison, figures: [PageFigure; 2]) -> Result<()> {
    let title = printable(&format!("{} on {}", c.experiment.name, c.dataset));
    html::write(path, &title, STYLE, "", |out| {
        head(out, c)?;
        figures.iter().try_for_each(|figure| figure.write(out))?;
        differences(out, c)?;
        class_table(out, c)?;
        settings(out, c)
    })
}

/// "3 seeds each"
pub fn seeds(c: &Comparison) -> String {
    let of_one = training::seeds(&c.entries[0].evaluation);
    if c.seeds() > 1 { format!("{of_one} each") } else { of_one }
}

fn head(out: &mut dyn Write, c: &Comparison) -> io::Result<()> {
    let x = &c.experiment;
    writeln!(out, "<section class=\"card\"><h1>{}</h1>", Escaped(&x.title))?;
    let mut devices: Vec<&str> = c.entries.iter().map(|e| e.evaluation.subject.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    writeln!(
        out,
        "<p class=\"meta\">{} on {} · {} · {} test clips · {}</p>",
        Escaped(&x.name),
        Escaped(&c.dataset),
        seeds(c),
        count(c.clips as u64),
        Escaped(&devices.join(", ")),
    )?;
    let found = x.found.as_ref().map(|text| format!("{} ", Escaped(text))).unwrap_or_default();
    let cite = x.paper.as_ref().map(|paper| format!("<cite>({})</cite>", Escaped(paper))).unwrap_or_default();
    if !found.is_empty() || !cite.is_empty() {
        writeln!(out, "<p class=\"found\">{}{found}{cite}</p>", if found.is_empty() { "" } else { "In the paper: " })?;
    }
    for reason in &c.left_out {
        writeln!(out, "<p class=\"note\">Skipped: {}</p>", Escaped(&printable(reason)))?;
    }
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<caption>Scores of each entry; the headers sort</caption>\n<thead><tr>"
    )?;
    html::header(out, "entry", true, false)?;
    html::header(out, "parameters", true, false)?;
    for metric in c.compared() {
        html::header(out, metric.name, false, false)?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    let best = c.compared().map(|metric| c.best(&metric));
    for (i, entry) in c.entries.iter().enumerate() {
        let e = &entry.evaluation;
        let (label, parameters) = (Escaped(&entry.label), e.subject.parameters);
        write!(out, "<tr><td title=\"{label}\"><a href=\"{}/{}\">{label}</a></td>", entry.folder, run_dir::REPORT)?;
        cell(out, Some(parameters as f64).filter(|n| *n > 0.0), &count(parameters), false)?;
        for (metric, best) in c.compared().iter().zip(best) {
            let paper = entry.reported.get(metric.name);
            let paper = paper.map(|v| format!("<small class=\"paper\">paper {}</small>", score(Some(*v))));
            let mean = (metric.of)(&e.mean);
            let text = with_std(mean, (metric.of)(&e.std)) + &paper.unwrap_or_default();
            cell(out, mean, &text, best == Some(i))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>\n<p class=\"note\">")?;
    let meanings = c.compared().map(|metric| format!("{}: {}", metric.name, metric.meaning));
    writeln!(out, "{}.", meanings.join(";\n"))?;
    let spread = if c.seeds() > 1 { "Mean ± standard deviation over the seeds, the best mean in bold." } else { "" };
    writeln!(out, "{spread}</p>\n<p class=\"note\">Files: ")?;
    let files = [JSON, SCORES, CLASSES, SCORES_PLOT, CLASSES_PLOT];
    let links = files.map(|file| format!("<a href=\"{file}\">{file}</a>"));
    writeln!(out, "{}</p></section>", links.join(" · "))
}

/// A matrix for each metric that is resampled, and all pairs with their intervals.
fn differences(out: &mut dyn Write, c: &Comparison) -> io::Result<()> {
    if c.pairs.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section class=\"card\"><h2>Differences</h2>")?;
    let over_seeds = match c.seeds() {
        1 => "With one seed each there is no test over seeds; p over clips is below the difference.",
        _ => "Below the difference are two p-values: over seeds (paired t-test) / over clips (paired bootstrap).",
    };
    writeln!(
        out,
        "<p class=\"note\">Row minus column. {over_seeds} Both are corrected for all pairs (Holm); a difference is \
         marked if neither exceeds {}. {} resamples of the {} test clips.</p>",
        score(Some(SURE)),
        count(c.resamples as u64),
        count(c.clips as u64)
    )?;
    for name in followed(c.task()) {
        matrix(out, c, name)?;
    }
    pairs(out, c)?;
    writeln!(out, "</section>")
}

fn is_significant(d: &Difference) -> bool {
    let tests: Vec<Test> = [d.seeds, d.clips].into_iter().flatten().collect();
    !tests.is_empty() && tests.iter().all(|test| test.p_holm <= SURE)
}

fn matrix(out: &mut dyn Write, c: &Comparison, name: &str) -> io::Result<()> {
    let metric = c.compared().iter().position(|m| m.name == name).expect("a compared metric");
    writeln!(out, "<h3>{name}</h3>\n<div class=\"scroll\"><table class=\"matrix\">")?;
    writeln!(out, "<caption>Differences in {name}, row minus column</caption>\n<thead><tr><th></th>")?;
    for entry in &c.entries {
        writeln!(out, "<th scope=\"col\">{}</th>", Escaped(&entry.label))?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for (i, entry) in c.entries.iter().enumerate() {
        write!(out, "<tr><th scope=\"row\">{}</th>", Escaped(&entry.label))?;
        for j in 0..c.entries.len() {
            let Some(d) = c.difference(i, j, metric) else {
                write!(out, "<td class=\"self\">–</td>")?;
                continue;
            };
            let class = if is_significant(&d) { " class=\"sure\"" } else { "" };
            let p_values: Vec<String> = [d.seeds, d.clips].into_iter().flatten().map(|t| p_value(t.p_holm)).collect();
            write!(out, "<td{class}>{}<small>{}</small></td>", signed(d.difference), Escaped(&p_values.join(" / ")))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// All results of each pair.
fn pairs(out: &mut dyn Write, c: &Comparison) -> io::Result<()> {
    writeln!(out, "<details><summary>All pairs, with 95 % intervals</summary>\n<div class=\"scroll\"><table>")?;
    writeln!(out, "<caption>Differences of all pairs; the headers sort</caption>\n<thead><tr>")?;
    for name in ["pair", "metric", "difference", "over seeds", "p", "p (Holm)", "over clips", "p", "p (Holm)"] {
        html::header(out, name, true, false)?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for pair in &c.pairs {
        for (m, d) in pair.differences.iter().enumerate() {
            let (a, b) = (Escaped(&pair.a), Escaped(&pair.b));
            write!(out, "<tr><td title=\"{a} − {b}\">{a} − {b}</td><td data-v=\"{m}\">{}</td>", d.metric)?;
            cell(out, d.difference, &signed(d.difference), false)?;
            for test in [d.seeds, d.clips] {
                let range = test.map(|t| format!("{} to {}", signed(Some(t.low)), signed(Some(t.high))));
                cell(out, test.map(|t| t.low), &range.unwrap_or_default(), false)?;
                for p in [test.map(|t| t.p), test.map(|t| t.p_holm)] {
                    let text = p.map(p_value).unwrap_or_default();
                    cell(out, p, &Escaped(&text).to_string(), false)?;
                }
            }
            writeln!(out, "</tr>")?;
        }
    }
    writeln!(out, "</tbody></table></div></details>")
}

fn class_table(out: &mut dyn Write, c: &Comparison) -> io::Result<()> {
    let main = c.experiment.metric;
    let name = main.class_name();
    writeln!(out, "<section class=\"card\"><h2>Classes</h2>\n<div class=\"scroll\"><table>")?;
    writeln!(out, "<caption>{name} of each class and entry; the headers sort</caption>\n<thead><tr>")?;
    html::header(out, &format!("class, {name}"), true, false)?;
    for entry in &c.entries {
        html::header(out, &Escaped(&entry.label).to_string(), false, false)?;
    }
    html::header(out, "present", false, false)?;
    html::header(out, "absent", false, false)?;
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for k in c.classes_best_first() {
        let (class, clips) = &c.entries[0].evaluation.per_class[k];
        let class = in_words(class);
        let class = Escaped(&class);
        write!(out, "<tr><td title=\"{class}\">{class}</td>")?;
        let of = |entry: &ComparedRun| main.of_class(&entry.evaluation.per_class[k].1);
        let best = c.entries.iter().filter_map(|entry| of(entry).0).fold(f64::NEG_INFINITY, f64::max);
        for (mean, std) in c.entries.iter().map(of) {
            cell(out, mean, &with_std(mean, std), mean == Some(best))?;
        }
        for clips in [clips.positives, clips.observed.saturating_sub(clips.positives)] {
            cell(out, Some(clips as f64), &count(clips), false)?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

/// Flattens sub-tables: "notes.attention".
fn flat(table: toml::Table) -> toml::Table {
    let each = |(name, value): (String, toml::Value)| match value {
        toml::Value::Table(inner) => inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect(),
        value => vec![(name, value)],
    };
    table.into_iter().flat_map(each).collect()
}

/// The settings in which the entries differ, and the common ones.
fn settings(out: &mut dyn Write, c: &Comparison) -> io::Result<()> {
    let table = |entry: &ComparedRun| {
        let mut table = entry.settings.table()?;
        // Settings of a forest, and of a network.
        table.retain(|key, _| entry.settings.has_setting(key));
        Ok(flat(table))
    };
    let tables = c.entries.iter().map(table).collect::<Result<Vec<toml::Table>>>().map_err(io::Error::other)?;
    let mut keys: Vec<&String> = tables.iter().flat_map(|table| table.keys()).collect();
    keys.sort();
    keys.dedup();
    let (same, other): (Vec<&String>, Vec<&String>) =
        keys.into_iter().partition(|key| tables.iter().all(|table| table.get(*key) == tables[0].get(*key)));
    writeln!(out, "<section class=\"card\"><h2>Settings</h2>")?;
    if !other.is_empty() {
        writeln!(out, "<div class=\"scroll\"><table>\n<caption>Settings that differ</caption>\n<thead><tr><th></th>")?;
        for entry in &c.entries {
            writeln!(out, "<th scope=\"col\">{}</th>", Escaped(&entry.label))?;
        }
        writeln!(out, "</tr></thead>\n<tbody>")?;
        for key in other {
            write!(out, "<tr><td>{}</td>", Escaped(&key.replace('_', " ")))?;
            for table in &tables {
                let text =
                    table.get(key).map_or("–".into(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                write!(out, "<td>{}</td>", Escaped(&text))?;
            }
            writeln!(out, "</tr>")?;
        }
        writeln!(out, "</tbody></table></div>")?;
    }
    writeln!(out, "<dl>")?;
    same.into_iter().try_for_each(|key| setting(out, key, &tables[0][key]))?;
    writeln!(out, "</dl></section>")
}
