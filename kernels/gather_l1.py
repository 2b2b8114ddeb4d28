"""The first layer of a ranker on rows that are gathered and dequantised as they are read.

    out[i] = user_part[row_user[i]]
           + item_scale[item[i]] * (items[item[i]] @ w_item)
           + (pairs[pair[i]], or miss where there is none) @ w_pair
           + dense[i] @ w_dense
           + source_part[source[i]]                         then ReLU, if `relu`

R rows (candidates), h outputs. user_part [U, h] is the user's part of the layer with its bias,
made once per request (all candidates of a request share it); row_user int64 [R]. items [I, Di]
int8 with item_scale float32 [I], or float16 or float32 without one; item int64 [R]. pairs [S, P]
float16 or float32, pair int64 [R]. miss [P] is the learned vector of a pair that is not there.
dense [R, F]. w_item [Di, h], w_pair [P, h], w_dense [F, h]. source_part [sources, h] with source
int64 or uint8 [R], or neither: one column of the layer per value of a one-hot feature. user_part,
miss, dense, weights, source_part and out [R, h] have one dtype: float32, float16 or bfloat16
(reference: float64 too). Sums are float32. Di, P and F may be 0.

The scale of an item is applied after its product, so int8 enters the product exactly. An id that
its table does not have reads nothing: an item, user or source adds 0, a pair is a miss.

Bytes that must move: R (Di + P pair size + F size + h size + 32) + (Di + P + F) h size; FLOP:
2 R (Di + P + F) h. At Di 256 int8, P 128, F 64, h 512 in bfloat16 and many rows that is 260 FLOP a
byte: bound by both; below about 4,000 rows, by the launch.

On a CUDA device without gradients one Triton kernel does all of it; elsewhere the torch reference
runs, which autograd can follow. There are two classes of launch settings, for few rows and for many
(`gather_l1_triton.FEW_ROWS`): within one, a row's result does not depend on the others, bitwise;
warm up with 1 row and with FEW_ROWS + 1, and nothing compiles later.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from predawn.kernels import launch

_FLOAT_ROWS = (torch.float16, torch.float32)
_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Gathered(NamedTuple):
    """The tensors of one call, in their order; see the head of this file."""

    user_part: Tensor
    row_user: Tensor
    items: Tensor
    item_scale: Tensor | None
    item: Tensor
    pairs: Tensor
    pair: Tensor
    miss: Tensor
    dense: Tensor
    w_item: Tensor
    w_pair: Tensor
    w_dense: Tensor
    source_part: Tensor | None
    source: Tensor | None


def gather_l1(
    user_part: Tensor,
    row_user: Tensor,
    items: Tensor,
    item_scale: Tensor | None,
    item: Tensor,
    pairs: Tensor,
    pair: Tensor,
    miss: Tensor,
    dense: Tensor,
    w_item: Tensor,
    w_pair: Tensor,
    w_dense: Tensor,
    source_part: Tensor | None = None,
    source: Tensor | None = None,
    relu: bool = True,
) -> Tensor:
    """out [R, h]. ValueError names an argument of a wrong shape or dtype."""
    given = Gathered(
        user_part,
        row_user,
        items,
        item_scale,
        item,
        pairs,
        pair,
        miss,
        dense,
        w_item,
        w_pair,
        w_dense,
        source_part,
        source,
    )
    _check_shapes(given)
    _check_types(given)
    if launch.use_triton(*(tensor for tensor in given if tensor is not None)):
        from predawn.kernels.gather_l1_triton import gather_l1_triton

        out: Tensor = gather_l1_triton(*given, relu)
        return out
    return gather_l1_reference(given, relu)


def gather_l1_reference(given: Gathered, relu: bool) -> Tensor:
    """The formula in torch, in the dtype of the weights."""
    g, dtype = given, given.w_item.dtype
    out = rows_or_zero(g.items, g.item).to(dtype) @ g.w_item
    if g.item_scale is not None:
        out = out * rows_or_zero(g.item_scale[:, None], g.item).to(dtype)
    held = ((g.pair >= 0) & (g.pair < len(g.pairs)))[:, None]
    pairs = torch.where(held, rows_or_zero(g.pairs, g.pair).to(dtype), g.miss)
    out = torch.addmm(out, pairs, g.w_pair)
    out = torch.addmm(out, g.dense, g.w_dense) + rows_or_zero(g.user_part, g.row_user)
    if g.source_part is not None and g.source is not None:
        out = out + rows_or_zero(g.source_part, g.source.long())
    return torch.relu(out) if relu else out


def rows_or_zero(table: Tensor, ids: Tensor) -> Tensor:
    """table[ids], and 0 for an id that the table does not have."""
    if not table.shape[0]:
        return table.new_zeros(ids.shape[0], table.shape[1])
    good = (ids >= 0) & (ids < table.shape[0])
    return torch.where(good[:, None], table[torch.where(good, ids, 0)], 0)


def _check_shapes(given: Gathered) -> None:
    g = given
    matrices = {"user_part": g.user_part, "items": g.items, "pairs": g.pairs, "dense": g.dense}
    for name, matrix in matrices.items():
        if matrix.ndim != 2:
            raise ValueError(f"gather_l1: {name} has shape {tuple(matrix.shape)}, needs 2 axes")
    if (g.source_part is None) != (g.source is None):
        raise ValueError("gather_l1: source_part and source are given both or neither")
    rows, hidden = g.dense.shape[0], g.user_part.shape[1]
    wanted: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("row_user", "item", "pair", "source"), (rows,)),
        "item_scale": (g.items.shape[0],),
        "miss": (g.pairs.shape[1],),
        "w_item": (g.items.shape[1], hidden),
        "w_pair": (g.pairs.shape[1], hidden),
        "w_dense": (g.dense.shape[1], hidden),
        "source_part": (0 if g.source_part is None else len(g.source_part), hidden),
    }
    for name, tensor in g._asdict().items():
        if tensor is not None and tuple(tensor.shape) != wanted.get(name, tuple(tensor.shape)):
            shapes = f"{tuple(tensor.shape)}, needs {wanted[name]}"
            raise ValueError(f"gather_l1: {name} has shape {shapes}")


def _check_types(given: Gathered) -> None:
    dtype = given.w_item.dtype
    if dtype not in _TYPES:
        raise ValueError(f"gather_l1: w_item is {dtype}, needs one of {_TYPES}")
    scaled = (torch.int8,) if given.item_scale is not None else _FLOAT_ROWS
    wanted: dict[str, tuple[torch.dtype, ...]] = {
        "items": scaled,
        "item_scale": (torch.float32,),
        "pairs": _FLOAT_ROWS,
        **dict.fromkeys(("row_user", "item", "pair"), (torch.int64,)),
        "source": (torch.int64, torch.uint8),
    }
    for name, tensor in given._asdict().items():
        types = wanted.get(name, (dtype,))
        if tensor is not None and tensor.dtype not in types:
            needs = " or ".join(str(dtype) for dtype in types)
            raise ValueError(f"gather_l1: {name} is {tensor.dtype}, needs {needs}")
