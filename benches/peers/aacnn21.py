"""AACNN (Wise, Maida, Kumar 2021) in PyTorch: convolutions augmented by 2D relative self-attention, on spectra of notes.

Shared by `tests/golden/make_golden.py` and, run by itself, a peer of wmic's training step:

    python benches/peers/aacnn21.py | tee aacnn.json     one JSON object per line, for
    wmic bench --peer aacnn.json

Dimensions: B clips, 87 frames, F bins, K classes. Needs torch.
"""

import argparse
import json
import os
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from relative_attention import eager, sdpa

FRAMES, BINS = 87, {"stft": 1025, "cqt": 252}
FILTERS, DENSE, HEADS, SIZE = [32, 64, 128, 256, 512], [1024, 512, 256, 128, 64], 8, 5
ATTENTION = [0, 25, 50, 75, 100]


class AugmentedConv2d(nn.Module):
    """x (B, H, W, C) to (B, H, W, `filters`), the last `depth` from attention."""

    def __init__(self, channels: int, filters: int, depth: int, height: int, width: int, attend=eager):
        super().__init__()
        self.depth, self.attend = depth, attend
        if depth < filters:
            self.conv = nn.Conv2d(channels, filters - depth, SIZE, padding=SIZE // 2)
        if depth:
            self.qkv, self.out = nn.Linear(channels, 3 * depth), nn.Linear(depth, depth)
            self.rel_h = nn.Parameter(torch.empty(2 * height - 1, depth // HEADS))
            self.rel_w = nn.Parameter(torch.empty(2 * width - 1, depth // HEADS))
        self.bn = nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        if hasattr(self, "conv"):
            branches.append(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        if self.depth:
            each = self.depth // HEADS
            branches.append(self.out(self.attend(self.qkv(x), self.rel_h, self.rel_w, HEADS, each, each)))
        return F.relu(self.bn(torch.cat(branches, -1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Aacnn(nn.Module):
    """Logits (B, K) of spectra (B, 87, F). `divisor` divides the number of filters, `attention` is the percentage of those of blocks 4 and 5."""

    def __init__(self, kind: str, attention: int, classes: int, divisor: int = 1, attend=eager):
        super().__init__()
        height, width, channels = FRAMES, BINS[kind], 1
        blocks = []
        for i, filters in enumerate(f // divisor for f in FILTERS):
            depth = filters * attention // 100 if i >= 3 else 0
            layers = []
            for _ in range(2):
                layers.append(AugmentedConv2d(channels, filters, depth, height, width, attend))
                channels = filters
            blocks.append(nn.ModuleList(layers))
            height, width = -(-height // 2), -(-width // 2)
        self.block = nn.ModuleList(blocks)
        inputs = height * width * channels
        dense = []
        for units in DENSE:
            dense.append(nn.Linear(inputs, units))
            inputs = units
        self.dense, self.out = nn.ModuleList(dense), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(-1)
        for block in self.block:
            for layer in block:
                x = layer(x)
            x = F.max_pool2d(x.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        x = x.flatten(1)
        for layer in self.dense:
            x = F.relu(layer(x))
        return self.out(x)


def adagrad(model: nn.Module, lr: float = 1e-3) -> torch.optim.Adagrad:
    """With Keras' constants."""
    return torch.optim.Adagrad(model.parameters(), lr=lr, initial_accumulator_value=0.1, eps=1e-7)


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=cores, help=f"CPU threads [all cores: {cores}]")
    parser.add_argument("--seconds", type=float, default=5, help="time for the measurement [5]")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    batch, classes = 16, 20
    model = Aacnn("cqt", 25, classes, divisor=8, attend=sdpa).to(args.device)
    for name, value in model.named_parameters():
        if "rel_" in name:
            nn.init.normal_(value, std=value.shape[1] ** -0.5)
    optimiser = adagrad(model)
    x = torch.rand(batch, FRAMES, BINS["cqt"], device=args.device)
    y = torch.randint(classes, (batch,), device=args.device)
    taken = []
    while len(taken) < 6 or sum(taken) < 1e3 * args.seconds:
        start = time.perf_counter()
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - start))
    del taken[0]
    result = {"peer": f"torch {torch.__version__}", "model": "aacnn 1/8, CQT, 25 %", "batch": batch, "threads": args.threads}
    median = statistics.median(taken)
    print(json.dumps(result | {"runs": len(taken), "ms_per_step": median, "ms_per_step_min": min(taken)}))


if __name__ == "__main__":
    main()
