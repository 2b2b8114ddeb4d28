"""The layers of a foundation model for inference: rows of several users against kept histories.

`CpuLayers` runs torch's matrix products, `DeviceLayers` the kernels of `predawn.kernels`; both
compute `foundation.Block` for events, which are appended to the pages, and for candidates, which
are not. Invariant: rows are computed in passes of whole tiles, so that the result of a row depends
on its own user and item alone, to the last bit: not on how many rows come with it, nor on which.
On the CPU a user's rows are padded to a multiple of 16 (torch's products treat the rows of such
blocks alike, whatever their number, and of 4 or 12 they do not; a test holds it to that); on a
device a pass always has the full number of rows.

Only the layers up to the tap are there. Events leave the last of them behind: of that layer only
their keys and values are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from predawn.kernels.hstu_prefix_attn import PAGE, Rows, hstu_prefix_attn, rows_of
from predawn.kernels.kv_write import kv_write
from predawn.kernels.norm_gate import norm_gate
from predawn.server.models.foundation import EPS, Block, FoundationNet
from predawn.server.models.foundation_pages import Kept
from predawn.server.models.foundation_shape import FoundationShape

_SILU = nn.functional.silu


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows begin .. begin + rows - 1 of a pass: of one user, behind `prefix` kept tokens."""

    kept: Kept
    begin: int
    rows: int
    prefix: int


@dataclass(frozen=True, slots=True)
class _Weights:
    """Of one layer, in the dtype to compute in; uqkv [4 D, D] and out [D, D] as `linear` wants."""

    norm_w: Tensor
    norm_b: Tensor
    uqkv_w: Tensor
    uqkv_b: Tensor
    gate_w: Tensor
    gate_b: Tensor
    out_w: Tensor
    out_b: Tensor


class Layers(Protocol):
    """What `FoundationModel` asks of either kind."""

    quantum: int
    """Rows that a user's part of a pass is a multiple of."""
    tile: int
    """Rows of a pass at most."""
    device: torch.device
    dtype: torch.dtype

    def padded(self, rows: int) -> int:
        """Rows that a pass of so many is computed with."""
        ...

    def begin(self, segments: Sequence[Segment], causal: bool) -> object:
        """What all layers of a pass need to know of its segments."""
        ...

    def layer(self, number: int, x: Tensor, work: object) -> Tensor:
        """Layer `number` (from 0) of a pass; events also write their keys and values. [R, D]"""
        ...

    def keep(self, number: int, x: Tensor, work: object) -> None:
        """Only writes the keys and values of events."""
        ...


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment with the places of its tokens: written (events only), and read."""

    begin: int
    rows: int
    stop: int
    prefix: int
    write: slice | Tensor
    read: slice | Tensor


@dataclass(frozen=True, slots=True)
class _CpuWork:
    parts: list[_Part]
    causal: bool


class CpuLayers:
    """torch on the CPU. Keys are kept times alpha, so that no pass scales anything; the scale 1 / N
    disappears in the layer norm that follows attention: LN(a / N; eps) = LN(a; N^2 eps)."""

    quantum = 16

    def __init__(self, net: FoundationNet, pages: int, dtype: torch.dtype, tile: int = 256) -> None:
        shape = net.shape
        self.tile = tile
        self.device, self.dtype = torch.device("cpu"), dtype
        self._shape = shape
        self._weights = _weights(net, self.device, dtype)
        kept = (shape.tap, shape.heads, pages * PAGE, shape.head_dim)
        self._keys = torch.empty(kept, dtype=dtype)
        self._values = torch.empty(kept, dtype=dtype)
        self._eps = EPS * shape.length**2
        self._alpha = shape.head_dim**-0.5
        self._past = torch.ones(tile, tile, dtype=dtype).tril()

    def padded(self, rows: int) -> int:
        """A multiple of `quantum`."""
        return -(-rows // self.quantum) * self.quantum

    def begin(self, segments: Sequence[Segment], causal: bool) -> object:
        """Places of keys and values of every segment."""
        parts: list[_Part] = []
        for one in segments:
            stop = one.begin + self.padded(one.rows)
            end = one.prefix + one.rows if causal else one.prefix
            read = _index(one.kept.slots(0, end))
            write = _index(one.kept.slots(one.prefix, end)) if causal else slice(0, 0)
            parts.append(_Part(one.begin, one.rows, stop, one.prefix, write, read))
        return _CpuWork(parts, causal)

    @torch.inference_mode()
    def layer(self, number: int, x: Tensor, work: object) -> Tensor:
        """Block `number` of the rows x [R, D]."""
        assert isinstance(work, _CpuWork)
        weights, shape = self._weights[number], self._shape
        parts = _project(x, weights, weights.uqkv_w, weights.uqkv_b)
        u = parts[:, : shape.width]
        q, k, v = parts[:, shape.width :].view(len(x), 3, shape.heads, -1).unbind(1)
        if work.causal:
            self._write(number, k, v, work)
            attended = self._attend_events(number, q, work)
        else:
            attended = self._attend_candidates(number, q, k, v, work)
        flat = attended.transpose(0, 1).reshape(x.shape)
        gated = torch.layer_norm(flat, (shape.width,), weights.gate_w, weights.gate_b, self._eps)
        return torch.addmm(x, gated.mul_(u), weights.out_w.t()).add_(weights.out_b)

    @torch.inference_mode()
    def keep(self, number: int, x: Tensor, work: object) -> None:
        """Keys and values of the rows x [R, D]."""
        assert isinstance(work, _CpuWork)
        weights, first = self._weights[number], 2 * self._shape.width
        parts = _project(x, weights, weights.uqkv_w[first:], weights.uqkv_b[first:])
        k, v = parts.view(len(x), 2, self._shape.heads, -1).unbind(1)
        self._write(number, k, v, work)

    def _write(self, number: int, k: Tensor, v: Tensor, work: _CpuWork) -> None:
        keys, values = self._keys[number], self._values[number]
        for part in work.parts:
            rows = slice(part.begin, part.begin + part.rows)
            own_keys, own_values = k[rows].transpose(0, 1), v[rows].transpose(0, 1)
            if isinstance(part.write, slice):
                torch.mul(own_keys, self._alpha, out=keys[:, part.write])
            else:
                keys[:, part.write] = own_keys * self._alpha
            values[:, part.write] = own_values

    def _attend_events(self, number: int, q: Tensor, work: _CpuWork) -> Tensor:
        """[H, R, d]: every event sees the events up to itself, which are written already."""
        queries = q.transpose(0, 1)
        keys, values = self._keys[number], self._values[number]
        found: list[Tensor] = []
        for part in work.parts:
            rows = slice(part.begin, part.stop)
            weights = torch.bmm(queries[:, rows], _columns(keys[:, part.read]))
            _SILU(weights, inplace=True)
            past = self._past[: part.stop - part.begin, : part.rows]
            weights[:, :, part.prefix :].mul_(past)
            found.append(torch.bmm(weights, values[:, part.read]))
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _attend_candidates(
        self, number: int, q: Tensor, k: Tensor, v: Tensor, work: _CpuWork
    ) -> Tensor:
        """[H, R, d]: every candidate sees its user's history and itself."""
        own = _SILU((q * k).sum(dim=2, keepdim=True).mul_(self._alpha), inplace=True)
        out = torch.mul(own.transpose(0, 1), v.transpose(0, 1)).contiguous()
        queries = q.transpose(0, 1)
        keys, values = self._keys[number], self._values[number]
        for part in work.parts:
            if not part.prefix:
                continue
            rows = slice(part.begin, part.stop)
            weights = torch.bmm(queries[:, rows], _columns(keys[:, part.read]))
            _SILU(weights, inplace=True)
            out[:, rows].baddbmm_(weights, values[:, part.read])
        return out


def _project(x: Tensor, weights: _Weights, uqkv_w: Tensor, uqkv_b: Tensor) -> Tensor:
    """SiLU(W LN(x) + b) for all or some of u, q, k, v."""
    normed = torch.layer_norm(x, x.shape[1:], weights.norm_w, weights.norm_b, EPS)
    return _SILU(nn.functional.linear(normed, uqkv_w, uqkv_b), inplace=True)


@dataclass(frozen=True, slots=True)
class _DeviceWork:
    rows: Rows
    slots: Tensor
    causal: bool


class DeviceLayers:
    """The kernels, on a device (their torch references on a CPU, for tests)."""

    quantum = 1

    def __init__(
        self,
        net: FoundationNet,
        pages: int,
        dtype: torch.dtype,
        device: torch.device | str,
        tile: int = 1024,
    ) -> None:
        shape = net.shape
        self.tile = tile
        self.device, self.dtype = torch.device(device), dtype
        self._shape = shape
        self._weights = _weights(net, self.device, dtype)
        size = (shape.tap, pages, 2, shape.heads, PAGE, shape.head_dim)
        self._pages = torch.zeros(size, dtype=dtype, device=self.device)
        self._alpha, self._inv_n = shape.head_dim**-0.5, 1.0 / shape.length

    def padded(self, rows: int) -> int:
        """Always a full pass: a product of another number of rows may round differently."""
        return self.tile if rows else 0

    def begin(self, segments: Sequence[Segment], causal: bool) -> object:
        """The work lists of attention and the slots of new keys, one copy each to the device."""
        offsets, slots = [0], list[int]()
        for one in segments:
            offsets.append(offsets[-1] + one.rows)
            if causal:
                places = one.kept.slots(one.prefix, one.prefix + one.rows)
                slots += range(places.start, places.stop) if isinstance(places, slice) else places
        rows = rows_of(
            offsets,
            [one.prefix for one in segments],
            [one.kept.pages for one in segments],
            self.device,
            self._shape.head_dim,
            self.dtype,
        )
        return _DeviceWork(rows, torch.tensor(slots, dtype=torch.int64).to(self.device), causal)

    @torch.inference_mode()
    def layer(self, number: int, x: Tensor, work: object) -> Tensor:
        """Block `number` of the rows x [tile, D], the first of which are the segments'."""
        assert isinstance(work, _DeviceWork)
        weights, shape, count = self._weights[number], self._shape, work.rows.offsets[-1]
        parts = self._project(x, weights, 0)
        u, heads = parts[:count, : shape.width], parts[:count, shape.width :]
        q, k, v = heads.view(count, 3, shape.heads, shape.head_dim).unbind(1)
        if work.causal:
            kv_write(k, v, self._pages[number], work.slots)
        attended = hstu_prefix_attn(
            *(q, k, v, self._pages[number], work.rows),
            alpha=self._alpha,
            inv_n=self._inv_n,
            causal=work.causal,
            written=work.causal,
        )
        flat = attended.reshape(count, shape.width)
        gated = torch.zeros_like(x)
        gated[:count] = norm_gate(flat, u, weights.gate_w, weights.gate_b, EPS)
        return torch.addmm(x, gated, weights.out_w.t()).add_(weights.out_b)

    @torch.inference_mode()
    def keep(self, number: int, x: Tensor, work: object) -> None:
        """Keys and values of the rows x [tile, D]."""
        assert isinstance(work, _DeviceWork)
        count, shape = work.rows.offsets[-1], self._shape
        parts = self._project(x, self._weights[number], 2 * shape.width)[:count]
        k, v = parts.view(count, 2, shape.heads, shape.head_dim).unbind(1)
        kv_write(k, v, self._pages[number], work.slots)

    def _project(self, x: Tensor, weights: _Weights, first: int) -> Tensor:
        normed = nn.functional.layer_norm(x, x.shape[1:], weights.norm_w, weights.norm_b, EPS)
        return nn.functional.linear(normed, weights.uqkv_w[first:], weights.uqkv_b[first:])


def _columns(keys: Tensor) -> Tensor:
    """Kept keys [H, n, d] -> [H, d, n]. oneDNN's bfloat16 products read a transposed view of
    something strided at a third of their speed: copied first."""
    return (keys if keys.dtype == torch.float32 else keys.contiguous()).transpose(1, 2)


def _index(slots: slice | list[int]) -> slice | Tensor:
    return slots if isinstance(slots, slice) else torch.tensor(slots)


def _weights(net: FoundationNet, device: torch.device, dtype: torch.dtype) -> list[_Weights]:
    """Of the layers up to the tap."""
    layers: list[_Weights] = []
    for block in list(net.blocks)[: net.shape.tap]:
        assert isinstance(block, Block)
        named = {name: getattr(block, name) for name in _Weights.__slots__}
        on_device = {
            name: value.detach().to(device, dtype).contiguous() for name, value in named.items()
        }
        layers.append(_Weights(**on_device))
    return layers


def computing_dtype(shape: FoundationShape, device: torch.device | str) -> torch.dtype:
    """bfloat16 on a device, and on a CPU whose products gain from it (at least 256 wide, and
    native); float32 elsewhere. Fixed by the model: a dtype chosen by the number of rows would make
    a row depend on its batch. Never float16 (slower than both on a CPU)."""
    native = torch.device(device).type != "cpu" or (
        shape.width >= 256 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
    return torch.bfloat16 if native else torch.float32
