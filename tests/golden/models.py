"""Whole models with formula weights: probabilities, loss, gradients, and a 10-step training-loss trajectory."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from formula import dataset, philox, set_weights
from ismir19 import BANDS, CLASSES, INSTANCES, LOSSES, attention_weights, bce
from ismir19 import MODELS as ISMIR19
from learned21 import MODELS as LEARNED21
from partial20 import HIDDEN, MODELS as PARTIAL20

MODELS = ISMIR19 | PARTIAL20 | LEARNED21
PARAMETERS = {"att": 55_336, "fc": 986_772, "fc-t": 52_116, "rnn": 226_068, "bilstm-att": 104_488, "att-gn": 54_952}
CASE_CLIPS, TRAJECTORY_CLIPS, BATCH, STEPS = 9, 40, 16, 10
WEIGHT_DECAY = 1e-5
FULL_GRADIENTS = 100_000  # parameters up to which a model's gradients are stored whole
SAMPLES = 64
SEED, STEP, DRAW = 5, 0, 0xD20  # of dropout's draws
RAGGED = [10, 4, 1, 7]  # valid instances of the first clips
NOISE = 1e-12  # smaller gradients are f64 rounding of a true 0 (a bias before batch norm) and are stored as 0


def build(name: str, dtype: torch.dtype, dropout: float = 0.0) -> nn.Module:
    """The model with formula weights, in training mode."""
    model = MODELS[name](dropout=dropout).to(dtype)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    set_weights(model)
    return model


def data(clips: int) -> tuple[Tensor, Tensor, Tensor]:
    return dataset(clips, INSTANCES, BANDS, CLASSES)


def summary(grad: Tensor) -> dict[str, Tensor]:
    """L2 norm and sum, and up to 64 entries at an odd stride, so that they are in different columns."""
    flat = grad.flatten()
    samples = flat[:: flat.numel() // SAMPLES | 1][:SAMPLES]
    return {"norm_sum": torch.stack([flat.norm(), flat.sum()]), "samples": samples}


def step(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The loss of a training step on the case's clips, its gradients, and the running statistics after it."""
    x, y, mask = data(CASE_CLIPS)
    model.train()
    loss = bce(model(x), y, mask)
    loss.backward()
    out = {"loss": loss.reshape(1)}
    for parameter, value in model.named_parameters():
        grad = torch.where(value.grad.abs() < NOISE, 0.0, value.grad)
        if PARAMETERS[name] <= FULL_GRADIENTS:
            out[f"grad.{parameter}"] = grad
        else:
            out |= {f"grad.{parameter}.{kind}": part for kind, part in summary(grad).items()}
    out |= {f"after.{buffer}": value for buffer, value in model.named_buffers() if "running" in buffer}
    return out


def factors(rows: int, width: int, p: float, stream: int) -> Tensor:
    """The dropout factors (rows, width) of a stream of `src/ops/clip_dropout.rs`."""
    words = [word for i in range(0, rows * width, 4) for word in philox([i // 4, stream, STEP, DRAW], [SEED, 0])]
    kept = torch.tensor(words[: rows * width]) >= int(p * 2**32)
    return kept.double().reshape(rows, width) / (1 - p)


def dropout_step(name: str) -> dict[str, Tensor]:
    """A training step of `bilstm-att` with its own dropout and the masks of seed 5 in step 0: the input's are stream 0,
    the states' (B, 2 H) are stream 1."""
    p = MODELS[name]().dropout
    model = build(name, torch.float64, p)
    states = factors(CASE_CLIPS, 2 * HIDDEN, p, 1).reshape(CASE_CLIPS, 2, HIDDEN).transpose(0, 1)
    model.masks = lambda x: (factors(*x[:, 0].shape, p, 0), states)
    return step(name, model)


def ragged(model: nn.Module) -> Tensor:
    """Predictions of `rnn` for packed clips: from its output at the last valid instance of each, in both directions."""
    lengths = torch.tensor(RAGGED)
    x = data(len(RAGGED))[0]
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    h, _ = pad_packed_sequence(model.rnn(packed)[0], batch_first=True)
    return torch.sigmoid(model.out(h[torch.arange(len(RAGGED)), lengths - 1]))


def case(name: str) -> dict[str, Tensor]:
    """All tensors of `<model>.safetensors`."""
    model = build(name, torch.float64)
    x, *_ = data(CASE_CLIPS)
    model.eval()
    with torch.no_grad():
        out = {"p": model(x)}
        if hasattr(model, "logits"):
            out["attention"] = attention_weights(model.logits(x)[0])
        if name == "rnn":
            out["ragged.p"] = ragged(model)
    out |= step(name, model)
    if name == "bilstm-att":
        out |= {f"dropout.{tensor}": value for tensor, value in dropout_step(name).items()}
    return out


def train(name: str, loss_name: str, dtype: torch.dtype) -> dict:
    """Loss of each step before its update, and the evaluation-mode loss over all clips after the last one."""
    model, loss_of = build(name, dtype), LOSSES[loss_name]
    x, y, mask = (t.to(dtype) for t in data(TRAJECTORY_CLIPS))
    optimiser = torch.optim.Adam(model.parameters(), lr=model.default_lr, weight_decay=WEIGHT_DECAY)
    starts = range(0, TRAJECTORY_CLIPS, BATCH)
    losses = []
    for i in range(STEPS):
        batch = slice(starts[i % len(starts)], starts[i % len(starts)] + BATCH)
        loss = loss_of(model(x[batch]), y[batch], mask[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        return {"loss": losses, "eval_loss_after": loss_of(model(x), y, mask).item()}


def trajectories() -> list[dict]:
    """The content of `trajectory.json`."""
    out = []
    for name, loss_name in [("att", "bce"), ("att", "partial-bce"), ("fc", "bce"), ("fc-t", "bce"),
                             ("rnn", "bce"), ("bilstm-att", "bce"), ("att-gn", "bce")]:
        f64, f32 = train(name, loss_name, torch.float64), train(name, loss_name, torch.float32)
        gap = max(abs(a - b) / b for a, b in zip(f32["loss"], f64["loss"]))
        out.append({"model": name, "loss": loss_name, "lr": MODELS[name].default_lr, "weight_decay": WEIGHT_DECAY,
                    "batch": BATCH, "clips": TRAJECTORY_CLIPS, "max_relative_gap": gap, "f64": f64, "f32": f32})
    return out
