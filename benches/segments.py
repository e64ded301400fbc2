"""Which levels of activity, minimum duration and median filter find the times of instruments best.

    wmic predict RUN openmic-gm/audio --format jsonl --attention > predictions.jsonl
    python benches/segments.py predictions.jsonl openmic-gm/ VALIDATION-KEYS.txt

Prints precision, recall and F1 of frames of 1 s, over all recordings and instruments: of settings on the validation clips, and of
the best ones on the test clips, beside segments by the decision threshold itself.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

BRIDGED = 0.5
LEVELS = [(0.2, 0.4), (0.3, 0.5), (0.4, 0.4), (0.4, 0.6), (0.5, 0.5), (0.5, 0.7), (0.6, 0.6), (0.6, 0.8), (0.7, 0.7), (0.7, 0.9)]
DURATIONS = [0.0, 0.3, 1.0, 2.0, 3.0]
MEDIANS = [0.0, 3.0, 5.0]


def runs(on):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(int), [0]])))
    return list(zip(edges[::2], edges[1::2]))


def segments(a, cell, low, high, shortest, keep_main):
    found = []
    for first, end in runs(a >= low):
        if a[first:end].max() < high:
            continue
        if found and (first - found[-1][1]) * cell < BRIDGED:
            found[-1] = (found[-1][0], end)
        else:
            found.append((first, end))
    main = max(found, key=lambda s: a[s[0] : s[1]].sum(), default=None)
    return [s for s in found if (s[1] - s[0]) * cell >= shortest or keep_main and s == main]


def filtered(a, half):
    return a if half == 0 else np.array([np.median(a[max(0, i - half) : i + half + 1]) for i in range(len(a))])


def frames(intervals, duration):
    at = np.arange(int(np.ceil(duration)))
    covered = np.zeros(len(at))
    for start, end in intervals:
        covered += np.clip(np.minimum(min(end, duration), at + 1) - np.maximum(start, at), 0, None)
    return covered >= np.minimum(1, duration - at) / 2 - 1e-9


class Clips:
    def __init__(self, path, truth, keys):
        self.cases = []
        for line in open(path):
            r = json.loads(line)
            key = Path(r["file"]).stem
            for i in r["instruments"] if key in keys else []:
                true = frames(truth.get((key, i["name"]), []), r["duration"])
                self.cases.append((np.array(i["activity"]), i["present"], i["threshold"], r["cell"], r["duration"], true))

    def counts(self, of):
        total, without = np.zeros(3), 0
        for activity, present, threshold, cell, duration, true in self.cases:
            if not present and activity.max() < threshold:
                total[2] += true.sum()
                continue
            found = of(activity, present, threshold, cell)
            without += present and not found
            on = frames([(a * cell, min(b * cell, duration)) for a, b in found], duration)
            total += [(on & true).sum(), (on & ~true).sum(), (~on & true).sum()]
        tp, fp, fn = total
        p, r = tp / max(1, tp + fp), tp / max(1, tp + fn)
        return 2 * tp / max(1, 2 * tp + fp + fn), p, r, without


def by_threshold(a, present, threshold, cell):
    return segments(a, cell, threshold, threshold, 0.3, False)


def relative(levels, shortest, median):
    low, high = levels

    def of(a, present, threshold, cell):
        if not present:
            return []
        b = filtered(a, int(median / cell / 2))
        b = b if b.max() > 0 else a
        return segments(b, cell, low * b.max(), high * b.max(), shortest, True)

    return of


def line(name, figures):
    f1, p, r, without = figures
    print(f"{name:48s} F1 {f1:.3f}  precision {p:.3f}  recall {r:.3f}  present without a segment {without}")


def main():
    dataset = Path(sys.argv[2])
    truth = {}
    for row in csv.DictReader(open(dataset / "activity.csv")):
        truth.setdefault((row["sample_key"], row["instrument"]), []).append((float(row["start_s"]), float(row["end_s"])))
    keys = [set(Path(p).read_text().split()) for p in (sys.argv[3], dataset / "partitions/split01_test.csv")]
    validation, test = (Clips(sys.argv[1], truth, k) for k in keys)
    best = ((0.4, 0.6), 0.3, 0.0)
    # One setting after the other.
    for tried in (LEVELS, DURATIONS, MEDIANS):
        at = (LEVELS, DURATIONS, MEDIANS).index(tried)
        settings = [best[:at] + (value,) + best[at + 1 :] for value in tried]
        figures = [validation.counts(relative(*s)) for s in settings]
        for s, f in zip(settings, figures):
            line(f"validation: levels, duration, median {s}", f)
        best = max(zip(figures, settings))[1]
    line("test, by the decision threshold", test.counts(by_threshold))
    line(f"test: levels, duration, median {best}", test.counts(relative(*best)))


main()
