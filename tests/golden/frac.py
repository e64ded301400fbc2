"""Numbers that Python and Rust can both evaluate exactly: see README.md, Formula."""

import numpy as np


def frac(shape, salt: int) -> np.ndarray:
    """Pseudo-random f64 numbers in [0, 1) of the given shape."""
    i = np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint64)
    h = ((i + np.uint64(salt * 0x9E3779B9)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return (h.astype(np.float64) / 2**32).reshape(shape)
