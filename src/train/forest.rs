//! Trains the forests of `rf` ([`crate::predict::forest`]) on all cores.
//!
//! The trees are [`smartcore`]'s regression trees on targets 0 and 1, which are scikit-learn's classification trees:
//! the squared error of a node with a fraction p of positives is p (1 - p), half its Gini impurity, so both choose the
//! same splits; a leaf's mean is its fraction of positives, and the mean over the trees is `predict_proba`.
//! (smartcore's own classifier gives votes only.) Each split chooses among sqrt(F) features, drawn per split; each tree
//! is trained on a bootstrap sample of the clips. A class has the clips with a known label.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::Deserialize;
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::core::array::Array;
use crate::core::error::Result;
use crate::core::random::{key, philox};
use crate::data::Dataset;
use crate::predict::forest::{DEPTH, Forest, Node, TREES, Tree, features_per_split, threads, time_means};
use crate::run::config::Config;
use crate::run::splits::splits;

/// Trains the forests of all seeds, each on its own training clips, and reports how many of all (R K) are done. The
/// trees of a seed do not depend on other seeds or the number of threads. `None` if `stop` returned true.
///
/// # Errors
/// `Usage` for impossible splits.
pub fn grow(
    config: &Config,
    data: &Dataset,
    stop: &(dyn Fn() -> bool + Sync),
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Vec<Forest>>> {
    let k = data.classes.len();
    let all: Vec<u32> = (0..data.keys.len() as u32).collect();
    let x = time_means(&data.features, &all);
    let splits = splits(config, data)?;
    let known = |r: usize, class: usize| -> Vec<u32> {
        splits[r].0.iter().copied().filter(|&clip| data.observed[clip as usize * k + class]).collect()
    };
    let mut jobs: Vec<(usize, usize, Vec<u32>)> =
        (0..splits.len()).flat_map(|r| (0..k).map(move |class| (r, class))).map(|(r, c)| (r, c, known(r, c))).collect();
    // The largest first, for an even load at the end.
    jobs.sort_by_key(|(.., rows)| std::cmp::Reverse(rows.len()));
    let next = AtomicUsize::new(0);
    let mut grown: Vec<Vec<Option<Vec<Tree>>>> = vec![vec![None; k]; splits.len()];
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for _ in 0..threads().min(jobs.len()) {
            let (send, next, jobs, x) = (send.clone(), &next, &jobs, &x);
            scope.spawn(move || {
                while let Some((r, class, rows)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop()) {
                    let y =
                        rows.iter().map(|&clip| f32::from(data.targets[clip as usize * k + class] >= 0.5)).collect();
                    let trees = grow_class(x, rows, y, class_seed(config.seeds[*r], *class));
                    // The receiver may be gone.
                    let _ = send.send((*r, *class, trees));
                }
            });
        }
        drop(send);
        for (done, (r, class, trees)) in receive.iter().enumerate() {
            grown[r][class] = Some(trees);
            progress(done + 1);
        }
    });
    let forest = |classes: Vec<Option<Vec<Tree>>>| {
        let trees = classes.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Forest { trees: trees.concat() })
    };
    Ok(grown.into_iter().map(forest).collect())
}

/// smartcore seeds the trees of a forest consecutively: seeds of neighbouring seeds and classes must be far apart.
fn class_seed(seed: u64, class: usize) -> u64 {
    let [low, high, ..] = philox([class as u32, 0, 0, 0xF0E5], key(seed));
    u64::from(high) << 32 | u64::from(low)
}

/// The trees of one class, of the clips `rows` of `x` with targets `y`.
fn grow_class(x: &Array<f32>, rows: &[u32], y: Vec<f32>, seed: u64) -> Vec<Tree> {
    if rows.is_empty() {
        // A class without known labels is never predicted.
        return vec![Tree::new(vec![Node::leaf(0.0)], 1).expect("a leaf is a tree"); TREES];
    }
    let width = x.shape().last();
    let values = rows.iter().flat_map(|&clip| x.row(clip as usize).to_vec()).collect();
    let x = DenseMatrix::new(rows.len(), width, values, false).expect("as many values as clips times features");
    let parameters = RandomForestRegressorParameters::default()
        .with_n_trees(TREES)
        // smartcore counts the levels of nodes, scikit-learn the splits between them.
        .with_max_depth(DEPTH as u16 + 1)
        .with_m(features_per_split(width))
        .with_seed(seed);
    let forest = RandomForestRegressor::fit(&x, &y, parameters).expect("clips and features make a forest");
    let json = serde_json::to_vec(&forest).expect("a forest serialises");
    let grown: Grown = serde_json::from_slice(&json).expect("the pinned version has these fields");
    grown.forest_regressor.trees.iter().map(|tree| flatten(&tree.nodes, width)).collect()
}

/// smartcore's trees are accessible only through serde; this is the part with the trees.
#[derive(Deserialize)]
struct Grown {
    forest_regressor: GrownForest,
}

#[derive(Deserialize)]
struct GrownForest {
    trees: Vec<GrownTree>,
}

#[derive(Deserialize)]
struct GrownTree {
    nodes: Vec<GrownNode>,
}

#[derive(Deserialize)]
struct GrownNode {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

fn flatten(grown: &[GrownNode], width: usize) -> Tree {
    let mut nodes = vec![];
    append(grown, 0, &mut nodes);
    Tree::new(nodes, width).expect("grown trees are trees")
}

/// Appends the subtree below `grown[at]`, and returns its index. A split with equal leaves is dropped: smartcore
/// continues to split nodes whose clips are all positive or all negative.
fn append(grown: &[GrownNode], at: usize, nodes: &mut Vec<Node>) -> u32 {
    let place = nodes.len();
    let node = &grown[at];
    nodes.push(Node::leaf(node.output as f32));
    if let (Some(threshold), Some(left), Some(right)) = (node.split_value, node.true_child, node.false_child) {
        let [left, right] = [left, right].map(|child| append(grown, child, nodes));
        let [a, b] = [left, right].map(|child| nodes[child as usize]);
        if a.is_leaf() && b.is_leaf() && a.value == b.value {
            nodes.truncate(place);
            nodes.push(a);
        } else {
            let feature = node.split_feature as u32;
            nodes[place] = Node { feature, threshold: at_most(threshold), left, right, value: 0.0 };
        }
    }
    place as u32
}

/// The largest f32 not above `v`: comparing f32 values with either gives the same result.
fn at_most(v: f64) -> f32 {
    let nearest = v as f32;
    if f64::from(nearest) > v { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_as_f32_split_the_same_clips() {
        for (low, high) in [(1.0f32, 1.0f32.next_up()), (99.9, 100.1), (0.0, f32::MIN_POSITIVE), (-3.0, 254.9)] {
            let threshold = at_most((f64::from(low) + f64::from(high)) / 2.0);
            assert!(low <= threshold && threshold < high, "{low} <= {threshold} < {high}");
        }
    }

    #[test]
    fn seeds_and_classes_are_far_apart() {
        let mut all: Vec<u64> = (0..50).flat_map(|seed| (0..20).map(move |class| class_seed(seed, class))).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|w| w[1] - w[0] > TREES as u64), "no two forests share a tree's seed");
    }
}
