"""Options for native functions."""

import json
import os

import numpy as np


def text_of(options):
    """Options as JSON; paths and numpy's numbers are plain values there."""
    return json.dumps(options, default=_plain)


def _plain(value):
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is not the value of an option")
