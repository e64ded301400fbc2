"""scikit-learn peer of `wmic train --model rf`: one random forest per class on the time-mean of X (RF_BR of Gururani, Sharma, Lerch 2019).

    python benches/peers/forest.py DATASET --seeds 3        train, print test metrics and seconds as JSON

DATASET is a folder in the OpenMIC-2018 layout. Its npz holds pickled keys: run this on data you trust.
Needs numpy and scikit-learn. As in wmic each seed holds out 15 % of the training clips (its own draw: the clips differ from wmic's), and a
class's forest sees the clips whose label is known. All cores grow the trees of one forest after the other.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, f1_score

TREES, DEPTH = 100, 8


def load(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Time-means (N, 128) on the scale 0..255, labels and known (N, K), and the clips of the train and the test split."""
    with np.load(root / "openmic-2018.npz", allow_pickle=True) as z:
        x, y, known, keys = z["X"], z["Y_true"] >= 0.5, z["Y_mask"].astype(bool), z["sample_key"]
    at = {str(key): i for i, key in enumerate(keys)}
    partition = lambda name: (root / "partitions" / f"split01_{name}.csv").read_text().split()
    train, test = (np.array([at[key] for key in partition(name) if key in at]) for name in ("train", "test"))
    return x.mean(1).astype(np.float32), y, known, train, test


def fit(x: np.ndarray, y: np.ndarray, known: np.ndarray, clips: np.ndarray, seed: int) -> list[RandomForestClassifier]:
    """A forest for each class, of those of the clips whose label is known."""
    forests = []
    for k in range(y.shape[1]):
        rows = clips[known[clips, k]]
        forest = RandomForestClassifier(n_estimators=TREES, max_depth=DEPTH, random_state=seed, n_jobs=os.cpu_count())
        forests.append(forest.fit(x[rows], y[rows, k]))
    return forests


def scores(p: np.ndarray, y: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Means over the classes, known entries only."""
    classes = [(p[known[:, k], k], y[known[:, k], k]) for k in range(y.shape[1])]
    f1 = lambda average: statistics.mean(f1_score(y, p >= 0.5, average=average, zero_division=0) for p, y in classes)
    return {
        "map": statistics.mean(average_precision_score(y, p) for p, y in classes),
        "f1_pn": f1("macro"),
        "f1_pos": f1("binary"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--val-fraction", type=float, default=0.15)
    args = parser.parse_args()
    x, y, known, train, test = load(args.dataset)
    per_seed, fit_s, predict_s = [], 0.0, 0.0
    for seed in range(args.seeds):
        held_out = round(args.val_fraction * len(train))
        clips = np.random.default_rng(seed).permutation(train)[held_out:]
        start = time.perf_counter()
        forests = fit(x, y, known, clips, seed)
        fitted = time.perf_counter()
        p = np.stack([forest.predict_proba(x[test])[:, 1] for forest in forests], 1)
        fit_s, predict_s = fit_s + fitted - start, predict_s + time.perf_counter() - fitted
        per_seed.append({"seed": seed, **scores(p, y[test], known[test])})
    over = lambda f: {name: f([s[name] for s in per_seed]) for name in ("map", "f1_pn", "f1_pos")}
    print(
        json.dumps(
            {
                "peer": f"scikit-learn {sklearn.__version__}",
                "trees": TREES,
                "max_depth": DEPTH,
                "threads": os.cpu_count(),
                "mean": over(statistics.mean),
                "std": over(statistics.stdev) if len(per_seed) > 1 else None,
                "fit_s": round(fit_s, 2),
                "predict_s": round(predict_s, 2),
                "per_seed": per_seed,
            }
        )
    )


if __name__ == "__main__":
    main()
