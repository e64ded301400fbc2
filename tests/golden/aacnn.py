"""AACNN at 1/8 of its width with formula weights: answers, a training step, for all shares of attention and both spectra."""

import torch
from torch import Tensor, nn

from aacnn21 import ATTENTION, BINS, FRAMES, Aacnn
from formula import set_weights, uniform
from models import NOISE, summary

CLIPS, CLASSES, X_SALT = 2, 19, 5000
WHOLE = 40  # entries up to which a gradient is stored whole


def case(kind: str, attention: int) -> dict[str, Tensor]:
    model = Aacnn(kind, attention, CLASSES, divisor=8).double()
    set_weights(model)
    x = uniform((CLIPS, FRAMES, BINS[kind]), X_SALT, -1.5, 1.5)
    y = torch.arange(CLIPS) * 7 % CLASSES
    model.eval()
    with torch.no_grad():
        out = {"p": model(x).softmax(-1)}
    model.train()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    out["loss"] = loss.reshape(1)
    for parameter, value in model.named_parameters():
        grad = torch.where(value.grad.abs() < NOISE, 0.0, value.grad)
        if grad.numel() <= WHOLE:
            out[f"grad.{parameter}"] = grad
        else:
            out |= {f"grad.{parameter}.{kind_}": part for kind_, part in summary(grad).items()}
    return out | {f"after.{buffer}": value for buffer, value in model.named_buffers() if "running" in buffer}


def aacnn() -> dict[str, Tensor]:
    """All tensors of `aacnn.safetensors`, named `<spectrum>.<attention>.<tensor>`."""
    return {f"{kind}.{a}.{tensor}": value for kind in BINS for a in ATTENTION for tensor, value in case(kind, a).items()}
