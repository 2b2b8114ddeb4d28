"""Threads, a pool and processes work on one store; each set-up is held against one alone."""

from pathlib import Path

import pytest

from predawn.bench import harness, machine, store_sharing
from predawn.bench.harness import BenchError
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_every_way_of_sharing_is_timed() -> None:
    rows = store_sharing.sharing(MARK, SMOKE, harness.SMOKE)
    assert {row.case for row in rows} == set(store_sharing.names(SMOKE))
    speedups = {row.case.split(",")[0]: row.value for row in rows if row.metric == "speedup"}
    assert speedups["1 threads"] == speedups["1 processes"] == 1.0
    assert speedups["2 threads"] > 0 and speedups["2 processes"] > 0
    assert {"p99", "p99_more_than_alone", "written"} <= {row.metric for row in rows}
    assert all(row.value > 0 for row in rows if row.metric in ("throughput", "written"))


def test_a_process_that_cannot_attach_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="ended with status 1"),
        store_sharing.worker(tmp_path / "nothing", "read", SMOKE, machine.cores()[0]),
    ):
        pass


def test_there_are_always_two_threads() -> None:
    assert store_sharing.counts()[:2] == [1, 2]
