"""The visual attention models at 1/8 of VGGish's width with formula weights, on clips of 2, 1, 3 and 2 patches."""

import torch
from torch import Tensor

from formula import MASK_SALT, Y_SALT, frac, set_weights, uniform
from ismir19 import CLASSES, bce
from models import NOISE, summary
from visual20 import BANDS, COLUMNS, FRAMES, ROWS, Visual

DIVISOR, PATCHES, LENGTHS = 8, 3, [2, 1, 3, 2]
X_SALT = 2400
WHOLE = 600  # entries up to which a gradient is stored whole
# The model, and the part of VGGish trained with it.
CASES = [
    ("att-tf", "none"), ("att-tf-id", "none"), ("att-t", "none"), ("fc-tf", "none"),
    ("att-tf", "dense"), ("att-t", "dense"), ("att-tf", "all"),
]


def clips(convolve: bool) -> Tensor:
    """Maps (B, T, 6, 4, C), half of them 0 as after a ReLU, or log-mel patches (B, T, 96, 64); 0 beyond a clip's
    length."""
    inner = (FRAMES, BANDS) if convolve else (ROWS, COLUMNS, 512 // DIVISOR)
    x = uniform((len(LENGTHS), PATCHES, *inner), X_SALT, *((-4.5, 2.0) if convolve else (-1.0, 1.0)))
    if not convolve:
        x.clamp_(min=0)
    for clip, length in zip(x, LENGTHS):
        clip[length:] = 0
    return x


def case(name: str, trained: str) -> dict[str, Tensor]:
    model = Visual(name, DIVISOR, PATCHES, convolve=trained == "all").double()
    set_weights(model)
    if trained == "none":
        model.embeddings.requires_grad_(False)
    x, lengths = clips(trained == "all"), torch.tensor(LENGTHS)
    y = torch.from_numpy((frac((len(LENGTHS), CLASSES), Y_SALT) < 0.4).astype(float))
    mask = torch.from_numpy((frac((len(LENGTHS), CLASSES), MASK_SALT) < 0.3).astype(float))
    model.eval()
    with torch.no_grad():
        p, attention = model.predict(x, lengths)
    out = {"p": p} | ({"attention": attention} if attention is not None and trained == "none" else {})
    model.train()
    loss = bce(model(x, lengths), y, mask)
    loss.backward()
    out["loss"] = loss.reshape(1)
    for parameter, value in model.named_parameters():
        if value.grad is None:
            continue
        grad = torch.where(value.grad.abs() < NOISE, 0.0, value.grad)
        if grad.numel() <= WHOLE:
            out[f"grad.{parameter}"] = grad
        else:
            out |= {f"grad.{parameter}.{kind}": part for kind, part in summary(grad).items()}
    return out | {f"after.{buffer}": value for buffer, value in model.named_buffers() if "running" in buffer}


def visual() -> dict[str, Tensor]:
    """All tensors of `visual.safetensors`, named `<model>.<trained>.<tensor>`."""
    cases = {f"{name}.{trained}": case(name, trained) for name, trained in CASES}
    return {f"{name}.{tensor}": value for name, of in cases.items() for tensor, value in of.items()}
