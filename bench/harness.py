"""The measuring frame of every suite: rows in, times out, nothing quoted without its rivals.

Invariant: all subjects (ours, peers, limits) of a group are timed in every round, in rotating
order, so that a disturbance of the machine hits all of them; a value is the median over rounds.
"""

import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from itertools import repeat
from typing import Literal

import numpy as np

from predawn.bench import machine
from predawn.server.errors import PredawnError

Better = Literal["lower", "higher"]


class BenchError(PredawnError):
    """A benchmark cannot be trusted: subjects disagree, or something it needs is missing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; the JSON contract of every suite.

    limit: what the machine can do; share_of_limit in 0..1 for either direction of `better`.
    peer, ratio: how many times better than the peer in the same run: above 1 we are, whatever
    `better` is (null where the peer is absent).
    n: calls or requests behind the value.
    """

    suite: str
    case: str
    metric: str
    value: float
    unit: str
    better: Better
    limit: float | None = None
    share_of_limit: float | None = None
    peer: str | None = None
    ratio: float | None = None
    n: int = 0
    commit: str = ""
    device: str = ""

    def as_json(self) -> dict[str, object]:
        """The members in the order of the contract; NaN becomes null."""
        return {key: _finite(value) for key, value in asdict(self).items()}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that can be called again and again. work: units (keys, bytes) done by one call."""

    name: str
    call: Callable[[], object]
    work: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """Our way, its peers, and the limit that no way can pass.

    same: names of peers whose result must equal ours, else BenchError. absent: name -> why it
    cannot be shown here. work_bytes: payload bytes of a unit of work; adds a bandwidth row.
    """

    name: str
    own: Subject
    peers: tuple[Subject, ...] = ()
    limit: Subject | None = None
    same: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict[str, str])
    work_bytes: int = 0
    per: str = "call"

    def subjects(self) -> tuple[Subject, ...]:
        """Everything to be timed."""
        return (self.own, *self.peers, *([self.limit] if self.limit else []))


def _unheard(share: float) -> None:
    del share


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: `rounds` slices of about `slice_ms` for every subject.

    only: a part of the names of the cases to run, "*" for anything; empty: all. progress: is told
    which share (0..1) of a suite is done.
    """

    rounds: int
    slice_ms: float
    only: str = ""
    progress: Callable[[float], None] = _unheard

    def wants(self, case: str) -> bool:
        """Whether `case` is to run; upper and lower case are alike."""
        return fnmatchcase(case.lower(), f"*{self.only.lower()}*")


FULL = Effort(rounds=15, slice_ms=10.0)
SMOKE = Effort(rounds=3, slice_ms=0.2)


@dataclass(slots=True)
class Timing:
    """ns per unit of work, one entry per round."""

    rounds_ns: list[float] = field(default_factory=list[float])
    calls: int = 0

    @property
    def median_ns(self) -> float:
        return float(np.median(self.rounds_ns))


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every row of a run carries."""

    suite: str
    commit: str
    device: str

    def row(
        self,
        case: str,
        metric: str,
        value: float,
        unit: str,
        better: Better = "lower",
        *,
        limit: float | None = None,
        peer: str | None = None,
        ratio: float | None = None,
        n: int = 0,
    ) -> Row:
        """A row of this run; share_of_limit follows from `limit`."""
        share = _share(value, limit, better)
        where = (self.commit, self.device)
        return Row(
            self.suite, case, metric, value, unit, better, limit, share, peer, ratio, n, *where
        )


def stamp(suite: str) -> Stamp:
    """The stamp of a run that starts now."""
    return Stamp(suite, machine.commit(), machine.device())


def _share(value: float, limit: float | None, better: Better) -> float | None:
    if limit is None or not value or not limit:
        return None
    return limit / value if better == "lower" else value / limit


def times_better(value: float, peer: float, better: Better = "lower") -> float:
    """The `ratio` of a row: above 1 `value` is better than the peer's."""
    return peer / value if better == "lower" else value / peer


def spread(rounds: Sequence[float]) -> float:
    """How much the rounds of a figure differ: distance of the quartiles over the median."""
    low, middle, high = np.quantile(rounds, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def quiet_row(mark: Stamp, quiet: machine.Quiet) -> Row:
    """The noise of the machine during a run, as a row beside its results."""
    return mark.row("machine", "stall_share", quiet.stall_share, "share", n=1)


def measure(mark: Stamp, cases: Sequence[Case], effort: Effort) -> list[Row]:
    """Times all subjects of all cases that are wanted, interleaved, and returns their rows."""
    cases = [case for case in cases if effort.wants(case.name)]
    for case in cases:
        _check_same(case)
    timings = _interleaved([s for case in cases for s in case.subjects()], effort)
    return [row for case in cases for row in _rows(mark, case, timings)]


def _bytes_of(result: object) -> bytes:
    if isinstance(result, np.ndarray):
        return np.ascontiguousarray(result).tobytes()
    return result if isinstance(result, bytes) else repr(result).encode()


def _check_same(case: Case) -> None:
    own = _bytes_of(case.own.call())
    for peer in case.peers:
        if peer.name in case.same and _bytes_of(peer.call()) != own:
            raise BenchError(f"{case.name}: {peer.name} computes something else than we do")


def _interleaved(subjects: Sequence[Subject], effort: Effort) -> dict[int, Timing]:
    """Timings by id of the subject. The first slice of each is its warm-up."""
    calls = {id(s): _calls_per_slice(s, effort.slice_ms * 1e6) for s in subjects}
    timings = {id(s): Timing() for s in subjects}
    with _no_gc():
        for turn in range(effort.rounds):
            start = turn % max(1, len(subjects))
            for subject in (*subjects[start:], *subjects[:start]):
                count = calls[id(subject)]
                took = _time_ns(subject.call, count)
                timing = timings[id(subject)]
                timing.rounds_ns.append(took / (count * subject.work))
                timing.calls += count
    return timings


def _calls_per_slice(subject: Subject, slice_ns: float) -> int:
    count = 1
    while True:
        took = _time_ns(subject.call, count)
        if took >= slice_ns:
            return max(1, round(count * slice_ns / took))
        count = max(count * 2, min(count * 100, round(count * slice_ns / max(took, 1))))


def _time_ns(call: Callable[[], object], count: int) -> int:
    start = time.perf_counter_ns()
    for _ in repeat(None, count):
        call()
    return time.perf_counter_ns() - start


@contextmanager
def _no_gc() -> Generator[None, None, None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _rows(mark: Stamp, case: Case, timings: dict[int, Timing]) -> Iterator[Row]:
    own = timings[id(case.own)]
    value = own.median_ns
    limit = timings[id(case.limit)].median_ns if case.limit else None
    unit = f"ns/{case.per}"
    if not case.peers:
        yield mark.row(case.name, "time", value, unit, limit=limit, n=own.calls)
    for peer in case.peers:
        ratio = times_better(value, timings[id(peer)].median_ns)
        name = peer.name
        yield mark.row(
            case.name, "time", value, unit, limit=limit, peer=name, ratio=ratio, n=own.calls
        )
    for name, why in case.absent.items():
        label = f"{name} (absent: {why})"
        yield mark.row(case.name, "time", value, unit, limit=limit, peer=label, n=own.calls)
    yield mark.row(case.name, "time_spread", spread(own.rounds_ns), "share", n=own.calls)
    if case.work_bytes:
        bandwidth = case.work_bytes / value
        top = case.work_bytes / limit if limit else None
        yield mark.row(case.name, "bandwidth", bandwidth, "GB/s", "higher", limit=top, n=own.calls)
