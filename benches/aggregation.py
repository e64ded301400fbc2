"""How recordings of 10 s to 30 min are best summarised from the probabilities of their excerpts.

    wmic predict RUN openmic-audioset/ --format csv > predictions.csv
    python benches/aggregation.py predictions.csv openmic-audioset/

Recordings are made up from the predictions for known test clips: of a class that plays, a tenth to all of the excerpts are clips with
it, the others clips without it. Prints F1 at 0.5, average precision, and the fractions found of recordings with and without the class.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

REPEATS = 60
EXCERPTS = [1, 2, 6, 20, 60, 180]
METHODS = {
    "max": lambda p: p.max(),
    "mean": lambda p: p.mean(),
    "top 3": lambda p: np.sort(p)[-3:].mean(),
    "top 10 %": lambda p: np.sort(p)[-int(np.ceil(len(p) * 0.1)):].mean(),
    "noisy-or": lambda p: 1 - np.prod(1 - p),
    **{f"power {q}": lambda p, q=q: (p**q).mean() ** (1 / q) for q in (2, 3, 4, 5, 8)},
}


def load(predictions: str, dataset: Path):
    """(clips, K): probabilities, labels, and which labels are known, of the test split."""
    data = np.load(dataset / "openmic-2018.npz", allow_pickle=True)
    row = {str(key): i for i, key in enumerate(data["sample_key"])}
    classes = json.loads((dataset / "class-map.json").read_text())
    p = np.full((len(row), len(classes)), np.nan)
    with open(predictions, newline="") as file:
        for r in csv.DictReader(file):
            p[row[r["file"]], classes[r["instrument"]]] = float(r["probability"])
    test = set((dataset / "partitions/split01_test.csv").read_text().split())
    chosen = np.array([key in test for key in row]) & ~np.isnan(p[:, 0])
    return p[chosen], (data["Y_true"] >= 0.5)[chosen], data["Y_mask"][chosen].astype(bool)


def recording(rng, present: bool, with_it, without, n: int):
    count = max(1, round(rng.uniform(0.1, 1) * n)) if present else 0
    return np.concatenate([rng.choice(with_it, count), rng.choice(without, n - count)])


def figures(p, present) -> str:
    found = p >= 0.5
    f1 = 2 * (found & present).sum() / max(1, found.sum() + present.sum())
    ranked = present[np.argsort(-p)]
    precision = (np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean()
    return f"{f1:.3f} {precision:.3f} {found[present].mean():.2f} {found[~present].mean():.3f}"


def main():
    p, labels, known = load(sys.argv[1], Path(sys.argv[2]))
    rng = np.random.default_rng(0)
    table = {name: [] for name in METHODS}
    for n in EXCERPTS:
        recordings, present = [], []
        for k in range(p.shape[1]):
            with_it, without = (p[known[:, k] & (labels[:, k] == label), k] for label in (True, False))
            for label in [True, False] * REPEATS:
                recordings.append(recording(rng, label, with_it, without, n))
                present.append(label)
        for name, method in METHODS.items():
            table[name].append(figures(np.array([method(r) for r in recordings]), np.array(present)))
    print("excerpts".ljust(10), *(str(n).ljust(23) for n in EXCERPTS))
    print("".ljust(10), *["F1    AP    found false ".ljust(23)] * len(EXCERPTS))
    for name, cells in table.items():
        print(name.ljust(10), *(cell.ljust(23) for cell in cells))


main()
