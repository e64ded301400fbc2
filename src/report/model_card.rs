//! A model card: the README.md beside published weights, with the metadata that Hugging Face reads
//! (huggingface.co/docs/hub/model-cards).

use serde_json::json;

use crate::core::error::Result;
use crate::core::numbers::score;
use crate::metrics::evaluation::Evaluation;
use crate::nn;
use crate::predict::trained::Trained;
use crate::report::tables::table::printable;
use crate::run::run_dir::RunRecord;

/// A file beside the card, and what it is.
pub type Described = (&'static str, &'static str);

/// The card of seed `r` as Markdown with YAML metadata. `evaluation`: of the run's test clips, if there are any;
/// `files`: beside it.
///
/// The licence of the weights is that of the data and of who trained them, which wmic does not know: the card says
/// where to state it.
pub fn model_card(
    trained: &Trained,
    record: &RunRecord,
    evaluation: Option<&Evaluation>,
    r: usize,
    files: &[Described],
) -> Result<String> {
    let about = trained.about.of_seed(r);
    let (model, environment) = (nn::find(&about.model)?, &record.run);
    let (seed, epoch) = (about.seeds[0], about.best_epochs[0].saturating_add(1));
    // A path would say where on the trainer's machine the data were.
    let dataset = match evaluation {
        Some(evaluation) => evaluation.subject.dataset.clone(),
        None => record.config.dataset.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let dataset = printable(&dataset);
    let scores = evaluation.and_then(|e| Some((e, e.per_seed.iter().find(|of| of.seed == seed)?.scores)));
    let metrics: Vec<_> = scores
        .iter()
        .flat_map(|(e, scores)| e.subject.task().metrics().iter().map(|metric| (metric, (metric.of)(scores))))
        .filter_map(|(metric, value)| Some((metric, value?)))
        .collect();
    let results = metrics.iter().map(|(metric, value)| json!({ "type": metric.name, "value": value }));
    let front = json!({
        "library_name": "wmic",
        "pipeline_tag": "audio-classification",
        "tags": ["music", "music-information-retrieval", "instrument-recognition", "weak-labels"],
        "model-index": [{
            "name": about.model,
            "results": [{
                "task": { "type": "audio-classification", "name": "Musical instrument recognition" },
                "dataset": { "type": dataset, "name": dataset },
                "metrics": results.collect::<Vec<_>>(),
            }],
        }],
    });
    let mut card = "---\n".to_owned();
    // JSON is YAML, too.
    for (key, value) in front.as_object().expect("an object") {
        card += &format!("{key}: {value}\n");
    }
    card += &format!("---\n\n# {}: {}\n\n", about.model, model.about);
    card += &format!(
        "Recognises {} musical instruments in recordings: {}. Seed {seed}, epoch {epoch}, {} parameters, trained by \
         wmic {} on {} ({}).\n",
        about.classes.len(),
        about.classes.iter().map(|name| markdown(name)).collect::<Vec<_>>().join(", "),
        environment.parameters,
        markdown(&environment.version),
        markdown(&environment.adapter),
        markdown(&environment.driver),
    );
    card += "\n| file | |\n|---|---|\n";
    files.iter().for_each(|(name, what)| card += &format!("| `{name}` | {what} |\n"));
    card += &format!(
        "\nInput: (batch, {}, {}), {}. A clip may have fewer instances than {}.\n",
        about.instances, about.width, about.input, about.instances,
    );
    let dataset = markdown(&dataset);
    card += &format!(
        "\n## Data\n\n{dataset}: {} training clips, {} for validation, {} for the test. The licence of the data and \
         of these weights is to be stated here by who publishes them; `license` in the metadata above.\n",
        environment.train_clips, environment.val_clips, environment.test_clips,
    );
    card += "\n## Metrics\n\n";
    match scores {
        None => card += "There are no scores of this seed on test clips.\n",
        Some((e, _)) => {
            card += &format!(
                "Of the {} clips of {dataset}, at the threshold {}.\n\n",
                e.subject.split, e.subject.threshold
            );
            card += "| | | |\n|---|---:|---|\n";
            for (metric, value) in &metrics {
                card += &format!("| {} | {} | {} |\n", metric.name, score(Some(*value)), metric.meaning);
            }
            card += "\n| class | AP | F1 of present | clips with it, of those labelled |\n|---|---:|---:|---:|\n";
            for (name, of) in &e.per_class {
                let [ap, f1] = [of.ap, of.f1_pos].map(score);
                let name = markdown(name);
                card += &format!("| {name} | {ap} | {f1} | {} of {} |\n", of.positives, of.observed);
            }
            if e.per_seed.len() > 1 {
                card += &format!("\nClasses: means over the run's {} seeds.\n", e.per_seed.len());
            }
        }
    }
    card += "\n## Use\n\nProbabilities of the files above are those before calibration. With the whole run \
             directory, `wmic predict RUN song.mp3` recognises recordings.\n";
    Ok(card)
}

/// Untrusted text as Markdown on one line, without meaning as HTML or markup. Underscores within words have none.
fn markdown(text: &str) -> String {
    let escape = |mut escaped: String, c: char| {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' | '#' | '!' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
        escaped
    };
    printable(text).chars().fold(String::new(), escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_meaning_as_markup() {
        assert_eq!(markdown("mallet_percussion"), "mallet_percussion");
        assert_eq!(markdown("a|b & <i>*c*</i> [d](e)"), "a\\|b &amp; &lt;i&gt;\\*c\\*&lt;/i&gt; \\[d\\](e)");
    }
}
