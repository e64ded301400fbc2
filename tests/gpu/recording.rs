//! Dispatches: what the recorder rejects before a driver sees it, and how replays are divided into submissions.

use std::ops::Range;

use wmic::features::extractor::Extractor;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::gpu::{
    AdapterKind, Buffer, Gpu, Grid, Launch, MAX_ITERATIONS, Pace, Recorder, Recording, Shader, Slot, View,
};
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::kind::{Options, SpectrogramFrames};
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::front_ends::vggish::Width;
use wmic::params;

static SHADER: Shader = Shader::new("square.wgsl", include_str!("../../examples/square.wgsl"));

params! { struct Params { len: u32, accumulate: u32 } }

/// y = x² of `len` elements at these offsets of two buffers, which may be one.
fn square(gpu: &Gpu, buffers: [&Buffer; 2], at: [usize; 2], len: usize, launch: Launch) -> wmic::Result<Recording> {
    let mut recorder = Recorder::new(gpu.adapter().target());
    let view = |i: usize| View { slot: Slot(i as u32), offset: at[i], len };
    let params = Params { len: len as u32, accumulate: 0 };
    recorder.dispatch(&SHADER, "square_forward", &[("x", view(0)), ("y", view(1))], params, launch);
    Recording::new(gpu, &recorder.dispatches, &|slot| buffers[slot.0 as usize].clone())
}

#[test]
fn writable_views_that_overlap_others_are_rejected() {
    let gpu = Gpu::open(None).unwrap();
    let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let (buffer, other) = (gpu.upload("both", &values).unwrap(), gpu.buffer("other", 256).unwrap());
    let launch = Grid::items(128, 64, 1).no_loops();
    // Storage bindings start at multiples of 256 bytes: 64 elements.
    for y in [0, 64] {
        let error = square(&gpu, [&buffer; 2], [0, y], 128, launch).err().expect("an overlap").to_string();
        assert!(error.contains("bindings x and y overlap"), "{error}");
    }
    let apart = square(&gpu, [&buffer, &other], [64, 64], 128, launch).unwrap();
    gpu.run(|s| s.replay(&[&apart], 1)).unwrap();
    let got: Vec<f32> = gpu.read_at(&other, 64, 128).unwrap();
    assert!(got.iter().zip(&values[64..]).all(|(y, x)| *y == x * x));
}

#[test]
fn loops_longer_than_a_software_adapter_runs_are_rejected_there() {
    let gpu = Gpu::open(None).unwrap();
    let buffers = [&gpu.buffer("x", 64).unwrap(), &gpu.buffer("y", 64).unwrap()];
    let grid = Grid::items(64, 64, 1);
    assert!(square(&gpu, buffers, [0, 0], 64, grid.iterations(MAX_ITERATIONS)).is_ok());
    let beyond = square(&gpu, buffers, [0, 0], 64, grid.iterations(MAX_ITERATIONS + 1));
    assert_eq!(beyond.is_err(), gpu.adapter().kind == AdapterKind::Software);
}

#[test]
fn every_grid_is_within_the_limits_and_large_enough() {
    for groups in [0, 1, 65_535, 65_536, 527 * 8192, 100_000_007] {
        let [x, y, z] = Grid::folded(groups, 3).no_loops().groups().map(|n| n as usize);
        assert!(x <= 65_535 && y <= 65_535 && z == 3, "{groups}: {x} x {y}");
        assert!(x * y >= groups.max(1) && x * y < groups.max(1) + y, "{groups}: {x} x {y}");
    }
}

#[test]
fn the_first_submission_is_one_measured_round() {
    let gpu = Gpu::open(None).unwrap();
    let buffers = [&gpu.buffer("x", 64).unwrap(), &gpu.buffer("y", 64).unwrap()];
    let recording = square(&gpu, buffers, [0, 0], 64, Grid::items(64, 64, 1).no_loops()).unwrap();
    let mut pace = Pace::default();
    for first in [true, false] {
        let (mut submitted, mut reported) = (Vec::<Range<usize>>::new(), vec![]);
        let before = &mut |rounds| {
            submitted.push(rounds);
            Ok(())
        };
        let progress = &mut |done| {
            reported.push(done);
            true
        };
        assert_eq!(pace.replay(&gpu, &[&recording], 200, 50, before, progress).unwrap(), 200);
        assert_eq!(submitted[0].len() == 1, first, "{submitted:?}");
        assert!(submitted.windows(2).all(|two| two[0].end == two[1].start), "{submitted:?}");
        assert!(submitted.iter().all(|rounds| rounds.len() <= 50) && submitted.last().unwrap().end == 200);
        assert!(reported.is_sorted() && reported.last() == Some(&200), "{reported:?}");
    }
}

/// As training is: dispatches that are slow together must not be in one submission.
#[test]
fn extraction_is_submitted_at_a_measured_pace() {
    let gpu = Gpu::open(None).unwrap();
    let width = Width::Eighth;
    let options = Options { width, scale: Scale::Magnitude, last_relu: true, spectrogram: SpectrogramFrames::None };
    let weights = FrontEnd::new(Source::Random(0), width).load().unwrap();
    let extractor = Extractor::new(&gpu, FeatureKind::Maps, options, Some(&weights), 16_000).unwrap();
    let submissions = [(); 2].map(|()| {
        let before = gpu.submissions();
        extractor.run(&[&vec![0.1; 16_000]]).unwrap();
        gpu.submissions() - before
    });
    assert!(submissions[0] > submissions[1], "each dispatch is measured, then all are submitted: {submissions:?}");
}
