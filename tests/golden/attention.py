"""2D relative self-attention by its definition, in f64."""

import torch
from torch import Tensor

from formula import uniform
from relative_attention import eager

# Height, width, and depths of each of 2 heads.
HEADS, BATCH = 2, 2
CASES = {"3x5": (3, 5, 3, 2), "6x65": (6, 65, 1, 1), "11x129": (11, 129, 8, 8)}
MOST, SAMPLES = 600, 1000


def reduced(name: str, t: Tensor) -> dict[str, Tensor]:
    """A tensor of many entries as norm, sum, largest magnitude, and flat entries at an odd stride."""
    if t.numel() <= MOST:
        return {name: t}
    about = torch.stack([t.norm(), t.sum(), t.abs().max()])
    return {f"{name}.about": about, f"{name}.samples": t.flatten()[:: t.numel() // SAMPLES | 1][:SAMPLES]}


def attention() -> dict[str, Tensor]:
    """All tensors of `attention.safetensors`."""
    out = {}
    for i, (name, (h, w, key, value)) in enumerate(CASES.items()):
        shapes = {"qkv": (BATCH, h, w, HEADS * (2 * key + value)), "rel_h": (2 * h - 1, key), "rel_w": (2 * w - 1, key)}
        inputs = {
            n: uniform(s, 4000 + 10 * i + j, -1.5, 1.5).requires_grad_() for j, (n, s) in enumerate(shapes.items())
        }
        y = eager(*inputs.values(), HEADS, key, value)
        dy = uniform(y.shape, 4003 + 10 * i, -1.5, 1.5)
        tensors = {"y": y} | {f"d{n}": g for n, g in zip(inputs, torch.autograd.grad(y, list(inputs.values()), dy))}
        for key_, t in tensors.items():
            out |= {f"{name}.{k}": v for k, v in reduced(key_, t.detach()).items()}
    return out
