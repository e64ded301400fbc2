"""Labels of instances, of chosen clips, and the loss of probabilities against them."""

import torch
import torch.nn.functional as F

from formula import uniform

CLIPS, INSTANCES, CLASSES, POSITIONS = 6, 4, 5, 3
PADDING = 2**32 - 1


def strong() -> dict:
    """Codes (6, 4, 5): 0 unknown, 1 absent, 2 present. The second row chooses no clip; instances beyond a clip's length
    are unknown."""
    codes = uniform((CLIPS, INSTANCES, CLASSES), 60, 0.0, 3.0).floor().long()
    lengths, rows = torch.tensor([4, 1, 3, 4, 2, 4]), torch.tensor([4, PADDING, 0, 2])
    p = uniform((len(rows), INSTANCES, CLASSES), 61, 0.01, 0.99).requires_grad_()
    chosen = rows.clamp(max=CLIPS - 1)
    valid = (torch.arange(INSTANCES) < lengths[chosen][:, None]) & (rows < CLIPS)[:, None]
    code = torch.where(valid[:, :, None], codes[chosen], 0)
    known = code > 0
    loss = F.binary_cross_entropy(p[known], (code[known] == 2).double())
    (dp,) = torch.autograd.grad(loss, p)
    given = {"codes": codes, "lengths": lengths, "rows": rows, "p": p}
    made = {"target": code == 2, "observed": known, "valid": valid * POSITIONS, "dp": dp}
    numbers = {name: value.detach().double().flatten().tolist() for name, value in (given | made).items()}
    return numbers | {"loss": loss.item(), "sizes": [CLIPS, INSTANCES, CLASSES, POSITIONS]}
