"""`cnn-att` in PyTorch: convolutions over the log-mel spectrogram of a clip, then attention over blocks of 0.48 s.

    python benches/peers/cnn26.py              time a training step of 32 clips of 10 s, print JSON

Dimensions: B clips, T patches of a clip (96 frames of 64 bands), P = 2 T blocks, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ismir19 import CLASSES, bce
from timing import MODES, captured, in_mode, name, options, prepare, report, times

FRAMES, BANDS, BLOCKS_OF_PATCH, EMBEDDING = 96, 64, 2, 128
BLOCKS = [[16], [32], [64, 64], [128, 128], [128]]  # filters; all but the last end with a 2 x 2 pool


def norm(bn: nn.Module, x: Tensor, valid: Tensor | None) -> Tensor:
    """Batch norm of maps x (B, C, H, W); with `valid` (B, P) only over the rows of valid blocks, and 0 elsewhere."""
    if valid is None:
        return bn(x)
    rows = valid.repeat_interleave(x.shape[2] // valid.shape[1], 1)
    x = x.permute(0, 2, 3, 1)
    y = torch.zeros_like(x)
    y[rows] = bn(x[rows].transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
    return y.permute(0, 3, 1, 2)


class CnnAtt(nn.Module):
    """Probabilities (B, K) of log-mel patches x (B, T, 96, 64), of which the first `lengths[b]` are valid; all without
    `lengths`."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        widths = [filters for block in BLOCKS for filters in block]
        self.dropout = dropout
        self.bn_in = nn.BatchNorm2d(BANDS, affine=False)
        self.conv = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False) for inputs, outputs in zip([1, *widths], widths)
        )
        self.bn = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.fc = nn.Linear(2 * widths[-1], EMBEDDING)
        self.att, self.cla = nn.Linear(EMBEDDING, CLASSES), nn.Linear(EMBEDDING, CLASSES)

    def predict(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Probabilities, and attention (B, P, K)."""
        b, t = x.shape[:2]
        blocks = t * BLOCKS_OF_PATCH
        valid = None
        if lengths is not None:
            valid = torch.arange(blocks) // BLOCKS_OF_PATCH < lengths.unsqueeze(1)
        x = norm(self.bn_in, x.reshape(b, t * FRAMES, BANDS, 1).permute(0, 2, 1, 3), valid)
        x = x.permute(0, 3, 2, 1)  # (B, 1, frames, bands)
        layers = iter(zip(self.conv, self.bn))
        for i, block in enumerate(BLOCKS):
            if i > 0:
                x = F.max_pool2d(x, 2)
            for _ in block:
                conv, bn = next(layers)
                x = F.relu(norm(bn, conv(x), valid))
        h = torch.cat([x.amax(3), x.mean(3)], 1).unflatten(2, (blocks, -1)).mean(3).transpose(1, 2)
        h = F.dropout(F.relu(self.fc(h)), self.dropout, self.training)
        a = torch.sigmoid(self.att(h)).clamp(1e-7, 1 - 1e-7)
        a = a if valid is None else a * valid.unsqueeze(-1)
        a = a / a.sum(1, keepdim=True)
        return F.hardtanh((a * torch.sigmoid(self.cla(h))).sum(1), 0.0, 1.0), a

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.predict(x, lengths)[0]


def main() -> None:
    parser = options(__doc__.splitlines()[0], MODES)
    parser.add_argument("--seconds", type=float, default=5, help="time for the measurement [5]")
    args = parser.parse_args()
    prepare(args)
    batch, device = 32, args.device
    model = CnnAtt(0.3).to(device)
    forward = in_mode(model, args)
    x = torch.randn(batch, 10, FRAMES, BANDS, device=device)
    y, mask = (torch.rand(batch, CLASSES, device=device).lt(most).float() for most in (0.5, 0.3))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True, capturable=device.type == "cuda")

    def step() -> None:
        optimiser.zero_grad()
        bce(forward(x), y, mask).backward()
        optimiser.step()

    run = captured(step, device) if args.mode == "graphs" else step
    report(args, name(args), "cnn-att", batch, times(run, device, args.seconds))


if __name__ == "__main__":
    main()
