"""Layers and losses of pre-training on small ragged shapes: inputs, outputs and gradients, computed in f64."""

import torch
from torch import Tensor
from torch.nn import functional as F

from formula import uniform
from layers import gradients, valid_rows


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


def nt_xent(a: Tensor, g: Tensor, tau: float) -> Tensor:
    u = F.normalize(torch.cat([a, g]), dim=1, eps=1e-8)
    scores = (u @ u.T / tau).masked_fill(torch.eye(len(u), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(scores, (torch.arange(len(u)) + len(a)) % len(u))


def contrastive() -> dict[str, Tensor]:
    """Rows 2 and 5 are padding."""
    a, g = uniform((8, 6), 130).requires_grad_(), uniform((8, 6), 131).requires_grad_()
    lengths = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1])
    loss = nt_xent(a[lengths > 0], g[lengths > 0], 0.1)
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
