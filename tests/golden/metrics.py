"""Masked per-class metrics by scikit-learn on probabilities with ties and exact 0.5."""

import numpy as np
from sklearn import metrics as sk

from formula import frac

CLIPS, CLASSES, THRESHOLD = 60, 5, 0.5
ONLY_NEGATIVE, ONLY_POSITIVE, UNOBSERVED = 2, 3, 4


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities in sixteenths (exact, with many ties), labels correlated with them, and the mask."""
    shape = (CLIPS, CLASSES)
    p = np.floor(frac(shape, 70) * 17) / 16
    y = (frac(shape, 71) < 0.2 + 0.6 * p).astype(int)
    mask = (frac(shape, 72) < 0.6).astype(int)
    y[:, ONLY_NEGATIVE], y[:, ONLY_POSITIVE], mask[:, UNOBSERVED] = 0, 1, 0
    assert (p == THRESHOLD).any() and (p == 0).any() and (p == 1).any()
    return p, y, mask


def of_class(p: np.ndarray, y: np.ndarray) -> dict:
    """All metrics of one class on its observed entries; undefined ones are None."""
    if len(y) == 0:
        return dict.fromkeys(["f1_pn", "f1_pos", "precision", "recall", "ap", "auc"]) | dict.fromkeys(
            ["tp", "fp", "fn", "tn"], 0)
    predicted = (p >= THRESHOLD).astype(int)
    macro = sk.precision_recall_fscore_support(y, predicted, labels=[0, 1], average="macro", zero_division=0)
    tn, fp, fn, tp = sk.confusion_matrix(y, predicted, labels=[0, 1]).ravel().tolist()
    return {
        "f1_pn": float(macro[2]),
        "f1_pos": float(sk.f1_score(y, predicted, zero_division=0)),
        "precision": float(macro[0]),
        "recall": float(macro[1]),
        "ap": float(sk.average_precision_score(y, p)) if y.any() else None,
        "auc": float(sk.roc_auc_score(y, p)) if 0 < y.sum() < len(y) else None,
        "tp": tp, "fp": fp, "fn": fn, "tn": tn,
    }


def metrics() -> dict:
    """The content of `metrics.json`."""
    p, y, mask = case()
    per_class = [of_class(p[mask[:, k] == 1, k], y[mask[:, k] == 1, k]) for k in range(CLASSES)]
    mean = {}
    for name in ["f1_pn", "f1_pos", "precision", "recall", "ap", "auc"]:
        defined = [c[name] for c in per_class if c[name] is not None]
        mean[name] = float(np.mean(defined))
    observed = mask == 1
    micro = float(sk.f1_score(y[observed], p[observed] >= THRESHOLD))
    return {"p": p.tolist(), "y": y.tolist(), "mask": mask.tolist(),
            "per_class": per_class, "mean": mean, "f1_micro": micro}
