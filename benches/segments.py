"""Which levels of activity, minimum duration and median filter find the times of instruments best.

    wmic predict RUN openmic-gm/audio --format jsonl --attention > predictions.jsonl
    python benches/segments.py predictions.jsonl openmic-gm/ KEYS.txt

Prints precision, recall and F1 of frames of 1 s over all recordings of the keys, and of the test clips, and instruments:
first if it were known which instruments play, by which settings are chosen, one after the other; then as answered.
KEYS.txt: clips whose times the model was not trained on.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

BRIDGED = 0.5
LEVELS = [(low / 10, high / 10) for low in range(2, 8) for high in (low, low + 2)]
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
                activity = np.array(i["activity"])
                self.cases.append((activity, i["present"], i["threshold"], r["cell"], r["duration"], true))

    def known(self):
        """The same, with the truth for what is present."""
        known = Clips.__new__(Clips)
        known.cases = [(a, true.any(), *rest, true) for a, _, *rest, true in self.cases]
        return known

    def counts(self, of):
        total, without = np.zeros(3), 0
        for activity, present, threshold, cell, duration, true in self.cases:
            if not present:
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
    """Activity compared with the decision threshold, without a main segment."""
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
        times = float(row["start_s"]), float(row["end_s"])
        truth.setdefault((row["sample_key"], row["instrument"]), []).append(times)
    keys = [set(Path(p).read_text().split()) for p in (sys.argv[3], dataset / "partitions/split01_test.csv")]
    validation, test = (Clips(sys.argv[1], truth, k) for k in keys)
    known, best = validation.known(), ((0.4, 0.6), 0.3, 0.0)
    for at, tried in enumerate((LEVELS, DURATIONS, MEDIANS)):
        settings = [best[:at] + (value,) + best[at + 1 :] for value in tried]
        figures = [known.counts(relative(*s)) for s in settings]
        for s, f in zip(settings, figures):
            line(f"known: levels, duration, median {s}", f)
        best = max(zip(figures, settings))[1]
    for name, clips in (("known, test", test.known()), ("answered, test", test)):
        line(f"{name}: by the decision threshold", clips.counts(by_threshold))
        for s in {best, ((0.4, 0.6), 0.3, 0.0)}:
            line(f"{name}: {s}", clips.counts(relative(*s)))


main()
