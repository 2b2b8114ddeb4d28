"""Cases of the foundation model's kernels: attention to kept histories, gated norm, page writes.

Inputs are views of one product and pages lie in a shuffled order, as in the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from predawn.bench.gpu_cases import TOLERANCE, Case, short
from predawn.kernels.hstu_prefix_attn import (
    PAGE,
    Rows,
    Tiling,
    attend,
    hstu_prefix_attn_reference,
    rows_of,
)
from predawn.kernels.kv_write import kv_write_reference
from predawn.kernels.kv_write_triton import kv_write_triton
from predawn.kernels.norm_gate import norm_gate_reference
from predawn.kernels.norm_gate_triton import norm_gate_triton


@dataclass(frozen=True, slots=True)
class AttnShape:
    """`hstu_prefix_attn`: prefix and rows of each user, H heads of d. written: causal, the rows
    lie in the pages; causal alone: beside them. tiling: None chooses as in serving."""

    prefix: tuple[int, ...]
    rows: tuple[int, ...]
    heads: int
    dim: int
    dtype: torch.dtype = torch.float32
    causal: bool = False
    written: bool = False
    tiling: Tiling | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Mode, dtype, users, keys and rows of the first user and its width."""
        mode = ("append" if any(self.prefix) else "encode") if self.causal else "score"
        users = f"U{len(self.rows)} N{max(self.prefix)} C{max(self.rows)}"
        told = f"{short(self.dtype)} {users} H{self.heads} d{self.dim}{' written' * self.written}"
        return f"hstu_prefix_attn {mode} {told}"

    def keys_seen(self) -> int:
        """Products of one query and one key, over all rows."""
        return sum(
            n * p + (n * (n + 1) // 2 if self.causal else n)
            for p, n in zip(self.prefix, self.rows, strict=True)
        )


@dataclass(frozen=True, slots=True)
class AttnInputs:
    """What `hstu_prefix_attn` is called with, and the rows' places in the pages."""

    q: Tensor
    k: Tensor
    v: Tensor
    pages: Tensor
    rows: Rows
    slots: Tensor
    alpha: float
    inv_n: float


def attn_inputs(shape: AttnShape, device: str, seed: int = 0) -> AttnInputs:
    """Seeded, of a size at which results are about 1; unused places of the pages are NaN."""
    dice = torch.Generator(device=device).manual_seed(seed)
    offsets = [0, *accumulate(shape.rows)]
    held = _shuffled_pages(shape.prefix, shape.rows, seed)
    count = 1 + sum(map(len, held))
    width = shape.heads * shape.dim
    product = torch.randn(offsets[-1], 4 * width, generator=dice, device=device) * 2
    product = product.to(shape.dtype).view(-1, 4, shape.heads, shape.dim)
    _, v, q, k = product.unbind(1)
    size = (count, 2, shape.heads, PAGE, shape.dim)
    pages = torch.full(size, torch.nan, device=device, dtype=shape.dtype)
    places = [_places(pages_, 0, p) for pages_, p in zip(held, shape.prefix, strict=True)]
    history = torch.tensor([slot for user in places for slot in user], device=device)
    old = torch.randn(2, len(history), shape.heads, shape.dim, generator=dice, device=device) * 2
    old_keys, old_values = old.to(shape.dtype).unbind()
    kv_write_reference(old_keys, old_values, pages, history.long())
    users = zip(held, shape.prefix, shape.rows, strict=True)
    slots = [slot for pages_, p, n in users for slot in _places(pages_, p, p + n)]
    return AttnInputs(
        q,
        k,
        v,
        pages,
        rows_of(offsets, shape.prefix, held, device, shape.dim, shape.dtype, shape.tiling),
        torch.tensor(slots, device=device, dtype=torch.int64),
        alpha=shape.dim**-0.5,
        inv_n=2
        / (1 + max(p + n * shape.causal for p, n in zip(shape.prefix, shape.rows, strict=True))),
    )


def attn_case(shape: AttnShape, device: str, seed: int = 0) -> Case:
    """Peers where all users have as many keys and rows, from histories gathered beforehand: they
    need not follow a page table. The yardstick is softmax attention of the same size."""
    given = attn_inputs(shape, device, seed)
    if shape.written:
        kv_write_reference(given.k, given.v, given.pages, given.slots)
    alpha, inv_n, causal = given.alpha, given.inv_n, shape.causal

    def reference(wide: Callable[[Tensor], Tensor]) -> Tensor:
        q, k, v, pages = (wide(tensor) for tensor in (given.q, given.k, given.v, given.pages))
        return hstu_prefix_attn_reference(
            q, k, v, pages, given.rows, alpha=alpha, inv_n=inv_n, causal=causal
        )

    def kernel() -> Tensor:
        q, k, v, pages, rows = given.q, given.k, given.v, given.pages, given.rows
        return attend(
            q, k, v, pages, rows, alpha=alpha, inv_n=inv_n, causal=causal, written=shape.written
        )

    even = len(set(shape.prefix)) == len(set(shape.rows)) == 1
    seen, width = shape.keys_seen(), shape.heads * shape.dim
    moved = 4 * given.q.shape[0] + 2 * sum(shape.prefix)
    return Case(
        name=shape.name,
        kernel=kernel,
        plain=lambda: reference(lambda tensor: tensor),
        truth=lambda: reference(Tensor.double),
        peers={"eager": _dense_peer(shape, given)} if even else {},
        bytes=moved * width * shape.dtype.itemsize,
        flop=4 * seen * width,
        tolerance=TOLERANCE[shape.dtype],
        yardsticks={"softmax (SDPA)": _softmax(shape, given)} if even else {},
    )


@dataclass(frozen=True, slots=True)
class RowsShape:
    """`norm_gate` and `kv_write`: R rows of H heads of d."""

    rows: int
    heads: int
    dim: int
    dtype: torch.dtype = torch.float32


def norm_gate_case(shape: RowsShape, device: str, seed: int = 0) -> Case:
    """The gate is a view of the layer's product."""
    dice = torch.Generator(device=device).manual_seed(seed)
    width = shape.heads * shape.dim

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=dice, device=device).to(shape.dtype)

    attn, gate = draw(shape.rows, width) * 2, draw(shape.rows, 4 * width)[:, :width]
    weight, bias = 1 + draw(width) / 4, draw(width) / 4

    def plain() -> Tensor:
        return norm_gate_reference(attn, gate, weight, bias, 1e-5)

    return Case(
        name=f"norm_gate {short(shape.dtype)} R{shape.rows} D{width}",
        kernel=lambda: norm_gate_triton(attn, gate, weight, bias, 1e-5),
        plain=plain,
        truth=lambda: norm_gate_reference(
            attn.double(), gate.double(), weight.double(), bias.double(), 1e-5
        ),
        peers={"eager": plain},
        bytes=(3 * shape.rows + 2) * width * shape.dtype.itemsize,
        flop=10 * shape.rows * width,
        tolerance=TOLERANCE[shape.dtype],
    )


def kv_write_case(shape: RowsShape, device: str, seed: int = 0) -> Case:
    """Rows, a multiple of PAGE, into pages in a shuffled order; the result is those pages."""
    one = AttnShape((0,), (shape.rows,), shape.heads, shape.dim, shape.dtype)
    given = attn_inputs(one, device, seed)

    def through(
        write: Callable[[Tensor, Tensor, Tensor, Tensor], None], dtype: torch.dtype
    ) -> Callable[[], Tensor]:
        pages, k, v = (tensor.to(dtype) for tensor in (given.pages, given.k, given.v))

        def written() -> Tensor:
            write(k, v, pages, given.slots)
            return pages[1:]

        return written

    size = shape.rows * shape.heads * shape.dim
    return Case(
        name=f"kv_write {short(shape.dtype)} R{shape.rows} H{shape.heads} d{shape.dim}",
        kernel=through(kv_write_triton, shape.dtype),
        plain=through(kv_write_reference, shape.dtype),
        truth=through(kv_write_reference, torch.float64),
        peers={"eager": through(_write_unchecked, shape.dtype)},
        bytes=4 * size * shape.dtype.itemsize + 8 * shape.rows,
        flop=10 * size,
        tolerance=TOLERANCE[shape.dtype],
    )


def _write_unchecked(k: Tensor, v: Tensor, pages: Tensor, slots: Tensor) -> None:
    """The reference's last lines: its look at the slots cannot be captured in a graph."""
    page, offset = slots // PAGE, slots % PAGE
    pages[page, 0, :, offset] = functional.silu(k)
    pages[page, 1, :, offset] = functional.silu(v)


def _shuffled_pages(prefix: Sequence[int], rows: Sequence[int], seed: int) -> list[list[int]]:
    """Pages of each user for its history and its new rows, from 1; page 0 is nobody's."""
    needed = [-(-(p + n) // PAGE) for p, n in zip(prefix, rows, strict=True)]
    dice = torch.Generator().manual_seed(seed)
    order = (torch.randperm(sum(needed), generator=dice) + 1).tolist()
    ends = list(accumulate(needed))
    return [order[end - count : end] for end, count in zip(ends, needed, strict=True)]


def _places(pages: Sequence[int], begin: int, end: int) -> list[int]:
    """Slots of the tokens begin ... end - 1 of a user."""
    return [pages[at // PAGE] * PAGE + at % PAGE for at in range(begin, end)]


def _dense(shape: AttnShape, given: AttnInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Raw queries [U, H, C, d], and the keys and values [U, H, N, d] gathered from the pages."""
    users, (length, rows) = len(shape.rows), (shape.prefix[0], shape.rows[0])
    table = given.rows.page_table[:, : -(-length // PAGE)].long()
    held = given.pages[table].permute(2, 0, 3, 1, 4, 5)  # [2, U, H, pages, PAGE, d]
    keys, values = held.reshape(2, users, shape.heads, -1, shape.dim)[:, :, :, :length]
    queries = given.q.view(users, rows, shape.heads, shape.dim).transpose(1, 2)
    return queries.contiguous(), keys.contiguous(), values.contiguous()


def _dense_peer(shape: AttnShape, given: AttnInputs) -> Callable[[], Tensor]:
    """Product, SiLU, product over whole matrices, as a model without kernels of its own does it."""
    users, rows = len(shape.rows), shape.rows[0]
    queries, keys, values = _dense(shape, given)
    split = (users, rows, shape.heads, shape.dim)
    raw_k, raw_v = (part.reshape(split).transpose(1, 2) for part in (given.k, given.v))
    seen = torch.ones(rows, rows, device=queries.device, dtype=queries.dtype).tril()

    def peer() -> Tensor:
        q, k, v = (functional.silu(part) for part in (queries, raw_k, raw_v))
        out = functional.silu(q @ keys.transpose(2, 3) * given.alpha) @ values
        if shape.causal:
            out = out + (functional.silu(q @ k.transpose(2, 3) * given.alpha) * seen) @ v
        else:
            out = out + functional.silu((q * k).sum(-1, keepdim=True) * given.alpha) * v
        return (out * given.inv_n).transpose(1, 2).reshape(-1, shape.heads, shape.dim)

    return peer


def _softmax(shape: AttnShape, given: AttnInputs) -> Callable[[], Tensor]:
    """torch's fused attention: of the rows to the history, or causal among the rows."""
    queries, keys, values = _dense(shape, given)
    if shape.causal:
        split = (len(shape.rows), shape.rows[0], shape.heads, shape.dim)
        keys, values = (
            part.reshape(split).transpose(1, 2).contiguous() for part in (given.k, given.v)
        )
    return lambda: functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=shape.causal, scale=given.alpha
    )
