"""Many GPUs and machines, with Ray: `pip install 'wmic[ray]'`.

Ray places the work, starts it again where a process or a machine has failed, and writes the results; there is no
scheduler here. Paths must name the same files on every machine.
"""

import glob
import json
import os
import shutil

import pyarrow as pa
import ray

import wmic

from . import _native
from ._runs import Comparison, _comparison, compare as _compare

_INSTRUMENT = [
    ("name", pa.string()),
    ("probability", pa.float64()),
    ("spread", pa.float64()),
    ("threshold", pa.float64()),
    ("present", pa.bool_()),
    (
        "segments",
        pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("confidence", pa.float64())])),
    ),
]

#: The columns of `predict`: those of `wmic predict --format jsonl`, and `error`, for recordings without a result.
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("error", pa.string()),
        ("duration", pa.float64()),
        ("warnings", pa.list_(pa.string())),
        ("distance", pa.float64()),
        ("unreliable", pa.bool_()),
        ("model", pa.string()),
        ("seeds", pa.list_(pa.uint64())),
        ("summary", pa.string()),
        ("instruments", pa.list_(pa.struct(_INSTRUMENT))),
    ]
)


def device():
    """The GPU that Ray has assigned to this process, as an argument of `wmic.load`; None if it has assigned none. Ray
    counts the GPUs of a machine, so it is the one with this number among the discrete ones."""
    assigned = ray.get_runtime_context().get_accelerator_ids().get("GPU") or []
    if not assigned:
        return None
    discrete = [gpu["index"] for gpu in wmic.devices() if gpu["kind"] == "discrete"]
    number = int(assigned[0])
    if number >= len(discrete):
        raise ValueError(f"Ray has assigned GPU {number}, but wmic finds {len(discrete)} discrete GPUs: wmic.devices()")
    return discrete[number]


#: In names of runs with some of the seeds of an entry, beside the entry's.
_SEEDS = ".seeds-"


class _Predictor:
    """An actor with a model on its own GPU."""

    def __init__(self, run, options):
        self._load = lambda: wmic.load(run, device(), **options)
        self._model = self._load()

    def __call__(self, batch):
        return pa.Table.from_pylist([self._row(path) for path in batch.column("file").to_pylist()], SCHEMA)

    def _row(self, path):
        try:
            return self._recognised(path)
        except wmic.DeviceError:
            # The fault is the GPU's, not the recording's. If a new device fails, too, the error ends the whole.
            self._model = None
            self._model = self._load()
            return self._recognised(path)

    def _recognised(self, path):
        try:
            return json.loads(self._model.predict(path).to_json())
        except wmic.DeviceError:
            raise
        except (OSError, ValueError) as error:
            return {"file": path, "error": str(error)}


def predict(paths, run=None, *, num_gpus=1, concurrency=1, out=None, format="parquet", batch_size=64, **options):
    """Recognises recordings with an actor for each of `concurrency` GPUs.

    Args:
        paths: of the recordings; or a Ray Dataset with a column `file`.
        run: as for `wmic.load`; None: the bundled model.
        num_gpus: GPUs of an actor, a fraction if several share one; 0 for a software adapter.
        concurrency: number of actors, or (least, most).
        out: folder for the results, a file for each block.
        format: of these files, "parquet" or "jsonl".
        batch_size: recordings that an actor takes at a time, and that are done again if its process ends.
        options: of `wmic.load`.

    Returns:
        A Ray Dataset with a row for each recording, see `SCHEMA`; the written one if there is `out`. A GPU that fails
        is opened again for the same recording; if it fails once more, that is an error of the whole.
    """
    if format not in ("parquet", "jsonl"):
        raise ValueError(f"format must be parquet or jsonl, not {format!r}")
    if out is not None and os.path.isdir(out) and os.listdir(out):
        raise ValueError(f"{out} is not empty: results are written to a new or an empty folder")
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not isinstance(paths, ray.data.Dataset):
        paths = ray.data.from_items([{"file": os.fspath(path)} for path in paths])
    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    results = paths.map_batches(
        _Predictor,
        fn_constructor_args=(run, options),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_gpus=num_gpus,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
    )
    if out is None:
        return results
    if format == "parquet":
        results.write_parquet(out)
        return ray.data.read_parquet(out)
    results.write_json(out)
    return ray.data.read_json(out)


def compare(
    experiment, dataset, *, seeds=None, seed_block=None, out=None, force=False, num_gpus=1, **options
) -> Comparison:
    """As `wmic.compare`, with a Ray task for every entry and every block of its seeds. `dataset` and `out` must be on a
    file system that all machines share.

    Args:
        seed_block: seeds of a task, by default all of an entry. The result does not depend on it.
        num_gpus: GPUs of a task; 0 for a software adapter.
        experiment, dataset, seeds, out, force, options: see `wmic.compare`.
    """
    given = _comparison(experiment, dataset, seeds, out, force, None, options)
    job = json.loads(_native.compare_entries(given, None))
    pending = [entry for entry in job["entries"] if force or not entry["ended"]]
    given = _comparison(experiment, dataset, seeds, job["path"], False, None, options)

    # What has been trained before a GPU fails is kept.
    remote = ray.remote(num_gpus=num_gpus, max_retries=3, retry_exceptions=[wmic.DeviceError])

    @remote
    def train(entry, seeds, folder):
        _native.compare_block(_on(given, device()), entry, seeds, folder, None)
        return folder

    @remote
    def join(entry, seeds, folder, *blocks):
        _native.compare_join(_on(given, device()), entry, seeds, list(blocks), folder)
        _remove_blocks(folder)

    tasks = []
    for entry in pending:
        entry, own, folder = entry["entry"], entry["seeds"], entry["folder"]
        if force:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_blocks(folder)
        each = seed_block or len(own)
        if each >= len(own):
            tasks.append(train.remote(entry, own, folder))
            continue
        blocks = [own[first : first + each] for first in range(0, len(own), each)]
        blocks = [train.remote(entry, block, f"{folder}{_SEEDS}{block[0]}-{block[-1]}") for block in blocks]
        tasks.append(join.remote(entry, own, folder, *blocks))
    failed = []
    for task in tasks:
        try:
            ray.get(task)
        except ray.exceptions.RayTaskError as error:
            failed.append(error)
    # Entries that cannot be trained are tried again by the comparison, which lists why.
    for error in failed:
        if not isinstance(error.cause, ValueError):
            raise error
    return _compare(experiment, dataset, seeds=seeds, out=job["path"], **options)


def _remove_blocks(folder):
    """Also those of other blocks of seeds."""
    for block in glob.glob(f"{glob.escape(folder)}{_SEEDS}*"):
        shutil.rmtree(block)


def _on(given, device):
    return json.dumps({**json.loads(given), "device": None if device is None else str(device)})
