//! What pre-trained front ends have learned, seen on the validation patches.

use std::collections::HashMap;

use crate::core::array::Array;
use crate::core::error::Result;
use crate::data::Dataset;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::Gpu;
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::models::pretraining::{ALIGN, TAGS, TEXTUAL};
use crate::predict::predictor::{Detail, Predictor};
use crate::run::config::Config;
use crate::run::pretraining::words;
use crate::run::weights::Block;

/// Most validation patches that are looked at; of more, every so many.
const MAX_PATCHES: usize = 1000;
/// Restored patches that are kept.
const SHOWN: usize = 3;
/// Nearest words that are kept.
const NEAREST: usize = 3;
/// Ranks up to which the recall of tags is counted.
pub const RANKS: [usize; 3] = [1, 5, 10];

/// Words, each with those nearest to it and their cosines.
pub(crate) type NearestWords = Vec<(String, Vec<(String, f64)>)>;

/// What a front end has learned.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Dimensions of the embedding that have the same value for all patches: units that are dead, behind a ReLU.
    pub constant: usize,
    /// All dimensions of the embedding.
    pub dimensions: usize,
    /// Denoising: some patches clean, corrupted and restored, (96, 64) each.
    pub restored: Vec<[Array<f32>; 3]>,
    /// Textual: for each word the words nearest to the mean output for sounds with it, with their cosines, the nearest
    /// first.
    pub nearest: NearestWords,
    /// Align, textual: the share of patches whose own set of tags or words is among the nearest 1, 5 and 10 different
    /// ones (see [`RANKS`]), and the number of these sets.
    pub recall: Option<([f64; 3], usize)>,
}

/// Of the front end in each of `blocks`.
pub(super) fn findings(
    gpu: &Gpu,
    config: &Config,
    data: &Dataset,
    dataset: &DeviceDataset,
    blocks: &[Block],
) -> Result<Vec<Findings>> {
    let frozen = words(gpu, data)?;
    let mut predictor = Predictor::new(gpu, config, blocks, dataset, &frozen, Detail::Positions)?;
    let validation = data.validation.as_deref().unwrap_or_default();
    let step = validation.len().div_ceil(MAX_PATCHES).max(1);
    let rows: Vec<u32> = validation.iter().copied().step_by(step).collect();
    let learned = predictor.predict(&vec![rows.clone(); blocks.len()])?.learned;
    let of_replica = |r: usize| {
        let [embedding, made @ ..] = &learned[..] else { unreachable!("every objective has an embedding") };
        let made: Vec<&Array<f32>> = made.iter().map(|replicas| &replicas[r]).collect();
        let mut found = embeddings(&embedding[r]);
        match (config.model.as_str(), &made[..]) {
            (TAGS, _) => {}
            (TEXTUAL, [output]) => {
                found.nearest = nearest(data, &rows, output);
                found.recall = Some(recall(data, &rows, output, &|i| mean_word(data, rows[i])));
            }
            (ALIGN, [sounds, tags]) => found.recall = Some(recall(data, &rows, sounds, &|i| unit(tags.row(i)))),
            (_, [corrupted, restored]) => found.restored = restored_patches(data, &rows, corrupted, restored),
            _ => unreachable!("{} has other outputs", config.model),
        }
        found
    };
    Ok((0..blocks.len()).map(of_replica).collect())
}

fn embeddings(embedding: &Array<f32>) -> Findings {
    let [patches, dimensions] = *embedding.dims() else { unreachable!("an embedding has two axes") };
    let is_constant = |d: &usize| (1..patches).all(|i| embedding.row(i)[*d] == embedding.row(0)[*d]);
    Findings { constant: (0..dimensions).filter(is_constant).count(), dimensions, ..Findings::default() }
}

fn restored_patches(
    data: &Dataset,
    rows: &[u32],
    corrupted: &Array<f32>,
    restored: &Array<f32>,
) -> Vec<[Array<f32>; 3]> {
    let shape = [PATCH_FRAMES, BANDS];
    let size = PATCH_FRAMES * BANDS;
    let shown = SHOWN.min(rows.len());
    let patch = |i: usize| {
        let of = |all: &Array<f32>| Array::new(shape, all.data()[i * size..][..size].to_vec());
        let clean = Array::new(shape, data.features.clip(rows[i] as usize).data().to_vec());
        [clean, of(corrupted), of(restored)]
    };
    (0..shown).map(|n| patch(n * rows.len() / shown)).collect()
}

/// Scaled to norm 1; zeros stay.
fn unit(vector: &[f32]) -> Vec<f64> {
    let norm = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    vector.iter().map(|v| f64::from(*v) / norm).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The targets of a patch, one per class.
fn targets(data: &Dataset, row: u32) -> &[f32] {
    let k = data.classes.len();
    &data.targets[row as usize * k..][..k]
}

fn nearest(data: &Dataset, rows: &[u32], output: &Array<f32>) -> NearestWords {
    let vectors: Vec<Vec<f64>> = data.word_vectors.iter().map(|vector| unit(vector)).collect();
    let of_word = |k: usize| {
        let mut sum = vec![0.0; vectors[k].len()];
        let mut any = false;
        for (i, _) in rows.iter().enumerate().filter(|(_, row)| targets(data, **row)[k] > 0.0) {
            any = true;
            sum.iter_mut().zip(unit(output.row(i))).for_each(|(sum, v)| *sum += v);
        }
        let norm = dot(&sum, &sum).sqrt().max(1e-12);
        let mut words: Vec<(String, f64)> =
            data.classes.iter().cloned().zip(vectors.iter().map(|vector| dot(vector, &sum) / norm)).collect();
        words.sort_by(|a, b| b.1.total_cmp(&a.1));
        words.truncate(NEAREST);
        any.then(|| (data.classes[k].clone(), words))
    };
    (0..data.classes.len()).filter_map(of_word).collect()
}

/// The mean of the vectors of a patch's words, scaled to norm 1: the target.
fn mean_word(data: &Dataset, row: u32) -> Vec<f64> {
    let mut sum = vec![0.0; data.word_vectors[0].len()];
    for (target, vector) in targets(data, row).iter().zip(&data.word_vectors) {
        sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += target * v);
    }
    unit(&sum)
}

/// `encode`: of the labels of the patch `rows[i]`, of norm 1.
fn recall(data: &Dataset, rows: &[u32], sounds: &Array<f32>, encode: &dyn Fn(usize) -> Vec<f64>) -> ([f64; 3], usize) {
    // Patches with the same labels have the same encoding of them.
    let mut sets: Vec<Vec<f64>> = vec![];
    let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
    let set_of: Vec<usize> = (0..rows.len())
        .map(|i| {
            let key = targets(data, rows[i]).iter().map(|v| v.to_bits()).collect();
            *known.entry(key).or_insert_with(|| {
                sets.push(encode(i));
                sets.len() - 1
            })
        })
        .collect();
    let rank = |i: usize| {
        let sound = unit(sounds.row(i));
        let cosines: Vec<f64> = sets.iter().map(|set| dot(set, &sound)).collect();
        let own = cosines[set_of[i]];
        // A draw counts against it.
        (0..sets.len()).filter(|&s| s != set_of[i] && cosines[s] >= own).count()
    };
    let ranks: Vec<usize> = (0..rows.len()).map(rank).collect();
    let share = |k: usize| ranks.iter().filter(|rank| **rank < k).count() as f64 / ranks.len().max(1) as f64;
    (RANKS.map(share), sets.len())
}
