"""The K best items of each user by inner product: the score matrix is never written.

    s[u, i] = users[u] . items[i] + bias[i];   out[u] = the K largest of s[u], best first

users [U, p] and items [I, p] of one dtype: float32, float16 or bfloat16 (reference: float64 too);
bias [I] of the same dtype or float32, or None. Out: scores float32 [U, K] (sums are float32) and
index int64 [U, K]. Of equal scores the lower index comes first, -0 equals 0; a NaN counts as
-inf. With fewer items than K the rest is -inf with index -1. Predicts the pairs that a user may
ask for next: K of a catalogue.

Work: 2 U I p FLOP. Bytes that must move: (U + I) p size + I bias size + 12 U K: the items once, if
U is one block; the scores would be 4 U I more. At p 64 and 1 M items in bfloat16 that is U FLOP a
byte: bound by memory below about 180 users, then by the tensor cores and the selection.

On a CUDA device without gradients the Triton kernels do it for p up to `WIDTH_MAX` and K up to
`K_MAX`; elsewhere the torch reference runs, a block of items at a time. There are two classes of
launch settings, for few users and for many (`score_topk_triton.FEW_USERS`): warm up with 1 user and
with FEW_USERS + 1, on the catalogue that is served, and nothing compiles later.
"""

import torch
from torch import Tensor

from predawn.kernels import launch

# Bytes an element -> widest vector that one tile takes whole.
WIDTH_MAX = {2: 256, 4: 128}
K_MAX = 256
_ITEMS_MAX = 2**31 - 1
_BLOCK_SCORES = 2**22  # scores that the reference holds at a time
_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def score_topk(users: Tensor, items: Tensor, bias: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """(scores [U, K], index [U, K]), best first. ValueError names what does not fit."""
    _check(users, items, bias, k)
    given = [users, items] if bias is None else [users, items, bias]
    narrow = users.shape[1] <= WIDTH_MAX.get(users.element_size(), 0) and k <= K_MAX
    if narrow and launch.use_triton(*given):
        from predawn.kernels.score_topk_triton import score_topk_triton

        best: tuple[Tensor, Tensor] = score_topk_triton(users, items, bias, k)
        return best
    return score_topk_reference(users, items, bias, k)


def score_topk_reference(
    users: Tensor, items: Tensor, bias: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    """The formula in torch, in float32 (float64 users: in float64)."""
    wide = torch.float64 if users.dtype == torch.float64 else torch.float32
    count, step = items.shape[0], max(k, _BLOCK_SCORES // max(1, users.shape[0]))
    best = torch.full((users.shape[0], 0), 0, dtype=wide, device=users.device)
    index = torch.full((users.shape[0], 0), 0, dtype=torch.int64, device=users.device)
    for first in range(0, count, step):
        scores = users.to(wide) @ items[first : first + step].to(wide).t()
        if bias is not None:
            scores = scores + bias[first : first + step].to(wide)
        scores = torch.where(scores.isnan(), -torch.inf, scores)
        new = torch.arange(first, first + scores.shape[1], device=users.device)
        best = torch.cat([best, scores], 1)
        index = torch.cat([index, new.expand_as(scores)], 1)
        at = _positions_of_largest(best, min(k, best.shape[1]))
        best, index = best.gather(1, at), index.gather(1, at)
    missing = (0, max(0, k - count))
    pad = torch.nn.functional.pad
    return pad(best, missing, value=-torch.inf), pad(index, missing, value=-1)


def _positions_of_largest(scores: Tensor, k: int) -> Tensor:
    """int64 [U, k]: where the largest of each row are, of equal ones the first."""
    if scores.dtype == torch.float64:
        return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    bits = (scores.detach() + 0.0).contiguous().view(torch.int32)  # -0 becomes 0
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    position = torch.arange(scores.shape[1], device=scores.device)
    return ((ordered << 32) | (0xFFFFFFFF - position)).topk(k, dim=1).indices


def _check(users: Tensor, items: Tensor, bias: Tensor | None, k: int) -> None:
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        shapes = f"{tuple(users.shape)} and {tuple(items.shape)}"
        raise ValueError(f"score_topk needs users [U, p] and items [I, p], got {shapes}")
    if bias is not None and bias.shape != items.shape[:1]:
        raise ValueError(f"score_topk needs bias [{items.shape[0]}], got {tuple(bias.shape)}")
    if users.dtype not in _TYPES or items.dtype != users.dtype:
        types = f"{users.dtype} and {items.dtype}"
        raise ValueError(f"score_topk needs users and items of one float dtype, got {types}")
    if bias is not None and bias.dtype not in (users.dtype, torch.float32):
        raise ValueError(f"score_topk needs bias {users.dtype} or float32, got {bias.dtype}")
    if k < 1:
        raise ValueError(f"score_topk needs k of at least 1, got {k}")
    if items.shape[0] > _ITEMS_MAX:
        raise ValueError(f"score_topk needs at most {_ITEMS_MAX} items, got {items.shape[0]}")
