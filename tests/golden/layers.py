"""Layers, losses and optimisers on small ragged shapes: inputs, outputs and gradients, computed in f64."""

import torch
from torch import Tensor
from torch.nn import functional as F

from formula import uniform
from ismir19 import attention_pool, attention_weights, bce, partial_bce


def gradients(y: Tensor, dy: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
    """`d<name>` of every input for the output gradient dy."""
    grads = torch.autograd.grad(y, list(inputs.values()), dy)
    return {f"d{name}": grad for name, grad in zip(inputs, grads)}


def valid_rows(lengths: list[int], instances: int) -> Tensor:
    """Boolean (B, T): instance t of clip b is valid when t < lengths[b]."""
    return torch.arange(instances)[None] < torch.tensor(lengths)[:, None]


def linear(bias: bool) -> dict[str, Tensor]:
    x, w = uniform((7, 5, 33), 1).requires_grad_(), uniform((19, 33), 2, -0.3, 0.3).requires_grad_()
    b = uniform((19,), 3).requires_grad_() if bias else None
    dy = uniform((7, 5, 19), 4)
    y = F.linear(x, w, b)
    inputs = {"x": x, "w": w} | ({"b": b} if bias else {})
    return inputs | {"y": y, "dy": dy} | gradients(y, dy, **inputs)


def batch_norm() -> dict[str, Tensor]:
    """Statistics over the valid rows only; padded rows hold ordinary numbers in x and dy that must not matter."""
    lengths, (batch, instances, features) = [5, 3, 5, 1, 4, 0], (6, 5, 17)
    shift, spread = uniform((features,), 10, -3, 3), uniform((features,), 11, 0.1, 2)
    x = (uniform((batch, instances, features), 12) * spread + shift).float().double().requires_grad_()
    gamma, beta = uniform((features,), 13, 0.5, 1.5).requires_grad_(), uniform((features,), 14).requires_grad_()
    mean, var = uniform((features,), 15), uniform((features,), 16, 0.5, 2)
    dy = uniform((batch, instances, features), 17)
    valid = valid_rows(lengths, instances)

    def normalise(mean: Tensor, var: Tensor, training: bool) -> Tensor:
        y = torch.zeros_like(x)
        y[valid] = F.batch_norm(x[valid], mean, var, gamma, beta, training, momentum=0.1, eps=1e-5)
        return y

    after_mean, after_var = mean.clone(), var.clone()
    y = normalise(after_mean, after_var, training=True)
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    return inputs | gradients(y, dy, **inputs) | {
        "lengths": torch.tensor(lengths), "dy": dy, "y": y,
        "running_mean": mean, "running_var": var,
        "running_mean_after": after_mean, "running_var_after": after_var,
        "y_eval": normalise(after_mean, after_var, training=False),
    }


def elementwise(f, salt: int) -> dict[str, Tensor]:
    """x holds 0 (the kink), saturating values and 59 ordinary ones."""
    x = uniform((61,), salt, -3, 3)
    x[0], x[1], x[2] = 0, 40, -40
    x.requires_grad_()
    dy = uniform((61,), salt + 1)
    y = f(x)
    return {"x": x, "y": y, "dy": dy} | gradients(y, dy, x=x)


def masked_mean() -> dict[str, Tensor]:
    lengths, shape = [5, 3, 5, 1, 4, 0], (6, 5, 17)
    x, dy = uniform(shape, 30).requires_grad_(), uniform((shape[0], shape[2]), 31)
    valid = valid_rows(lengths, shape[1])
    y = (x * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)
    return {"lengths": torch.tensor(lengths), "x": x, "y": y, "dy": dy} | gradients(y, dy, x=x)


def attention() -> dict[str, Tensor]:
    """Each clip pooled alone over its valid instances, so padding is excluded. Some logits saturate."""
    lengths, shape = [7, 4, 7, 1, 6, 0], (6, 7, 5)
    att, cla = uniform(shape, 40, -4, 4), uniform(shape, 41, -4, 4)
    att[0, 0, 0], att[0, 1, 0], att[0, 2, 1] = 20, -20, -20  # beyond the clamp: no gradient
    att[2, :, 2] = -20  # all instances at the lower clamp: equal weights
    cla[2, :, 3] = 40  # probability 1 in every instance
    att.requires_grad_(), cla.requires_grad_()
    dy = uniform((shape[0], shape[2]), 42)
    y, weights = torch.zeros_like(dy), torch.zeros(shape, dtype=torch.float64)
    for b, n in enumerate(lengths):
        if n > 0:
            y[b] = attention_pool(att[b : b + 1, :n], cla[b : b + 1, :n])[0]
            weights[b, :n] = attention_weights(att[b : b + 1, :n])[0]
    inputs = {"att": att, "cla": cla}
    outputs = {"lengths": torch.tensor(lengths), "weights": weights, "y": y, "dy": dy}
    return inputs | outputs | gradients(y, dy, **inputs)


def losses(saturated: bool) -> dict[str, Tensor]:
    """Clip 3 has no observed label. Saturated: clip 0 holds p = 0, 0, 1, 1 against y = 0, 1, 0, 1, all observed."""
    shape = (7, 5)
    p = uniform(shape, 50, 0.01, 0.99)
    y, mask = (uniform(shape, 51) > 0.2).double(), (uniform(shape, 52) > 0.1).double()
    mask[3] = 0
    if saturated:
        p[0, :4], y[0, :4], mask[0, :4] = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.0, 1, 0, 1]), 1.0
    p.requires_grad_()
    out = {"p": p, "y": y, "mask": mask}
    for name, loss in {
        "bce": bce(p, y, mask),
        "partial": partial_bce(p, y, mask, alpha=1, beta=0, gamma=-1),
        "partial_linear": partial_bce(p, y, mask, alpha=-4.45, beta=5.45, gamma=1),
    }.items():
        out[name] = loss.reshape(1)
        out[f"{name}_dp"] = torch.autograd.grad(loss, p)[0]
    return out


def focal(p: Tensor, y: Tensor, mask: Tensor, alpha: Tensor, gamma: float) -> Tensor:
    """Mean over observed entries; y may be between 0 and 1. PyTorch's BCE brings the clamps of log and of its slope."""
    power = lambda v: v.clamp(min=1e-30) ** gamma if gamma > 0 else torch.ones_like(v)
    present = y * alpha * power(1 - p) * F.binary_cross_entropy(p, torch.ones_like(p), reduction="none")
    absent = (1 - y) * (1 - alpha) * power(p) * F.binary_cross_entropy(p, torch.zeros_like(p), reduction="none")
    return ((present + absent) * mask).sum() / mask.sum()


def focal_losses(saturated: bool) -> dict[str, Tensor]:
    """As `losses`, with soft targets except in clip 0, and alpha (5)."""
    out = {name: value.detach() for name, value in losses(saturated).items() if name in ("p", "y", "mask")}
    out["y"][1:] = uniform(out["y"][1:].shape, 53, 0.0, 1.0)
    out["alpha"] = uniform((5,), 54, 0.05, 0.95)
    p = out["p"].requires_grad_()
    for name, gamma in {"gamma0": 0.0, "gamma05": 0.5, "gamma2": 2.0}.items():
        loss = focal(p, out["y"], out["mask"], out["alpha"], gamma)
        out[name] = loss.reshape(1)
        out[f"{name}_dp"] = torch.autograd.grad(loss, p)[0]
    return out


def adam() -> dict[str, Tensor]:
    """Five steps on 37 parameters whose gradients span 1e-6 .. 1, so that the L2 decay is visible in some of them."""
    steps, n = 5, 37
    grads = (uniform((steps, n), 60) * torch.logspace(-6, 0, n, dtype=torch.float64)).float().double()
    p = uniform((n,), 61).requires_grad_()
    out = {"p0": p.detach().clone(), "grad": grads}
    optimiser = torch.optim.Adam([p], lr=1e-2, weight_decay=1e-5)
    trace = {"p": [], "m": [], "v": []}
    for grad in grads:
        p.grad = grad.clone()
        optimiser.step()
        state = optimiser.state[p]
        for name, value in zip(trace, (p, state["exp_avg"], state["exp_avg_sq"])):
            trace[name].append(value.detach().clone())
    return out | {name: torch.stack(values) for name, values in trace.items()}


def adamw() -> dict[str, Tensor]:
    """Ten steps with decoupled decay and a one-cycle learning rate, on gradients as of `adam`."""
    steps, n = 10, 37
    grads = (uniform((steps, n), 62) * torch.logspace(-6, 0, n, dtype=torch.float64)).float().double()
    p = uniform((n,), 63).requires_grad_()
    out, trace = {"p0": p.detach().clone(), "grad": grads}, []
    optimiser = torch.optim.AdamW([p], lr=0.1, weight_decay=0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, steps, cycle_momentum=False)
    for grad in grads:
        p.grad = grad.clone()
        optimiser.step()
        schedule.step()
        trace.append(p.detach().clone())
    return out | {"p": torch.stack(trace)}


def softmax_losses() -> dict[str, Tensor]:
    """Softmax of 7 rows of 5 logits, the last with large values, and cross-entropy of all rows but the padding row
    3."""
    x = uniform((7, 5), 70, -4.0, 4.0)
    x[6] *= 50
    x.requires_grad_()
    lengths = torch.tensor([2.0, 1, 1, 0, 3, 1, 1])
    classes = torch.tensor([4, 0, 2, 1, 3, 3, 0])
    y, dy = torch.softmax(x, -1), uniform((7, 5), 71)
    loss = F.cross_entropy(x[lengths > 0], classes[lengths > 0])
    out = {"x": x, "y": y, "dy": dy, "target": F.one_hot(classes, 5), "lengths": lengths, "loss": loss.reshape(1)}
    return out | gradients(y, dy, x=x) | {"dlogits": torch.autograd.grad(loss, x)[0]}


def adagrad() -> dict[str, Tensor]:
    """Ten steps on 37 parameters with Keras' constants; gradients span 1e-6 .. 1."""
    steps, n = 10, 37
    grads = (uniform((steps, n), 62) * torch.logspace(-6, 0, n, dtype=torch.float64)).float().double()
    p = uniform((n,), 63).requires_grad_()
    out = {"p0": p.detach().clone(), "grad": grads}
    optimiser = torch.optim.Adagrad([p], lr=1e-3, initial_accumulator_value=0.1, eps=1e-7)
    trace = {"p": [], "sum": []}
    for grad in grads:
        p.grad = grad.clone()
        optimiser.step()
        for name, value in zip(trace, (p, optimiser.state[p]["sum"])):
            trace[name].append(value.detach().clone())
    return out | {name: torch.stack(values) for name, values in trace.items()}


def layers() -> dict[str, Tensor]:
    """All tensors of `layers.safetensors`, named `<case>.<tensor>`."""
    cases = {
        "linear": linear(bias=True),
        "linear_no_bias": linear(bias=False),
        "batch_norm": batch_norm(),
        "relu": elementwise(F.relu, 20),
        "leaky_relu": elementwise(lambda x: F.leaky_relu(x, 0.01), 22),
        "sigmoid": elementwise(torch.sigmoid, 24),
        "mean": masked_mean(),
        "attention": attention(),
        "loss": losses(saturated=False),
        "loss_saturated": losses(saturated=True),
        "focal": focal_losses(saturated=False),
        "focal_saturated": focal_losses(saturated=True),
        "adam": adam(),
        "adamw": adamw(),
        "adagrad": adagrad(),
        "softmax": softmax_losses(),
    }
    return {f"{case}.{name}": value for case, tensors in cases.items() for name, value in tensors.items()}
