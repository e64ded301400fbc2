"""AACNN at 1/8 of its width with formula weights: predictions, a training step, for all percentages of attention and
both spectra."""

import torch
from torch import Tensor, nn

from aacnn21 import ATTENTION, BINS, FRAMES, Aacnn, AugmentedConv2d
from formula import set_weights, uniform
from models import NOISE, summary

CLIPS, CLASSES = 2, 19
# Of the inputs. Where another is named, the usual ones are so near to kinks of ReLU and max-pool that f32 is on the
# other side.
X_SALT, SALTS = 5000, {("stft", 25): 5001, ("stft", 75): 5001, ("cqt", 75): 5001}
WHOLE = 40  # entries up to which a gradient is stored whole


def trained(kind: str, attention: int, dtype: torch.dtype) -> tuple[Aacnn, Tensor, Tensor]:
    """The model after a backward pass, its predictions before it, and its loss."""
    model = Aacnn(kind, attention, CLASSES, divisor=8).double()
    set_weights(model)
    model.to(dtype)
    x = uniform((CLIPS, FRAMES, BINS[kind]), SALTS.get((kind, attention), X_SALT), -1.5, 1.5).to(dtype)
    model.eval()
    with torch.no_grad():
        p = model(x).softmax(-1)
    model.train()
    loss = nn.functional.cross_entropy(model(x), torch.arange(CLIPS) * 7 % CLASSES)
    loss.backward()
    return model, p, loss.reshape(1)


def case(kind: str, attention: int) -> dict[str, Tensor]:
    model, p, loss = trained(kind, attention, torch.float64)
    out = {"p": p, "loss": loss}
    single = dict(trained(kind, attention, torch.float32)[0].named_parameters())
    for parameter, value in model.named_parameters():
        largest = value.grad.abs().max().clamp(min=NOISE)
        out[f"f32.{parameter}"] = ((single[parameter].grad - value.grad).abs().max() / largest).clamp(max=1).reshape(1)
        grad = torch.where(value.grad.abs() < NOISE, 0.0, value.grad)
        if grad.numel() <= WHOLE:
            out[f"grad.{parameter}"] = grad
        else:
            out |= {f"grad.{parameter}.{part}": figures for part, figures in summary(grad).items()}
    return out | {f"after.{buffer}": value for buffer, value in model.named_buffers() if "running" in buffer}


def aacnn() -> dict[str, Tensor]:
    """All tensors of `aacnn.safetensors`, named `<spectrum>.<attention>.<tensor>`."""
    cases = {(kind, a): case(kind, a) for kind in BINS for a in ATTENTION}
    return {f"{kind}.{a}.{tensor}": v for (kind, a), of in cases.items() for tensor, v in of.items()} | block()


def block() -> dict[str, Tensor]:
    """An augmented convolution with its batch norm and ReLU, 16 to 32 channels, half of them attention's, on 6 x 33
    positions: `block.<tensor>`."""
    layer = nn.ModuleDict({"layer": AugmentedConv2d(16, 32, 16, 6, 33)}).double()
    set_weights(layer)
    x = uniform((CLIPS, 6, 33, 16), 5100, -1.5, 1.5).requires_grad_()
    y = layer["layer"](x)
    dy = uniform(y.shape, 5101)
    y.backward(dy)
    grads = {"x": x.grad} | {name: p.grad for name, p in layer.named_parameters()}
    return {"block.y": y} | {f"block.grad.{name}": torch.where(g.abs() < NOISE, 0.0, g) for name, g in grads.items()}
