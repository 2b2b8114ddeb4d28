"""The policy table: three papers, one rule. Pure functions over arrays; no clock, no store.

    state                    realtime ercache        soap            batch   frozen  solaris
    fresh   age <= direct    wait|DEF DIRECT         DIRECT          DIRECT  DIRECT  DIRECT
    stale   age <= failover  wait|DEF wait|FAILOVER  STALE+refresh   STALE   STALE   DIRECT
    expired or absent        wait|DEF wait|DEF       DEF+refresh     DEF     DEF     fill+refresh

DEF is DEFAULT. "wait|X": compute and wait; on failure, overload or deadline serve X.
"wait|DEF" asks again, within its wait, when the inference itself fails (`ModelPolicy.retries`).
"+refresh": recompute behind the request. ERCache (direct and failover ages) is arXiv 2410.06497,
SOAP is SUM's serving (arXiv 2311.09544), SOLARIS is arXiv 2604.12110; realtime, batch and frozen
are what SUM compares with. Age counts from the write and a read does not renew it.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from predawn.server.request import I64, U8, Source


class Mode(IntEnum):
    """A column of the table."""

    REALTIME = 0
    ERCACHE = 1
    SOAP = 2
    BATCH = 3
    FROZEN = 4
    SOLARIS = 5


class State(IntEnum):
    """A row of the table."""

    FRESH = 0
    STALE = 1
    EXPIRED = 2  # or absent


@dataclass(frozen=True, slots=True)
class Ages:
    """The two ages of one model. Invariant: 0 <= direct_ttl_ms <= failover_ttl_ms."""

    direct_ttl_ms: int
    failover_ttl_ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.direct_ttl_ms <= self.failover_ttl_ms:
            raise ValueError(f"need 0 <= direct_ttl_ms <= failover_ttl_ms, got {self}")


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """How one user model is served. wait_ms: longest a request waits for it (modes that wait);
    retries: how often it asks again in that time for an inference that failed, when there is only
    the default to fall back on; batch_every_ms: period of the sweeps of mode batch."""

    mode: Mode
    ages: Ages
    wait_ms: int = 30
    batch_every_ms: int = 3_600_000
    retries: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table: `Decision` for a single key."""

    source: Source
    wait: bool
    refresh: bool
    fill: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """One entry per key. source: uint8, what to serve, or what to fall back to where `wait`;
    wait, refresh, fill: bool."""

    source: U8
    wait: NDArray[np.bool_]
    refresh: NDArray[np.bool_]
    fill: NDArray[np.bool_]


_WAIT, _REFRESH, _FILL = 1, 2, 4
_D, _S, _F, _0 = Source.DIRECT, Source.STALE, Source.FAILOVER, Source.DEFAULT

_TABLE: dict[Mode, tuple[tuple[Source, int], tuple[Source, int], tuple[Source, int]]] = {
    #               fresh        stale           expired or absent
    Mode.REALTIME: ((_0, _WAIT), (_0, _WAIT), (_0, _WAIT)),
    Mode.ERCACHE: ((_D, 0), (_F, _WAIT), (_0, _WAIT)),
    Mode.SOAP: ((_D, 0), (_S, _REFRESH), (_0, _REFRESH)),
    Mode.BATCH: ((_D, 0), (_S, 0), (_0, 0)),
    Mode.FROZEN: ((_D, 0), (_S, 0), (_0, 0)),
    Mode.SOLARIS: ((_D, 0), (_D, 0), (_0, _FILL | _REFRESH)),
}
_CELLS = {
    mode: tuple(
        Cell(source, bool(flags & _WAIT), bool(flags & _REFRESH), bool(flags & _FILL))
        for source, flags in column
    )
    for mode, column in _TABLE.items()
}
_SOURCE = np.array([[cell[0] for cell in _TABLE[mode]] for mode in Mode], dtype=np.uint8)
_FLAGS = np.array([[cell[1] for cell in _TABLE[mode]] for mode in Mode], dtype=np.uint8)


def states(ages_ms: I64, ages: Ages) -> U8:
    """`State` per key; ages_ms int64 [n], -1 where the key is absent."""
    stale = (ages_ms > ages.direct_ttl_ms) | (ages_ms < 0)
    expired = (ages_ms > ages.failover_ttl_ms) | (ages_ms < 0)
    return stale.astype(np.uint8) + expired.astype(np.uint8)


def decide(mode: Mode, ages_ms: I64, ages: Ages) -> Decision:
    """Looks the table up for n keys of one model."""
    state = states(ages_ms, ages)
    flags = _FLAGS[mode][state]
    return Decision(
        source=_SOURCE[mode][state],
        wait=(flags & _WAIT) != 0,
        refresh=(flags & _REFRESH) != 0,
        fill=(flags & _FILL) != 0,
    )


def decide_one(mode: Mode, age_ms: int, ages: Ages) -> Cell:
    """`decide` for a single key (age -1: absent), without arrays: 0.3 us on the request path."""
    if age_ms < 0 or age_ms > ages.failover_ttl_ms:
        return _CELLS[mode][State.EXPIRED]
    return _CELLS[mode][State.STALE if age_ms > ages.direct_ttl_ms else State.FRESH]
