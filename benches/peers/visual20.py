"""VGGish (Hershey et al. 2017) and the visual attention models on its feature maps (Watcharasupat, Gururani, Lerch 2020) in PyTorch.

Shared by the benchmark peer `audio.py` and by `tests/golden/make_golden.py`. VGGish's layers are numbered as in torchvggish's state dict.
Dimensions: M patches, B clips, T patches of a clip, C = 512 / divisor channels, D = 4096 / divisor dense units, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ismir19 import CLASSES, bce

FRAMES, BANDS, EMBEDDING = 96, 64, 128
ROWS, COLUMNS = 6, 4  # time steps and frequency bands of the last feature maps
FILTERS = [64, None, 128, None, 256, 256, None, 512, 512, None]  # None: 2 x 2 max pooling


def convolutions(divisor: int) -> nn.Sequential:
    """Log-mel patches (M, 1, 96, 64) to maps (M, C, 6, 4)."""
    layers, channels = [], 1
    for filters in FILTERS:
        if filters is None:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, filters // divisor, 3, padding=1), nn.ReLU()]
            channels = filters // divisor
    return nn.Sequential(*layers)


class Vggish(nn.Module):
    """Log-mel patches (M, 96, 64) to embeddings (M, 128); `divisor` divides the widths of all layers except the last."""

    def __init__(self, divisor: int = 1, last_relu: bool = True):
        super().__init__()
        maps, dense = ROWS * COLUMNS * 512 // divisor, 4096 // divisor
        self.last_relu = last_relu
        self.features = convolutions(divisor)
        self.embeddings = nn.Sequential(
            nn.Linear(maps, dense), nn.ReLU(), nn.Linear(dense, dense), nn.ReLU(), nn.Linear(dense, EMBEDDING)
        )

    def maps(self, patches: Tensor) -> Tensor:
        """(M, 6, 4, C): channels last, the order in which the dense layer flattens them."""
        return self.features(patches.unsqueeze(1)).permute(0, 2, 3, 1)

    def forward(self, patches: Tensor) -> Tensor:
        y = self.embeddings(self.maps(patches).flatten(1))
        return F.relu(y) if self.last_relu else y


def norm_valid(bn: nn.BatchNorm1d, x: Tensor, valid: Tensor) -> Tensor:
    """Batch norm of the positions of x (B, P, F) that are `valid` (B, P); 0 elsewhere."""
    return torch.zeros_like(x).masked_scatter(valid.unsqueeze(-1), bn(x[valid]))


class Visual(nn.Module):
    """`att-tf`, `att-tf-id`, `att-t` or `fc-tf` without dropout, on maps or, with `convolve`, on log-mel patches of clips of T patches.

    Probabilities (B, K) of x (B, T, 6, 4, C) or (B, T, 96, 64); the first `lengths[b]` patches of a clip are valid.
    """

    def __init__(self, variant: str, divisor: int, patches: int, convolve: bool):
        super().__init__()
        self.variant, self.columns = variant, 1 if variant == "att-t" else COLUMNS
        if convolve:
            self.features = convolutions(divisor)
        self.embeddings = nn.Sequential(nn.Linear(ROWS * COLUMNS * 512 // divisor, 4096 // divisor))
        self.proj = nn.Linear(4096 // divisor, EMBEDDING, bias=False)
        self.bn_in = nn.BatchNorm1d(EMBEDDING)
        self.fc = nn.ModuleList(nn.Linear(EMBEDDING, EMBEDDING, bias=False) for _ in range(3))
        self.bn = nn.ModuleList(nn.BatchNorm1d(EMBEDDING) for _ in range(3))
        if variant == "fc-tf":
            self.out = nn.Linear(patches * ROWS * COLUMNS * EMBEDDING, CLASSES)
        else:
            inputs = EMBEDDING + (COLUMNS if variant == "att-tf-id" else 0)
            self.att, self.cla = nn.Linear(inputs, CLASSES), nn.Linear(inputs, CLASSES)

    def segments(self, maps: Tensor) -> Tensor:
        """Maps (M, 6, 4, C) through the dense layer, every position by its own columns of the weights: (M, 6 or 24, D)."""
        dense = self.embeddings[0]
        blocks = dense.weight.view(dense.out_features, *maps.shape[1:])
        y = torch.einsum("mtfc,dtfc->mtfd", maps, blocks)
        if self.variant == "att-t":
            y = y.sum(2, keepdim=True)
        return F.relu(y + dense.bias).flatten(1, 2)

    def predict(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities, and attention (B, P, K) for the variants that have it."""
        b, t = x.shape[:2]
        x = x.flatten(0, 1)
        if hasattr(self, "features"):
            x = self.features(x.unsqueeze(1)).permute(0, 2, 3, 1)
        x = self.proj(self.segments(x)).view(b, t * ROWS * self.columns, EMBEDDING)
        places = torch.arange(x.shape[1], device=x.device) // (ROWS * self.columns)
        valid = places < lengths.unsqueeze(1)
        x = h = norm_valid(self.bn_in, x, valid)
        for fc, bn in zip(self.fc, self.bn):
            h = F.relu(norm_valid(bn, fc(h), valid))
        h = h + x
        if self.variant == "fc-tf":
            return torch.sigmoid(self.out(h.flatten(1))), None
        if self.variant == "att-tf-id":
            band = F.one_hot(torch.arange(h.shape[1], device=h.device) % COLUMNS, COLUMNS).to(h)
            h = torch.cat([h, band.expand(b, -1, -1)], 2)
        a = torch.sigmoid(self.att(h)).clamp(1e-7, 1 - 1e-7) * valid.unsqueeze(-1)
        a = a / a.sum(1, keepdim=True)
        return F.hardtanh((a * torch.sigmoid(self.cla(h))).sum(1), 0.0, 1.0), a

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.predict(x, lengths)[0]


PATCHES = {
    "sr16": [(7, 57), (7, 25), (128, 1), (64, 1), (32, 1)],
    "ram16-rnn": [(12, 12)],
    "ram16-gru": [(12, 12)],
}


class Sightreader(nn.Module):
    """`sr16`, `ram16-rnn` or `ram16-gru` on x (B, T, F), of which the first `lengths[b]` frames of a clip are valid.

    `predict`: in evaluation it starts at the centre and follows the policy's mean; probabilities (B, K), locations (B, 16, 2).
    """

    GLIMPSES, FEATURES, HIDDEN, SIGMA = 16, 128, 256, 0.17

    def __init__(self, name: str):
        super().__init__()
        self.patches = PATCHES[name]
        cell = nn.RNNCell if name == "ram16-rnn" else nn.GRUCell
        self.sensor = nn.ModuleDict({
            "patches": nn.Linear(sum(frames * bands for frames, bands in self.patches), self.FEATURES),
            "location": nn.Linear(2, self.FEATURES),
            "joint": nn.Linear(self.FEATURES, self.FEATURES),
        })
        self.core = cell(self.FEATURES, self.HIDDEN)
        self.location, self.baseline = nn.Linear(self.HIDDEN, 2), nn.Linear(self.HIDDEN, 1)
        self.classifier = nn.Linear(self.HIDDEN, CLASSES)

    def glimpse(self, x: Tensor, location: Tensor, length: int) -> Tensor:
        """The flat patches (N) of one clip's valid frames x (n, F) around `location` (2); 0 outside."""
        cells = []
        for size in self.patches:
            starts = []
            for place, axis, cut in zip(location.tolist(), (length, x.shape[1]), size):
                start = 0.5 * (place + 1) * (axis - 1) + 1 - cut / 2
                assert abs(start - round(start)) > 1e-4 or place in (-1, 0, 1), "f32 could round this to the cell beside"
                starts.append(int(start // 1))
            patch = x.new_zeros(size)
            for i in range(size[0]):
                for j in range(size[1]):
                    t, f = starts[0] + i, starts[1] + j
                    if 0 <= t < length and 0 <= f < x.shape[1]:
                        patch[i, j] = x[t, f]
            cells.append(patch.flatten())
        return torch.cat(cells)

    def step(self, x: Tensor, lengths: list[int], location: Tensor, h: Tensor) -> Tensor:
        patches = torch.stack([self.glimpse(*clip) for clip in zip(x, location, lengths)])
        q = self.sensor["patches"](patches) + self.sensor["location"](location)
        return self.core(F.relu(self.sensor["joint"](q)), h)

    def predict(self, x: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        location, h = x.new_zeros(len(x), 2), x.new_zeros(len(x), self.HIDDEN)
        path = []
        for _ in range(self.GLIMPSES):
            path.append(location)
            h = self.step(x, lengths, location, h)
            location = torch.tanh(self.location(h))
        return torch.sigmoid(self.classifier(h)), torch.stack(path, 1)

    def losses(self, x: Tensor, lengths: list[int], y: Tensor, mask: Tensor, first: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Classification loss, and the policy's and the baseline's, of locations that begin at `first` (B, 2) and then are drawn around
        the policy's mean with the standard normal `noise` (B, 15, 2). Every clip must have a known label."""
        location, h = first, x.new_zeros(len(x), self.HIDDEN)
        earned, own, choice = 0, 0, None
        for j in range(self.GLIMPSES):
            h = self.step(x, lengths, location, h)
            p = torch.sigmoid(self.classifier(h))
            assert (p - 0.5).abs().min() > 1e-5, "f32 could give another prediction"
            earned = earned + (((p >= 0.5) == (y >= 0.5)) * mask).sum(1) / mask.sum(1)
            if choice is not None:
                policy, drawn, baseline = choice
                own = own - ((earned - baseline.detach()) * policy.log_prob(drawn).sum(1)).mean() + (earned - baseline).square().mean()
            if j + 1 < self.GLIMPSES:
                mu = torch.tanh(self.location(h.detach()))
                drawn = (mu + self.SIGMA * noise[:, j]).detach()
                choice = torch.distributions.Normal(mu, self.SIGMA), drawn, self.baseline(h.detach()).squeeze(1)
                location = drawn.clamp(-1, 1)
        return bce(p, y, mask), own
