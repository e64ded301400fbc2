//! Web pages: what they contain, and that they answer in a browser as the command line does.

use std::fs;
use std::path::Path;

use serde_json::Value;
use wmic::audio::{Depth, decode, write_wav};

use crate::audio::{recording, shared, text};
use crate::browser::{Browser, serve};
use crate::support::{json, rejected, stdout, wmic};

/// Probabilities may differ by so much: weights are rounded to 16 bits, and to 8.
const CLOSE: f64 = 1e-3;
const IN_BYTES: f64 = 2e-3;

/// (instrument, probability) of what the page shows.
fn shown(browser: &mut Browser) -> Vec<(String, f64)> {
    let rows =
        "[...document.querySelectorAll('tbody tr')].map(r => [r.children[0].textContent, +r.children[1].dataset.v])";
    let rows = browser.value(rows);
    let pair = |row: &Value| (row[0].as_str().unwrap().to_owned(), row[1].as_f64().unwrap());
    rows.as_array().unwrap().iter().map(pair).collect()
}

/// Compares what the page shows of a recording with the answer of the command.
fn assert_close(browser: &mut Browser, file: &Path, close: f64) {
    browser.choose(file);
    browser.wait("/^Done/.test(document.querySelector('.status').textContent)");
    let expected = json(&["predict", &shared().run(), text(file), "--format", "json"]);
    let expected = expected[0]["instruments"].as_array().unwrap();
    let found = shown(browser);
    assert_eq!(found.len(), expected.len());
    for of in expected {
        let name = of["name"].as_str().unwrap().replace('_', " ");
        let (_, p) = found.iter().find(|(found, _)| *found == name).unwrap();
        let expected = of["probability"].as_f64().unwrap();
        assert!((p - expected).abs() < close, "{}: {name} {p}, expected {expected}", file.display());
    }
    browser.value("document.querySelector('.status').textContent = ''");
}

#[test]
fn a_page_answers_as_the_command_line_does() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    let written = json(&["export", &shared().run(), "--web", text(&page), "--json"]);
    assert_eq!(written["files"], fs::read_dir(&page).unwrap().count());
    let plan: Value = serde_json::from_slice(&fs::read(page.join("plan.json")).unwrap()).unwrap();
    let least = plan["shared"]["needs"]["maxStorageBufferBindingSize"].as_u64().unwrap();
    assert!(least <= 128 << 20, "{least} bytes are more than WebGPU's default");
    let small = folder.path().join("small");
    let in_bytes = json(&["export", &shared().run(), "--web", text(&small), "--weights", "8bit", "--json"]);
    assert!(in_bytes["bytes"].as_u64() < written["bytes"].as_u64());
    let is_ready = "document.querySelector('.status')?.textContent === 'Ready.'";
    let Some(mut browser) = Browser::open(&serve(page)) else { return };
    browser.wait(is_ready);
    // Short ones, as the browser's GPU is the CPU: one that ends with silence, and one that is to be resampled.
    let clip = |name: &str, i: usize, sr: u32, silence: usize| {
        let samples = decode(recording(i), 60.0).unwrap().samples;
        let samples = [&samples[..sr as usize], &vec![0.0; silence]].concat();
        let path = folder.path().join(name);
        write_wav(&path, sr, &samples, Depth::Float32).unwrap();
        path
    };
    let files = [clip("a.wav", 0, 16_000, 0), clip("b.wav", 1, 16_000, 16_000), clip("c.wav", 2, 44_100, 0)];
    files.iter().for_each(|file| assert_close(&mut browser, file, CLOSE));
    // What is no recording is one clear line.
    let letter = folder.path().join("letter.mp3");
    fs::write(&letter, "Dear archivist, this is no recording.\n".repeat(99)).unwrap();
    browser.choose(&letter);
    browser.wait("/cannot be decoded/.test(document.querySelector('.status').textContent)");
    drop(browser);
    let mut browser = Browser::open(&serve(small)).unwrap();
    browser.wait(is_ready);
    assert_close(&mut browser, &files[0], IN_BYTES);
}

#[test]
fn the_checks_pass_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    wmic(&["check", "--web", text(&page), "--op", "standardise_columns"]).assert().success();
    let Some(mut browser) = Browser::open(&serve(page)) else { return };
    browser.wait("/checks are ready/.test(document.querySelector('.status')?.textContent)");
    browser.value("document.querySelector('.start').click()");
    browser.wait("/^All [0-9]+ checks passed/.test(document.querySelector('.status').textContent)");
    // What the page saves can be compared with others.
    browser.value("URL.createObjectURL = (blob) => { window.saved = blob.text(); return '#'; }, 0");
    browser.value("document.querySelector('.save').click()");
    let file = folder.path().join("wmic-check.json");
    fs::write(&file, browser.value("window.saved").as_str().unwrap()).unwrap();
    let compared = stdout(&["bench", "--compare", text(&file)]);
    assert!(compared.contains(" checks passed, wmic ") && compared.contains("standardise_columns"), "{compared}");
}

#[test]
fn what_a_page_cannot_be_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let (page, full) = (folder.path().join("page"), folder.path().join("full"));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letter"), "").unwrap();
    rejected(&["export", &shared().run(), "--web", text(&full)], "already exists; choose another directory");
    rejected(&["check", "--web", text(&full)], "already exists; choose another directory");
    rejected(&["export", &shared().run(), "--web", text(&page), "--seed", "0"], "cannot be used with");
    rejected(&["export", &shared().run()], "required arguments were not provided: <OUT>");
    rejected(&["export", "no-run", "--web", text(&page)], "no-run is not a run directory");
    assert!(!page.exists());
    wmic(&["export", "--help"]).assert().success();
}
