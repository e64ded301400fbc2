"""The recurrent attention models, with formula weights, on spectrograms of 40, 23 and 31 frames."""

import numpy as np
import torch
from torch import Tensor

from formula import MASK_SALT, Y_SALT, frac, philox, set_weights, uniform
from ismir19 import CLASSES
from models import summary
from visual import WHOLE
from visual20 import BANDS, PATCHES, Sightreader

FRAMES, LENGTHS = 40, [40, 23, 31]
X_SALT = 2500
SEED, STEP, DRAW = 5, 0, 0x10CA7E


def draws(clips: int, stream: int) -> tuple[Tensor, Tensor]:
    """The uniform location that a stream of `src/ops/draw_location.rs` gives each clip, and its standard normal noise,
    (B, 2) each."""
    words = np.array([philox([b, stream, STEP, DRAW], [SEED, 0])[:2] for b in range(clips)])
    unit = ((words >> 9) + 0.5) / 2**23
    angle = 2 * np.pi * (words[:, 1] >> 13) / 2**19
    normal = np.sqrt(-2 * np.log(unit[:, :1])) * np.stack([np.cos(angle), np.sin(angle)], 1)
    return torch.from_numpy(2 * unit - 1), torch.from_numpy(normal)


def case(name: str) -> dict[str, Tensor]:
    model = Sightreader(name).double()
    set_weights(model)
    clips = len(LENGTHS)
    x = uniform((clips, FRAMES, BANDS), X_SALT, -4.5, 2.0)
    with torch.no_grad():
        p, glimpses = model.predict(x, LENGTHS)
    assert glimpses.std(1).min() > 0.1, "the model looks around"
    y = torch.from_numpy((frac((clips, CLASSES), Y_SALT) < 0.4).astype(float))
    mask = torch.from_numpy((frac((clips, CLASSES), MASK_SALT) < 0.3).astype(float))
    noise = torch.stack([draws(clips, 1 + j)[1] for j in range(Sightreader.GLIMPSES - 1)], 1)
    loss, own = model.losses(x, LENGTHS, y, mask, draws(clips, 0)[0], noise)
    (loss + own).backward()
    out = {"p": p, "glimpses": glimpses, "loss": loss.reshape(1)}
    for parameter, value in model.named_parameters():
        if value.numel() <= WHOLE:
            out[f"grad.{parameter}"] = value.grad
        else:
            out |= {f"grad.{parameter}.{kind}": part for kind, part in summary(value.grad).items()}
    return out


def sightreader() -> dict[str, Tensor]:
    """All tensors of `sightreader.safetensors`, named `<model>.<tensor>`."""
    return {f"{name}.{tensor}": value for name in PATCHES for tensor, value in case(name).items()}
