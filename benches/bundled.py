"""How well the bundled model, its parts, or any other models recognise sound that they were not trained on.

    python benches/bundled.py WMIC DATA OUT [MODEL ...]        needs numpy and soundfile

DATA and OUT are those of scripts/train-bundled. A MODEL is a run or a file of `wmic bundle`; several joined by + answer
together. Without one: the bundled model. Prints as JSON lines, for each model:
- mixtures of held-out notes that did not calibrate it, and the test clips of openmic-gm: mean AP and AUC over the
  classes, expected calibration error, precision and recall of what is named, F1 of frames of 1 s
- single notes of orchestra that were not in training: how often the right instrument has the highest probability
- solos of 18 instruments, phrases or held-out notes in a row: what is first, and what is named
- silence, noises and hum: what is named
"""

import csv
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile as sf

SR = 16_000
# Folders of orchestra, and the classes that they belong to.
ORCHESTRA = {
    **{name: name for name in ("banjo", "cello", "clarinet", "flute", "guitar", "mandolin", "saxophone", "trombone")},
    "double-bass": "bass",
}
SOLO = 15 * SR


def recognise(wmic, model, files):
    command = [wmic, "predict", *model, "--files-from", "-", "--format", "jsonl"]
    lines = subprocess.run(
        command, input="\n".join(map(str, files)), capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return {Path(r["file"]).name: r for r in map(json.loads, lines)}


def values(answer, key, classes):
    of = {i["name"]: i[key] for i in answer["instruments"]}
    return [of[c] for c in classes]


def ap(p, y):
    y = y[np.argsort(-p, kind="stable")]
    return (np.cumsum(y) / np.arange(1, len(y) + 1))[y].mean()


def auc(p, y):
    ranks = np.array([(p < v).sum() + ((p == v).sum() + 1) / 2 for v in p[y]])
    n, m = y.sum(), (~y).sum()
    return (ranks.sum() - n * (n + 1) / 2) / (n * m)


def frames(intervals, seconds):
    at = np.arange(int(np.ceil(seconds)))
    covered = np.zeros(len(at))
    for start, end in intervals:
        covered += np.clip(np.minimum(end, at + 1) - np.maximum(start, at), 0, None)
    return covered >= 0.5


def clips(folder, keys):
    by_key = {p.stem: p for p in (folder / "audio").rglob("*.*")}
    return [by_key[k] for k in keys]


def judge(wmic, model, folder):
    """Scores on the test split of a dataset with times."""
    keys = (folder / "partitions/split01_test.csv").read_text().split()
    times = defaultdict(lambda: defaultdict(list))
    for r in csv.DictReader(open(folder / "activity.csv")):
        times[r["sample_key"]][r["instrument"]].append((float(r["start_s"]), float(r["end_s"])))
    classes = sorted(json.loads((folder / "class-map.json").read_text()))
    answers = recognise(wmic, model, clips(folder, keys))
    answers = {Path(name).stem: a for name, a in answers.items()}
    p = np.array([values(answers[k], "probability", classes) for k in keys])
    y = np.array([[c in times[k] for c in classes] for k in keys])
    named = np.array([values(answers[k], "present", classes) for k in keys])
    hit = miss = extra = 0
    for k in keys:
        for i in answers[k]["instruments"]:
            seconds = answers[k]["duration"]
            true = frames(times[k].get(i["name"], []), seconds)
            found = frames([(s["start"], s["end"]) for s in i["segments"]], seconds)
            hit, miss, extra = hit + (true & found).sum(), miss + (true & ~found).sum(), extra + (found & ~true).sum()
    aps = {c: ap(p[:, i], y[:, i]) for i, c in enumerate(classes) if y[:, i].any()}
    bins = np.minimum((p * 10).astype(int), 9)
    ece = sum(abs(p[bins == b].sum() - y[bins == b].sum()) for b in range(10)) / p.size
    at = {
        level: [round(float((y & on).sum() / max(of.sum(), 1)), 3) for of in (on, y)]
        for level, on in [("named", named), *((t, p >= t) for t in (0.4, 0.5, 0.6, 0.7))]
    }
    return {
        "clips": len(keys),
        "mAP": round(float(np.mean(list(aps.values()))), 3),
        "AUC": round(float(np.mean([auc(p[:, i], y[:, i]) for i in range(len(classes)) if y[:, i].any()])), 3),
        "top-1": round(float(np.mean(y[np.arange(len(p)), p.argmax(1)])), 3),
        "ECE": round(float(ece), 3),
        "precision and recall": at,
        "frame F1": round(float(2 * hit / max(2 * hit + miss + extra, 1)), 3),
        "AP": {c: round(float(v), 2) for c, v in aps.items()},
    }


def trained_on(data, out):
    """Names without suffix of Philharmonia's notes in training, and all held-out notes by class."""
    split = {r["file"]: r["split"] for r in csv.DictReader(open(out / "mix/notes.csv"))}
    manifest = list(csv.DictReader(open(data / "notes/manifest.csv")))
    used = {Path(r["original"]).stem for r in manifest if split.get(r["file"]) == "train"}
    held = defaultdict(list)
    for file, part in split.items():
        if part == "test":
            held[file.split("/")[0]].append(data / "notes" / file)
    return used, held


def solo(files, target):
    """15 s of recordings in a row."""
    sound, n = np.zeros(0), 0
    while len(sound) < SOLO:
        x, sr = sf.read(files[n % len(files)])
        x = x if x.ndim == 1 else x.mean(1)
        x = np.interp(np.arange(int(len(x) * SR / sr)) * sr / SR, np.arange(len(x)), x)
        sound, n = np.concatenate([sound, x * 0.3 / max(abs(x).max(), 1e-9)]), n + 1
    sf.write(target, sound[:SOLO], SR)
    return target


def noises(folder):
    rng = np.random.default_rng(0)
    n = SOLO
    white = rng.standard_normal(n)
    spectrum, f = np.fft.rfft(white), np.maximum(np.fft.rfftfreq(n, 1 / SR), 20)
    t = np.arange(n) / SR
    of_slope = lambda k: np.fft.irfft(spectrum / f ** (k / 2), n)
    clicks = (rng.random(n) < 2e-4) * rng.standard_normal(n)
    kinds = {
        "silence": np.zeros(n),
        "white": white,
        "pink": of_slope(1),
        "brown": of_slope(2),
        "hum": sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 8)),
        "clicks": clicks,
        "speech-shaped": of_slope(1.5) * (1 + np.sin(2 * np.pi * 4 * t)),
        "wind": of_slope(2) * (1.2 + np.sin(2 * np.pi * 0.3 * t)),
    }
    for name, x in kinds.items():
        sf.write(folder / f"{name}.wav", 0.2 * x / max(abs(x).max(), 1e-9), SR)
    return [folder / f"{name}.wav" for name in kinds]


def first(answer):
    return max(answer["instruments"], key=lambda i: i["probability"])


def main():
    wmic, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    used, held = trained_on(data, out)
    files = lambda name: sorted((data / "orchestra" / name).iterdir())
    notes = {name: [p for p in files(name) if p.stem not in used] for name in ORCHESTRA}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        solos = {}
        for name, c in ORCHESTRA.items():
            phrases = [p for p in notes[name] if "_phrase_" in p.name]
            solos[solo(phrases or notes[name], folder / f"solo-{name}.wav")] = c
        for c in ("piano", "violin", "trumpet", "organ", "accordion", "ukulele", "mallet_percussion", "drums", "voice"):
            solos[solo(held[c], folder / f"solo-{c}.wav")] = c
        noise = noises(folder)
        for model in [m.split("+") for m in sys.argv[4:]] or [[]]:
            scores = {"model": "+".join(model) or "bundled"}
            scores["mixtures"] = judge(wmic, model, out / "judge")
            scores["openmic-gm"] = judge(wmic, model, data / "openmic-gm")
            answers = recognise(wmic, model, [p for of in notes.values() for p in of])
            is_right = lambda p, c: first(answers[p.name])["name"] == c
            right = {n: [is_right(p, ORCHESTRA[n]) for p in of if p.name in answers] for n, of in notes.items()}
            scores["single notes"] = {
                "notes": sum(map(len, right.values())),
                "top-1": round(float(np.mean(sum(right.values(), []))), 3),
                "by class": {n: f"{sum(of)}/{len(of)}" for n, of in right.items()},
            }
            answers = recognise(wmic, model, [*solos, *noise])
            named = lambda a: [f"{i['name']} {i['probability']:.2f}" for i in a["instruments"] if i["present"]]
            of_solo = {c: (first(answers[p.name])["name"], named(answers[p.name])) for p, c in solos.items()}
            first_right = sum(c == f for c, (f, _) in of_solo.items())
            scores["solos"] = {"first right": first_right, "of": len(of_solo), **of_solo}
            scores["noises"] = {p.stem: named(answers[p.name]) for p in noise}
            print(json.dumps(scores), flush=True)


main()
