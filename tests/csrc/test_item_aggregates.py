"""The table of items keeps to its size, its ages and its order of leaving."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.csrc._aggregates import ItemAggregates
from predawn.server.request import U64

HALF_LIFE_MS, WAYS = 1_000, 8
FOREVER = 2**60


def items_of(*items: int) -> U64:
    """As the table takes them."""
    return np.array(items, dtype=np.uint64)


def add(table: ItemAggregates, items: U64, value: float, now_ms: int = 0) -> None:
    """The same embedding of one value for each of the items; the only feature is 1."""
    ones = np.ones((len(items), 1), dtype=np.float32)
    table.add(items, ones, ones * np.float32(value), now_ms)


def read(
    table: ItemAggregates,
    items: U64,
    now_ms: int = 0,
    max_age_ms: int = FOREVER,
    least: float = 0.0,
    wanted: Any = None,
) -> tuple[list[float], list[float], list[int]]:
    """Rows (-1 where not written), weights, found."""
    n = len(items)
    rows = np.full((n, 1), -1, dtype=np.float32)
    weights, found = np.empty(n, np.float32), np.empty(n, np.uint8)
    wanted = np.ones(n, np.uint8) if wanted is None else np.array(wanted, np.uint8)
    query = np.ones(1, dtype=np.float32)
    count = table.read(items, wanted, query, now_ms, max_age_ms, least, rows, weights, found)
    assert count == found.sum()
    return rows[:, 0].tolist(), weights.tolist(), found.tolist()


def small(items: int = WAYS) -> ItemAggregates:
    """One feature, one value, next to no ridge."""
    return ItemAggregates(items, 1, 1, HALF_LIFE_MS, 1e-3)


def test_reads_what_is_wanted_and_there_and_leaves_the_rest() -> None:
    table = small(64)
    add(table, items_of(1, 2), 5.0)
    rows, weights, found = read(table, items_of(2, 3, 1), wanted=[1, 1, 0])
    assert rows == [pytest.approx(5, rel=2e-3), -1, -1]
    assert weights == [1, 0, 0]
    assert found == [1, 0, 0]


def test_a_weight_is_the_number_of_embeddings_counted_by_age() -> None:
    table = small()
    for _ in range(3):
        add(table, items_of(1), 5.0)
    assert read(table, items_of(1))[1] == [3]
    assert read(table, items_of(1), HALF_LIFE_MS)[1] == [1.5]
    add(table, items_of(1), 5.0, HALF_LIFE_MS)
    assert read(table, items_of(1), HALF_LIFE_MS)[1] == [2.5]
    assert read(table, items_of(1), 2 * HALF_LIFE_MS)[1] == [1.25]


def test_fills_nothing_that_weighs_too_little_or_is_too_old() -> None:
    table = small()
    add(table, items_of(1), 5.0)
    assert read(table, items_of(1), least=1.0)[2] == [1]
    assert read(table, items_of(1), least=1.01)[2] == [0]
    assert read(table, items_of(1), 10, max_age_ms=10)[2] == [1]
    assert read(table, items_of(1), 11, max_age_ms=10)[2] == [0]


def test_age_alone_changes_no_row() -> None:
    table = small()
    add(table, items_of(1), 5.0)
    assert read(table, items_of(1), 50 * HALF_LIFE_MS)[0] == read(table, items_of(1))[0]


def test_a_clock_that_goes_back_stands_still() -> None:
    table = small()
    add(table, items_of(1), 5.0, HALF_LIFE_MS)
    add(table, items_of(1), 7.0, 0)
    assert read(table, items_of(1), 0)[1] == [2]
    assert read(table, items_of(1), 0)[0] == [pytest.approx(6, rel=2e-3)]
    assert read(table, items_of(1), 2 * HALF_LIFE_MS)[1] == [1]


def test_the_item_longest_untouched_makes_room_and_starts_anew() -> None:
    table = small()
    add(table, items_of(*range(WAYS)), 5.0)
    read(table, items_of(0))
    add(table, items_of(1), 5.0)
    add(table, items_of(100), 9.0)
    assert read(table, items_of(0, 1, 2, 3, 100))[2] == [1, 1, 0, 1, 1]
    assert (table.used, table.evictions, table.capacity) == (WAYS, 1, WAYS)
    add(table, items_of(2), 1.0)
    rows, weights, _ = read(table, items_of(2))
    assert rows[0] == pytest.approx(1, rel=2e-3)
    assert weights == [1]


@settings(max_examples=20, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 400), max_size=60), max_size=20),
    items=st.integers(1, 70),
)
def test_never_grows_and_never_mixes_items(batches: list[list[int]], items: int) -> None:
    table = small(items)
    before = table.bytes
    for now_ms, batch in enumerate(batches):
        keys = items_of(*batch)
        ones = np.ones((len(keys), 1), dtype=np.float32)
        table.add(keys, ones, keys[:, None].astype(np.float32), now_ms)
    assert table.bytes == before
    assert table.used <= table.capacity < items + WAYS
    everything = items_of(*range(401))
    rows, _, found = read(table, everything, len(batches))
    assert sum(found) == table.used
    for item, row, there in zip(range(401), rows, found, strict=True):
        assert row == (pytest.approx(item, rel=2e-3, abs=2e-3) if there else -1)


def test_bytes_are_what_is_stated() -> None:
    table = ItemAggregates(4_096, 17, 64, HALF_LIFE_MS)
    assert table.bytes == 4_096 * (4 * 17 * (64 + 17) + 32)


@pytest.mark.parametrize("bad", (np.nan, np.inf))
def test_rows_that_are_not_finite_are_left_out(bad: float) -> None:
    table = small()
    add(table, items_of(1), bad)
    assert table.used == 0
    table.add(items_of(1), np.full((1, 1), bad, np.float32), np.ones((1, 1), np.float32), 0)
    assert table.used == 0


def test_forgets_all() -> None:
    table = small()
    add(table, items_of(1, 2), 5.0)
    table.forget()
    assert table.used == 0
    assert read(table, items_of(1, 2))[2] == [0, 0]
    add(table, items_of(1), 3.0)
    rows, weights, _ = read(table, items_of(1))
    assert rows[0] == pytest.approx(3, rel=2e-3)
    assert weights == [1]
