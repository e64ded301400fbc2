"""PyTorch peer of `wmic train`: the same models, data, optimiser and protocol, on CUDA where there is one.

    python benches/peers/torch_att.py DATASET --model att --seeds 3 --epochs 100     train, print test metrics as JSON
    python benches/peers/torch_att.py DATASET --model att --bench 5                  time training steps, print JSON
    python benches/peers/torch_att.py DATASET --model att --bench 5 --mode graphs    the same as a CUDA graph

DATASET is a folder in the OpenMIC-2018 layout. Its npz holds pickled keys: run this on data you trust.
Needs torch and numpy, and scikit-learn to test what was trained. To be fair to PyTorch: features live on the device as
f32, Adam is fused, nothing waits for the device inside an epoch, and one thread runs per available core. Seeds run one
after the other.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ismir19 import LOSSES, bce
from ismir19 import MODELS as ISMIR19
from partial20 import MODELS as PARTIAL20
from timing import MODES, about, captured, in_mode, name, options, positive, prepare, report, times

MODELS = ISMIR19 | PARTIAL20
DEFAULT_EPOCHS = {"att": 250, "fc": 100, "fc-t": 100, "rnn": 100, "bilstm-att": 200}
DEFAULT_BATCH = {"bilstm-att": 32}
VAL_FRACTION = 0.15


class Split(NamedTuple):
    """Clips on the device: x (N, T, F) divided by 255, labels and mask (N, K) as 0 or 1, all f32."""

    x: Tensor
    y: Tensor
    mask: Tensor

    def at(self, index: Tensor) -> "Split":
        return Split(*(t.index_select(0, index) for t in self))


def load(folder: Path, device: torch.device) -> tuple[Split, Split]:
    """The training and the test split of an OpenMIC-layout folder."""
    with np.load(folder / "openmic-2018.npz", allow_pickle=True) as arrays:
        x = (arrays["X"] / 255).astype(np.float32)
        y = (arrays["Y_true"] >= 0.5).astype(np.float32)
        mask = arrays["Y_mask"].astype(np.float32)
        row = {key: i for i, key in enumerate(arrays["sample_key"])}

    def split(name: str) -> Split:
        keys = (folder / "partitions" / f"split01_{name}.csv").read_text().split()
        rows = [row[key] for key in keys]
        return Split(*(torch.from_numpy(a[rows]).to(device) for a in (x, y, mask)))

    return split("train"), split("test")


def batches(clips: int, batch: int, device: torch.device) -> tuple[Tensor, ...]:
    """One epoch of shuffled indices; the last batch keeps its true size."""
    return torch.randperm(clips, device=device).split(batch)


class Trainer:
    """One seed: model, optimiser and loss."""

    def __init__(self, args: argparse.Namespace, seed: int):
        torch.manual_seed(seed)
        cls = MODELS[args.model]
        self.model = cls().to(args.device) if args.dropout is None else cls(args.dropout).to(args.device)
        lr = cls.default_lr if args.lr is None else args.lr
        settings = dict(lr=lr, weight_decay=args.weight_decay, fused=True, capturable=args.device.type == "cuda")
        self.optimiser = torch.optim.Adam(self.model.parameters(), **settings)
        self.loss = LOSSES[args.loss]
        self.forward = in_mode(self.model, args)

    def step(self, data: Split) -> None:
        self.optimiser.zero_grad()
        self.loss(self.forward(data.x), data.y, data.mask).backward()
        self.optimiser.step()


@torch.no_grad()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Probabilities (N, K) in evaluation mode; the model is back in training mode afterwards."""
    model.eval()
    p = model(x)
    model.train()
    return p


def train(args: argparse.Namespace, data: Split, seed: int) -> tuple[nn.Module, int]:
    """The model at the epoch with the lowest validation loss, and that epoch (from 1)."""
    trainer = Trainer(args, seed)
    order = torch.randperm(len(data.x), device=args.device)
    held_out = round(VAL_FRACTION * len(order))
    val, fit = data.at(order[:held_out]), data.at(order[held_out:])
    best_loss, best_epoch, best_state = float("inf"), 0, {}
    for epoch in range(1, args.epochs + 1):
        for index in batches(len(fit.x), args.batch, args.device):
            trainer.step(fit.at(index))
        # The only synchronisation of the epoch.
        loss = trainer.loss(predict(trainer.model, val.x), val.y, val.mask).item()
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_state = {name: t.clone() for name, t in trainer.model.state_dict().items()}
    if not best_state:
        raise SystemExit(f"torch_att: validation loss of seed {seed} was never finite")
    trainer.model.load_state_dict(best_state)
    return trainer.model, best_epoch


def test_metrics(model: nn.Module, test: Split) -> dict[str, float]:
    """Loss, and mean over classes of average precision (map) and of macro F1 over absent and present (f1_pn)."""
    from sklearn.metrics import average_precision_score, f1_score

    p = predict(model, test.x)
    loss = bce(p, test.y, test.mask).item()
    p, y, mask = (t.cpu().numpy() for t in (p, test.y, test.mask))
    ap, f1 = [], []
    for k in range(p.shape[1]):
        seen = mask[:, k] > 0
        if not seen.any():
            continue
        f1.append(f1_score(y[seen, k], p[seen, k] >= 0.5, labels=[0, 1], average="macro", zero_division=0))
        if y[seen, k].any():
            ap.append(average_precision_score(y[seen, k], p[seen, k]))
    return {"loss": loss, "map": float(np.mean(ap)), "f1_pn": float(np.mean(f1))}


def run_training(args: argparse.Namespace, data: Split, test: Split) -> dict:
    per_seed = []
    for seed in range(args.seeds):
        start = time.perf_counter()
        model, best_epoch = train(args, data, seed)
        seconds = time.perf_counter() - start  # each epoch ends with a synchronisation, so no work is pending
        per_seed.append({"seed": seed, "best_epoch": best_epoch, "seconds": seconds, **test_metrics(model, test)})
    mean = {name: statistics.mean(s[name] for s in per_seed) for name in ("loss", "map", "f1_pn", "seconds")}
    return {"epochs": args.epochs, "per_seed": per_seed, "mean": mean}


def step_of(args: argparse.Namespace, data: Split) -> Callable[[], None]:
    """A training step on the next full batch, gather included."""
    if len(data.x) < args.batch:
        raise SystemExit(f"torch_att: {len(data.x)} training clips are fewer than a batch of {args.batch}")
    trainer = Trainer(args, seed=0)

    def endless() -> Iterator[Tensor]:
        while True:
            yield from (i for i in batches(len(data.x), args.batch, args.device) if len(i) == args.batch)

    indices = endless()
    if args.mode != "graphs":
        return lambda: trainer.step(data.at(next(indices)))
    index = next(indices).clone()
    replay = captured(lambda: trainer.step(data.at(index)), args.device)

    def step() -> None:
        index.copy_(next(indices))
        replay()

    return step


def arguments() -> argparse.Namespace:
    parser = options(__doc__.splitlines()[0], MODES)
    parser.add_argument("dataset", type=Path, help="folder in the OpenMIC-2018 layout")
    parser.add_argument("--model", choices=MODELS, default="att")
    parser.add_argument("--seeds", type=positive, default=1, help="count: seeds 0 .. N-1, one after the other [1]")
    parser.add_argument("--epochs", type=positive, help="[att 250, bilstm-att 200, others 100]")
    parser.add_argument("--batch", type=positive, help="clips [bilstm-att 32, others 128]")
    parser.add_argument("--lr", type=float, help="[5e-4, fc 1e-4]")
    parser.add_argument("--weight-decay", type=float, default=1e-5, help="L2, added to the gradient [1e-5]")
    parser.add_argument("--dropout", type=float, help="[att 0.6, bilstm-att 0.2, others 0.5]")
    parser.add_argument("--loss", choices=LOSSES, default="bce")
    parser.add_argument("--bench", type=float, metavar="SECONDS", help="time training steps for so long instead")
    args = parser.parse_args()
    args.epochs = args.epochs or DEFAULT_EPOCHS[args.model]
    args.batch = args.batch or DEFAULT_BATCH.get(args.model, 128)
    if args.mode == "graphs" and not args.bench:
        parser.error("--mode graphs is for --bench")
    prepare(args)
    return args


def main() -> None:
    args = arguments()
    data, test = load(args.dataset, args.device)
    if args.bench:
        report(args, name(args), args.model, args.batch, times(step_of(args, data), args.device, args.bench))
        return
    result = {"peer": name(args), "model": args.model, "batch": args.batch} | about(args)
    print(json.dumps(result | run_training(args, data, test)))


if __name__ == "__main__":
    main()
