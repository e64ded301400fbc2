"""PyTorch peers of wmic's 2D relative self-attention, on CPU or CUDA.

    python benches/peers/relative_attention.py | tee attention.json     one JSON object per line, for
    wmic bench --op relative_attention --peer attention.json

Forward, and backward alone, at the shapes of the op's bench cases: `sdpa` is scaled_dot_product_attention with the
relative terms as an additive bias, `eager` forms the logits with einsum, takes the softmax and multiplies. Both store
(H W)^2 numbers for each head. Needs torch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from timing import name, options, prepare, report, times

# Name of a bench case, images, height, width, heads, and their depths.
CASES = [("11 x 129, narrow", 1, 11, 129, 8, 1, 1), ("11 x 129", 1, 11, 129, 2, 8, 8)]


def split(qkv: Tensor, heads: int, key: int, value: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (B, N, H, W, depth) of (B, H, W, N (2 key + value)); q is scaled."""
    parts = qkv.split([heads * key, heads * key, heads * value], dim=-1)
    q, k, v = (t.unflatten(-1, (heads, -1)).permute(0, 3, 1, 2, 4) for t in parts)
    return q * key**-0.5, k, v


def places(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """The tables' terms of the logits (B, N, H W, H W)."""
    h, w = q.shape[2:4]

    def gathered(table: Tensor, n: int) -> Tensor:
        at = torch.arange(n, device=q.device)
        return table[at[None, :] - at[:, None] + n - 1]  # (query, key, depth)

    rows = torch.einsum("bnhwd,hkd->bnhwk", q, gathered(rel_h, h))
    columns = torch.einsum("bnhwd,wkd->bnhwk", q, gathered(rel_w, w))
    return (rows[..., :, None] + columns[..., None, :]).flatten(4, 5).flatten(2, 3)


def joined(out: Tensor, h: int, w: int) -> Tensor:
    """(B, N, H W, depth) as (B, H, W, N depth)."""
    return out.unflatten(2, (h, w)).permute(0, 2, 3, 1, 4).flatten(3)


def eager(qkv: Tensor, rel_h: Tensor, rel_w: Tensor, heads: int, key: int, value: int) -> Tensor:
    """Attention by its definition; depths of one head."""
    q, k, v = split(qkv, heads, key, value)
    logits = torch.einsum("bnqd,bnkd->bnqk", q.flatten(2, 3), k.flatten(2, 3)) + places(q, rel_h, rel_w)
    return joined(torch.einsum("bnqk,bnkd->bnqd", logits.softmax(-1), v.flatten(2, 3)), *qkv.shape[1:3])


def sdpa(qkv: Tensor, rel_h: Tensor, rel_w: Tensor, heads: int, key: int, value: int) -> Tensor:
    """The same by PyTorch's fused attention with a bias."""
    q, k, v = split(qkv, heads, key, value)
    flat = [t.flatten(2, 3) for t in (q, k, v)]
    out = F.scaled_dot_product_attention(*flat, attn_mask=places(q, rel_h, rel_w), scale=1.0)
    return joined(out, *qkv.shape[1:3])


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="time for each measurement [5]")
    args = parser.parse_args()
    prepare(args)
    for case, batch, h, w, heads, key, value in CASES:
        shapes = [(batch, h, w, heads * (2 * key + value)), (2 * h - 1, key), (2 * w - 1, key)]
        inputs = [torch.rand(shape, device=args.device).mul(2).sub(1).requires_grad_() for shape in shapes]
        dy = torch.rand(batch, h, w, heads * value, device=args.device)
        for attention in (sdpa, eager):
            y = attention(*inputs, heads, key, value)
            runs = {
                "forward": lambda: attention(*inputs, heads, key, value),
                "backward": lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True),
            }
            for which, run in runs.items():
                taken = times(run, args.device, args.seconds)
                report(args, name(args, attention.__name__), f"relative_attention: {case}, {which}", batch, taken)


if __name__ == "__main__":
    main()
