"""What models do on the CPU for every request: layers, averages, bags. One thread each.

Buffers are the caller's: `out` is written, nothing is kept, nothing is copied that is not said.
Arguments are numpy arrays or other CPU arrays in C order; a ValueError names a wrong one. A row of
a result depends on its own inputs alone, bit by bit. `isa`: instructions to use instead of the
machine's best, "portable", "avx2+f16c" or "avx512", for tests. Short calls keep the GIL.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F16 = NDArray[np.float16]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

ISA: str  # the best instructions of this machine

class Panels:
    """Weights [depth, columns], packed."""

    def __init__(self, weights: F32) -> None: ...
    @property
    def depth(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def bytes(self) -> int: ...

def matvec(
    x: F32, panels: Panels, bias: F32 | None, out: F32, relu: bool = False, isa: str = ""
) -> None:
    """out[n, columns] = x[n, depth] @ weights + bias, negative ones 0 with `relu`; NaN stays."""

class GatherL1:
    """The first layer of a ranker, from where its inputs lie (csrc/first_layer.hpp):

    out[r] = user_part[request] + projected[projected_at[r]]
           + sum over pair models m of source_part[m * sources + pair_sources[r, m]]
           + (taste[request] . vectors[vector_at[r]]) * match
           + [vectors[vector_at[r]] | pairs[r] | dense[r]] @ weights

    weights: float32 [depth, columns], packed here; projected [n, columns], vectors [n, d]: looked
    into, not copied, float32, float16 or int8 with a scale a row; multiply_vectors: whether they
    are part of the product; match: float32 [columns]; pair_dims: the dim of each pair model;
    source_part: float32 [pair models * sources, columns]; missing_source: pairs of it count as
    zeros, whatever they hold; dense: its width; relu: negative results become 0.
    """

    def __init__(
        self,
        weights: F32,
        *,
        projected: F32 | F16 | I8 | None = None,
        projected_scales: F32 | None = None,
        vectors: F32 | F16 | I8 | None = None,
        vectors_scales: F32 | None = None,
        multiply_vectors: bool = False,
        match: F32 | None = None,
        pair_dims: Sequence[int] = (),
        source_part: F32 | None = None,
        missing_source: int = 0,
        dense: int = 0,
        relu: bool = False,
        isa: str = "",
    ) -> None: ...
    @property
    def columns(self) -> int: ...
    def run(
        self,
        out: F32,
        offsets: I64,
        user_part: F32,
        taste: F32 | None = None,
        projected_at: I64 | None = None,
        vector_at: I64 | None = None,
        pairs: F32 | None = None,
        pair_sources: U8 | None = None,
        dense: F32 | None = None,
    ) -> None:
        """out: [R, columns]; offsets: [U + 1], request u has rows offsets[u]:offsets[u + 1];
        user_part: [U, columns]; taste: [U, d]; the others [R, ..]. What the layer was not made for
        must be None."""

class CrossNetwork:
    """What a ranker does after its first layer (csrc/cross_network.hpp): low-rank crosses
    x + first * (x @ v @ u + bias), hidden layers max(x @ weights + bias, 0), a sigmoid at the end.

    width: columns of `first`; crosses: (v [width, rank], u [rank, width], bias [width]) each;
    layers: (weights, bias [columns]) each, at least one, the last one's columns are the tasks.
    """

    def __init__(
        self,
        width: int,
        crosses: Sequence[tuple[F32, F32, F32]],
        layers: Sequence[tuple[F32, F32]],
        isa: str = "",
    ) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def tasks(self) -> int: ...
    def run(self, first: F32, out: F32) -> None:
        """out [R, tasks] in 0..1 from first [R, width]."""

def sorted_positions(hashes: U64, items: U64, out: I64) -> None:
    """The position of each item in strictly increasing `hashes`, its length where absent."""

def hashed_rows(items: U64, salt: int, rows: int, out: I64) -> None:
    """1 + mix(item ^ salt) % rows (server/models/mixing.py)."""

def encode(features: F32, low: F32, width: F32, mean: F32, out: F32) -> None:
    """Piecewise-linear encoding: out [R, F * bins] from features [R, F]; the others [F, bins]."""

def average_quantise(raw: F32, previous: F32, out: F32, dtype: str = "fp32") -> None:
    """Whole rows of the store as it will give them back: out [n, (kept + 1) * dim] from raw
    [n, dim] and previous [n, kept * dim], NaN where absent (server/stabilise.py)."""

def exponential_quantise(
    raw: F32, previous: F32, weight: float, out: F32, dtype: str = "fp32"
) -> None:
    """out = previous + weight * (raw - previous), raw where absent, as the store gives it back. All
    [n, dim]."""

def quantise(rows: F32, out: F32, dim: int, dtype: str) -> None:
    """Rows [n, parts * dim] as the store gives them back, and as it gives that back."""

def bag_pool(
    table: F32 | F16 | I8,
    ids: I64,
    offsets: I64,
    out: F32,
    table_scales: F32 | None = None,
    weights: F32 | None = None,
    mean: bool = False,
    isa: str = "",
) -> int:
    """out[b] = sum (or mean) of weight * row over ids[offsets[b]:offsets[b + 1]]; returns how many
    ids are outside the table: those add nothing and do not count."""
