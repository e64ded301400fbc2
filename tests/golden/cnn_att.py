"""`cnn-att` with formula weights on clips of 2, 1, 3 and 2 patches: probabilities, gradients, ten steps of training."""

import torch
from torch import Tensor

from cnn26 import CnnAtt
from formula import MASK_SALT, Y_SALT, frac, set_weights
from ismir19 import CLASSES, bce
from models import NOISE, summary
from visual import LENGTHS, clips

PARAMETERS = 467_864
BATCHES = [slice(0, 3), slice(3, 4)]
STEPS, DECAY = 10, 0.01
WHOLE = 200  # entries up to which a gradient is stored whole


def model_of(dtype: torch.dtype) -> CnnAtt:
    model = CnnAtt().to(dtype)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    set_weights(model)
    return model


def data(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Patches (B, T, 96, 64), lengths (B), labels and mask (B, K)."""
    labels, known = (torch.from_numpy(frac((len(LENGTHS), CLASSES), salt)) for salt in (Y_SALT, MASK_SALT))
    return clips(True).to(dtype), torch.tensor(LENGTHS), (labels < 0.4).to(dtype), (known < 0.3).to(dtype)


def train(dtype: torch.dtype, cycle: bool) -> dict[str, Tensor]:
    """The loss of each step before its update, by gradient descent, or by AdamW and a one-cycle learning rate; then in
    evaluation."""
    model, (x, lengths, y, mask) = model_of(dtype), data(dtype)
    if cycle:
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-4, STEPS, cycle_momentum=False)
    else:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    losses = []
    for i in range(STEPS):
        batch = BATCHES[i % len(BATCHES)]
        loss = bce(model(x[batch], lengths[batch]), y[batch], mask[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        after = bce(model(x, lengths), y, mask)
    return {"steps": torch.tensor(losses, dtype=dtype), "after": after.reshape(1)}


def cnn_att() -> dict[str, Tensor]:
    """All tensors of `cnn-att.safetensors`."""
    model, (x, lengths, y, mask) = model_of(torch.float64), data(torch.float64)
    model.eval()
    with torch.no_grad():
        p, attention = model.predict(x, lengths)
    model.train()
    loss = bce(model(x, lengths), y, mask)
    loss.backward()
    out = {"p": p, "attention": attention, "loss": loss.reshape(1)}
    for parameter, value in model.named_parameters():
        grad = torch.where(value.grad.abs() < NOISE, 0.0, value.grad)
        if grad.numel() <= WHOLE:
            out[f"grad.{parameter}"] = grad
        else:
            out |= {f"grad.{parameter}.{kind}": part for kind, part in summary(grad).items()}
    out |= {f"running.{buffer}": value for buffer, value in model.named_buffers() if "running" in buffer}
    for name, cycle in [("sgd", False), ("cycle", True)]:
        f64, f32 = train(torch.float64, cycle), train(torch.float32, cycle)
        gap = ((f32["steps"] - f64["steps"]) / f64["steps"]).abs().max().item()
        print(f"cnn-att, {name}: f32 and f64 losses differ by at most {gap:.1e}")
        out |= {f"{name}.{key}": value for key, value in f64.items()}
    return out
