"""Pre-training: layers and losses on small ragged shapes (inputs, outputs and gradients, in f64); ten steps of every
objective."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from formula import Y_SALT, frac, philox, set_weights, uniform
from layers import gradients
from learned21 import OBJECTIVES, Align, nt_xent
from visual20 import BANDS, FRAMES


def group_norm() -> dict[str, Tensor]:
    """Each clip alone over its valid instances, so padding is excluded."""
    lengths, (batch, instances, features) = [5, 3, 5, 1, 4, 0], (6, 5, 12)
    x = uniform((batch, instances, features), 100, -3, 3).requires_grad_()
    gamma, beta = uniform((features,), 101, 0.5, 1.5).requires_grad_(), uniform((features,), 102).requires_grad_()
    dy, y = uniform((batch, instances, features), 103), torch.zeros(batch, instances, features, dtype=torch.float64)
    for b, n in enumerate(lengths):
        if n > 0:
            y[b, :n] = F.group_norm(x[b, :n].T[None], 3, gamma, beta, 1e-5)[0].T
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    return inputs | {"lengths": torch.tensor(lengths), "dy": dy, "y": y} | gradients(y, dy, **inputs)


def conv_transpose1d() -> dict[str, Tensor]:
    """x (B, T, C), w (k N, C): columns (j, n); y (B, T + k - 1, N)."""
    x, w = uniform((3, 4, 5), 110).requires_grad_(), uniform((3 * 7, 5), 111).requires_grad_()
    b, dy = uniform((7,), 112).requires_grad_(), uniform((3, 6, 7), 113)
    y = F.conv_transpose1d(x.transpose(1, 2), w.view(3, 7, 5).permute(2, 1, 0), b).transpose(1, 2)
    inputs = {"x": x, "w": w, "b": b}
    return inputs | {"y": y, "dy": dy} | gradients(y, dy, **inputs)


def cosine() -> dict[str, Tensor]:
    """Rows 2 and 5 are padding; the other target of row 1 is its own. Cosines are on both sides of the margin."""
    x, t, other = uniform((8, 6), 120).requires_grad_(), uniform((8, 6), 121), uniform((8, 6), 122)
    lengths = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1])
    other[1], other[3] = t[1], x[3].detach()
    valid, differ = lengths > 0, (lengths > 0) & (torch.arange(8) != 1)
    out = {"x": x, "t": t, "own": t.clone(), "other": other, "lengths": lengths}
    for name, rows, target, sign in [("alike", valid, t, 1.0), ("differ", differ, other, -1.0)]:
        signs = torch.full((int(rows.sum()),), sign, dtype=torch.float64)
        loss = F.cosine_embedding_loss(x[rows], target[rows], signs, margin=0.5)
        out |= {name: loss.reshape(1), f"{name}_dx": torch.autograd.grad(loss, x)[0]}
    return out


def contrastive() -> dict[str, Tensor]:
    """Rows 2 and 5 are padding."""
    a, g = uniform((8, 6), 130).requires_grad_(), uniform((8, 6), 131).requires_grad_()
    lengths = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1])
    loss = nt_xent(a[lengths > 0], g[lengths > 0])
    da, dg = torch.autograd.grad(loss, [a, g])
    return {"a": a, "g": g, "lengths": lengths, "loss": loss.reshape(1), "da": da, "dg": dg}


def errors() -> dict[str, Tensor]:
    x, t = uniform((7, 3, 5), 140).requires_grad_(), uniform((7, 3, 5), 141)
    lengths = torch.tensor([1, 1, 0, 1, 1, 0, 1])
    out = {"x": x, "t": t, "lengths": lengths}
    for name, loss in {"squared": F.mse_loss, "absolute": F.l1_loss}.items():
        value = loss(x[lengths > 0], t[lengths > 0])
        out |= {name: value.reshape(1), f"{name}_dx": torch.autograd.grad(value, x)[0]}
    return out


def sgd() -> dict[str, Tensor]:
    p, grad = uniform((37,), 150).requires_grad_(), uniform((37,), 151)
    out = {"p0": p.detach().clone(), "grad": grad}
    p.grad = grad.clone()
    torch.optim.SGD([p], lr=0.3, weight_decay=0.1).step()
    return out | {"p": p}


def pretraining() -> dict[str, Tensor]:
    """All tensors of `pretraining.safetensors`, named `<case>.<tensor>`."""
    cases = {"group_norm": group_norm(), "conv_transpose1d": conv_transpose1d(), "cosine": cosine(),
             "contrastive": contrastive(), "error": errors(), "sgd": sgd()}
    return {f"{case}.{name}": value for case, tensors in cases.items() for name, value in tensors.items()}


DIVISOR, CLIPS, BATCH, STEPS, CLASSES = 8, 10, 4, 10, 10
SEED = 5
LR = {"align": 1e-4}  # NT-Xent at its low temperature is steep
PATCHES_SALT, WORDS_SALT = 2100, 160
CORRUPT, DROPOUT, TAG_DROPOUT = 0xC0DE, 0xD20, 0.25


def words(count: int, stream: int, step: int, domain: int) -> np.ndarray:
    """`count` random words of a stream in a step, as the kernels draw them."""
    quads = philox([np.arange((count + 3) // 4, dtype=np.uint64), stream, step, domain], [SEED, 0])
    return np.stack(quads, axis=1).reshape(-1)[:count]


def draws(objective: str, x: Tensor, step: int):
    """The corrupted patches of `src/ops/corrupt.rs`, or the factors of dropout of each layer of the tag encoder."""
    if objective == "align":
        widths = enumerate([*Align.widths, Align.widths[-1]])
        drawn = [words(len(x) * width, i, step, DROPOUT).reshape(len(x), width) for i, width in widths]
        return [torch.from_numpy(w >= int(TAG_DROPOUT * 2**32)).to(x.dtype) / (1 - TAG_DROPOUT) for w in drawn]
    if not objective.startswith("denoise"):
        return None
    drawn = words(x.numel(), 0, step, CORRUPT)
    if objective == "denoise-mul":
        return x * torch.from_numpy(drawn >= 2**31).to(x.dtype).reshape(x.shape)
    pairs = drawn.reshape(-1, 2)
    radius = np.sqrt(-2 * np.log(((pairs[:, 0] >> 9) + 0.5) / 2**23))
    angle = 2 * np.pi * (pairs[:, 1] >> 13) / 2**19
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return x + 0.1 * torch.from_numpy(noise).to(x.dtype).reshape(x.shape)


def train(objective: str, dtype: torch.dtype) -> list[float]:
    """Loss of each step before its update, at 1/8 of VGGish's width; the third batch of an epoch has 2 patches.

    By plain gradient descent: Adam's first steps have the sign of gradients, also of those that are rounding errors."""
    x = uniform((CLIPS, FRAMES, BANDS), PATCHES_SALT, -4.5, 2.0).to(dtype)
    target = torch.from_numpy(frac((CLIPS, CLASSES), Y_SALT) < 0.4).to(dtype)
    own = [uniform((CLASSES, 300), WORDS_SALT).to(dtype)] if objective == "textual" else []
    model = OBJECTIVES[objective](CLASSES, DIVISOR, *own).to(dtype)
    set_weights(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=LR.get(objective, 1e-3))
    losses = []
    for step in range(STEPS):
        first = step % 3 * BATCH
        batch = slice(first, first + BATCH)
        loss = model.loss(x[batch], target[batch], draws(objective, x[batch], step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def objectives() -> list[dict]:
    """The content of `objectives.json`."""
    out = []
    for objective in OBJECTIVES:
        f64, f32 = train(objective, torch.float64), train(objective, torch.float32)
        gap = max(abs(a - b) / b for a, b in zip(f32, f64))
        settings = {"objective": objective, "seed": SEED, "batch": BATCH, "patches": CLIPS}
        out.append(settings | {"lr": LR.get(objective, 1e-3), "max_relative_gap": gap, "loss": f64})
    return out
