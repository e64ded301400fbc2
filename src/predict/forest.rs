//! `rf`: a random forest per class on the mean of X over time (RF_BR of ISMIR 2019): trees, their
//! predictions, and their file. They are trained in `train::forest`.
//!
//! On disk the trees are flat arrays, concatenated over seeds, classes and trees, N nodes in all:
//! `trees.nodes` (R, K, 100): nodes of each tree; `trees.feature` (N), `trees.threshold` (N): a clip goes left
//! if its feature is at most the threshold; `trees.left`, `trees.right` (N): children, counted from the tree's first
//! node, 0 in leaves; `trees.value` (N): the values of leaves.

use std::path::Path;
use std::thread;

use safetensors::tensor::Dtype;

use crate::core::array::Array;
use crate::core::error::Result;
use crate::core::tensors;
use crate::data::{FeatureValues, Features};
use crate::predict::predictor::Predictions;
use crate::run::weights::{About, ModelFile};

/// Trees per class.
pub const TREES: usize = 100;
/// Maximum depth of a tree, in splits.
pub const DEPTH: usize = 8;

/// Input of a forest, for the metadata of model files.
pub(crate) const INPUT: &str = "mean of x over the valid instances, 0 to 255";

/// Device in results.
pub(crate) const DEVICE: &str = "CPU";

const NODES: &str = "trees.nodes";
const FEATURE: &str = "trees.feature";
const THRESHOLD: &str = "trees.threshold";
const LEFT: &str = "trees.left";
const RIGHT: &str = "trees.right";
const VALUE: &str = "trees.value";

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Node {
    /// Feature of the split; 0 in leaves.
    pub feature: u32,
    /// Clips with a feature of at most this go left; 0 in leaves.
    pub threshold: f32,
    /// Indices of the children in the tree; 0 (the root) in leaves.
    pub left: u32,
    pub right: u32,
    /// The fraction of positives among the clips of a leaf; 0 in other nodes.
    pub value: f32,
}

impl Node {
    pub(crate) fn leaf(value: f32) -> Node {
        Node { value, ..Node::default() }
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.left == 0
    }
}

/// A binary tree; the root comes first, and children come after their parents.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree(Vec<Node>);

impl Tree {
    /// # Errors
    /// What is wrong with `nodes` as a tree on F = `width` features.
    pub(crate) fn new(nodes: Vec<Node>, width: usize) -> Result<Tree, &'static str> {
        // With children after their parents, and one parent each, there are no cycles.
        let mut depth: Vec<Option<usize>> = vec![None; nodes.len()];
        *depth.first_mut().ok_or("has a tree without nodes")? = Some(0);
        for (i, node) in nodes.iter().enumerate() {
            let Some(at) = depth[i] else { return Err("has an unreachable node") };
            if !(0.0..=1.0).contains(&node.value) {
                return Err("has a leaf value outside 0..1");
            }
            if node.left == 0 && node.right == 0 {
                continue;
            }
            if node.feature as usize >= width || !node.threshold.is_finite() {
                return Err("splits on a feature that does not exist");
            }
            if at == DEPTH {
                return Err("has too deep a tree");
            }
            for child in [node.left as usize, node.right as usize] {
                match depth.get_mut(child) {
                    Some(free @ None) if child > i => *free = Some(at + 1),
                    _ => return Err("has a node with invalid children"),
                }
            }
        }
        Ok(Tree(nodes))
    }

    pub fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// The value of the leaf for the features of a clip.
    fn value(&self, x: &[f32]) -> f32 {
        let mut node = &self.0[0];
        while !node.is_leaf() {
            let goes_left = x[node.feature as usize] <= node.threshold;
            node = &self.0[if goes_left { node.left } else { node.right } as usize];
        }
        node.value
    }
}

/// The forests of a seed: [`TREES`] for each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// (K, TREES)
    pub(crate) trees: Vec<Tree>,
}

impl Forest {
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// The probability of each class for the clips `x` (N, F): (N, K), the mean over the trees.
    pub fn predict(&self, x: &Array<f32>) -> Array<f32> {
        let [clips, width] = *x.dims() else { panic!("clips and features") };
        let classes = self.trees.len() / TREES;
        let mut p = Array::zeros([clips, classes]);
        let portion = clips.div_ceil(threads()).max(1);
        thread::scope(|scope| {
            for (x, p) in x.data().chunks(portion * width).zip(p.data_mut().chunks_mut(portion * classes)) {
                scope.spawn(move || {
                    for (x, p) in x.chunks(width).zip(p.chunks_mut(classes)) {
                        for (trees, p) in self.trees.chunks(TREES).zip(p) {
                            let sum: f64 = trees.iter().map(|tree| f64::from(tree.value(x))).sum();
                            *p = (sum / TREES as f64) as f32;
                        }
                    }
                });
            }
        });
        p
    }
}

/// Number of threads for training.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Number of features considered per split.
pub fn features_per_split(width: usize) -> usize {
    width.isqrt().max(1)
}

/// The mean over time of the clips `rows`, on the scale of X, 0 to 255: (N, F).
pub fn time_means(features: &Features, rows: &[u32]) -> Array<f32> {
    let Features { instances, width, .. } = *features;
    let value = |i: usize| match &features.values {
        FeatureValues::U8(bytes) => f64::from(bytes[i]),
        FeatureValues::F32(values) => 255.0 * f64::from(values[i]),
        FeatureValues::F16(map) => {
            let bytes = &map.bytes()[2 * i..2 * i + 2];
            255.0 * half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
        }
    };
    let mut means = Array::zeros([rows.len(), width]);
    let mut sum = vec![0.0; width];
    for (row, clip) in rows.iter().map(|clip| *clip as usize).enumerate() {
        let length = features.lengths[clip] as usize;
        sum.fill(0.0);
        for t in 0..length {
            let start = (clip * instances + t) * width;
            sum.iter_mut().zip(start..).for_each(|(sum, i)| *sum += value(i));
        }
        means.row_mut(row).iter_mut().zip(&sum).for_each(|(mean, sum)| *mean = (sum / length as f64) as f32);
    }
    means
}

/// Predictions of each seed's forest for the clips `rows[r]`.
pub(crate) fn predict(forests: &[Forest], features: &Features, rows: &[Vec<u32>]) -> Predictions {
    let of_seed = |(forest, rows): (&Forest, &Vec<u32>)| forest.predict(&time_means(features, rows));
    let probabilities = forests.iter().zip(rows).map(of_seed).collect();
    Predictions { probabilities, instances: None, glimpses: vec![], learned: vec![] }
}

/// Writes the forests of some seeds.
pub fn save(path: &Path, forests: &[Forest], about: &About) -> Result<()> {
    let trees = || forests.iter().flat_map(|forest| &forest.trees);
    let nodes = || trees().flat_map(|tree| &tree.0);
    let n = nodes().count();
    let words = |of: &dyn Fn(&Node) -> [u8; 4]| nodes().flat_map(of).collect::<Vec<u8>>();
    let sizes = trees().flat_map(|tree| (tree.0.len() as u32).to_le_bytes()).collect();
    let shape = vec![forests.len(), about.classes.len(), TREES];
    let tensors = [
        (NODES, Dtype::U32, shape, sizes),
        (FEATURE, Dtype::U32, vec![n], words(&|node| node.feature.to_le_bytes())),
        (THRESHOLD, Dtype::F32, vec![n], words(&|node| node.threshold.to_le_bytes())),
        (LEFT, Dtype::U32, vec![n], words(&|node| node.left.to_le_bytes())),
        (RIGHT, Dtype::U32, vec![n], words(&|node| node.right.to_le_bytes())),
        (VALUE, Dtype::F32, vec![n], words(&|node| node.value.to_le_bytes())),
    ];
    tensors::save(path, &tensors.map(|(name, dtype, shape, bytes)| (name.to_owned(), dtype, shape, bytes)), about)
}

/// Reads the forests of all seeds.
///
/// # Errors
/// `Checkpoint` when the tensors are not valid forests, or do not match the metadata.
pub fn load(file: &ModelFile) -> Result<Vec<Forest>> {
    let About { seeds, classes, width, .. } = &file.about;
    file.reject_others(&|name| [NODES, FEATURE, THRESHOLD, LEFT, RIGHT, VALUE].contains(&name))?;
    let sizes = file.integers(NODES, &[seeds.len(), classes.len(), TREES])?;
    let n = sizes.iter().map(|size| u64::from(*size)).sum::<u64>() as usize;
    let (feature, left, right) =
        (file.integers(FEATURE, &[n])?, file.integers(LEFT, &[n])?, file.integers(RIGHT, &[n])?);
    let (threshold, value) = (file.floats(THRESHOLD, &[n])?, file.floats(VALUE, &[n])?);
    let node = |i: usize| Node {
        feature: feature[i],
        threshold: threshold[i],
        left: left[i],
        right: right[i],
        value: value[i],
    };
    let mut first = 0;
    let mut trees = Vec::with_capacity(sizes.len());
    for size in sizes {
        let nodes = (first..first + size as usize).map(node).collect();
        trees.push(Tree::new(nodes, *width).map_err(|what| file.damaged(what))?);
        first += size as usize;
    }
    Ok(trees.chunks(classes.len() * TREES).map(|trees| Forest { trees: trees.to_vec() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_of_a_tree_is_reached_once_from_above() {
        let (leaf, split) = (Node::leaf(0.5), |left, right| Node { left, right, feature: 1, ..Node::default() });
        let check = |nodes: &[Node]| Tree::new(nodes.to_vec(), 2).map(|_| ());
        assert_eq!(check(&[leaf]), Ok(()));
        assert_eq!(check(&[split(1, 2), leaf, leaf]), Ok(()));
        assert_eq!(check(&[]), Err("has a tree without nodes"));
        assert_eq!(check(&[leaf, leaf]), Err("has an unreachable node"));
        for (left, right) in [(1, 1), (1, 0), (0, 1), (1, 3), (2, u32::MAX)] {
            assert_eq!(check(&[split(left, right), leaf, leaf]), Err("has a node with invalid children"));
        }
        assert_eq!(check(&[split(1, 2), split(0, 2), leaf]), Err("has a node with invalid children"));
        assert_eq!(
            check(&[Node { feature: 2, ..split(1, 2) }, leaf, leaf]),
            Err("splits on a feature that does not exist")
        );
        assert_eq!(check(&[Node::leaf(1.5)]), Err("has a leaf value outside 0..1"));
        let chain =
            |depth: u32| (0..depth).flat_map(|i| [split(2 * i + 2, 2 * i + 1), leaf]).chain([leaf]).collect::<Vec<_>>();
        assert_eq!(check(&chain(DEPTH as u32)), Ok(()));
        assert_eq!(check(&chain(DEPTH as u32 + 1)), Err("has too deep a tree"));
    }
}
