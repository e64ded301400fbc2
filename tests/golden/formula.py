"""Numbers that Python and Rust can both evaluate exactly, so that weights and inputs need not be stored.

    h = i + salt * 0x9E3779B9        (32-bit wrapping, i = flat row-major index)
    h ^= h >> 16;  h *= 0x7FEB352D;  h ^= h >> 15;  h *= 0x846CA68B;  h ^= h >> 16
    frac = h / 2^32                  (f64, exact, in [0, 1))

A hash rather than a Weyl sequence frac(i phi): the rows of a Weyl matrix are shifts of one another, and such a
128 x 128 matrix has an effective rank of 3.
"""

import numpy as np
import torch
from torch import Tensor, nn

from frac import frac

X_SALT, Y_SALT, MASK_SALT = 1000, 1001, 1002


def uniform(shape, salt: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Numbers in [low, high] that are exact in f32, as f64."""
    return exact(low + (high - low) * frac(shape, salt))


def exact(values: np.ndarray) -> Tensor:
    """Values rounded to f32 and returned as f64."""
    return torch.from_numpy(values.astype(np.float32).astype(np.float64))


def weight(name: str, shape: torch.Size, salt: int) -> Tensor:
    """The value of one model tensor; `salt` is its index among the model's tensor names in byte order."""
    signed = 2 * frac(shape, salt) - 1
    layer, kind = name.rsplit(".", 1)
    if kind == "running_mean":
        return exact(np.zeros(shape))
    if kind == "running_var":
        return exact(np.ones(shape))
    if kind.startswith("bias"):  # recurrent layers have bias_ih_l0 and so on
        return exact(0.1 * signed)
    if layer.startswith("bn") or layer.endswith(".bn"):
        return exact(1 + 0.2 * signed)
    return exact(np.sqrt(3 / np.prod(shape[1:])) * signed)


def tensor_names(model: nn.Module) -> list[str]:
    """Names of all stored tensors in byte order (PyTorch's batch counters are not stored)."""
    return sorted(name for name in model.state_dict() if not name.endswith("num_batches_tracked"))


def set_weights(model: nn.Module) -> None:
    """Fill the model with the formula."""
    state = model.state_dict()
    for salt, name in enumerate(tensor_names(model)):
        state[name].copy_(weight(name, state[name].shape, salt))


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 (Salmon et al. 2011): the four words of a counter under a key."""
    c, k, word = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & word, (a >> 32) ^ c[3] ^ k[1], a & word]
        k = [(k[0] + 0x9E3779B9) & word, (k[1] + 0xBB67AE85) & word]
    return c


def dataset(clips: int, instances: int, bands: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, F) = stored byte / 255; labels (B, K), 40 % positive; mask (B, K), 30 % observed; all f64."""
    stored = np.floor(frac((clips, instances, bands), X_SALT) * 256)
    y = (frac((clips, classes), Y_SALT) < 0.4).astype(np.float64)
    mask = (frac((clips, classes), MASK_SALT) < 0.3).astype(np.float64)
    assert mask.any(1).all(), "every clip has an observed label"
    return torch.from_numpy(stored / 255), torch.from_numpy(y), torch.from_numpy(mask)
