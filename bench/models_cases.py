"""What the cases of suite `models` share: rivals that compute the same, and rates of a model."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from predawn.bench.harness import BenchError, Row, Stamp, Subject


def agree(case: str, name: str, own: object, peer: object, within: float) -> None:
    """BenchError where `name` computes something else than we do: off by more than `within` times
    the largest number. own, peer: arrays, or what numpy makes one of."""
    ours, theirs = (np.asarray(each, dtype=np.float64) for each in (own, peer))
    if ours.shape != theirs.shape:
        raise BenchError(f"{case}: {name} gives {theirs.shape}, we {ours.shape}")
    largest = np.nanmax(np.abs(theirs), initial=1e-30)
    worst = np.nanmax(np.abs(ours - theirs), initial=0.0) / largest
    if worst > within or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        raise BenchError(f"{case}: {name} computes something else than we do, by {worst:.1e}")


def rates(mark: Stamp, rows: Sequence[Row], name: str) -> Iterator[Row]:
    """A row `name` "a second" for every time of a unit of work in `rows`."""
    for row in rows:
        if row.metric != "time":
            continue
        value, limit = 1e9 / row.value, 1e9 / row.limit if row.limit else None
        yield mark.row(
            row.case,
            f"{name}_a_second",
            value,
            "1/s",
            "higher",
            limit=limit,
            peer=row.peer,
            ratio=row.ratio,
            n=row.n,
        )


def in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """Calls one after the other, round and round: each on inputs of its own."""
    turn = iter(_forever(calls))

    def call() -> object:
        return next(turn)()

    return call


def _forever(calls: Sequence[Callable[[], object]]) -> Iterator[Callable[[], object]]:
    while True:
        yield from calls


class Product:
    """A matrix product [m, k] x [k, n] in a dtype, called: what torch multiplies at most."""

    def __init__(self, *, smoke: bool, dtype: torch.dtype = torch.float32) -> None:
        m, k, n = (64, 64, 64) if smoke else (2048, 512, 2048)
        draw = torch.Generator().manual_seed(0)
        self._left = torch.randn((m, k), generator=draw).to(dtype)
        self._right = torch.randn((k, n), generator=draw).to(dtype)
        self._out = torch.empty((m, n), dtype=dtype)
        self._flop = 2 * m * k * n

    def subject(self, flop: int) -> Subject:
        """As the limit of something that takes so many FLOP a unit."""
        return Subject("matrix product", self, work=max(1, self._flop // flop))

    def __call__(self) -> object:
        return torch.mm(self._left, self._right, out=self._out)
