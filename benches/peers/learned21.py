"""The classifier on learned representations in PyTorch (Taenzer, Mimilakis, Abesser 2021), as `ismir19.py`."""

from torch import Tensor, nn
from torch.nn import functional as F

from ismir19 import BANDS, CLASSES, HIDDEN, attention_pool


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
