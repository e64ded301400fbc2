"""Training and evaluation."""

import dataclasses
import json
import operator
import os
import warnings
from typing import Any, Dict, List, Optional

from . import _native
from ._model import load
from ._options import text_of
from ._progress import reported


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its directory, for `load` and the command `wmic`; `report.html` in it shows it.
        evaluation: its scores on the test split, the content of `test.json`: `mean` and `std` over the seeds, `seeds`,
            `ensemble`, `classes`.
    """

    path: str
    evaluation: Dict[str, Any] = dataclasses.field(repr=False)

    def load(self, device=None, **options):
        """The trained Model, see `wmic.load`."""
        return load(self.path, device, **options)


def train(
    dataset=None,
    model=None,
    seeds=None,
    *,
    out=None,
    force=False,
    config=None,
    resume=None,
    device=None,
    progress=None,
    **options,
):
    """Trains a recogniser, several seeds side by side, evaluates it on the test split and writes a run directory.

    Args:
        dataset: a folder in OpenMIC-2018's layout with features or audio, recordings with labels.csv or annotation
            files, or a folder of audio files per class.
        model: architecture, "att" by default.
        seeds: their number, from 0 on, or a sequence of the seeds themselves.
        out: directory to write, by default runs/MODEL-DATASET.
        force: whether a run in `out` is replaced.
        config: a TOML file of settings, with the keys of a run's run.toml; `options` take precedence.
        resume: directory of an interrupted run to continue; the result is bit-identical to an uninterrupted one.
        device, progress: see `load` and the module.
        options: settings of the training, as those of `wmic train` with underscores: `epochs=50, lr=1e-3`.
            `options()` lists them.

    Returns:
        A Run.

    Raises:
        ValueError, OSError: for a dataset or options that cannot be used, and a diverged training.
        KeyboardInterrupt: the state is saved; `resume` continues.
    """
    given = {
        "dataset": dataset,
        "model": model,
        "seeds": _seeds(seeds),
        "config": config,
        "out": out,
        "force": force,
        "resume": resume,
        "device": None if device is None else str(device),
        "options": options,
    }
    with reported(progress) as report:
        return Run(**json.loads(_native.train(text_of(given), report)))


def _seeds(seeds):
    if seeds is None:
        return None
    try:
        return list(range(operator.index(seeds)))
    except TypeError:
        return [operator.index(seed) for seed in seeds]


def evaluate(
    run,
    dataset,
    split="test",
    *,
    threshold=None,
    arithmetic=None,
    force=False,
    features=None,
    feature_scale=None,
    frontend_weights=None,
    device=None,
    progress=None,
):
    """Evaluates a run on a split of a dataset: every seed, their ensemble, each class.

    Args:
        run: a run directory, or a Run.
        dataset: with the classes that the run was trained on.
        split: "test"; "val" or "train", each seed's own; or "all" clips.
        threshold, arithmetic: as for `load`.
        force: score clips even if the run may have been trained on them.
        features: an .npz archive in place of the dataset's own features.
        feature_scale, frontend_weights: as for `Model.predict_features` and `load`.
        device, progress: see `load` and the module.

    Returns:
        A dict, as `Run.evaluation`.
    """
    given = {
        "run": run.path if isinstance(run, Run) else run,
        "dataset": dataset,
        "features": features,
        "feature_scale": feature_scale,
        "frontend_weights": frontend_weights,
        "split": split,
        "threshold": threshold,
        "arithmetic": arithmetic,
        "force": force,
        "device": None if device is None else str(device),
    }
    with reported(progress) as report:
        evaluated = json.loads(_native.evaluate(text_of(given), report))
    for note in evaluated["notes"]:
        warnings.warn(note.replace("warning: ", ""), stacklevel=2)
    return evaluated["evaluation"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Finished runs of an experiment.

    Attributes:
        path: their directory, with a run for each entry and a report.
        comparison: scores, spreads and significance, the content of `compare.json`; None if less than two entries are
            left.
        skipped: entries that cannot be trained, and why, a line each.
    """

    path: str
    comparison: Optional[Dict[str, Any]] = dataclasses.field(repr=False)
    skipped: List[str]


def _comparison(experiment, dataset, seeds, out, force, device, options):
    """The arguments of the native functions on comparisons."""
    return text_of(
        {
            "experiment": experiment,
            "dataset": os.path.abspath(dataset),
            "seeds": _seeds(seeds),
            "out": None if out is None else os.path.abspath(out),
            "force": force,
            "device": None if device is None else str(device),
            "options": options,
        }
    )


def compare(experiment, dataset, *, seeds=None, out=None, force=False, device=None, progress=None, **options):
    """Trains every model of an experiment with its own protocol, and compares them. Called again with the same
    arguments after an interruption, it goes on.

    Args:
        experiment: "ismir19", "partial20", "repr21", "visual20-det", "visual20-sto" or "aacnn21"; or a TOML file.
        dataset, seeds, force, device, progress, options: see `train`; options replace those of the entries.
        out: directory to write, by default runs/compare-EXPERIMENT-DATASET.

    Returns:
        A Comparison.
    """
    given = _comparison(experiment, dataset, seeds, out, force, device, options)
    with reported(progress) as report:
        return Comparison(**json.loads(_native.compare(given, report)))


def options():
    """The settings of a training that `train` takes by keyword: a list of dicts with `name`, `about`, `default` (text,
    or None) and `group`."""
    return json.loads(_native.options())


def devices():
    """The GPUs (adapters) of this machine: a list of dicts with `index`, `name`, `kind`, `backend`, `driver`, limits in
    bytes, `features`, and whether it is `used` by default.

    Raises:
        DeviceError: if there is none.
    """
    return json.loads(_native.devices())


def check(op=None, device=None, *, progress=None):
    """Checks every kernel, forward and gradient, against its reference, on a GPU.

    Args:
        op: only this op.
        device, progress: see `load` and the module.

    Returns:
        A list of dicts with `op`, `case`, `variant` of the kernels, `forward` and `gradient` (errors as fractions of
        their tolerances), `passed` and `failures` (texts).
    """
    with reported(progress) as report:
        return json.loads(_native.check(op, None if device is None else str(device), report))
