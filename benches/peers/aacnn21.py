"""AACNN (Wise, Maida, Kumar 2021) in PyTorch: convolutions with 2D relative self-attention, on spectra of notes.

Shared by `tests/golden/make_golden.py` and, run by itself, a peer of wmic's training step:

    python benches/peers/aacnn21.py | tee aacnn.json                 one JSON object, for
    wmic bench --peer aacnn.json
    python benches/peers/aacnn21.py --divisor 1 --mode compile       at the full width

Dimensions: B clips, 87 frames, F bins, K classes. Needs torch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from relative_attention import eager, sdpa
from timing import in_mode, name, options, prepare, report, times

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
    """Logits (B, K) of spectra (B, 87, F). `divisor` divides the number of filters, `attention` is the percentage of
    those of blocks 4 and 5."""

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
    parser = options(__doc__.splitlines()[0], ["eager", "compile"])
    parser.add_argument("--seconds", type=float, default=5, help="time for the measurement [5]")
    parser.add_argument("--divisor", type=int, choices=[1, 2, 4, 8], default=8, help="of the filters [8]")
    args = parser.parse_args()
    prepare(args)
    batch, classes = 16, 20
    model = Aacnn("cqt", 25, classes, args.divisor, attend=sdpa).to(args.device)
    for label, value in model.named_parameters():
        if "rel_" in label:
            nn.init.normal_(value, std=value.shape[1] ** -0.5)
    optimiser, forward = adagrad(model), in_mode(model, args)
    x = torch.rand(batch, FRAMES, BINS["cqt"], device=args.device)
    y = torch.randint(classes, (batch,), device=args.device)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(forward(x), y).backward()
        optimiser.step()

    width = "1" if args.divisor == 1 else f"1/{args.divisor}"
    report(args, name(args), f"aacnn {width}, CQT, 25 %", batch, times(step, args.device, args.seconds))


if __name__ == "__main__":
    main()
