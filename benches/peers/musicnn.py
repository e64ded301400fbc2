"""musicnn's features of each frame in PyTorch, with the weights that wmic contains.

    python benches/peers/musicnn.py [THREADS]     time 30 s of sound at a time, print JSON

needs torch and safetensors. Dimensions: B clips, T frames of 16 ms, 96 bands, 753 features.
"""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

WEIGHTS = Path(__file__).resolve().parents[2] / "assets/musicnn/musicnn.safetensors"
SECONDS, FRAMES, BANDS = 30, 1876, 96


def frames(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Features (B, T, 753) of standardised log-mel spectrograms x (B, T, 96)."""

    def norm(name: str, y: Tensor) -> Tensor:
        scale, shift = (w[f"{name}.{part}"].view(1, -1, *[1] * (y.dim() - 2)) for part in ("scale", "shift"))
        return F.relu(y) * scale + shift

    def front(name: str) -> Tensor:
        weight = w[f"{name}.weight"]  # (N, S, K)
        before = (weight.shape[1] - 1) // 2
        padded = F.pad(x, (0, 0, before, weight.shape[1] - 1 - before)).unsqueeze(1)
        return norm(name, F.conv2d(padded, weight.unsqueeze(1), w[f"{name}.bias"])).amax(3)

    def mid(name: str, y: Tensor) -> Tensor:
        return norm(name, F.conv1d(y, w[f"{name}.weight"].transpose(1, 2), w[f"{name}.bias"], padding=3))

    first = torch.cat([front(f"timbral{k}") for k in (38, 67)] + [front(f"temporal{k}") for k in (128, 64, 32)], 1)
    one = mid("mid1", first)
    two = mid("mid2", one) + one
    three = mid("mid3", two) + two
    return torch.cat([first, one, two, three], 1).transpose(1, 2)


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    torch.manual_seed(0)
    weights = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    x = torch.randn(1, FRAMES, BANDS)
    seconds, cpu = [], []
    with torch.no_grad():
        for _ in range(3):
            start, used = time.perf_counter(), time.process_time()
            frames(weights, x)
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
    result = {"front_end": "musicnn", "seconds_of_sound": SECONDS, "threads": torch.get_num_threads()}
    print(json.dumps(result | {"ms": 1e3 * min(seconds), "cpu_ms": 1e3 * min(cpu)}))


if __name__ == "__main__":
    main()
