"""The classifier on learned representations, and the pre-training of its front end, in PyTorch (Taenzer, Mimilakis, Abesser 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ismir19 import BANDS, CLASSES, HIDDEN, attention_pool
from visual20 import EMBEDDING, Vggish


class AttGn(nn.Module):
    """`att-gn`: three layers with ReLU, a group norm of each clip, and a skip from the input; then attention pooling."""

    default_lr = 5e-4

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        assert dropout == 0.0, "att-gn has no dropout"
        self.conv = nn.ModuleList(nn.Linear(BANDS, HIDDEN) for _ in range(3))
        self.norm = nn.GroupNorm(32, HIDDEN)
        self.att = nn.Linear(HIDDEN, CLASSES)
        self.cla = nn.Linear(HIDDEN, CLASSES)

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention and instance logits, (B, T, K) each."""
        h = x
        for layer in self.conv:
            h = F.relu(layer(h))
        h = self.norm(h.transpose(1, 2)).transpose(1, 2) + x
        return self.att(h), self.cla(h)

    def forward(self, x: Tensor) -> Tensor:
        return attention_pool(*self.logits(x))


MODELS = {"att-gn": AttGn}


class Tags(Vggish):
    """As all objectives, VGGish and a head, with the `loss` of log-mel patches (B, 96, 64) and targets (B, K)."""

    def __init__(self, classes: int, divisor: int):
        super().__init__(divisor)
        self.head = nn.ModuleDict({"out": nn.Linear(EMBEDDING, classes)})

    def loss(self, x: Tensor, target: Tensor, draws=None) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.head["out"](self(x)), target)


class Textual(Vggish):
    """`words` (K, D): the vectors."""

    def __init__(self, classes: int, divisor: int, words: Tensor):
        super().__init__(divisor)
        self.words, width = words, words.shape[1]
        self.head = nn.ModuleDict(
            {"bn": nn.BatchNorm1d(EMBEDDING), "0": nn.Linear(EMBEDDING, width), "1": nn.Linear(width, width)}
        )

    def loss(self, x: Tensor, target: Tensor, draws=None) -> Tensor:
        out = self.head["1"](torch.tanh(self.head["0"](self.head["bn"](self(x)))))
        return F.cosine_embedding_loss(out, target @ self.words, torch.ones(len(x), dtype=x.dtype), margin=0.5)


class Up(nn.Module):
    """A transposed convolution along time of x (B, C, T); weight (k N, C): columns (j, n)."""

    def __init__(self, inputs: int, channels: int, size: int):
        super().__init__()
        self.size, bound = size, (6 / (size * (inputs + channels))) ** 0.5
        self.weight = nn.Parameter(torch.empty(size * channels, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.view(self.size, -1, x.shape[1]).permute(2, 1, 0)
        return F.conv_transpose1d(x, w, self.bias)


class Denoise(Vggish):
    """Draws: the corrupted patches."""

    def __init__(self, classes: int, divisor: int):
        super().__init__(divisor)
        self.decoder = nn.ModuleList([Up(128, 128, 10), Up(128, 64, 21), Up(64, 64, 31), Up(64, 64, 37)])

    def loss(self, x: Tensor, target: Tensor, draws: Tensor) -> Tensor:
        h = self(draws).unsqueeze(2)
        for up, slope in zip(self.decoder, [0.1, 0.25, 0.5, 1.0]):
            h = F.leaky_relu(up(h), slope)
        return F.mse_loss(h.transpose(1, 2), x)


def nt_xent(a: Tensor, g: Tensor, tau: float = 0.1) -> Tensor:
    u = F.normalize(torch.cat([a, g]), dim=1, eps=1e-8)
    scores = (u @ u.T / tau).masked_fill(torch.eye(len(u), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(scores, (torch.arange(len(u)) + len(a)) % len(u))


class Align(Vggish):
    """Draws: factors of dropout after each of the tag encoder's layers."""

    widths = [512, 512, 1152]

    def __init__(self, classes: int, divisor: int):
        super().__init__(divisor)
        self.sound = nn.ModuleDict({"out": nn.Linear(EMBEDDING, 1152)})
        inputs = [classes] + self.widths
        layers = {str(i): nn.Linear(inputs[i], inputs[i + 1]) for i in range(3)}
        norms = nn.ModuleList(nn.BatchNorm1d(width) for width in self.widths)
        self.tags = nn.ModuleDict(layers | {"bn": norms, "out": nn.Linear(1152, 1152, bias=False)})

    def loss(self, x: Tensor, target: Tensor, draws: list[Tensor]) -> Tensor:
        h = target
        for i in range(3):
            h = F.relu(self.tags["bn"][i](self.tags[str(i)](h))) * draws[i]
        return nt_xent(self.sound["out"](self(x)), self.tags["out"](h) * draws[3])


OBJECTIVES = {"textual": Textual, "denoise-add": Denoise, "denoise-mul": Denoise, "align": Align, "tags": Tags}
