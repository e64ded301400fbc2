//! Which clips count as unlike the training clips.

use wmic::Array;
use wmic::core::random::Stream;
use wmic::metrics::domain::Domain;

const WIDTH: usize = 16;

/// Clips of ten instances that change slowly, the first values more than the last ones.
fn clips(count: usize, seed: u64) -> Vec<Array<f32>> {
    let mut stream = Stream::new(seed, 0);
    let mut clip = |_| {
        let mut now: Vec<f64> = (0..WIDTH).map(|_| stream.normal(1.0)).collect();
        let mut instance = || {
            now.iter_mut().for_each(|v| *v = 0.9 * *v + stream.normal(0.4));
            now.iter().enumerate().map(|(i, v)| (v / (1 + i) as f64) as f32).collect::<Vec<f32>>()
        };
        Array::new([10, WIDTH], (0..10).flat_map(|_| instance()).collect())
    };
    (0..count).map(&mut clip).collect()
}

#[test]
fn what_is_unlike_the_training_clips_is_beyond_the_limit() {
    let domain = Domain::fit(&clips(300, 1), &clips(100, 2)).unwrap();
    let beyond = |of: &[Array<f32>]| {
        of.iter().filter(|clip| domain.distance(clip).unwrap() > 1.0).count() as f64 / of.len() as f64
    };
    let same = clips(300, 3);
    assert!(beyond(&same) < 0.02, "{}", beyond(&same));
    let changed = |of: fn(usize, usize, &Array<f32>) -> f32| -> Vec<Array<f32>> {
        same.iter().map(|clip| Array::from_fn([10, WIDTH], |at| of(at / WIDTH, at % WIDTH, clip))).collect()
    };
    // Ones that lie among the training clips: their mean, one instance held, and instances that all differ.
    let still = vec![Array::zeros([10, WIDTH]); 3];
    assert_eq!(beyond(&still), 1.0);
    assert_eq!(beyond(&changed(|_, i, clip| clip.row(0)[i])), 1.0);
    let shuffled: Vec<Array<f32>> = same
        .chunks_exact(10)
        .map(|ten| Array::new([10, WIDTH], ten.iter().flat_map(|c| c.row(0).to_vec()).collect()))
        .collect();
    assert!(beyond(&shuffled) > 0.8, "{}", beyond(&shuffled));
    // And others that do not: louder ones, and values in the opposite order.
    assert!(beyond(&changed(|row, i, clip| 5.0 * clip.row(row)[i])) > 0.9);
    assert!(beyond(&changed(|row, i, clip| clip.row(row)[WIDTH - 1 - i])) > 0.9);
    // A shorter clip has a limit of its own.
    let start = |rows: usize| Array::new([rows, WIDTH], same[0].data()[..rows * WIDTH].to_vec());
    assert!(domain.distance(&start(3)).unwrap() < 1.0 && domain.distance(&start(1)).is_none());
    let stored = serde_json::from_str::<Domain>(&serde_json::to_string(&domain).unwrap()).unwrap();
    assert_eq!(stored.distance(&same[0]), domain.distance(&same[0]));
}

#[test]
fn nothing_is_fitted_to_too_little() {
    assert!(Domain::fit(&clips(20, 1), &clips(100, 2)).is_none());
    assert!(Domain::fit(&clips(300, 1), &clips(5, 2)).is_none());
    assert!(Domain::fit(&vec![Array::zeros([10, WIDTH]); 100], &clips(20, 2)).is_none());
    assert!(Domain::fit(&[], &[]).is_none());
    // Nor to what is not a number.
    let mut unfit = clips(300, 1);
    unfit[7] = Array::new([10, WIDTH], vec![f32::NAN; 10 * WIDTH]);
    assert!(Domain::fit(&unfit, &clips(100, 2)).is_none());
}
