"""VGGish with formula weights: maps and embeddings, from audio as well; the PCA in 8 bits; headers of torchvggish's
state dict."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

import audio
from formula import exact, frac, set_weights, uniform, weight
from visual20 import BANDS, EMBEDDING, FRAMES, Vggish

PATCHES_SALT, SOUND_SALT, PCA_SALT = 2100, 2200, 2300
SR, SECONDS = 16_000, [10, 3.3, 0.5]
PCA_VECTORS = 1000


def network(divisor: int) -> Vggish:
    model = Vggish(divisor).double()
    set_weights(model)
    return model


def patches(count: int) -> Tensor:
    """(M, 96, 64) in the range of log-mel spectrograms."""
    return uniform((count, FRAMES, BANDS), PATCHES_SALT, -4.5, 2.0)


@torch.no_grad()
def answers(divisor: int, count: int) -> dict[str, Tensor]:
    model = network(divisor)
    maps = model.maps(patches(count))
    linear = model.embeddings(maps.flatten(1))
    spread = (linear[0] - linear[1]).abs().max() / linear.abs().max()
    assert spread > 0.1, f"embeddings of different patches are alike: {spread}"
    return {"maps": maps, "linear": linear, "embeddings": torch.relu(linear)}


def sound() -> np.ndarray:
    """10 s of a tone that glides to 6.2 kHz while it swells, another that stays, and noise; f32 values as f64."""
    t = np.arange(SECONDS[0] * SR) / SR
    tones = 0.04 * t * np.sin(2 * np.pi * (200 * t + 300 * t * t)) + 0.2 * np.sin(2 * np.pi * 440 * t)
    noise = 0.02 * (2 * frac(t.shape, SOUND_SALT) - 1)
    return (tones + noise).astype(np.float32).astype(np.float64)


@torch.no_grad()
def from_sound(divisor: int) -> dict[str, Tensor]:
    """Complete patches of the first part of the signal; one shorter than a patch is zero-padded."""
    model, tensors = network(divisor), {}
    for seconds in SECONDS:
        samples = sound()[: round(seconds * SR)]
        samples = np.pad(samples, (0, max(0, 400 + (FRAMES - 1) * 160 - len(samples))))
        log_mel = audio.vggish(samples)
        whole = torch.from_numpy(log_mel[: len(log_mel) // FRAMES * FRAMES].reshape(-1, FRAMES, BANDS))
        tensors[f"{seconds}s.embeddings"] = model(whole)
        if seconds == SECONDS[-1]:
            tensors |= {f"{seconds}s.logmel": whole, f"{seconds}s.maps": model.maps(whole)}
    return tensors


def quantise(x: np.ndarray, matrix: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """AudioSet's post-processing of embeddings (N, 128): PCA, whitened, clipped to +-2, in 8 bits."""
    v = (np.clip((x - mean.reshape(-1)) @ matrix.T, -2, 2) + 2) * (255 / 4)
    inside = (v > 0) & (v < 255)
    assert inside.mean() > 0.3 and np.abs(v - np.round(v))[inside].min() > 1e-9, "no rounding of a sum decides"
    return v.astype(np.uint8)


def pca(path: Path) -> dict[str, Tensor]:
    """1 000 vectors in [0, 1) through the published PCA."""
    with np.load(path) as params:
        x = exact(0.5 * frac((PCA_VECTORS, EMBEDDING), PCA_SALT)).numpy()
        return {"bytes": torch.from_numpy(quantise(x, params["pca_eigen_vectors"], params["pca_means"]))}


def state_dict(divisor: int) -> tuple[dict, dict[str, Tensor]]:
    """The header of torchvggish's state dict as safetensors writes it, its PCA included, and the output of such a
    network.

    The tensors' values are the formula's: the weights numbered as always, the PCA's two after them.
    """
    model = network(divisor)
    state = model.state_dict()
    pca = [("pproc.pca_eigen_vectors", (EMBEDDING, EMBEDDING)), ("pproc.pca_means", (EMBEDDING, 1))]
    for salt, (name, shape) in enumerate(pca):
        state[name] = weight(name, torch.Size(shape), len(model.state_dict()) + salt)
    file = save({name: value.float() for name, value in state.items()})
    length = int.from_bytes(file[:8], "little")
    with torch.no_grad():
        embeddings = model(patches(2))
    stored = quantise(embeddings.numpy(), state["pproc.pca_eigen_vectors"].numpy(), state["pproc.pca_means"].numpy())
    return json.loads(file[8 : 8 + length]), {"embeddings": embeddings, "bytes": torch.from_numpy(stored).double()}


def vggish() -> dict[str, Tensor]:
    """All tensors of `vggish.safetensors`, named `<case>.<tensor>`."""
    cases = {"quarter": answers(4, 3), "full": answers(1, 2), "sound": from_sound(4), "file": state_dict(8)[1]}
    return {f"{case}.{name}": value for case, tensors in cases.items() for name, value in tensors.items()}
