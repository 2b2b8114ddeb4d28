"""Attention of new rows of many users, each to its user's kept history and to themselves.

    out[i, h] = inv_n * sum over the keys j that row i sees of silu(alpha q_i . k_j) v_j

q, k, v are the SiLU of what is given (the product of a layer's projection, as it is); the history
is kept in pages, whose keys and values are SiLU'd already. What row i sees, `score`: the history
of its user and itself (candidates never see each other). `causal`: the history and the rows of its
user in this call up to itself, itself included; with an empty history that is the encoding of a
new one. alpha and inv_n are fixed by the model, never by the batch: HSTU's pointwise attention
(arXiv 2402.17152, section 3, Eq. 2) with the mask of its M-FALCON (section 3.4).

Shapes: q, k, v [R, H, d], last stride 1, may be views of one product; pages [P, 2, H, PAGE, d] of
one layer, keys then values; out [R, H, d], contiguous. float32, float16 or bfloat16 (the
reference: float64 too), all of one dtype; sums are float32. d is 32, 64 or 128 for the kernel.

Because SiLU is pointwise, partial sums over keys simply add. A user with many keys is computed in
chunks of a fixed size which are added in order, so a row's result depends on its own user's
history and on its own values alone: not on the other users of the batch, nor on which candidates
come with it, nor on their order, to the last bit at one `Tiling`.

Work: 4 R H N d FLOP with N keys a row. Bytes that must move: 4 R H d elements, and per user 2 N H d
of the pages. At 512 rows a user and d = 128 that is 200 FLOP a byte and more: bound by the tensor
cores; below about 180 rows a user (bfloat16), by reading the pages.

On a CUDA device without gradients one Triton kernel does it; elsewhere the torch reference runs,
which autograd can follow.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

import torch
from torch import Tensor

from predawn.kernels import launch

PAGE = 64  # tokens a page
HEAD_DIMS = (32, 64, 128)  # that the kernel has settings for

_Lines = list[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the kernel cuts its work: rows of a program, keys at a time (they divide PAGE), keys of
    a program at most (chunk; causal_chunk where new rows lie in the pages; both multiples of
    PAGE), warps, stages of the fetch."""

    rows: int
    keys: int
    chunk: int
    causal_chunk: int
    warps: int
    stages: int


# (bytes an element, d, many rows a user) -> settings for sm_90 (H100, H200).
TILINGS = {
    (2, 32, False): Tiling(rows=16, keys=64, chunk=512, causal_chunk=512, warps=4, stages=4),
    (2, 64, False): Tiling(rows=16, keys=64, chunk=512, causal_chunk=512, warps=4, stages=4),
    (2, 128, False): Tiling(rows=16, keys=64, chunk=512, causal_chunk=512, warps=8, stages=4),
    (2, 32, True): Tiling(rows=128, keys=64, chunk=2048, causal_chunk=4096, warps=8, stages=3),
    (2, 64, True): Tiling(rows=128, keys=64, chunk=2048, causal_chunk=4096, warps=8, stages=3),
    (2, 128, True): Tiling(rows=128, keys=64, chunk=2048, causal_chunk=4096, warps=8, stages=3),
    (4, 32, False): Tiling(rows=16, keys=32, chunk=512, causal_chunk=512, warps=4, stages=3),
    (4, 64, False): Tiling(rows=16, keys=32, chunk=512, causal_chunk=512, warps=4, stages=3),
    (4, 128, False): Tiling(rows=16, keys=32, chunk=512, causal_chunk=512, warps=8, stages=3),
}
_COLUMN_BYTES = 128  # of the keys that a program can have at a time


@dataclass(frozen=True, slots=True)
class Work:
    """A list of programs on the device, for `rows_of` and the kernel alone.

    tiles: int32 [n, 8]: first row, rows, user, first key, end of keys, where the partial sum goes
    (-1: there is only one), tokens of the history, first row of the user. sums: int32 [m, 4]:
    first row, rows, first partial sum, how many to add in order. partials: of all tiles.
    """

    tiles: Tensor
    sums: Tensor
    partials: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows belong to which user and where its history is: once a batch, for all layers.

    offsets: [U + 1] rows of each user; prefix: [U] tokens of each user that the pages hold (both on
    the host). page_table: int32 [U, most pages of a user], unused entries 0. score: work where the
    new rows lie beside the pages; written: where they lie in them. pages_end: one more than the
    largest page named; covers: the pages have places for the new rows too.
    """

    offsets: list[int]
    prefix: list[int]
    page_table: Tensor
    tiling: Tiling
    score: Work
    written: Work
    pages_end: int
    covers: bool


def rows_of(
    offsets: Sequence[int],
    prefix: Sequence[int],
    pages: Sequence[Sequence[int]],
    device: torch.device | str,
    head_dim: int,
    dtype: torch.dtype = torch.bfloat16,
    tiling: Tiling | None = None,
) -> Rows:
    """User u owns rows offsets[u]:offsets[u + 1] and the first prefix[u] tokens of pages[u].

    dtype is that of q and the pages; float32 rows that were cut for another dtype take the
    reference. Without `tiling` it is the one for many rows a user, whatever the batch: results are
    bitwise comparable at one tiling only. For `written` attention pages[u] also covers the tokens
    of this call. One copy goes to the device. ValueError names lists that do not fit.
    """
    _check_lists(offsets, prefix, pages)
    counts = [end - begin for begin, end in pairwise(offsets)]
    chosen = tiling or tiling_of(dtype, head_dim)
    cuts = [_cut(offsets, prefix, chosen, causal) for causal in (False, True)]
    most = max((len(held) for held in pages), default=0)
    table = [(*held, *[0] * (most - len(held))) for held in pages]
    parts = [cut for lists in cuts for cut in lists] + [table]
    sent = _sent(parts, (8, 4, 8, 4, most), device)
    score, written = (
        Work(sent[2 * kind], sent[2 * kind + 1], sum(line[3] for line in cuts[kind][1]))
        for kind in (0, 1)
    )
    pages_end = max((page for held in pages for page in held), default=-1) + 1
    users = zip(pages, prefix, counts, strict=True)
    covers = all(length + count <= len(held) * PAGE for held, length, count in users)
    return Rows(list(offsets), list(prefix), sent[4], chosen, score, written, pages_end, covers)


def tiling_of(dtype: torch.dtype, head_dim: int, many: bool = True) -> Tiling:
    """The settings of a shape class. many=False: for about 32 rows a user or fewer, whose keys are
    then read by several programs at once."""
    element_bytes = 2 if dtype.itemsize == 2 else 4
    dim = min((d for d in HEAD_DIMS if d >= head_dim), default=HEAD_DIMS[-1])
    return TILINGS[element_bytes, dim, many and element_bytes == 2]


def hstu_prefix_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pages: Tensor,
    rows: Rows,
    *,
    alpha: float,
    inv_n: float,
    causal: bool,
    written: bool = False,
) -> Tensor:
    """[R, H, d], dtype of q. ValueError names a bad shape, dtype or stride.

    written (only with causal): `kv_write` has already put this call's keys and values into the
    pages, behind each user's history; the kernel then reads them there, SiLU'd once instead of
    once a tile, and appending gives bitwise what encoding all at once gives.
    """
    _check(q, k, v, pages, rows, causal, written)
    fits = rows.tiling.keys * q.element_size() <= _COLUMN_BYTES
    if fits and q.shape[2] in HEAD_DIMS and launch.use_triton(q, k, v, pages):
        return attend(
            q, k, v, pages, rows, alpha=alpha, inv_n=inv_n, causal=causal, written=written
        )
    return hstu_prefix_attn_reference(q, k, v, pages, rows, alpha=alpha, inv_n=inv_n, causal=causal)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pages: Tensor,
    rows: Rows,
    *,
    alpha: float,
    inv_n: float,
    causal: bool,
    written: bool,
) -> Tensor:
    """`hstu_prefix_attn` by the kernel, on any device; arguments are checked there."""
    from predawn.kernels.hstu_prefix_attn_triton import hstu_prefix_attn_triton

    work = rows.written if written else rows.score
    lists = (rows.page_table, work.tiles, work.sums, work.partials, list(astuple(rows.tiling)))
    out: Tensor = hstu_prefix_attn_triton(q, k, v, pages, *lists, alpha, inv_n, causal, written)
    return out


def hstu_prefix_attn_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pages: Tensor,
    rows: Rows,
    *,
    alpha: float,
    inv_n: float,
    causal: bool,
) -> Tensor:
    """The formula in torch, user by user, in the dtype of its arguments."""
    heads, dim = q.shape[1:]
    own = [torch.nn.functional.silu(part).transpose(0, 1) for part in (q, k, v)]
    table = rows.page_table.tolist()
    parts: list[Tensor] = []
    for user, length in enumerate(rows.prefix):
        begin, end = rows.offsets[user], rows.offsets[user + 1]
        mine, new_keys, new_values = (part[:, begin:end] for part in own)  # [H, n, d]
        held = pages[table[user][: -(-length // PAGE)]].permute(1, 2, 0, 3, 4)
        keys, values = held.reshape(2, heads, -1, dim)[:, :, :length]
        out = _attend(mine, keys, values, alpha)
        if causal:
            seen = torch.ones(end - begin, end - begin, dtype=q.dtype, device=q.device).tril()
            out = out + _attend(mine, new_keys, new_values, alpha, seen)
        else:
            weight = torch.nn.functional.silu((mine * new_keys).sum(-1, keepdim=True) * alpha)
            out = out + weight * new_values
        parts.append(out * inv_n)
    return torch.cat([q.new_zeros(heads, 0, dim), *parts], dim=1).transpose(0, 1).contiguous()


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, alpha: float, seen: Tensor | None = None
) -> Tensor:
    weights = torch.nn.functional.silu(queries @ keys.transpose(1, 2) * alpha)
    return (weights if seen is None else weights * seen) @ values


def _cut(
    offsets: Sequence[int], prefix: Sequence[int], tiling: Tiling, causal: bool
) -> tuple[_Lines, _Lines]:
    """(tiles, sums) of `Work`: rows and keys cut from each user's own beginning."""
    tiles: _Lines = []
    sums: _Lines = []
    chunk, slot = tiling.causal_chunk if causal else tiling.chunk, 0
    for user, length in enumerate(prefix):
        begin, end = offsets[user], offsets[user + 1]
        for first in range(begin, end, tiling.rows):
            count = min(tiling.rows, end - first)
            last = length + (first + count - begin if causal else 0)
            starts = range(0, max(last, 1), chunk)
            split = len(starts) > 1
            for number, start in enumerate(starts):
                to = slot + number if split else -1
                tiles.append(
                    (first, count, user, start, min(start + chunk, last), to, length, begin)
                )
            if split:
                sums.append((first, count, slot, len(starts)))
                slot += len(starts)
    tiles.sort(key=lambda tile: tile[3] - tile[4])  # longest first: the last wave is short
    return tiles, sums


def _sent(
    parts: Sequence[_Lines], widths: Sequence[int], device: torch.device | str
) -> list[Tensor]:
    """Tables of integers, one copy for all; each begins at a multiple of 16 bytes."""
    flat: list[int] = []
    places: list[int] = []
    for part in parts:
        places.append(len(flat))
        flat += [number for line in part for number in line]
        flat += [0] * (-len(flat) % 4)
    buffer = torch.tensor(flat, dtype=torch.int32).to(device)
    return [
        buffer[place : place + len(part) * width].view(len(part), width)
        for part, place, width in zip(parts, places, widths, strict=True)
    ]


def _check_lists(
    offsets: Sequence[int], prefix: Sequence[int], pages: Sequence[Sequence[int]]
) -> None:
    if len(offsets) != len(prefix) + 1 or len(pages) != len(prefix) or offsets[0] != 0:
        raise ValueError(
            "rows_of needs offsets [U + 1] from 0, prefix [U] and pages [U], got lengths "
            f"{len(offsets)}, {len(prefix)}, {len(pages)}"
        )
    short = [u for u, held in enumerate(pages) if not 0 <= prefix[u] <= len(held) * PAGE]
    if short or any(b < a for a, b in pairwise(offsets)):
        raise ValueError(f"rows_of: offsets descend, or pages do not hold the prefix: {short[:5]}")


def _check(
    q: Tensor, k: Tensor, v: Tensor, pages: Tensor, rows: Rows, causal: bool, written: bool
) -> None:
    shapes = [tuple(tensor.shape) for tensor in (q, k, v, pages)]
    fits = q.ndim == 3 and q.shape == k.shape == v.shape and pages.ndim == 5
    if not fits or tuple(pages.shape[1:]) != (2, q.shape[1], PAGE, q.shape[2]):
        raise ValueError(
            f"hstu_prefix_attn needs q, k, v [R, H, d] and pages [P, 2, H, {PAGE}, d], got {shapes}"
        )
    if q.shape[0] != rows.offsets[-1]:
        raise ValueError(f"hstu_prefix_attn: {q.shape[0]} rows, offsets end at {rows.offsets[-1]}")
    if len({tensor.dtype for tensor in (q, k, v, pages)}) > 1:
        raise ValueError(
            "hstu_prefix_attn needs one dtype, got "
            f"{[str(tensor.dtype) for tensor in (q, k, v, pages)]}"
        )
    if rows.pages_end > pages.shape[0]:
        raise ValueError(f"hstu_prefix_attn: page {rows.pages_end - 1} of {pages.shape[0]}")
    if written and not (causal and rows.covers):
        raise ValueError(
            "hstu_prefix_attn: written rows are for causal attention, and need places in the pages"
        )
