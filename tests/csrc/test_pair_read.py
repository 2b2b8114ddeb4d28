"""A request's pairs in one call, against reads of the tables one by one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_calls import SEED

from predawn.csrc import _core
from predawn.csrc._core import EmbeddingCache

DIM, LEVEL, DEFAULT_SOURCE = 3, 4, 6
DEFAULT = np.array([-1, -2, -3], np.float32)
USERS: list[int | str] = [0, 7, 2**64 - 1, "", "anna", "é" * 50]
AGES = st.integers(0, 40)


class Tables:
    """Three tables of one id kind, and what a user's entries are in each."""

    def __init__(self, user: int | str) -> None:
        kind = int(isinstance(user, str))

        def table(dim: int) -> EmbeddingCache:
            return EmbeddingCache.create(
                capacity=4096, dim=dim, dtype="fp32", id_kind=kind, seed=SEED, huge_pages=False
            )

        self.user = user
        self.pairs, self.invalidated, self.fills = table(DIM), table(1), table(DIM + 2)

    def put(self, table: EmbeddingCache, row: list[float], at_ms: int, version: int = 0) -> None:
        user = self.user
        key = table.key_of_string(user) if isinstance(user, str) else (user, 0)
        keys = np.array([key], np.uint64)
        table.put_many(keys, np.array([row], np.float32), at_ms, version, 0)

    def put_pair(self, item: int, row: list[float], at_ms: int, version: int) -> None:
        items, keys = np.array([item], np.uint64), np.zeros((1, 2), np.uint64)
        if isinstance(self.user, str):
            _core.pair_keys_of_string(SEED[16:], self.user, items, keys)
        else:
            keys[0] = self.user, item
        self.pairs.put_many(keys, np.array([row], np.float32), at_ms, version, 0)

    def arguments(self, n: int) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "invalidated": self.invalidated,
            "fills": self.fills,
            "level": LEVEL,
            "user": self.user,
            "items": np.arange(n, dtype=np.uint64),
            "now_ms": 50,
            "max_age_ms": 20,
            "fill_age_ms": 30,
            "versions": np.array([1, 2], np.uint32),
        }


def outputs(n: int) -> dict[str, Any]:
    return {
        "default": DEFAULT,
        "rows": np.full((n, DIM), np.nan, np.float32),
        "ages": np.full(n, 77, np.int64),
        "sources": np.full(n, 77, np.uint8),
    }


@given(
    user=st.sampled_from(USERS),
    pairs=st.dictionaries(st.integers(0, 9), st.tuples(AGES, st.integers(1, 3))),
    fill=st.none() | st.tuples(AGES, st.integers(1, 3)),
    invalidated=st.none() | AGES,
    any_version=st.booleans(),
    n=st.sampled_from([0, 1, 10, 40]),
)
@settings(deadline=None)
def test_rows_ages_and_sources_are_what_the_rules_say(
    user: int | str,
    pairs: dict[int, tuple[int, int]],
    fill: tuple[int, int] | None,
    invalidated: int | None,
    any_version: bool,
    n: int,
) -> None:
    """All times are ages at the read."""
    tables = Tables(user)
    for item, (age_ms, version) in pairs.items():
        tables.put_pair(item, [item, 1, 2], 50 - age_ms, version)
    if fill is not None:
        tables.put(tables.fills, [5, 6, 7, 8, 9], 50 - fill[0], fill[1])
    if invalidated is not None:
        tables.put(tables.invalidated, [0], 50 - invalidated)
    arguments, out = tables.arguments(n), outputs(n)
    if any_version:
        arguments["versions"] = np.zeros(0, np.uint32)

    def good(entry: tuple[int, int] | None, most_ms: int) -> bool:
        since = invalidated if invalidated is not None and invalidated <= 30 else 10**9
        return (
            entry is not None
            and entry[0] <= most_ms
            and entry[0] < since
            and (any_version or entry[1] < 3)
        )

    expected: list[tuple[list[float], int, int]] = []
    for item in range(n):
        if good(pairs.get(item), 20):
            expected.append(([item, 1, 2], pairs[item][0], 0))
        elif fill is not None and good(fill, 30):
            expected.append(([5, 6, 7], fill[0], LEVEL))
        else:
            expected.append((DEFAULT.tolist(), -1, DEFAULT_SOURCE))
    peeked: NDArray[np.int64] = np.full(n, 77, np.int64)
    level = _core.peek_pairs(**arguments, ages=peeked)
    assert level == (LEVEL if good(fill, 30) else DEFAULT_SOURCE)
    assert tables.pairs.stats()["hits"] == tables.fills.stats()["hits"] == 0
    absent = _core.read_pairs(**arguments, **out)
    found = list(
        zip(out["rows"].tolist(), out["ages"].tolist(), out["sources"].tolist(), strict=True)
    )
    assert found == expected
    assert peeked.tolist() == [age if source == 0 else -1 for _, age, source in expected]
    sources = {source for _, _, source in expected} - {0}
    assert absent == (sources.pop() if sources else 0)


def test_without_fills_the_absent_are_served_the_default() -> None:
    tables = Tables(7)
    tables.put(tables.fills, [5, 6, 7, 8, 9], 50, 1)
    arguments, out = tables.arguments(2) | {"fills": None}, outputs(2)
    assert _core.read_pairs(**arguments, **out) == DEFAULT_SOURCE
    assert out["rows"].tolist() == [DEFAULT.tolist()] * 2


def test_a_request_makes_a_speculative_pair_its_own() -> None:
    tables = Tables(7)
    keys, rows = np.array([[7, 0]], np.uint64), np.ones((1, DIM), np.float32)
    tables.pairs.put_many(keys, rows, 50, 1, _core.ORIGIN_SPECULATIVE)
    _core.peek_pairs(**tables.arguments(1), ages=np.zeros(1, np.int64))
    assert tables.pairs.stats()["promotions"] == 0
    _core.read_pairs(**tables.arguments(1), **outputs(1))
    assert tables.pairs.stats()["promotions"] == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"user": "seven"}, "user: is not of the id kind"),
        ({"max_age_ms": -1}, "max_age_ms: expected 0 or more, got -1"),
        ({"fill_age_ms": -2}, "fill_age_ms: expected 0 or more"),
        ({"level": 256}, "level: expected 0 to 255"),
        ({"default": DEFAULT[:2]}, "default: expected 3 values, got 2"),
        ({"rows": np.zeros((2, 4), np.float32)}, r"rows: expected shape \[2, 3\]"),
        ({"ages": np.zeros(3, np.int64)}, "ages: expected length 2"),
        ({"sources": np.zeros(2, np.int8)}, "sources: expected dtype uint8"),
        ({"versions": np.zeros(2, np.int64)}, "versions: expected dtype uint32"),
        ({"items": np.zeros(2, np.int64)}, "items: expected dtype uint64"),
    ],
)
def test_arguments_that_do_not_fit_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.read_pairs(**tables_and_outputs() | wrong)


def tables_and_outputs() -> dict[str, Any]:
    return Tables(7).arguments(2) | outputs(2)


def test_tables_that_do_not_fit_are_named() -> None:
    arguments = tables_and_outputs()
    narrow = EmbeddingCache.create(capacity=16, dim=2, dtype="fp32", seed=SEED)
    with pytest.raises(ValueError, match="fills: expected rows of 3 values at least, got 2"):
        _core.read_pairs(**arguments | {"fills": narrow})
    parts = EmbeddingCache.create(capacity=16, dim=3, parts=2, dtype="fp32", seed=SEED)
    with pytest.raises(ValueError, match="pairs: expected rows of one part"):
        _core.read_pairs(**arguments | {"pairs": parts})
    arguments["invalidated"].close()
    with pytest.raises(_core.StoreError, match="closed"):
        _core.read_pairs(**arguments)
    with pytest.raises((OverflowError, RuntimeError, ValueError, TypeError)):
        _core.read_pairs(**tables_and_outputs() | {"user": -1})
