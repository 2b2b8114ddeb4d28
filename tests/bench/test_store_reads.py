"""Reads are held against numpy, a dict, every cache of Python's and every C++ map."""

import pytest

from predawn.bench import harness, store_reads
from predawn.bench.harness import SMOKE as QUICK
from predawn.bench.harness import Row
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The section at smoke size."""
    return store_reads.reads(MARK, SMOKE, QUICK)


def _times(rows: list[Row], case: str) -> dict[str, Row]:
    """By the peer's name, without why it is absent."""
    found = [row for row in rows if row.case == case and row.metric == "time"]
    return {(row.peer or "").split(" (absent")[0]: row for row in found}


def test_the_cases_are_those_that_were_announced(rows: list[Row]) -> None:
    assert {row.case for row in rows} == set(store_reads.names(SMOKE))


def test_batches_are_held_against_numpy_a_dict_and_the_limit(rows: list[Row]) -> None:
    for dtype in ("fp16", "fp32"):
        for n in SMOKE.counts:
            times = _times(rows, f"get {n}, {dtype} x 64, 4,000 entries")
            assert set(times) == {"numpy.take", "dict+take"}
            assert all(row.ratio and row.limit for row in times.values())


def test_caches_are_shown_or_named_as_absent(rows: list[Row]) -> None:
    names = {"cachebox", "cachetools", "lru-dict", "moka-py", "lmdb", "redis-mget"}
    for dtype in ("fp16", "fp32"):
        times = _times(rows, f"get 100, {dtype} x 64, 4,000 entries, peers of 1,000")
        assert set(times) - {"cachebox of bytes"} == names


def test_one_key_costs_what_the_call_costs_and_the_difference(rows: list[Row]) -> None:
    found = [row for row in rows if row.metric == "more_than_an_empty_call"]
    assert len(found) == 2
    for row in found:
        time = _times(rows, row.case)["empty call"]
        assert time.ratio and row.value == pytest.approx(time.value * (1 - time.ratio) / 1_000)


def test_the_largest_batch_is_held_against_the_usual_one(rows: list[Row]) -> None:
    found = [row for row in rows if row.metric == "more_than_in_100"]
    assert len(found) == 2


def test_native_maps_are_shown_or_named_as_absent() -> None:
    rows = store_reads.native_maps(MARK, SMOKE, QUICK)
    assert {row.case for row in rows} == set(store_reads.native_names(SMOKE))
    for case in store_reads.native_names(SMOKE):
        assert set(_times(rows, case)) == {"boost-bulk-visit", "tbb", "libcuckoo"}
