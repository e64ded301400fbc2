//! Tables as text, and benchmark files from disk to comparison.

use std::path::Path;

use wmic::Array;
use wmic::bench::comparison::compare;
use wmic::bench::results::{
    AdapterInfo, BenchReport, Host, KernelResult, Peak, PeerResult, PeerStep, Profile, Sampling, StepKernel,
    StepResult, Work,
};
use wmic::bench::warnings;
use wmic::gpu::Precision;
use wmic::metrics::evaluation::{SeedPredictions, Subject, evaluate};
use wmic::metrics::thresholds::Threshold;
use wmic::report::tables::evaluation::{class_table, summary};
use wmic::report::tables::table::{Align, Style, Table, bar};

const TERMINAL: Style = Style { borders: true, colour: false, width: Some(80) };

#[test]
fn plain_tables_are_aligned_columns() {
    let mut table = Table::new([("op", Align::Left), ("time", Align::Right)]);
    table.row(["linear", "9 ms"]).row(["bce", "12.5 ms"]).total(["all", "21.5 ms"]);
    assert_eq!(table.render(Style::PLAIN), "op         time\nlinear     9 ms\nbce     12.5 ms\nall     21.5 ms\n");
    let boxed = table.render(TERMINAL);
    assert!(boxed.starts_with('╭') && boxed.trim_end().ends_with('╯') && !boxed.contains('\x1b'), "{boxed}");
    let coloured = table.render(Style { colour: true, ..TERMINAL });
    assert!(coloured.contains("\x1b[1m"), "the header is bold: {coloured:?}");
}

#[test]
fn cells_cannot_steer_the_terminal() {
    let mut table = Table::new([("name", Align::Left)]);
    table.row(["\x1b[2Jgone"]);
    assert!(!table.render(TERMINAL).contains('\x1b'));
}

#[test]
fn bars_are_exact_to_an_eighth() {
    assert_eq!([bar(0.0, 4), bar(0.5, 4), bar(1.0, 4), bar(7.0, 4)], ["", "██", "████", "████"]);
    assert_eq!([bar(1.0 / 32.0, 4), bar(15.0 / 32.0, 4)], ["▏", "█▉"]);
}

#[test]
fn an_evaluation_fits_80_columns() {
    let n = 20;
    let classes: Vec<String> = (0..n).map(|k| format!("mallet_percuss_{k:02}")).collect();
    let y = Array::from_fn([5085, n], |i| f32::from(i % 3 == 0));
    let observed = Array::from_fn([5085, n], |i| !i.is_multiple_of(n));
    let p = Array::from_fn([5085, n], |i| (i % 97) as f32 / 96.0);
    let subject = Subject {
        model: "att".into(),
        parameters: 55336,
        dataset: "openmic".into(),
        split: "test".into(),
        device: "llvmpipe".into(),
        threshold: Threshold::default(),
        single_label: false,
    };
    let thresholds = [0.5; 20];
    let seed =
        |seed| SeedPredictions { seed, best_epoch: 1, probabilities: &p, observed: &observed, thresholds: &thresholds };
    let e = evaluate(subject.clone(), &classes, &y, &[seed(0), seed(1), seed(2)]);
    let table = class_table(&e, TERMINAL);
    assert_eq!(table.lines().count(), 1 + 1 + 1 + n + 2 + 1, "one line per class, none wrapped:\n{table}");
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    let unobserved =
        class_table(&e, Style::PLAIN).lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(unobserved, "mallet percuss 00 - - - - - 0/0");
    let line = summary(&e);
    assert!(line.starts_with("test: map .") && line.ends_with("over 3 seeds") && line.contains(" ± .000"), "{line}");
    assert!(summary(&evaluate(subject, &classes, &y, &[seed(4)])).ends_with("with seed 4"));
}

#[test]
fn a_single_label_evaluation_reports_accuracy() {
    let n = 19;
    let classes: Vec<String> = (0..n).map(|k| format!("double-bassoon-{k:02}")).collect();
    let y = Array::from_fn([400, n], |i| f32::from((i / n) % (n - 1) == i % n));
    let observed = Array::from_fn([400, n], |_| true);
    // Some clips are predicted as the last class, which has no clips.
    let p = Array::from_fn([400, n], |i| match (i / n % 50, i % n) {
        (7, 18) => 0.95,
        _ if i % 7 == 0 => 0.9,
        _ => y[i] * 0.5,
    });
    let subject = Subject {
        model: "aacnn".into(),
        parameters: 63_040_083,
        dataset: "orchestra".into(),
        split: "test".into(),
        device: "llvmpipe".into(),
        threshold: Threshold::default(),
        single_label: true,
    };
    let thresholds = [0.5; 19];
    let seed =
        |seed| SeedPredictions { seed, best_epoch: 1, probabilities: &p, observed: &observed, thresholds: &thresholds };
    let e = evaluate(subject, &classes, &y, &[seed(0), seed(1)]);
    let table = class_table(&e, TERMINAL);
    assert_eq!(table.lines().count(), 1 + 1 + 1 + n + 2 + 1, "one line per class, none wrapped:\n{table}");
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    let plain = class_table(&e, Style::PLAIN);
    let words =
        |line: usize| plain.lines().nth(line).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(0), ["class", "f1_pos", "P", "R", "AP", "AUC", "pos/obs"]);
    assert_eq!(words(n)[1..], [".000", ".000", "-", "-", "-", "0/400"], "a class without clips that was answered");
    let accuracy = format!("{:.3}", e.mean.accuracy.unwrap()).replacen("0.", ".", 1);
    let line = summary(&e);
    assert!(line.starts_with(&format!("test: accuracy {accuracy} ± .000  f1_macro .")), "{line}");
    assert!(line.contains("  P .") && line.contains("  R .") && line.ends_with("over 2 seeds"), "{line}");
}

const SAMPLING: Option<Sampling> = Some(Sampling { samples: 7, repetitions: 1200, spread: 0.04 });

fn kernel(op: &str, case: &str, time_us: f64, share_of_peak: f64) -> KernelResult {
    let kernel = format!("{op}_forward");
    KernelResult {
        op: op.into(),
        kernel,
        case: case.into(),
        time_us,
        sampling: SAMPLING,
        gflops: 10.0,
        gbs: 1.0,
        share_of_peak,
    }
}

fn step(model: &str, ms_per_step: f64) -> StepResult {
    let peer = |name: &str, slower| PeerResult { name: name.into(), ms_per_step: slower * ms_per_step };
    StepResult {
        work: Work::Training,
        model: model.into(),
        batch: 128,
        replicas: 1,
        ms_per_step,
        sampling: SAMPLING,
        clips_per_s: 128e3 / ms_per_step,
        peers: vec![peer("torch eager", 9.0), peer("torch", 3.0)],
        profile: None,
    }
}

fn report(name: &str, kernels: Vec<KernelResult>, steps: Vec<StepResult>) -> BenchReport {
    BenchReport {
        wmic_version: "0.1.0".into(),
        date: "2026-01-01T00:00:00Z".into(),
        adapter: AdapterInfo {
            name: name.into(),
            vendor: "ACME".into(),
            backend: "Vulkan".into(),
            driver: "1.2".into(),
            kind: "discrete".into(),
        },
        precision: Precision::F32,
        host: Host { os: "Linux".into(), cpu: "fast".into(), cores: 2 },
        peak: Peak { f32_gflops: 1000.0, matrix_gflops: None, bandwidth_gbs: 100.0, launch_us: Some(4.0) },
        kernels,
        steps,
        load: None,
        warnings: vec![],
    }
}

fn two_reports() -> [BenchReport; 2] {
    let a =
        vec![kernel("linear", "small", 2.0, 0.2), kernel("linear", "large", 8.0, 0.8), kernel("bce", "x", 1.0, 0.5)];
    let b =
        vec![kernel("linear", "small", 1.0, 0.1), kernel("linear", "large", 1.0, 0.4), kernel("adam", "x", 1.0, 0.3)];
    [report("A", a, vec![step("att", 6.0)]), report("B", b, vec![step("att", 2.0), step("fc", 1.0)])]
}

#[track_caller]
fn assert_close(got: Option<f64>, want: f64) {
    assert!(got.is_some_and(|g| (g - want).abs() < 1e-9), "{got:?} instead of {want}");
}

#[test]
fn files_of_earlier_versions_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let old = BenchReport::load(&folder.join("bench_of_2026_11_21.json")).unwrap();
    assert_eq!((old.peak.launch_us, old.kernels[0].sampling), (None, None));
    assert_eq!(old.steps[0].peers.len(), 1, "it has the key `peer`");
    assert!(old.markdown().contains("torch-eager 6.53 ms (2.72)"), "{}", old.markdown());
}

fn profiled() -> StepResult {
    let part = |kernel: &str, calls, ms| StepKernel { kernel: kernel.into(), calls, ms, sampling: SAMPLING.unwrap() };
    let kernels = vec![part("linear_forward", 3, 4.0), part("adam", 1, 1.5)];
    StepResult { profile: Some(Profile { kernels, difference_ms: 0.5 }), ..step("att", 6.0) }
}

#[test]
fn a_page_names_what_was_measured_and_what_is_doubtful() {
    let mut a = report("A", vec![kernel("linear", "a|b", 2.0, 3.1)], vec![profiled()]);
    a.warnings = warnings(&a);
    let page = a.markdown();
    for line in [
        "> **Warning:** above the measured peak: linear_forward, a|b (310 %); data that fits a cache is faster there \
         than the peak, which is the memory's",
        "| 1.00 TFLOP/s | - | 100 GB/s | 4.00 µs |",
        "| att | 128 | 1 | 6.00 ms | 4.0 % | 7 x 1 200 | 21.3 k clips/s | torch eager 54.0 ms (0.11); torch 18.0 ms \
         (0.33) |",
        "4 dispatches, whose launches alone take about 16.0 µs in a row.",
        "| linear_forward | 3 | 4.00 ms | 4.0 % | 7 x 1 200 | 67 % |",
        "| gaps between dispatches |  | 500 µs |  |  | 8.3 % |",
        "| **step** | **4** | **6.00 ms** |  |  | **100 %** |",
        "| linear_forward | a\\|b | 2.00 µs | 4.0 % | 7 x 1 200 | 10.0 | 1.00 | 310 % |",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in {page}");
    }
    let both = compare(&two_reports()).unwrap().markdown();
    assert!(both.contains("| fc, batch 128, 1 seed | 2 | 1.00 ms |"), "{both}");
}

#[test]
fn a_wide_spread_is_doubtful() {
    let mut a = report("A", vec![kernel("linear", "x", 2.0, 1.0)], vec![step("att", 6.0)]);
    assert!(warnings(&a).is_empty());
    a.steps[0].sampling = Some(Sampling { spread: 0.42, ..SAMPLING.unwrap() });
    let said = "1 of 2 times spread by more than 10 % of their median (most: att, 42 %): is the machine idle?";
    assert_eq!(warnings(&a), [said]);
    a.load = Some(0.31);
    assert_eq!(warnings(&a)[0], "other processes took 31 % of the CPU time meanwhile: times may be too long");
}

#[test]
fn later_results_are_added_to_earlier_ones() {
    let [_, b] = two_reports();
    let earlier = BenchReport { steps: vec![profiled(), step("rnn", 9.0)], ..b.clone() };
    let better = Peak { f32_gflops: 500.0, matrix_gflops: Some(4000.0), bandwidth_gbs: 200.0, launch_us: Some(3.0) };
    let later = BenchReport { peak: better, steps: vec![step("att", 5.0)], kernels: vec![], ..b.clone() };
    let all = later.clone().after(earlier).unwrap();
    assert_eq!(
        all.peak,
        Peak { f32_gflops: 1000.0, matrix_gflops: Some(4000.0), bandwidth_gbs: 200.0, launch_us: Some(3.0) }
    );
    assert_eq!(all.kernels[0].share_of_peak, 0.005, "relative to the better peak");
    assert_eq!(
        all.steps.iter().map(|s| (s.model.as_str(), s.ms_per_step)).collect::<Vec<_>>(),
        [("rnn", 9.0), ("att", 5.0)]
    );
    assert!(all.steps[1].profile.is_some(), "it was not measured again");
    let error = later.after(report("C", vec![], vec![])).unwrap_err().to_string();
    assert!(error.contains("cannot add to results of C, driver 1.2, in f32"), "{error}");
    let halves = BenchReport { precision: Precision::F16, ..b.clone() };
    assert!(halves.clone().after(b.clone()).is_err(), "another precision has other times");
    assert_eq!(compare(&[b, halves]).unwrap().adapters, ["B (Vulkan)", "B (Vulkan, f16)"]);
}

/// Benchmark file of a version that timed training only.
#[test]
fn files_without_forward_passes_are_compared_with_files_that_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.json");
    let text = serde_json::to_string(&report("A", vec![], vec![step("att", 6.0)])).unwrap();
    std::fs::write(&path, text.replace("\"work\":\"training\",", "")).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("work"));
    let old = BenchReport::load(&path).unwrap();
    let forward = StepResult { work: Work::Forward, batch: 100, ..step("log-mel", 2e3) };
    let new = report("B", vec![], vec![step("att", 3.0), forward]);
    let c = compare(&[old, new]).unwrap();
    assert_eq!(c.steps.iter().map(|s| s.label()).collect::<Vec<_>>(), ["att, batch 128, 1 seed", "log-mel, 100 clips"]);
    assert_eq!(c.steps[0].speed, [Some(1.0), Some(2.0)]);
}

#[test]
fn a_peers_file_may_hold_several_results() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.json");
    let line = |model: &str, ms: &str| {
        format!("{{\"peer\": \"torch\", \"model\": \"{model}\", \"batch\": 128, \"runs\": 7, \"ms_per_step\": {ms}}}\n")
    };
    std::fs::write(&path, line("att", "2.5") + &line("log-mel", "4")).unwrap();
    let peers = PeerStep::load(&path).unwrap();
    assert_eq!(peers.iter().map(|p| p.is_of(&step("att", 1.0))).collect::<Vec<_>>(), [true, false]);
    assert_eq!(peers[0].result().ms_per_step, 2.5);
    for (bad, said) in
        [(String::new(), "empty"), (line("att", "0"), "above 0"), (line("att", "1") + "{", "benches/peers")]
    {
        std::fs::write(&path, &bad).unwrap();
        let error = PeerStep::load(&path).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("peer.json") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn comparison_has_the_right_ratios() {
    let c = compare(&two_reports()).unwrap();
    assert_eq!(c.adapters, ["A (Vulkan)", "B (Vulkan)"]);
    assert_eq!(
        c.steps.iter().map(|s| s.label()).collect::<Vec<_>>(),
        ["att, batch 128, 1 seed", "fc, batch 128, 1 seed"]
    );
    assert_eq!(c.steps[0].speed, [Some(1.0), Some(3.0)]);
    assert_eq!((c.steps[1].ms.clone(), c.steps[1].speed.clone()), (vec![None, Some(1.0)], vec![None, None]));
    let linear = &c.ops[0];
    assert_eq!((linear.op.as_str(), linear.cases), ("linear", 2));
    assert_close(linear.share_of_peak[0], 0.4);
    assert_close(linear.share_of_peak[1], 0.2);
    assert_close(linear.speed[1], 4.0);
    let text = c.text(Style::PLAIN);
    assert!(
        text.contains("fc, batch 128, 1 seed") && text.contains("4.00×") && text.contains("torch 18.0 ms"),
        "{text}"
    );
}

#[test]
fn means_are_over_cases_both_have() {
    let [a, mut b] = two_reports();
    b.kernels.retain(|k| k.case != "large");
    let c = compare(&[a.clone(), b]).unwrap();
    assert_eq!((c.ops[0].cases, c.ops[0].speed[1]), (1, Some(2.0)));
    assert_close(c.ops[0].share_of_peak[0], 0.2);
    assert!(c.notes.iter().any(|n| n.starts_with("linear: 1 case")), "{:?}", c.notes);

    let disjoint = report("C", vec![kernel("linear", "huge", 1.0, 0.9)], vec![]);
    let c = compare(&[a, disjoint]).unwrap();
    assert_eq!((c.ops[0].cases, c.ops[0].share_of_peak.clone()), (0, vec![None, None]));
    assert!(compare(&[]).is_err());
}

#[test]
fn adapters_may_use_different_kernels_for_a_case() {
    let whole = kernel("linear", "x", 6.0, 0.5);
    let part = |name: &str, time, share| KernelResult { kernel: name.into(), ..kernel("linear", "x", time, share) };
    let halves = vec![part("linear_forward_a", 1.0, 0.8), part("linear_forward_b", 3.0, 0.4)];
    let c = compare(&[report("A", vec![whole], vec![]), report("B", halves, vec![])]).unwrap();
    assert_eq!((c.ops[0].cases, c.notes.len()), (1, 0));
    assert_close(c.ops[0].speed[1], 1.5);
    assert_close(c.ops[0].share_of_peak[1], 0.5);
}

#[test]
fn csv_has_every_measurement() {
    let csv_text = compare(&two_reports()).unwrap().csv();
    let mut reader = csv::Reader::from_reader(csv_text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cell = |line: usize, name: &str| lines[line][header.iter().position(|h| h == name).unwrap()].to_owned();
    assert_eq!(lines.len(), 9);
    assert_eq!(
        [cell(3, "kind"), cell(3, "name"), cell(3, "time_ms"), cell(3, "peer_ms")],
        ["step", "att", "6.0", "18.0"]
    );
    assert_eq!([cell(7, "adapter"), cell(7, "speed_vs_first")], ["B (Vulkan)", "3.0"]);
    assert_eq!(cell(8, "speed_vs_first"), "", "the first adapter did not measure fc");
}

#[test]
fn files_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    let [a, b] = two_reports();
    a.save(&path).unwrap();
    b.save(&path).unwrap();
    assert_eq!(BenchReport::load(&path).unwrap(), b);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
}

fn load_error(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.json");
    std::fs::write(&path, text).unwrap();
    BenchReport::load(&path).unwrap_err().to_string()
}

#[test]
fn bad_files_get_one_clear_line() {
    let text = |r: &BenchReport| serde_json::to_string(r).unwrap();
    let [good, _] = two_reports();
    let (mut negative, mut twice, mut escape) = (good.clone(), good.clone(), good.clone());
    negative.kernels[1].time_us = -1.0;
    twice.steps.push(twice.steps[0].clone());
    escape.adapter.name = "\x1b[2J".into();
    let cases = [
        ("", "bad.json:1: not a benchmark file of wmic: EOF"),
        ("{\n\"kernels\": 3}", "bad.json:2: not a benchmark file of wmic: invalid type"),
        (&format!("{{\"x\": {}", "[".repeat(100_000)), "EOF while parsing a list"),
        (&format!("{{\"{}\u{7}\": 1", "k".repeat(9000)), "not a benchmark file"),
        (&text(&good).replace("\"time_us\":2.0", "\"time_us\":1e999"), "number out of range"),
        (&text(&negative), "time_us of kernel linear_forward (large) is -1, expected a positive number"),
        (&text(&twice), "step att (batch 128, 1 replicas) is listed twice"),
        (&text(&escape), "is not a name of at most 200 printable bytes"),
    ];
    for (file, expected) in cases {
        let error = load_error(file);
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        assert!(error.len() < 400 && !error.contains(char::is_control), "not one short line: {error:?}");
    }
    assert!(BenchReport::load(Path::new("/nowhere.json")).unwrap_err().to_string().starts_with("/nowhere.json: "));
}

#[test]
fn plots_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let c = compare(&two_reports()).unwrap();
    let png = folder.path().join("c.png");
    c.plot(&png).unwrap();
    let image = image::open(&png).unwrap().into_rgb8();
    assert_eq!(image.width(), 2160, "twice the logical width");
    let share = |rgb: [u8; 3]| image.pixels().filter(|p| p.0 == rgb).count() as f64 / image.pixels().len() as f64;
    assert!(share([255; 3]) > 0.5, "mostly paper");
    assert!(share([0, 114, 178]) > 0.01 && share([230, 159, 0]) > 0.01, "bars of both adapters");
    assert!(share([34, 34, 34]) > 0.001, "text");

    let svg = folder.path().join("c.svg");
    c.plot(&svg).unwrap();
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("A (Vulkan)") && svg.contains("fc, batch 128, 1 seed"), "{svg}");

    let error = c.plot(&folder.path().join("c.gif")).unwrap_err().to_string();
    assert!(error.ends_with("a plot is written as .png or .svg"), "{error}");
    compare(&[report("nothing measured", vec![], vec![])]).unwrap().plot(&png).unwrap();
}
