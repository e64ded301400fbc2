//! Training on the user's own labels, and from a run on other classes.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wmic::data::{FeatureValues, Features, write_npz};
use wmic::predict::trained::{Network, Trained, TrainedModel};
use wmic::run::run_dir::RunDir;

use crate::support::{json, rejected, stdout, wmic};

const CLIPS: usize = 24;

/// A folder of recordings (never decoded: their features are given) with a table of three instruments with times.
fn recordings(instruments: [&str; 3]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = "file,instrument,present,start,end\n".to_owned();
    let names: Vec<String> = (0..CLIPS).map(|i| format!("{i:02}.wav")).collect();
    for (i, name) in names.iter().enumerate() {
        fs::write(folder.path().join(name), "").unwrap();
        let [plays, other, _] = [0, 1, 2].map(|k| instruments[(i + k) % 3]);
        table += &format!("{name},{plays},1,{},{}\n{name},{other},0,,\n", i % 5, i % 5 + 3);
    }
    fs::write(folder.path().join("labels.csv"), table).unwrap();
    let values: Vec<u8> = (0..CLIPS * 10 * 128).map(|i| (i * 7919 % 251) as u8).collect();
    let values = FeatureValues::U8(values.into());
    let features = Features { values, instances: 10, width: 128, lengths: vec![10; CLIPS], spectrum: None };
    write_npz(folder.path().join("features.npz"), &names, &features, &[128], None, None).unwrap();
    folder
}

fn train(folder: &Path, out: &str, options: &[&str]) {
    let (data, npz) = (folder.to_str().unwrap(), folder.join("features.npz"));
    let args = ["train", data, "--features", npz.to_str().unwrap(), "--model", "bilstm-att", "--seeds", "2"];
    let more =
        ["--batch", "8", "--epochs", "1", "--out", folder.join(out).to_str().unwrap(), "--json"].map(str::to_owned);
    wmic(&args).args(more).args(options).assert().success();
}

fn network(run: &Path) -> (Network, Vec<String>) {
    let trained = Trained::load(&RunDir::open(run).unwrap()).unwrap();
    match trained.model {
        TrainedModel::Network(network) => (network, trained.about.classes),
        TrainedModel::Forest(_) => unreachable!("a network"),
    }
}

#[test]
fn own_labels_are_trained_on_and_a_run_keeps_its_splits_and_gives_its_weights() {
    let folder = recordings(["flute", "harp", "oboe"]);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    train(folder.path(), "run", &[]);
    let splits = fs::read_to_string(at("run/splits.csv")).unwrap();
    assert_eq!(splits.lines().count(), CLIPS + 1);
    assert!(["train", "validation", "test"].iter().all(|split| splits.contains(&format!(",{split}\n"))), "{splits}");
    assert!(fs::read_to_string(at("run/run.toml")).unwrap().contains("strong = "));
    // Without times it is another run, and none was trained on them.
    train(folder.path(), "weak", &["--strong-weight", "0"]);
    let [strong, weak] = ["run", "weak"].map(|run| network(at(run).as_ref()).0.blocks);
    assert_ne!(strong, weak);

    // Another recording changes the draw, but not that of the run.
    let eval =
        |run: &str| json(&["eval", &at(run), &at(""), "--features", &at("features.npz"), "--json"])["ensemble"].clone();
    let before = eval("run");
    let table = fs::read_to_string(at("labels.csv")).unwrap();
    fs::write(at("new.wav"), "").unwrap();
    fs::write(at("labels.csv"), table.replacen("end\n", "end\nnew.wav,harp,1,,\n", 1)).unwrap();
    assert_eq!(eval("run"), before);
    fs::write(at("labels.csv"), table).unwrap();

    // The same classes: nothing changes at a rate of 0.
    train(folder.path(), "same", &["--init", &at("run"), "--lr", "0"]);
    assert_eq!(network(at("same").as_ref()).0.blocks, strong);
    assert_eq!(eval("same"), before);
    // Others: what is not of a class is kept, and of the classes those that it has.
    let other = recordings(["flute", "oboe", "tuba"]);
    train(other.path(), "run", &["--init", &at("run"), "--lr", "0"]);
    let ((from, old), (to, new)) = (network(at("run").as_ref()), network(&other.path().join("run")));
    assert_eq!(
        (old, new),
        (["flute", "harp", "oboe"].map(String::from).into(), ["flute", "oboe", "tuba"].map(String::from).into())
    );
    for (p, q) in from.layout.params.iter().zip(&to.layout.params) {
        let [a, b] = [(&from.blocks[1], p.offset), (&to.blocks[1], q.offset)]
            .map(|(block, offset)| &block.trained[offset..offset + p.shape.len()]);
        let row = a.len() / 3;
        match p.name.starts_with("att.") || p.name.starts_with("cla.") {
            false => assert_eq!(a, b, "{}", p.name),
            true => {
                assert_eq!((&a[..row], &a[2 * row..]), (&b[..row], &b[row..2 * row]), "{}", p.name);
                assert!(!p.name.ends_with("weight") || a[row..2 * row] != b[2 * row..], "{}", p.name);
            }
        }
    }

    let train = ["train", &at(""), "--features", &at("features.npz"), "--out", &at("x")];
    rejected(
        &[&train[..], &["--model", "att", "--init", &at("run")]].concat(),
        "is of bilstm-att on vggish; att on vggish cannot start",
    );
    rejected(
        &[&train[..], &["--model", "fc-t", "--strong-weight", "0.5"]].concat(),
        "fc-t has no probabilities of instances, so it cannot use times: remove --strong-weight",
    );
    rejected(
        &[&train[..], &["--model", "att", "--strong-weight", "0.5", "--augment", "mixup"]].concat(),
        "mixed clips have no times: remove --augment or --strong-weight",
    );
    let unused = [&train[..], &["--model", "fc-t", "--epochs", "1", "--batch", "8"]].concat();
    let done = wmic(&unused).assert().success();
    let notes = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(notes.contains("times only say in which clips an instrument plays (fc-t has no"), "{notes}");
    assert!(!stdout(&["plan", &at(""), "--features", &at("features.npz"), "--model", "att"]).is_empty());
}
