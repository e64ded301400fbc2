"""The models that look at one place after the other, with formula weights, on spectrograms of 40, 23 and 31 frames."""

import torch
from torch import Tensor

from formula import set_weights, uniform
from visual20 import BANDS, PATCHES, Sightreader

FRAMES, LENGTHS = 40, [40, 23, 31]
X_SALT = 2500


def case(name: str) -> dict[str, Tensor]:
    model = Sightreader(name).double().eval()
    set_weights(model)
    x = uniform((len(LENGTHS), FRAMES, BANDS), X_SALT, -4.5, 2.0)
    with torch.no_grad():
        p, glimpses = model.answer(x, LENGTHS)
    assert glimpses.std(1).min() > 0.1, "the model looks around"
    return {"p": p, "glimpses": glimpses}


def sightreader() -> dict[str, Tensor]:
    """All tensors of `sightreader.safetensors`, named `<model>.<tensor>`."""
    return {f"{name}.{tensor}": value for name in PATCHES for tensor, value in case(name).items()}
