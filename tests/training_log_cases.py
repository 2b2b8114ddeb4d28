"""A served-feature log and the trace of what users did, for the tests of training on it.

What a user does with an item hangs on a hidden number of the pair alone. The pair model knows it,
and as in serving it is not always there: exact, that of users who are a little alike, or nothing.
"""

from pathlib import Path

import numpy as np

from predawn.server.request import I64, U8, PairRows, RankReply, RankRequest, Source, UserRow
from predawn.server.served_log_columns import Layout, RankerInputs, Seen
from predawn.server.served_log_files import ServedLogFiles
from predawn.server.served_log_read import ServedRows, read_served, served_log
from predawn.server.traces import Trace

T0_MS = 1_700_000_000_000
COVERAGE = (0.35, 0.45, 0.2)
EVERY_MS, CANDIDATES, ITEMS, DIM, PAIR_DIM = 60_000, 5, 400, 40, 16
INPUTS = RankerInputs(("sum",), ("fm",), ("click",), ("price",))
LAYOUT = Layout({"ctr": INPUTS}, {"sum": DIM}, {"fm": PAIR_DIM}, "fp32")


def served(requests: int, seed: int = 0, exact: bool = False) -> list[Seen]:
    """Requests of a log; the same pairs, hidden numbers and candidates with `exact` or without,
    which says that every pair was there."""
    rng = np.random.default_rng(seed)
    return [_seen(number, rng, exact) for number in range(requests)]


def _seen(number: int, rng: np.random.Generator, exact: bool) -> Seen:
    hidden = rng.normal(size=CANDIDATES)
    rows = hidden[:, None] + 0.3 * rng.normal(size=(CANDIDATES, PAIR_DIM))
    sources = rng.choice([Source.DIRECT, Source.NEIGHBOUR, Source.DEFAULT], CANDIDATES, p=COVERAGE)
    others = rng.normal(size=(CANDIDATES, 1)) + 0.3 * rng.normal(size=rows.shape)
    items = rng.choice(ITEMS, CANDIDATES, replace=False).astype(np.uint64)
    scores = rng.random((CANDIDATES, 1), dtype=np.float32)
    user, price = rng.normal(size=DIM), rng.random((CANDIDATES, 1))
    shown = rows if exact else _as_covered(rows, others, sources)
    direct = np.full(CANDIDATES, Source.DIRECT)
    request = RankRequest(
        number % 30,
        items,
        price.astype(np.float32),
        "ctr",
        0,
        CANDIDATES,
        request_id=str(number),
    )
    pairs = PairRows(
        shown.astype(np.float32),
        (direct if exact else sources).astype(np.uint8),
        np.zeros(CANDIDATES, np.int64),
        [],
    )
    reply = RankReply(
        np.arange(CANDIDATES),
        scores[:, 0],
        {"sum": UserRow(Source.DIRECT, 0, user.astype(np.float32), 1)},
        False,
        scores,
        ("click",),
        pairs={"fm": pairs},
    )
    return Seen(T0_MS + number * EVERY_MS + 15, 1, request, reply)


def _as_covered(rows: np.ndarray, others: np.ndarray, sources: np.ndarray) -> np.ndarray:
    alike = 0.3 * rows + 0.95 * others
    shown = np.where((sources == Source.DIRECT)[:, None], rows, alike)
    return np.where((sources == Source.DEFAULT)[:, None], 0.0, shown)


def outcomes(seen: list[Seen], seed: int = 9) -> Trace:
    """The trace of an exact log: clicks by the hidden number."""
    rng = np.random.default_rng(seed)
    hidden = np.concatenate([each.reply.pairs["fm"].rows.mean(axis=1) for each in seen])
    clicked = rng.random(len(hidden)) < 1 / (1 + np.exp(-3 * hidden))
    items = np.concatenate([each.request.item_hashes for each in seen])
    return Trace(
        t_ms=np.array([each.t_ms - 15 for each in seen], np.int64),
        users=np.array([each.request.user for each in seen], np.uint64),
        offsets=np.arange(len(seen) + 1, dtype=np.int64) * CANDIDATES,
        items=items,
        item_ids=items,
        clicked=clicked,
        labels={"click": clicked.astype(np.float32)},
        item_features=np.zeros((len(items), 0), np.float32),
    )


def write_log(directory: Path, seen: list[Seen], layout: Layout = LAYOUT) -> Path:
    """The log's directory, two files in it."""
    files, half = ServedLogFiles(directory, layout, 10**9), len(seen) // 2
    files.write(seen[:half], 1)
    files.write(seen[half:], 2)
    return directory


def read_log(directory: Path) -> ServedRows:
    """All of it."""
    return read_served(served_log(directory), "ctr", lambda share: None)


def rows_of(
    t_ms: list[int], users: list[int | str], items: list[int], shown: list[bool]
) -> ServedRows:
    """Requests of one candidate each, of which all but this is empty."""
    n = len(t_ms)
    who = np.empty(n, dtype=np.object_)
    who[:] = users
    nothing, sources = np.zeros((n, 0), np.float32), np.zeros((n, 0), np.uint8)
    ages: I64 = np.zeros((n, 0), np.int64)
    user_sources: U8 = np.zeros((n, 1), np.uint8)
    return ServedRows(
        t_ms=np.array(t_ms, np.int64),
        users=who,
        counts=np.ones(n, np.int64),
        items=np.array(items, np.uint64),
        item_features=nothing,
        user=np.ones((n, DIM), np.float32),
        sources=user_sources,
        snapshots=np.ones((n, 1), np.int64),
        pairs=nothing,
        pair_sources=sources,
        pair_ages_ms=ages,
        scores=np.ones((n, 1), np.float32),
        shown=np.array(shown),
    )
