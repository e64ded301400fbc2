"""Mixup, concatenation and SpecAugment in plain Python: loops over lists, and random draws as Philox is defined."""

import math

import torch
from torch import Tensor

from formula import philox, uniform

CLIPS, INSTANCES, BANDS, CLASSES = 11, 4, 6, 9
CLOCK = [7, 9, 12, 0]  # seed low, seed high, step
POSITIONS = 3
# Valid instances; the last clip is padding, as its partner is.
LENGTHS, LENGTHS2 = [4, 2, 4, 1, 3, 4, 2, 4, 3, 1, 0], [4, 4, 1, 2, 3, 2, 2, 4, 1, 4, 0]
MIXUP_STREAM, CONCAT_STREAM, SPEC_STREAM = 0x313F, 0xC0CA7, 0x5BEC
FRAMES = 6  # of an instance, for SpecAugment
FREQ_MASK, TIME_MASK, LEVEL_SHIFT = 3, 10, 0.5


def weight(clip: int, alpha: float) -> float:
    """lambda, by Student's t with 2 alpha degrees of freedom."""
    first, second, *_ = philox([clip, 0, CLOCK[2], MIXUP_STREAM], CLOCK[:2])
    u = 1 - ((first >> 9) + 0.5) / 2**23
    t = math.sqrt(2 * alpha * (u ** (-1 / alpha) - 1)) * math.cos(2 * math.pi * (second % 2**19) / 2**19)
    return (1 + t / math.sqrt(2 * alpha + t * t)) / 2


def is_joined(clip: int, probability: float) -> bool:
    return philox([clip, 0, CLOCK[2], CONCAT_STREAM], CLOCK[:2])[0] / 2**32 < probability


def labels(of_partner: bool) -> tuple[list, list]:
    """(target, observed): class k of every clip has one of the nine pairs of absent, unknown, present, beginning at
    k."""
    target, observed = [], []
    for clip in range(CLIPS):
        pairs = [(clip + k) % 9 for k in range(CLASSES)]
        codes = [pair // 3 if of_partner else pair % 3 for pair in pairs]
        target.append([float(code == 2) for code in codes])
        observed.append([float(code != 1) for code in codes])
    return target, observed


def mix(x, x2, t, o, t2, o2, weights):
    y, targets, known = [], [], []
    for b, w in enumerate(weights):
        y.append([])
        for i in range(INSTANCES):
            one = x[b][i] if i < LENGTHS[b] else [0.0] * BANDS
            other = x2[b][i] if i < LENGTHS2[b] else [0.0] * BANDS
            y[b].append([w * v + (1 - w) * v2 for v, v2 in zip(one, other)])
        targets.append([0.0] * CLASSES)
        known.append([0.0] * CLASSES)
        for k in range(CLASSES):
            if o[b][k] and o2[b][k]:
                targets[b][k], known[b][k] = w * t[b][k] + (1 - w) * t2[b][k], 1.0
            elif o[b][k] and w > 0.5:
                targets[b][k], known[b][k] = t[b][k], 1.0
            elif o2[b][k] and w < 0.5:
                targets[b][k], known[b][k] = t2[b][k], 1.0
    lengths = [POSITIONS * max(n, n2) for n, n2 in zip(LENGTHS, LENGTHS2)]
    return {"y": y, "lengths": lengths, "target": targets, "observed": known}


def join(x, x2, t, o, t2, o2, probability: float):
    y, lengths, targets, known = [], [], [], []
    for b in range(CLIPS):
        rows = x[b][: LENGTHS[b]]
        targets.append([v if seen else 0.0 for v, seen in zip(t[b], o[b])])
        known.append(list(o[b]))
        if is_joined(b, probability) and LENGTHS2[b] > 0:
            rows = rows + x2[b][: LENGTHS2[b]]
            for k in range(CLASSES):
                present = o[b][k] and t[b][k] or o2[b][k] and t2[b][k]
                absent = o[b][k] and o2[b][k] and not present
                targets[b][k], known[b][k] = float(bool(present)), float(bool(present or absent))
        lengths.append(POSITIONS * len(rows))
        y.append(rows + [[0.0] * BANDS] * (2 * INSTANCES - len(rows)))
    return {"y": y, "lengths": lengths, "target": targets, "observed": known}


def masked(x: list) -> list:
    """SpecAugment of clips x (B, T, F) with bands and frames of their mean, and another level."""
    out = []
    for b, clip in enumerate(x):
        valid = LENGTHS[b] * FRAMES
        wide, band, long, step = philox([b, 0, CLOCK[2], SPEC_STREAM], CLOCK[:2])
        level = ((philox([b, 1, CLOCK[2], SPEC_STREAM], CLOCK[:2])[0] >> 9) + 0.5) / 2**23
        wide, long = min(wide % (FREQ_MASK + 1), BANDS), min(long % (TIME_MASK + 1), valid)
        band, step = band % (BANDS - wide + 1), step % (valid - long + 1)
        rows = [list(row) for row in clip]
        mean = sum(sum(row) for row in rows[:valid]) / max(valid * BANDS, 1)
        for t in range(valid):
            for f in range(BANDS):
                hidden = band <= f < band + wide or step <= t < step + long
                rows[t][f] = (mean if hidden else rows[t][f]) + LEVEL_SHIFT * (2 * level - 1)
        out.append(rows)
    return out


def augment() -> dict[str, Tensor]:
    """All tensors of `augment.safetensors`."""
    x, x2 = (uniform((CLIPS, INSTANCES, BANDS), salt).tolist() for salt in (70, 71))
    (t, o), (t2, o2) = labels(False), labels(True)
    out = {"x": x, "x2": x2, "target": t, "observed": o, "target2": t2, "observed2": o2}
    out |= {"lengths": [POSITIONS * n for n in LENGTHS], "lengths2": [POSITIONS * n for n in LENGTHS2], "clock": CLOCK}
    for name, alpha in {"mixup": 0.2, "mixup_uniform": 1.0}.items():
        weights = [weight(clip, alpha) for clip in range(CLIPS)]
        # Padding has weight 0.
        weights[-1] = 0.0
        out |= {f"{name}.lambda": weights}
        out |= {f"{name}.{key}": value for key, value in mix(x, x2, t, o, t2, o2, weights).items()}
    for name, probability in {"concat": 1.0, "concat_half": 0.5}.items():
        out |= {f"{name}.{key}": value for key, value in join(x, x2, t, o, t2, o2, probability).items()}
    frames = uniform((CLIPS, INSTANCES * FRAMES, BANDS), 72).tolist()
    out |= {"spec_augment.x": frames, "spec_augment.y": masked(frames)}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in out.items()}
