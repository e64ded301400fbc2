"""The models that look at one place after the other, with formula weights, on spectrograms of 40, 23 and 31 frames."""

import numpy as np
import torch
from torch import Tensor

from formula import MASK_SALT, Y_SALT, frac, set_weights, uniform
from ismir19 import CLASSES
from models import summary
from visual import WHOLE
from visual20 import BANDS, PATCHES, Sightreader

FRAMES, LENGTHS = 40, [40, 23, 31]
X_SALT = 2500
SEED, STEP, DRAW = 5, 0, 0x10CA7E


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 (Salmon et al. 2011)."""
    c, k, word = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & word, (a >> 32) ^ c[3] ^ k[1], a & word]
        k = [(k[0] + 0x9E3779B9) & word, (k[1] + 0xBB67AE85) & word]
    return c


def draws(clips: int, stream: int) -> tuple[Tensor, Tensor]:
    """The uniform location that a stream of `src/ops/draw_location.rs` gives each clip, and its standard normal noise, (B, 2) each."""
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
        p, glimpses = model.answer(x, LENGTHS)
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
