"""Models and their results."""

import dataclasses
import json
import numbers
import os
import tempfile
import warnings
from typing import List, Optional

import numpy as np

from . import _native
from ._options import text_of
from ._progress import reported

_SEGMENT = [("start", "f8"), ("end", "f8"), ("confidence", "f8")]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a model has found in a recording. K is the number of classes.

    Attributes:
        file: the recording, as it was named; "samples" for an array.
        duration: seconds.
        classes: the K instruments, in the model's order.
        probabilities: (K,) float64, that an instrument plays anywhere: mean over the seeds, 0 to 1.
        spread: (K,) float64, sample standard deviation over the seeds; NaN for one seed.
        thresholds: (K,) float64, decision thresholds; NaN for single-label models.
        present: (K,) bool, whether an instrument plays.
        segments: (S,) structured array, when the present ones play, in order of time, with the fields `instrument`
            (str), `start`, `end` (seconds) and `confidence` (mean activity, 0 to 1).
        timeline: (T, K) float32, the activity of each instrument, 0 to 1, a row for every `cell` seconds.
        attention: (T, K) float32, the attention on each row relative to its maximum; None for models without attention.
        cell: seconds from one row of the timeline to the next.
        model: its name.
        seeds: of the models whose predictions were averaged.
        warnings: what is wrong with the recording, a line each.
        distance: from the training clips; above 1 nothing is known of the model's answers. None if it is not known.
        summary: the result in a sentence.
    """

    file: str
    duration: float
    classes: List[str]
    probabilities: np.ndarray
    spread: np.ndarray
    thresholds: np.ndarray
    present: np.ndarray
    segments: np.ndarray
    timeline: np.ndarray
    attention: Optional[np.ndarray]
    cell: float
    model: str
    seeds: List[int]
    warnings: List[str]
    distance: Optional[float]
    summary: str
    _json: str = dataclasses.field(repr=False)
    _jams: str = dataclasses.field(repr=False)

    def to_json(self):
        """The result as one line of JSON, as `wmic predict --format jsonl` writes it."""
        return self._json

    def to_jams(self):
        """The text of a JAMS file, as `wmic predict --format jams` writes it: `jams.load(io.StringIO(text))`."""
        return self._jams

    def to_dataframe(self):
        """A pandas DataFrame: a row per instrument, the most probable first, with its `probability`, `spread`,
        `threshold` and whether it is `present`."""
        import pandas

        columns = {
            "instrument": self.classes,
            "probability": self.probabilities,
            "spread": self.spread,
            "threshold": self.thresholds,
            "present": self.present,
        }
        frame = pandas.DataFrame(columns)
        return frame.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def _result(native):
    k = len(native["classes"])
    for name in ("probabilities", "spread", "thresholds"):
        native[name] = np.frombuffer(native[name], "<f8")
    native["present"] = np.frombuffer(native["present"], bool)
    for name in ("timeline", "attention"):
        if native[name] is not None:
            native[name] = np.frombuffer(native[name], "<f4").reshape(-1, k)
    longest = max(map(len, native["classes"]))
    native["segments"] = np.array(native["segments"], [("instrument", f"U{longest}"), *_SEGMENT])
    native["_json"], native["_jams"] = native.pop("json"), native.pop("jams")
    native["file"] = os.fspath(native["file"])
    return Result(**native)


class Model:
    """Trained models on a GPU, ready for any number of recordings; see `load`.

    Attributes:
        name: of the model, as in results.
        classes: the K instruments that it knows.
        device: the GPU.
    """

    def __init__(self, native):
        self.name, self.classes, self.device = native["name"], native["classes"], native["device"]
        self._native = native

    def __repr__(self):
        return f"<wmic.Model {self.name}: {len(self.classes)} classes, on {self.device}>"

    def predict(self, recordings, *, on_error="raise", progress=None):
        """Recognises recordings of any length.

        Args:
            recordings: a path, for a Result; a sequence of paths, for a list of them in this order; or `(samples, sr)`,
                for a Result: a mono recording as an array (N,) of floats, nominally -1 to 1, at `sr` Hz.
            on_error: what becomes of files that cannot be decoded: "raise" ends the call with the first one's error;
                "skip" warns, and leaves None in the list.
            progress: see the module.

        Raises:
            OSError, ValueError: for a file that does not exist or cannot be decoded, and for invalid samples.
            DeviceError: if the GPU fails; it is not skipped.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be raise or skip, not {on_error!r}")
        if isinstance(recordings, (str, os.PathLike)):
            return self._files([os.fspath(recordings)], "raise", progress)[0]
        if isinstance(recordings, tuple) and len(recordings) == 2 and not isinstance(recordings[1], (str, os.PathLike)):
            return self._samples(*recordings)
        try:
            paths = [os.fspath(path) for path in recordings]
        except TypeError:
            given = type(recordings).__name__
            raise TypeError(f"recordings must be a path, paths, or (samples, sr), not this {given}") from None
        return self._files(paths, on_error, progress)

    def _files(self, paths, on_error, progress):
        with reported(progress) as report:
            results = self._native["files"](paths, on_error == "skip", report)
        for error in results:
            if isinstance(error, str):
                warnings.warn(f"skipped: {error}", stacklevel=3)
        return [None if isinstance(result, str) else _result(result) for result in results]

    def _samples(self, samples, sr):
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise ValueError(
                f"samples must be floats of a mono recording (N,), not {samples.dtype} {samples.shape}; "
                "average the channels, and divide integers by their full scale"
            )
        if not isinstance(sr, numbers.Real) or not (0 < sr < 2**32 and int(sr) == sr):
            raise ValueError(f"sr must be a whole number of Hz, not {sr!r}")
        return _result(self._native["samples"](samples.astype("<f4").tobytes(), int(sr)))

    def predict_features(self, features, *, feature_scale=None):
        """Recognises clips with known features, for models of a single run.

        Args:
            features: (N, T, F), T instances of F values for each of N clips: uint8 as 8-bit codes, or floats; or a
                path, an .npz archive or a dataset with features.
            feature_scale: of floats, "unit" for model inputs of 0 to 1 or "byte" for codes of 0 to 255; by default
                the run's.

        Returns:
            A list of N Results, whose `file` is the clip's key; the number of a clip of an array.
        """
        options = json.dumps({"feature_scale": feature_scale})
        if isinstance(features, (str, os.PathLike)):
            return [_result(result) for result in self._native["features"](os.fspath(features), options)]
        features = np.asarray(features)
        keys = np.array([str(clip) for clip in range(len(features))])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "features.npz")
            np.savez(path, X=features, sample_key=keys)
            try:
                return self.predict_features(path, feature_scale=feature_scale)
            except ValueError as error:
                raise ValueError(str(error).replace(path, "features")) from None

    def embed(self, recording):
        """The features of a recording that the (first) model takes: (T, F) float32, a row for each instance in order of
        time; for VGGish and YAMNet embeddings, .96 s each."""
        values, width = self._native["embed"](os.fspath(recording))
        return np.frombuffer(values, "<f4").reshape(-1, width)


def load(
    run=None,
    device=None,
    *,
    frontend=None,
    frontend_weights=None,
    width=None,
    pca=None,
    threshold=None,
    precision=None,
    arithmetic=None,
    calibrate=True,
    hop=None,
    aggregate=None,
    gate=None,
    keep_unreliable=False,
    min_duration=None,
    median=None,
):
    """Loads a model, with the options of `wmic predict`.

    Args:
        run: a run directory of `train`, or several, whose answers are combined; or a file of `wmic bundle`. None: the
            model that is a part of wmic.
        device: the GPU, by its index in `devices()` or a part of its name. None: the first discrete GPU, else
            integrated, virtual, software.
        frontend: which parts of the bundled model answer: "musicnn", "yamnet", "vggish", or "auto" for all whose
            weights are there.
        frontend_weights, width, pca: where the weights of the run's front end are now: a file, "vggish", "random" or
            "random-glorot"; VGGish's width ("1", "1/2", "1/4", "1/8"); a file with the PCA of its embeddings.
        threshold: decision threshold, 0 to 1, or "tuned". None: the run's.
        precision: the lowest threshold with this expected precision, 0.5 to 0.99.
        arithmetic: precision of the operands of matrix products and convolutions, "f32" or "f16" where the GPU has
            half precision. None: the run's.
        calibrate: whether probabilities are calibrated as the run's validation clips suggest.
        hop: seconds from one excerpt to the next.
        aggregate: how the excerpts' probabilities are combined: "power", "mean", "max" or "attention".
        gate: dB below a recording's peak at which its parts are silent. None: 60.
        keep_unreliable: whether instruments can be present in recordings that are unlike the training clips.
        min_duration, median: seconds of the shortest segment, and of the median filter over the activity.

    Returns:
        A Model.

    Raises:
        OSError, ValueError: for a run without weights, damaged files, and options that do not apply.
        DeviceError: for a GPU that is not there.
    """
    if precision is not None:
        if threshold is not None:
            raise ValueError("threshold and precision contradict each other: remove one of them")
        threshold = f"precision:{precision}"
    if run is None:
        run = []
    elif isinstance(run, (str, os.PathLike)):
        run = [run]
    options = {
        "device": None if device is None else str(device),
        "frontend": frontend,
        "frontend_weights": frontend_weights,
        "width": None if width is None else str(width),
        "pca": pca,
        "threshold": threshold,
        "arithmetic": arithmetic,
        "calibrate": calibrate,
        "hop": hop,
        "aggregate": aggregate,
        "gate": gate,
        "keep_unreliable": keep_unreliable,
        "min_duration": min_duration,
        "median": median,
    }
    return Model(_native.load([os.fspath(path) for path in run], text_of(options)))
