"""Recognises musical instruments in recordings, and trains such recognisers, on any GPU.

    import wmic

    model = wmic.load()                      # the bundled model; or a run directory
    result = model.predict("song.mp3")
    for name, p in zip(result.classes, result.probabilities):
        print(name, p)

Everything is computed by the same library as in the command `wmic`, and has the same values.

Errors are ValueError (what was asked for cannot be done, or a file is not what it should be) or OSError (a file that
cannot be read or written), with the library's one-line message. DeviceError, an OSError, is a GPU that is not there or
has failed; load the model again then. Ctrl-C ends every call with KeyboardInterrupt; the state of a training is saved.

The tiles that `wmic tune` has kept for a GPU are used as by the command.

Calls that take long have an argument `progress`: True for a bar (with `tqdm`), or a function that is called with what
is counted ("recordings", "files", "epochs", ...), how many are done, of how many, and a dict or None: after an epoch
`{"rows": [...], "clips_per_s": ...}`, with a row of losses and scores for each seed.
"""

import os
import sys
import tempfile

if sys.platform == "linux":
    # Mesa prints "error: XDG_RUNTIME_DIR is invalid or not set" on machines without a desktop, which is no error here.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    # Software Vulkan splits its work between these threads: twice as many as cores balance it better (as the command).
    if 2 <= len(os.sched_getaffinity(0)) <= 8:
        os.environ.setdefault("LP_NUM_THREADS", str(2 * len(os.sched_getaffinity(0))))

from ._native import DeviceError, __version__
from ._model import Model, Result, load
from ._runs import Comparison, Run, check, compare, devices, evaluate, options, train

__all__ = [
    "Comparison",
    "DeviceError",
    "Model",
    "Result",
    "Run",
    "check",
    "compare",
    "devices",
    "evaluate",
    "load",
    "options",
    "train",
]
