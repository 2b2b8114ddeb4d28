"""Pairs computed ahead, in virtual time, under many seeds: what is served, spent and accounted for.

Reproduce a failure with `pytest tests/sim -k "ahead and SEED"`; `tests/million.py` runs as many
requests as one likes.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sim.ahead_traffic import play

from predawn.server.pair_neighbours import Neighbours
from predawn.server.pair_stores import ReadRules
from predawn.server.pair_table import PairTable
from predawn.server.request import Source
from predawn.server.speculation.ledger import Ledger
from predawn.server.speculation.speculator import Speculator

SEEDS = 16
NOTICED_WITHIN = 40
"""Seeds within which each broken server is noticed."""
REQUESTS = 300


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_pair_is_served_spent_and_accounted_for_as_promised_ahead(seed: int) -> None:
    world = play(seed, REQUESTS)
    assert world.checker.requests == REQUESTS


def test_the_seeds_see_all_sources_and_all_ends_of_a_pair() -> None:
    """Else the checker would have nothing to check."""
    sources, outcomes = np.zeros(len(Source), dtype=np.int64), np.zeros(7, dtype=np.int64)
    for seed in range(12):
        world = play(seed, REQUESTS)
        for kept in world.checker.kept.values():
            sources += kept.sources
        for each in world.speculator.models.values():
            outcomes += each.planner.ledger.counted().outcomes.sum(axis=0).astype(np.int64)
    served = {Source.DIRECT, Source.USER_MEAN, Source.RECENT, Source.NEIGHBOUR, Source.DEFAULT}
    assert {source for source in Source if sources[source]} == served
    assert (outcomes[:6] > 0).all(), outcomes  # the seventh: the ledger is never full here


def test_the_same_seed_gives_the_same_run_ahead() -> None:
    def trace(seed: int) -> list[tuple[Any, ...]]:
        calls = play(seed, 200).engine.calls
        return [(call.model, call.items.tolist(), call.began_ns) for call in calls]

    assert trace(5) == trace(5) != trace(6)


def of_any_age(table: PairTable, now_ms: int, max_age_ms: int) -> ReadRules:
    return ReadRules(now_ms, 10**12, table._rules.ttl_ms, table._versions)


def of_any_fill_age(table: PairTable, now_ms: int, max_age_ms: int) -> ReadRules:
    return ReadRules(now_ms, max_age_ms, 10**12, table._versions)


def shifted(table: PairTable, wanted: Any, raw: Any, *rest: Any) -> int:
    return _land(table, wanted, np.roll(raw, 1, axis=0), *rest)


def everybodys(table: Any, users: Any) -> Any:
    return np.zeros((len(users), 2), dtype=np.uint64)


def issued_twice(ledger: Ledger, *what: Any) -> None:
    _issued(ledger, *what)
    _issued(ledger, *what)


def without_failures(ledger: Ledger, *what: Any) -> int:
    return 0


async def two_at_once(speculator: Speculator) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_run(speculator))
        tasks.create_task(_run(speculator))


def of_the_next_item(self: Neighbours, vector: Any, items: Any) -> Any:
    return _known(self, vector, np.roll(items, 1))


_land, _issued, _run = PairTable.land, Ledger.issued, Speculator.run
_known = Neighbours._known

BROKEN: list[tuple[str, Callable[..., Any]]] = [
    ("pair_table.PairTable._read_rules", of_any_age),
    ("pair_table.PairTable._read_rules", of_any_fill_age),
    ("pair_table.PairTable.replace_version", lambda *_: None),
    ("pair_table.PairTable.land", shifted),
    ("pair_stores.PairStores.invalidate", lambda *_: None),
    ("pair_aggregates._keys", everybodys),
    ("pair_neighbours.Neighbours._known", of_the_next_item),
    ("pair_neighbours.Neighbours.replace_version", lambda *_: None),
    ("speculation.speculator.Speculator.invalidated", lambda *_: None),
    ("speculation.speculator.Speculator.run", two_at_once),
    ("speculation.speculator.ShareAccount.spend", lambda *_: None),
    ("speculation.budget.TokenBucket.spend", lambda *_: None),
    ("speculation.planner.PairBudget.spend", lambda *_: None),
    ("speculation.ledger.Ledger.issued", issued_twice),
    ("speculation.ledger.Ledger.failed", without_failures),
]


@pytest.mark.parametrize(("target", "broken"), BROKEN)
def test_the_checker_notices_a_server_that_is_broken_on_purpose_ahead(
    target: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"predawn.server.{target}", broken)
    seeds = itertools.islice(itertools.count(), NOTICED_WITHIN)
    assert any(notices(seed) for seed in seeds), f"nobody noticed that {target} is broken"


def notices(seed: int) -> bool:
    """A violation, in a request or reported by the checker."""
    try:
        play(seed, REQUESTS)
    except AssertionError:
        return True
    except ExceptionGroup as group:
        return group.subgroup(AssertionError) is not None
    return False
