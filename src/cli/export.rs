//! `wmic export`

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use super::common::Status;
use super::output::{note, print_json};
use super::settings::variant;
use wmic::core::files::{write_atomic, write_dir_atomic};
use wmic::predict::bundle::portable;
use wmic::predict::bundled::Parts;
use wmic::predict::models::Models;
use wmic::predict::recogniser::Options;
use wmic::predict::trained::{Trained, TrainedModel};
use wmic::report::model_card::{Described, model_card};
use wmic::run::run_dir::RunDir;
use wmic::web::page::{Stored, write_recogniser};
use wmic::{Error, Result, core};

/// Export the best weights of one seed, or a web page that recognises recordings
///
/// The page has all seeds, and answers as `wmic predict` does, on the visitor's GPU. Without RUN it is of the bundled
/// model on musicnn; RUN may also be a file of `wmic bundle`.
#[derive(clap::Args)]
#[command(override_usage = "wmic export [OPTIONS] <RUN> <OUT>\n       wmic export [--json] --web <DIR> [RUN]")]
pub struct Args {
    /// Run directory of `wmic train`
    #[arg(required_unless_present = "web")]
    run: Option<PathBuf>,
    /// Seed to export; needed if the run has several
    #[arg(long, conflicts_with = "web")]
    seed: Option<u64>,
    /// What to write; by default what the extension of OUT says
    #[arg(long, conflicts_with = "web")]
    format: Option<Format>,
    /// File to write, an existing one is replaced; for huggingface a folder
    #[arg(value_name = "OUT", required_unless_present = "web", conflicts_with = "web")]
    out: Option<PathBuf>,
    /// Write a web page into this new or empty folder, to be put on a web server
    #[arg(long, value_name = "DIR")]
    web: Option<PathBuf>,
    /// How the page stores the weights of VGGish and YAMNet: in 16 bits, or for a download of little more than half in
    /// 8 bits, which moves probabilities by up to about .002
    #[arg(long, value_name = "HOW", value_parser = variant::<Stored>(), default_value = "f16", requires = "web")]
    weights: Stored,
    /// Print one JSON object: seed, epoch, format, file; of a page: folder, files, bytes
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// PyTorch's names and shapes (of a forest, its trees), in OUT.safetensors
    Safetensors,
    /// An ONNX model of the classifier, in OUT.onnx
    Onnx,
    /// A folder with both, the settings and a model card
    Huggingface,
}

impl Format {
    /// Of its files; `None` for a folder.
    fn extension(self) -> Option<&'static str> {
        match self {
            Format::Safetensors => Some("safetensors"),
            Format::Onnx => Some("onnx"),
            Format::Huggingface => None,
        }
    }

    /// The format of `out`, which must have its extension.
    fn of(asked: Option<Format>, out: &Path) -> Result<Format> {
        let is = |format: &Format| out.extension().is_some_and(|own| format.extension().is_some_and(|e| own == e));
        let by_extension = Format::value_variants().iter().copied().find(|format| is(format));
        let file = out.display();
        match (asked, by_extension) {
            (Some(format), other) if format.extension().is_some() && other != Some(format) => {
                let extension = format.extension().expect("a file");
                Err(Error::Usage(format!("{file} must end in .{extension} for this --format")))
            }
            (Some(Format::Huggingface), Some(_)) => {
                Err(Error::Usage(format!("--format huggingface writes a folder, and {file} has the name of a file")))
            }
            (Some(format), _) | (None, Some(format)) => Ok(format),
            (None, None) => {
                let reason = "ends neither in .safetensors nor in .onnx; for a folder give --format huggingface";
                Err(Error::Usage(format!("{file} {reason}")))
            }
        }
    }
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        match (&self.web, &self.run, &self.out) {
            (Some(dir), run, _) => self.page(dir, run.as_ref())?,
            (None, Some(run), Some(out)) => self.file(run, out)?,
            (None, ..) => unreachable!("both are required without --web"),
        }
        Ok(Status::Done)
    }

    fn file(&self, run: &Path, out: &Path) -> anyhow::Result<()> {
        let format = Format::of(self.format, out)?;
        let run = RunDir::open(run)?;
        let trained = Trained::load(&run)?;
        let seeds = &trained.about.seeds;
        let wanted = match (self.seed, &seeds[..]) {
            (Some(seed), _) | (None, &[seed]) => seed,
            (None, _) => {
                return Err(Error::Usage(format!("the run has the seeds {seeds:?}: choose one, --seed")).into());
            }
        };
        let Some(r) = seeds.iter().position(|seed| *seed == wanted) else {
            return Err(Error::Usage(format!("the run has no seed {wanted}; it has {seeds:?}")).into());
        };
        if same_file(out, &run.model()) {
            let reason = format!("{} has the weights of all seeds of the run: choose another file", out.display());
            return Err(Error::Usage(reason).into());
        }
        match format {
            Format::Safetensors => trained.export(out, r)?,
            Format::Onnx => trained.export_onnx(out, r)?,
            Format::Huggingface => folder(&run, &trained, out, r)?,
        }
        let (epoch, file) = (trained.about.best_epochs[r].saturating_add(1), out.display());
        let name = format.to_possible_value().expect("none is hidden").get_name().to_owned();
        match self.json {
            true => {
                print_json(&json!({ "seed": wanted, "epoch": epoch, "format": name, "file": file.to_string() }))?;
            }
            false => note(&format!("seed {wanted}, as of epoch {epoch}, written to {file}")),
        }
        Ok(())
    }

    fn page(&self, dir: &Path, run: Option<&PathBuf>) -> anyhow::Result<()> {
        let parts = run.is_none().then_some(Parts::Musicnn);
        let models = Models::load(&run.cloned().into_iter().collect::<Vec<_>>(), parts)?;
        write_recogniser(dir, models.mixture, &Options::default(), self.weights)?;
        let sizes = std::fs::read_dir(dir)
            .map_err(Error::io(dir))?
            .map(|entry| Ok(entry.and_then(|entry| entry.metadata()).map_err(Error::io(dir))?.len()));
        let sizes = sizes.collect::<Result<Vec<u64>>>()?;
        let (files, bytes) = (sizes.len(), sizes.iter().sum::<u64>());
        let dir = dir.display();
        match self.json {
            true => print_json(&json!({ "folder": dir.to_string(), "files": files, "bytes": bytes }))?,
            false => {
                let bytes = core::numbers::bytes(bytes);
                note(&format!("{bytes} in {files} files written to {dir}; try: python3 -m http.server -d {dir}"));
            }
        }
        Ok(())
    }
}

/// Whether both are there, and one file.
fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Writes the layout of Hugging Face into the new or empty folder `out`: weights, ONNX where the model has such a form,
/// settings without paths, and the model card.
fn folder(run: &RunDir, trained: &Trained, out: &Path, r: usize) -> Result<()> {
    let record = run.recogniser_record()?;
    let evaluation = if run.test().is_file() { Some(run.evaluation()?) } else { None };
    write_dir_atomic(out, |folder| {
        let mut files: Vec<Described> = vec![];
        trained.export(&folder.join("model.safetensors"), r)?;
        files.push(("model.safetensors", "weights, with PyTorch's names and shapes"));
        if matches!(trained.model, TrainedModel::Network(_)) {
            match trained.export_onnx(&folder.join("model.onnx"), r) {
                Ok(()) => files.push(("model.onnx", "the same as an ONNX model: features to probabilities")),
                Err(error @ Error::NoOnnx { .. }) => note(&format!("without model.onnx: {error}")),
                Err(error) => return Err(error),
            }
        }
        let config = json!({
            "model_type": format!("wmic-{}", trained.about.model),
            "about": trained.about.of_seed(r),
            "settings": portable(&trained.config)?,
        });
        write_atomic(folder.join("config.json"), |file| writeln!(file, "{config:#}"))?;
        files.push(("config.json", "settings, classes, calibration"));
        let card = model_card(trained, &record, evaluation.as_ref(), r, &files)?;
        write_atomic(folder.join("README.md"), |file| file.write_all(card.as_bytes()))
    })
}
