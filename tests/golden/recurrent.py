"""Recurrent layers on small shapes: both directions, ragged lengths, given initial states, recurrent dropout; all in
f64."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from formula import uniform
from partial20 import gru_cell, lstm_cell, unroll

MODULES = {"tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
BATCH, STEPS, FEATURES, HIDDEN = 5, 6, 7, 8
WHOLE, RAGGED = [STEPS] * BATCH, [6, 3, 1, 5, 6]


def layers(kind: str, count: int, lengths: list[int], given: bool) -> dict[str, Tensor]:
    """A PyTorch module of `count` bidirectional layers: y, the states after it, and all gradients of sum(dy y) + sum(dh
    h) + ..."""
    module = MODULES[kind](FEATURES, HIDDEN, count, batch_first=True, bidirectional=True).double()
    names = [name for name, _ in module.named_parameters()]
    for salt, (_, parameter) in enumerate(module.named_parameters()):
        parameter.data = uniform(parameter.shape, 3100 + salt, -0.5, 0.5)
    x = uniform((BATCH, STEPS, FEATURES), 3000).requires_grad_()
    states = {s: uniform((2 * count, BATCH, HIDDEN), 3001 + i).requires_grad_()
              for i, s in enumerate(["h", "c"] if kind == "lstm" else ["h"])} if given else {}
    first = tuple(states.values()) if kind == "lstm" else states.get("h")
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    out, after = module(packed, first if given else None)
    y, _ = pad_packed_sequence(out, batch_first=True, total_length=STEPS)
    after = dict(zip("hc", after if kind == "lstm" else [after]))
    weights = {"y": uniform(y.shape, 3010)} | {s: uniform(v.shape, 3011 + i) for i, (s, v) in enumerate(after.items())}
    total = (y * weights["y"]).sum() + sum((after[s] * weights[s]).sum() for s in after)
    inputs = {"x": x} | dict(module.named_parameters()) | {f"{s}0": v for s, v in states.items()}
    grads = torch.autograd.grad(total, list(inputs.values()))
    stored = {"lengths": torch.tensor(lengths), "y": y} | inputs
    stored |= {f"{s}n": v for s, v in after.items()} | {f"d{name}": g for name, g in zip(inputs, grads)}
    stored |= {"dy": weights["y"]} | {f"d{s}n": weights[s] for s in after}
    assert set(names) <= set(stored)
    return stored


def masked(kind: str) -> dict[str, Tensor]:
    """One direction with a recurrent mask: the products use the masked state, the state itself is passed on
    unmasked."""
    gates, make = {"gru": (3, gru_cell), "lstm": (4, lstm_cell)}[kind]
    shapes = [(gates * HIDDEN, FEATURES), (gates * HIDDEN, HIDDEN), (gates * HIDDEN,), (gates * HIDDEN,)]
    parts = [uniform(shape, 3200 + i, -0.5, 0.5).requires_grad_() for i, shape in enumerate(shapes)]
    x = uniform((BATCH, STEPS, FEATURES), 3210).requires_grad_()
    mask = (uniform((BATCH, HIDDEN), 3211) > -0.4).double() * 1.25
    y, dy = unroll(make(*parts), x, mask, reverse=False), uniform((BATCH, STEPS, HIDDEN), 3212)
    inputs = {"x": x} | dict(zip(["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"], parts))
    grads = torch.autograd.grad(y, list(inputs.values()), dy)
    return {"mask": mask, "y": y, "dy": dy} | inputs | {f"d{name}": g for name, g in zip(inputs, grads)}


def recurrent() -> dict[str, Tensor]:
    """All tensors of `recurrent.safetensors`."""
    out = {}
    for kind in MODULES:
        cases = {"whole": (1, WHOLE, False), "ragged": (1, RAGGED, True), "deep": (3, RAGGED, True)}
        for name, (count, lengths, given) in cases.items():
            out |= {f"{kind}_{name}.{key}": value for key, value in layers(kind, count, lengths, given).items()}
    for kind in ["gru", "lstm"]:
        out |= {f"{kind}_masked.{key}": value for key, value in masked(kind).items()}
    return out
