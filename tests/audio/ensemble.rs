//! Several models together: their mean, and one file of them.

use std::path::Path;

use assert_cmd::Command;
use wmic::audio::{Depth, write_wav};
use wmic::gpu::Gpu;
use wmic::metrics::calibration::Calibration;
use wmic::metrics::thresholds::Threshold;
use wmic::predict::bundle::{load_ensemble, save_ensemble};
use wmic::predict::ensemble::{Ensemble, Fitted, Member};
use wmic::predict::mixture::{Mixture, Part};
use wmic::predict::recogniser::{Options, Recogniser};
use wmic::predict::recognition::Recognition;
use wmic::predict::trained::{Trained, TrainedModel};
use wmic::run::config::Config;

use crate::recogniser::{SR, sound, trained, with};

/// Two on the same features, and one on another front end.
const MODELS: [(&str, f64); 3] = [("att-tf", 1.0), ("cnn-att", 2.0), ("fc-tf", 3.0)];

fn model(name: &str) -> Trained {
    if name == "cnn-att" { with(Config::of(name, "none").unwrap()) } else { trained(name) }
}

fn ensemble() -> Ensemble {
    // Only their ratios count.
    let members = MODELS.map(|(name, weight)| Member { trained: model(name), weight: 5e307 * weight });
    Ensemble::new("three", members.into()).unwrap()
}

fn recognise(gpu: &Gpu, models: impl Into<Mixture>, file: &Path) -> Recognition {
    Recogniser::new(gpu, models, Options::default()).unwrap().recognise_file(file).unwrap().recognition
}

fn log_odds(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

#[test]
fn the_answer_of_several_models_is_their_mean_in_the_log_odds() {
    let folder = tempfile::tempdir().unwrap();
    let [song, silence] = ["song.wav", "silence.wav"].map(|name| folder.path().join(name));
    write_wav(&song, SR, &sound(13.0), Depth::Float32).unwrap();
    write_wav(&silence, SR, &vec![0.0; 2 * SR as usize], Depth::Float32).unwrap();
    let gpu = Gpu::open(None).unwrap();
    let alone = MODELS.map(|(name, _)| recognise(&gpu, model(name), &song));
    let together = recognise(&gpu, ensemble(), &song);
    assert_eq!((together.model.as_str(), together.seeds.as_slice()), ("three", &[1, 2][..]));
    for (k, instrument) in together.instruments.iter().enumerate() {
        let of = |m: usize| log_odds(alone[m].instruments[k].probability);
        let mean = (of(0) + 2.0 * of(1) + 3.0 * of(2)) / 6.0;
        assert!((log_odds(instrument.probability) - mean).abs() < 1e-9, "{k}");
        assert_eq!(instrument.name, alone[0].instruments[k].name);
        assert_eq!((instrument.threshold, instrument.present), (Some(0.5), instrument.probability >= 0.5));
        assert_eq!(instrument.segments.is_empty(), !instrument.present);
        assert_eq!(instrument.activity.len(), (13.0_f64 / together.cell).ceil() as usize);
    }
    // Silence has no calibrated probability either.
    let mut fitted = ensemble();
    let calibration = Calibration { slope: 0.5, intercept: 3.0 };
    fitted.fitted = Some(Fitted {
        calibrations: vec![calibration; 20],
        thresholds: vec![0.25; 20],
        precision_thresholds: vec![vec![0.75; 50]; 20],
    });
    fitted.set_threshold(Threshold::Precision(0.8)).unwrap();
    // A single model, too, is calibrated once more.
    let mut single = Ensemble::from(model(MODELS[0].0));
    single.fitted = fitted.fitted.clone();
    single.set_threshold(Threshold::Tuned).unwrap();
    let single = recognise(&gpu, single, &song);
    for (one, before) in single.instruments.iter().zip(&alone[0].instruments) {
        assert!((log_odds(one.probability) - (0.5 * log_odds(before.probability) + 3.0)).abs() < 1e-9);
        assert_eq!((one.threshold, one.present), (Some(0.25), one.probability >= 0.25));
        assert_eq!(one.activity, before.activity);
    }
    let path = folder.path().join("three.safetensors");
    save_ensemble(&path, &fitted).unwrap();
    let heard = recognise(&gpu, load_ensemble(&path).unwrap(), &song);
    for (one, other) in heard.instruments.iter().zip(&together.instruments) {
        // Its weights are rounded to f16.
        assert!((log_odds(one.probability) - (0.5 * log_odds(other.probability) + 3.0)).abs() < 0.01);
        assert_eq!(one.threshold, Some(0.75));
    }
    let silent = recognise(&gpu, load_ensemble(&path).unwrap(), &silence);
    assert!(silent.instruments.iter().all(|i| i.probability == 0.0 && !i.present));

    // Beside another part, each is calibrated by itself.
    let parts = [(load_ensemble(&path).unwrap(), 3.0), (model("cnn-att").into(), 1.0)];
    let parts = parts.map(|(ensemble, weight)| Part { ensemble, weight });
    let mixed = recognise(&gpu, Mixture::new("mixed", parts.into()).unwrap(), &song);
    assert_eq!(mixed.model, "mixed");
    for ((one, calibrated), other) in mixed.instruments.iter().zip(&heard.instruments).zip(&alone[1].instruments) {
        let mean = 0.75 * log_odds(calibrated.probability) + 0.25 * log_odds(other.probability);
        assert!((log_odds(one.probability) - mean).abs() < 1e-9);
        let threshold = 0.75 * log_odds(0.75) + 0.25 * log_odds(0.5);
        assert!((log_odds(one.threshold.unwrap()) - threshold).abs() < 1e-9);
        assert_eq!(one.present, one.probability >= one.threshold.unwrap());
    }

    // The command gives the same answer, from the file alone.
    let output =
        Command::cargo_bin("wmic").unwrap().arg("predict").args([&path, &song]).arg("--json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let printed = json[0]["instruments"].as_array().unwrap();
    for instrument in &heard.instruments {
        let found = printed.iter().find(|of| of["name"] == instrument.name.as_str()).unwrap();
        assert!((found["probability"].as_f64().unwrap() - instrument.probability).abs() < 1e-4);
    }
    damaged_files_are_refused(&path, folder.path());
}

fn damaged_files_are_refused(path: &Path, folder: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let bad = folder.join("bad.safetensors");
    let refused = |bytes: &[u8], why: &str| {
        std::fs::write(&bad, bytes).unwrap();
        let error = load_ensemble(&bad).err().expect(why).to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(error.lines().count(), 1);
    };
    refused(&bytes[..bytes.len() - 10], "may be truncated");
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    let weight = serde_json::json!(5e307 * MODELS[1].1).to_string();
    let negative = format!("-{}", "1".repeat(weight.len() - 1));
    let [weight, negative] = [weight, negative].map(|of| format!("\\\"weight\\\":{of}"));
    refused(&changed(&weight, &negative), "inconsistent");
    refused(&changed("\\\"cnn-att\\\"", "\\\"cnn_att\\\""), "cnn_att");
    refused(&changed("\"2.", "\"3."), "unexpected tensor 3.");
}

#[test]
fn only_models_of_the_same_instruments_are_combined() {
    let mut other = trained("att");
    other.about.classes[3] = "kazoo".into();
    let members = vec![Member { trained: trained("att"), weight: 1.0 }, Member { trained: other, weight: 1.0 }];
    let error = Ensemble::new("two", members).err().unwrap().to_string();
    assert!(error.contains("different instruments"), "{error}");
    assert!(Ensemble::new("none", vec![]).is_err());
    let mut forest = trained("att");
    forest.model = TrainedModel::Forest(vec![]);
    let folder = tempfile::tempdir().unwrap();
    let error = save_ensemble(&folder.path().join("a.safetensors"), &forest.into()).unwrap_err().to_string();
    assert!(error.contains("not a neural network"), "{error}");
}
