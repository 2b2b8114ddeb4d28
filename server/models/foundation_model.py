"""The foundation model as the engine runs it: histories kept between calls, candidates in passes.

A `PairModel` and a `SlicedPairModel`. For every user: the tokens of its recent past are compared
with what is kept of it; new ones are appended to its pages, layer by layer; then its candidates run
against them, up to the tap, and are compressed. The result equals `foundation.FoundationNet`'s.

Invariant: row r is a function of its own user's past and of its item: bitwise the same whatever
else is in the batch, however candidates are split or ordered. Of a kept history that was
extended instead of encoded at once it differs in rounding only.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from predawn.kernels.hstu_prefix_attn import PAGE
from predawn.server.models.foundation import (
    FoundationNet,
    foundation_net,
    foundation_tensors,
    layer_norm,
    untrained_foundation,
)
from predawn.server.models.foundation_layers import (
    CpuLayers,
    DeviceLayers,
    Layers,
    Segment,
    computing_dtype,
)
from predawn.server.models.foundation_pages import Kept, PagePool, pages_of
from predawn.server.models.foundation_shape import FoundationShape
from predawn.server.models.foundation_tokens import (
    CANDIDATE,
    Tokens,
    candidate_features,
    histories,
    history_tokens,
)
from predawn.server.models.item_table import embedding_rows
from predawn.server.models.snapshots import Tensors
from predawn.server.request import F32, I64, U64, PairBatch, UserBatch

__all__ = [
    "FoundationModel",
    "foundation_from_tensors",
    "foundation_tensors",
    "untrained_foundation",
]

_Result = TypeVar("_Result")
_POOL_BYTES = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows first .. stop - 1 of the batch, of its user number `user`."""

    user: int
    first: int
    stop: int


class FoundationModel:
    """Not for several threads. Generators of `pair_slices` may be nested or dropped half way."""

    def __init__(
        self,
        net: FoundationNet,
        device: str = "cpu",
        *,
        pages: int | None = None,
        layers: Layers | None = None,
    ) -> None:
        """pages: of the pool of kept histories, each of PAGE tokens (None: 256 MiB on a CPU, 4 GiB
        on a device, at least four full histories); layers: another way to compute them than the
        one that suits the device. ValueError when the pool is too small."""
        shape = self.shape = net.shape
        longest = pages_of(shape.length)
        dtype = computing_dtype(shape, device)
        pages = default_pages(shape, device, dtype) if pages is None else pages
        self._pool = PagePool(pages, longest)
        if layers is None:
            on_cpu = torch.device(device).type == "cpu"
            layers = (
                CpuLayers(net, pages, dtype) if on_cpu else DeviceLayers(net, pages, dtype, device)
            )
        self._layers = layers
        place = layers.device
        with torch.no_grad():
            table = net.items.weight @ net.item_in + net.statistics @ net.statistics_in
            self._items = table.to(place, layers.dtype)
            self._gaps = net.gaps.detach().to(place)
            self._features = net.features_in.detach().to(place)
            self._encode_w = net.encode_w.detach().to(place)
            self._encode_b = net.encode_b.detach().to(place)

    @property
    def dim(self) -> int:
        """Values per pair."""
        return self.shape.dim

    def kept(self) -> dict[str, int]:
        """Counters of the pool: `foundation_pages.PagePool.counters`."""
        return self._pool.counters()

    def embed_pairs(self, batch: PairBatch) -> F32:
        """float32 [R, dim] in -1 .. 1. ValueError when the history has other columns than the
        training's; PoolFull when jobs under way pin the whole pool."""
        return _finish(self.pair_slices(batch))

    def pair_slices(self, batch: PairBatch) -> Generator[None, None, F32]:
        """The same, yielding after every layer of a pass."""
        past = histories(batch.users, self.shape.length)
        counts = np.array([len(events) for events in past], dtype=np.int64)
        since_ms = np.array([int(e[-1, 2]) if len(e) else 0 for e in past], dtype=np.int64)
        shared = candidate_features(self.shape, batch.users, counts, since_ms)
        out = np.zeros((len(batch.item_hashes), self.dim), np.float32)
        for pieces in self._groups(batch.users.users, past, self._pieces(batch.offsets)):
            with self._pinned(batch.users.users, past, pieces) as (kept, events):
                yield from self._append(kept, events)
                yield from self._score(batch, pieces, kept, events, shared, out)
        return out

    def encode(self, users: UserBatch) -> None:
        """Brings what is kept of the users up to date, ahead of their candidates."""
        _finish(self.encode_slices(users))

    def encode_slices(self, users: UserBatch) -> Generator[None, None, None]:
        """The same, yielding after every layer of a pass."""
        past = histories(users, self.shape.length)
        everyone = (_Piece(user, 0, 0) for user in range(len(past)))
        for pieces in self._groups(users.users, past, everyone):
            with self._pinned(users.users, past, pieces) as (kept, events):
                yield from self._append(kept, events)

    @contextmanager
    def _pinned(
        self, users: U64, past: list[U64], pieces: list[_Piece]
    ) -> Generator[tuple[list[Kept], list[U64]], None, None]:
        """What is kept of the pieces' users, and the histories they are wanted with."""
        with ExitStack() as pins:
            kept: list[Kept] = []
            for piece in pieces:
                kept.append(self._pool.acquire(int(users[piece.user]), past[piece.user]))
                pins.callback(self._pool.release, kept[-1])
            yield kept, [past[piece.user] for piece in pieces]

    def _groups(
        self, users: U64, past: list[U64], pieces: Iterable[_Piece]
    ) -> Iterator[list[_Piece]]:
        """Pieces that are computed together: at most a pass of rows, a quarter of the pool (so
        that jobs between slices find pages), and no user twice."""
        group: list[_Piece] = []
        there: set[int] = set()
        rows = pages = 0
        for piece in pieces:
            user, need = int(users[piece.user]), pages_of(len(past[piece.user]))
            more = self._quanta(piece.stop - piece.first)
            full = rows + more > self._layers.tile or pages + need > self._pool.pages // 4
            if group and (full or user in there):
                yield group
                group, there, rows, pages = [], set(), 0, 0
            group.append(piece)
            there.add(user)
            rows, pages = rows + more, pages + need
        if group:
            yield group

    def _pieces(self, offsets: I64) -> Iterator[_Piece]:
        tile = self._layers.tile
        for user, (begin, end) in enumerate(pairwise(offsets.tolist())):
            for first in range(begin, end, tile):
                yield _Piece(user, first, min(first + tile, end))

    def _quanta(self, rows: int) -> int:
        return -(-rows // self._layers.quantum) * self._layers.quantum

    def _append(self, kept: list[Kept], past: list[U64]) -> Generator[None, None, None]:
        """Encodes what is not kept yet, in chunks that a user's own history determines."""
        tile = self._layers.tile
        waiting = [(k, e) for k, e in zip(kept, past, strict=True) if k.length < len(e)]
        while waiting:
            chunk: list[tuple[Kept, U64, int]] = []
            rows = 0
            for one, events in waiting:
                count = min(len(events) - one.length, tile)
                if rows + self._quanta(count) > tile:
                    break
                chunk.append((one, events, count))
                rows += self._quanta(count)
            yield from self._append_pass(chunk)
            for one, _, count in chunk:
                self._pool.commit(one, one.length + count)
            waiting = [(k, e) for k, e in waiting if k.length < len(e)]

    def _append_pass(self, chunk: list[tuple[Kept, U64, int]]) -> Generator[None, None, None]:
        segments = self._segments([(one, count, one.length) for one, _, count in chunk])
        tokens = [
            history_tokens(self.shape, events, one.length, one.length + count)
            for one, events, count in chunk
        ]
        x = self._rows(segments, tokens)
        work = self._layers.begin(segments, causal=True)
        for number in range(self.shape.tap - 1):
            x = self._layers.layer(number, x, work)
            yield
        self._layers.keep(self.shape.tap - 1, x, work)
        yield

    def _score(
        self,
        batch: PairBatch,
        pieces: list[_Piece],
        kept: list[Kept],
        past: list[U64],
        shared: F32,
        out: F32,
    ) -> Generator[None, None, None]:
        segments = self._segments(
            [
                (one, piece.stop - piece.first, len(events))
                for one, piece, events in zip(kept, pieces, past, strict=True)
            ]
        )
        tokens = [self._candidates(batch, piece, shared) for piece in pieces]
        x = self._rows(segments, tokens)
        work = self._layers.begin(segments, causal=False)
        for number in range(self.shape.tap):
            x = self._layers.layer(number, x, work)
            yield
        found = self._compress(x)
        for segment, piece in zip(segments, pieces, strict=True):
            out[piece.first : piece.stop] = found[segment.begin : segment.begin + segment.rows]

    def _segments(self, parts: Sequence[tuple[Kept, int, int]]) -> list[Segment]:
        begin, segments = 0, list[Segment]()
        for kept, rows, prefix in parts:
            segments.append(Segment(kept, begin, rows, prefix))
            begin += self._quanta(rows)
        return segments

    def _candidates(self, batch: PairBatch, piece: _Piece, shared: F32) -> Tokens:
        items = embedding_rows(batch.item_hashes[piece.first : piece.stop], self.shape.item_rows)
        gaps = np.full(len(items), CANDIDATE, np.int64)
        return Tokens(
            items, gaps, np.broadcast_to(shared[piece.user], (len(items), shared.shape[1]))
        )

    @torch.inference_mode()
    def _rows(self, segments: list[Segment], tokens: list[Tokens]) -> Tensor:
        """The tokens at their segments' rows, zeros between, embedded: [R, D]."""
        last = segments[-1]
        rows = self._layers.padded(last.begin + last.rows)
        items, gaps = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        features = np.zeros((rows, self.shape.features), np.float32)
        for segment, part in zip(segments, tokens, strict=True):
            at = slice(segment.begin, segment.begin + segment.rows)
            items[at], gaps[at], features[at] = part.items, part.gaps, part.features
        place = self._layers.device
        known = self._gaps.index_select(0, torch.from_numpy(gaps).to(place))
        x = torch.addmm(known, torch.from_numpy(features).to(place), self._features)
        own = self._items.index_select(0, torch.from_numpy(items).to(place))
        return x.add_(own).to(self._layers.dtype)

    @torch.inference_mode()
    def _compress(self, x: Tensor) -> F32:
        wide = layer_norm(x.float())
        found: F32 = torch.addmm(self._encode_b, wide, self._encode_w).tanh_().cpu().numpy()
        return found


def _finish(slices: Generator[None, None, _Result]) -> _Result:
    """Runs to the end."""
    while True:
        try:
            next(slices)
        except StopIteration as done:
            result: _Result = done.value
            return result


def default_pages(shape: FoundationShape, device: str, dtype: torch.dtype) -> int:
    """Pages of the pool when nothing is said."""
    page_bytes = 2 * shape.width * PAGE * shape.tap * dtype.itemsize
    room = _POOL_BYTES[torch.device(device).type] // page_bytes
    return max(room, 4 * pages_of(shape.length))


def foundation_from_tensors(
    described: dict[str, Any], tensors: Tensors, device: str = "cpu", pages: int | None = None
) -> FoundationModel:
    """From a snapshot's parts; KeyError, TypeError, RuntimeError when they do not fit together."""
    return FoundationModel(foundation_net(described, tensors), device, pages=pages)
