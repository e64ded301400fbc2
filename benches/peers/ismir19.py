"""The four ISMIR19 networks and their losses in PyTorch (Gururani, Sharma, Lerch 2019).

Shared by the benchmark peer `torch_att.py` and by `tests/golden/make_golden.py`, so that what is timed is what
the golden files pin. Tensor names are those of wmic's weight files. Dimensions: B clips, T instances, F bands,
K classes. Every model maps x (B, T, F), the features divided by 255, to probabilities (B, K).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INSTANCES, BANDS, HIDDEN, CLASSES = 10, 128, 128, 20


def attention_weights(att_logits: Tensor) -> Tensor:
    """Attention of each class over the instances, (B, T, K): clamped sigmoids that sum to 1 over T."""
    a = torch.sigmoid(att_logits).clamp(1e-7, 1 - 1e-7)
    return a / a.sum(1, keepdim=True)


def attention_pool(att_logits: Tensor, cla_logits: Tensor) -> Tensor:
    """Attention-weighted mean over T of the instance probabilities: (B, T, K) and (B, T, K) to (B, K)."""
    return F.hardtanh((attention_weights(att_logits) * torch.sigmoid(cla_logits)).sum(1), 0.0, 1.0)


class Att(nn.Module):
    """`att`: embedding of three layers with a skip from the raw input, then attention pooling."""

    default_lr = 5e-4

    def __init__(self, dropout: float = 0.6):
        super().__init__()
        self.dropout = dropout
        self.bn_in = nn.BatchNorm1d(BANDS)
        self.fc = nn.ModuleList(nn.Linear(BANDS, HIDDEN, bias=False) for _ in range(3))
        self.bn = nn.ModuleList(nn.BatchNorm1d(HIDDEN) for _ in range(3))
        self.att = nn.Linear(HIDDEN, CLASSES)
        self.cla = nn.Linear(HIDDEN, CLASSES)
        for layer in [*self.fc, self.att, self.cla]:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # +-sqrt(6 / fan_in)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention and instance logits, (B, T, K) each."""
        rows = x.flatten(0, 1)  # (B T, F): batch-norm statistics are over B x T
        h = self.bn_in(rows)
        for fc, bn in zip(self.fc, self.bn):
            h = F.dropout(F.relu(bn(fc(h))), self.dropout, self.training)
        h = h + rows
        shape = (*x.shape[:2], CLASSES)
        return self.att(h).view(shape), self.cla(h).view(shape)

    def forward(self, x: Tensor) -> Tensor:
        return attention_pool(*self.logits(x))


class Fc(nn.Module):
    """`fc`: a plain network on the flattened instances."""

    default_lr = 1e-4

    def __init__(self, dropout: float = 0.5):
        super().__init__()
        self.dropout = dropout
        widths = [INSTANCES * BANDS, 512, 512, 128]
        self.fc = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))
        self.out = nn.Linear(widths[-1], CLASSES)
        init_xavier([*self.fc, self.out])

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)
        for fc in self.fc:
            h = F.leaky_relu(F.dropout(fc(h), self.dropout, self.training), 0.01)
        return torch.sigmoid(self.out(h))


class FcT(nn.Module):
    """`fc-t`: the layers of `att` per instance without batch norm, then the mean over instances."""

    default_lr = 5e-4

    def __init__(self, dropout: float = 0.5):
        super().__init__()
        self.dropout = dropout
        self.fc = nn.ModuleList(nn.Linear(BANDS, HIDDEN) for _ in range(3))
        self.out = nn.Linear(HIDDEN, CLASSES)
        init_xavier([*self.fc, self.out])

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for fc in self.fc:
            h = F.leaky_relu(F.dropout(fc(h), self.dropout, self.training), 0.01)
        return torch.sigmoid(self.out((h + x).mean(1)))


class Rnn(nn.Module):
    """`rnn`: three bidirectional GRU layers; the output at the last instance. PyTorch's default initialisation."""

    default_lr = 5e-4

    def __init__(self, dropout: float = 0.5):
        super().__init__()
        self.rnn = nn.GRU(BANDS, 64, num_layers=3, batch_first=True, dropout=dropout, bidirectional=True)
        self.out = nn.Linear(128, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.rnn(x)[0][:, -1]))


def init_xavier(layers: list[nn.Linear]) -> None:
    """Xavier normal weights, zero biases."""
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


MODELS = {"att": Att, "fc": Fc, "fc-t": FcT, "rnn": Rnn}


def bce(p: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy over the observed entries of the batch; p, y, mask (B, K), mask 0 or 1."""
    return F.binary_cross_entropy(p, y, weight=mask, reduction="sum") / mask.sum()


def partial_bce(p: Tensor, y: Tensor, mask: Tensor, alpha=1.0, beta=0.0, gamma=-1.0) -> Tensor:
    """ISMIR19 Eq. 4: per clip g(o) / K times the sum over observed entries, g(o) = alpha o^gamma + beta with o the
    observed fraction of the K classes; then the mean over all clips, to which a clip without labels adds 0."""
    observed = mask.sum(1)
    fraction = observed.clamp(min=1) / mask.shape[1]  # never 0: 0^-1 would turn the empty sum into NaN
    g = torch.where(observed > 0, alpha * fraction**gamma + beta, 0.0)
    per_clip = F.binary_cross_entropy(p, y, weight=mask, reduction="none").sum(1)
    return (g / mask.shape[1] * per_clip).mean()


LOSSES = {"bce": bce, "partial-bce": partial_bce}
