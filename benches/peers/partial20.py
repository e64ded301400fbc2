"""BiLSTM-ATT in PyTorch (Anhari 2020), with the dropout of recurrent layers that PyTorch's LSTM does not have.

Tensor names are those of wmic's weight files.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ismir19 import BANDS, CLASSES, attention_pool

HIDDEN = 64


def unroll(cell, x: Tensor, mask: Tensor, reverse: bool) -> Tensor:
    """The states h (B, T, H) of a cell over x (B, T, F). Its products use h times the mask (B, H), the same in all steps.
    `cell` maps (x_t, masked h, h, c) to (h, c)."""
    steps = range(x.shape[1] - 1, -1, -1) if reverse else range(x.shape[1])
    h = c = torch.zeros_like(mask)
    out = {}
    for t in steps:
        h, c = cell(x[:, t], h * mask, h, c)
        out[t] = h
    return torch.stack([out[t] for t in range(x.shape[1])], 1)


def lstm_cell(w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor):
    def cell(x: Tensor, seen: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, n, o = (F.linear(x, w_ih, b_ih) + F.linear(seen, w_hh, b_hh)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(n)
        return torch.sigmoid(o) * torch.tanh(c), c

    return cell


def gru_cell(w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor):
    def cell(x: Tensor, seen: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        (xr, xz, xn), (hr, hz, hn) = F.linear(x, w_ih, b_ih).chunk(3, 1), F.linear(seen, w_hh, b_hh).chunk(3, 1)
        z = torch.sigmoid(xz + hz)
        return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h, c

    return cell


class BilstmAtt(nn.Module):
    """`bilstm-att`: a bidirectional LSTM, dropout with one mask per clip on its input and its states, then attention pooling."""

    default_lr = 5e-4

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        self.dropout = dropout
        self.lstm = nn.LSTM(BANDS, HIDDEN, batch_first=True, bidirectional=True)
        self.att = nn.Linear(2 * HIDDEN, CLASSES)
        self.cla = nn.Linear(2 * HIDDEN, CLASSES)
        for layer in [self.att, self.cla]:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def masks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Dropout's factors of the input (B, F), and of the states (2, B, H), forward direction first."""
        return F.dropout(x.new_ones(len(x), x.shape[2]), self.dropout), F.dropout(x.new_ones(2, len(x), HIDDEN), self.dropout)

    def states(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return self.lstm(x)[0]
        of_input, of_states = self.masks(x)
        x = of_input[:, None] * x
        ways = []
        for suffix, mask, reverse in [("", of_states[0], False), ("_reverse", of_states[1], True)]:
            parts = [getattr(self.lstm, f"{part}_l0{suffix}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            ways.append(unroll(lstm_cell(*parts), x, mask, reverse))
        return torch.cat(ways, 2)

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention and instance logits, (B, T, K) each."""
        h = self.states(x)
        return self.att(h), self.cla(h)

    def forward(self, x: Tensor) -> Tensor:
        return attention_pool(*self.logits(x))


MODELS = {"bilstm-att": BilstmAtt}
