//! `wmic weights`: YAMNet's file, and downloads from a server on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::support::{self, kept_weights};

/// A server that answers every request with these bytes.
fn always(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let lines = BufReader::new(&stream).lines().map(Result::unwrap);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            // The other side may be gone.
            let _ = (&stream).write_all(&answer);
        }
    });
    address
}

/// The program of a user, without proxies.
fn at_home(home: &Path, args: &[&str]) -> Command {
    let mut command = support::at_home(home, args);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

/// Answers requests for `file`, and sends at most `limit` bytes for each.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

/// Its first line, and the range that it asks for.
type Request = (String, Option<String>);

impl Server {
    fn new(file: Vec<u8>, limit: usize, ranges: bool) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::default();
        let record = Arc::clone(&asked);
        // It ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &file, limit, ranges, &record);
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, file: &[u8], limit: usize, ranges: bool, record: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let request = lines.next().unwrap();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| line.to_lowercase().strip_prefix("range: ").map(str::to_owned));
    record.lock().unwrap().push((request, range.clone()));
    let first = range.as_ref().filter(|_| ranges).map_or(0, |range| {
        range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
    });
    let head = match first {
        _ if file.is_empty() => "404 Not Found\r\nContent-Length: 0".to_owned(),
        0 => format!("200 OK\r\nContent-Length: {}", file.len()),
        _ if first >= file.len() => "416 Range Not Satisfiable\r\nContent-Length: 0".to_owned(),
        _ => {
            let (length, last) = (file.len() - first, file.len() - 1);
            let range = format!("Content-Range: bytes {first}-{last}/{}", file.len());
            format!("206 Partial Content\r\nContent-Length: {length}\r\n{range}")
        }
    };
    let rest = &file[first.min(file.len())..];
    let body = &rest[..rest.len().min(limit)];
    // The other side may be gone.
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
}

fn rejected(mut command: Command, why: &str) {
    let one_line = predicate::function(|text: &str| text.lines().count() == 1);
    command.assert().code(2).stdout("").stderr(contains(why).and(one_line));
}

/// An npz with arrays of f64 in its zip, as numpy writes them.
fn npz(arrays: &[(&str, &[usize], f64)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    for (name, shape, value) in arrays {
        let shape: String = shape.iter().map(|len| format!("{len}, ")).collect();
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}");
        let header = format!("{header:<117}\n");
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&[b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat())
            .unwrap();
        let len: usize = shape.split(", ").filter_map(|len| len.parse::<usize>().ok()).product();
        zip.write_all(&value.to_le_bytes().repeat(len)).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_pca_that_is_none_is_rejected() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pca.npz");
    let (matrix, means) = ("pca_eigen_vectors", "pca_means");
    for (bytes, why) in [
        (npz(&[(matrix, &[128, 127], 1.0), (means, &[128], 0.0)]), "pca.npz: pca_eigen_vectors"),
        (npz(&[(matrix, &[128, 128], 1.0)]), "pca.npz: "),
        (npz(&[(matrix, &[128, 128], f64::NAN), (means, &[128, 1], 0.0)]), "not finite"),
    ] {
        fs::write(&file, bytes).unwrap();
        rejected(at_home(home.path(), &["weights", "add", file.to_str().unwrap()]), why);
    }
    fs::write(&file, npz(&[(matrix, &[128, 128], 1.0), (means, &[128, 1], 0.0)])).unwrap();
    rejected(at_home(home.path(), &["weights", "add", file.to_str().unwrap()]), "without VGGish's weights");
    if cfg!(unix) {
        rejected(at_home(home.path(), &["weights", "add", "/dev/null"]), "is not a file");
    }
    rejected(
        at_home(home.path(), &["weights", "add", home.path().to_str().unwrap()]),
        "is a folder; a file is expected",
    );
    for nothing in [&b""[..], b"RIFF\x24\0\0\0WAVEfmt "] {
        fs::write(&file, nothing).unwrap();
        rejected(
            at_home(home.path(), &["weights", "add", file.to_str().unwrap()]),
            "is not a file of weights that wmic",
        );
    }
}

#[test]
fn a_download_that_fails_says_why() {
    let home = tempfile::tempdir().unwrap();
    let get = |name: &str, from: &str| at_home(home.path(), &["weights", "get", name, "--from", from]);
    let part = kept_weights(home.path()).join("yamnet.tflite.part");
    let parts = || -> Vec<String> {
        let names = fs::read_dir(kept_weights(home.path())).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    rejected(get("musicnn", "http://127.0.0.1:1"), "vggish, yamnet");
    rejected(get("yamnet", "http://127.0.0.1:1"), "http://127.0.0.1:1/yamnet.tflite: ");
    for no_address in ["ftp://127.0.0.1", "127.0.0.1/files", "http:"] {
        rejected(get("yamnet", no_address), "an address such as https://example.org/weights is expected");
    }
    let nothing = Server::new(vec![], 0, true);
    rejected(get("vggish", &nothing.address), "/vggish-10086976.pth: the server answered 404");
    assert_eq!((nothing.asked().len(), parts().len()), (1, 0));

    // Another file than the published one is removed, a part of one is kept.
    let other = Server::new(vec![7; 5000], 5000, true);
    rejected(get("yamnet", &other.address), "4.88 KiB of SHA-256 ");
    assert!(!parts().contains(&"yamnet.tflite.part".to_owned()));
    let slow = Server::new(vec![7; 5000], 2000, true);
    rejected(get("yamnet", &slow.address), "the connection broke after 1.95 KiB of 4.88 KiB");
    assert_eq!(fs::metadata(&part).unwrap().len(), 2000);
    rejected(get("yamnet", &slow.address), "run the command again to continue");
    assert_eq!(slow.asked()[1].1.as_deref(), Some("bytes=2000-"));
    assert_eq!(fs::metadata(&part).unwrap().len(), 4000);
    // A server without ranges sends it all again.
    let whole = Server::new(vec![7; 5000], 500, false);
    rejected(get("yamnet", &whole.address), "500 B of 4.88 KiB");
    assert_eq!(fs::metadata(&part).unwrap().len(), 500);
    at_home(home.path(), &["weights", "list"]).assert().success().stdout(contains("No weights in "));
}

#[test]
fn a_download_that_cannot_be_continued_begins_anew() {
    let home = tempfile::tempdir().unwrap();
    let get = |from: &str| at_home(home.path(), &["weights", "get", "yamnet", "--from", from]);
    let part = kept_weights(home.path()).join("yamnet.tflite.part");
    // More than the file can have, of unknown length.
    let endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".iter().copied().chain(vec![7; 9 << 20]).collect();
    rejected(
        get(&always(endless)),
        "more than 8.00 MiB, the most that this file can have; what was downloaded is removed",
    );
    assert!(!part.exists());
    let slow = Server::new(vec![7; 5000], 2000, true);
    rejected(get(&slow.address), "run the command again to continue");
    let other_part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/5000\r\nContent-Length: 5\r\n\r\n77777";
    rejected(get(&always(other_part.to_vec())), "another part of the file than was asked for; what was downloaded is");
    assert!(!part.exists());
    // What is too long to be continued.
    fs::write(&part, vec![7; 9 << 20]).unwrap();
    rejected(get(&slow.address), "run the command again to continue");
    assert!(slow.asked().iter().all(|(_, range)| range.is_none()));
    assert_eq!(fs::metadata(part).unwrap().len(), 2000);
}

#[test]
fn yamnets_weights_are_downloaded_and_kept() {
    let published = std::env::var_os("WMIC_DATA").map(|data| Path::new(&data).join("yamnet.tflite"));
    let Some(file) = published.as_ref().and_then(|path| fs::read(path).ok()) else {
        return println!("skipped: WMIC_DATA does not name a folder with yamnet.tflite");
    };
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| at_home(home.path(), args);
    let features = ["features", "tests/golden/tone.flac", "--frontend", "yamnet", "--out", "features.npz"];
    rejected(run(&features), "YAMNet's weights are not there: download them with wmic weights get yamnet");

    // In two parts.
    let server = Server::new(file.clone(), 3_000_000, true);
    let get = ["weights", "get", "yamnet", "--from", &server.address];
    rejected(run(&get), "the connection broke after 2.86 MiB of 3.89 MiB");
    run(&get).assert().success().stdout(contains("yamnet\n").and(contains("469be6a3421cbc52")));
    let asked = server.asked();
    assert_eq!(asked[0], ("GET /yamnet.tflite HTTP/1.1".to_owned(), None));
    assert_eq!(asked[1].1.as_deref(), Some("bytes=3000000-"));
    // What is there is not downloaded again.
    run(&get).assert().success().stderr(contains("the weights of YAMNet are there already; nothing is downloaded"));
    assert_eq!(server.asked().len(), 2);

    let listed = run(&["weights", "list", "--json"]).assert().success();
    let listed: Value = serde_json::from_slice(&listed.get_output().stdout).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &"yamnet".into()));
    assert!(listed[0].get("pca").is_none());
    let stored = listed[0]["file"].as_str().unwrap();
    assert_eq!(fs::read_dir(Path::new(stored).parent().unwrap()).unwrap().count(), 1, "the part is gone");

    // Now the bundled model's part answers that needs them, beside the other or alone.
    for (choice, name) in [("auto", "bundled (musicnn + YAMNet)"), ("yamnet", "bundled (YAMNet)")] {
        let done = run(&["tests/golden/tone.flac", "--json", "--frontend", choice]).assert().success();
        let done = done.stderr(contains(format!("model: {name}")));
        let heard: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
        assert_eq!((&heard[0]["model"], heard[0]["instruments"].as_array().unwrap().len()), (&name.into(), 20));
    }
    let vggish = ["tests/golden/tone.flac", "--frontend", "vggish"];
    rejected(run(&vggish), "VGGish's weights are not there: download them with wmic weights get vggish");

    // The stored file is one of safetensors, which can be added elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let added = at_home(elsewhere.path(), &["weights", "add", stored]).assert().success().stdout(contains("yamnet\n"));
    added.stderr(contains("warning: by its SHA-256 this is not the published file of yamnet; it is kept"));
    // A damaged file is replaced only by force.
    let (published, bytes) = (published.unwrap(), fs::read(stored).unwrap());
    fs::write(stored, &bytes[..1000]).unwrap();
    rejected(run(&["weights", "add", published.to_str().unwrap()]), "safetensors is damaged: --force replaces it");
    run(&["weights", "add", published.to_str().unwrap(), "--force"]).assert().success().stderr("");
    assert!(fs::read(stored).unwrap() == bytes);
    let (values, _) = bytes.split_at(bytes.len() - 4);
    fs::write(stored, [values, &f32::NAN.to_le_bytes()].concat()).unwrap();
    rejected(run(&features), "holds NaN; remove the file, and add the weights again");
    let wrong = home.path().join("wrong.tflite");
    fs::write(&wrong, &file[..file.len() / 2]).unwrap();
    rejected(run(&["weights", "add", wrong.to_str().unwrap()]), "wrong.tflite: is not YAMNet of TensorFlow Lite: ");
    // The weights of another network than the features'.
    let random = [
        "features",
        "tests/golden/tone.flac",
        "--frontend",
        "yamnet",
        "--frontend-weights",
        "random",
        "--out",
        "features.npz",
    ];
    rejected(run(&random), "yamnet features need YAMNet, but random are weights of VGGish");
    let other = ["features", "tests/golden/tone.flac", "--frontend-weights", "yamnet", "--out", "features.npz"];
    rejected(run(&other), "vggish features need VGGish, but yamnet are weights of YAMNet");
}
