"""Paired tests: Student's t by scipy, and a bootstrap over clips by numpy, whose scores scikit-learn confirms."""

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from formula import frac

RUNS, SEEDS, CLIPS, CLASSES, LEVELS = 2, 2, 80, 4, 16
ONLY_NEGATIVE = 3
RESAMPLES, SHOWN = 20_000, 3
CHANCES = [0.025, 0.975]


def t_test(a: np.ndarray) -> dict:
    """Of one sample of differences."""
    result = stats.ttest_1samp(a, 0.0)
    interval = result.confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    return {"differences": a.tolist(), "low": low, "high": high, "p": float(result.pvalue)}


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (runs, seeds, clips, classes) in sixteenths, those of the second run less correlated with the
    labels, labels and mask."""
    y = (frac((CLIPS, CLASSES), 80) < 0.4).astype(int)
    y[:, ONLY_NEGATIVE] = 0
    mask = (frac((CLIPS, CLASSES), 81) < 0.6).astype(int)
    noise = frac((RUNS, SEEDS, CLIPS, CLASSES), 82)
    lean = np.array([0.35, 0.2])[:, None, None, None]
    return np.floor(LEVELS * (lean * y + (1 - lean) * noise)) / LEVELS, y, mask


def scores(p: np.ndarray, y: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """F1 and average precision of one class, for each row of times (resamples, clips); NaN where not defined."""
    at = np.round(p * LEVELS)[:, None] == np.arange(LEVELS, -1, -1)  # (clips, levels), the highest first
    hits, all_ = times @ (at & (y == 1)[:, None]), times @ at
    tp, n = np.cumsum(hits, axis=1), np.cumsum(all_, axis=1)
    positives, total = tp[:, -1], n[:, -1]
    ratio = lambda a, b: np.divide(a, b, out=np.zeros(len(a)), where=b > 0)
    tp5, n5 = tp[:, LEVELS // 2], n[:, LEVELS // 2]  # probability >= 0.5
    present = ratio(2 * tp5, n5 + positives)
    tn, predicted_absent, absent = total - n5 - (positives - tp5), total - n5, total - positives
    absent_f1 = ratio(2 * tn, predicted_absent + absent)
    area = np.divide(hits * tp, n, out=np.zeros(n.shape), where=n > 0).sum(axis=1)
    nan = lambda v, where: np.where(where, v, np.nan)
    return {"f1_pn": nan((present + absent_f1) / 2, total > 0), "f1_pos": nan(present, total > 0),
            "map": nan(ratio(area, positives), positives > 0)}


def significance() -> dict:
    """The content of `significance.json`."""
    p, y, mask = case()
    drawn = np.random.default_rng(0).integers(0, CLIPS, (RESAMPLES, CLIPS))
    times = np.zeros((RESAMPLES, CLIPS))
    np.add.at(times, (np.arange(RESAMPLES)[:, None], drawn), 1)
    times[0] = 1  # the clips as they are

    of_class = lambda r, s, k: scores(p[r, s, mask[:, k] == 1, k], y[mask[:, k] == 1, k], times[:, mask[:, k] == 1])
    each = [[[of_class(r, s, k) for k in range(CLASSES)] for s in range(SEEDS)] for r in range(RUNS)]
    for s, k in [(0, 0), (1, 1), (0, 2)]:  # equal to scikit-learn's
        seen = mask[:, k] == 1
        for i in range(20):
            weight, got = times[i, seen], {name: v[i] for name, v in each[1][s][k].items()}
            truth, said = y[seen, k], p[1, s, seen, k]
            macro = sk.f1_score(truth, said >= 0.5, average="macro", sample_weight=weight)
            assert np.isclose(got["f1_pn"], macro, atol=1e-12)
            assert np.isclose(got["map"], sk.average_precision_score(truth, said, sample_weight=weight), atol=1e-12)
    over = lambda name, r: np.mean([np.nanmean([c[name] for c in seed], axis=0) for seed in each[r]], axis=0)
    bootstrap = {}
    for name in ["f1_pn", "f1_pos", "map"]:
        a, b = over(name, 0), over(name, 1)
        low, high = np.quantile(a[1:] - b[1:], CHANCES).tolist()
        bootstrap[name] = {"low": low, "high": high, "deviation": float((a - b)[1:].std()),
                           "scores": [[float(v[i]) for v in (a, b)] for i in range(SHOWN)]}
    samples = [[0.012, 0.007], [0.01, -0.02, 0.005], (frac((10,), 83) * 0.1 - 0.02).tolist()]
    return {"t": [t_test(np.array(sample)) for sample in samples],
            "p": p.tolist(), "y": y.tolist(), "mask": mask.tolist(),
            "times": times[:SHOWN].astype(int).tolist(), "bootstrap": bootstrap}
