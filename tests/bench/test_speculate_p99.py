"""Speculation saturated against off, small, on real servers: both kinds serve, one computes."""

from dataclasses import replace
from pathlib import Path

import pytest

from predawn.bench import harness, speculate_p99
from predawn.bench.speculate_p99 import Turn
from predawn.bench.speculate_rig import Served, Worked

MARK = harness.Stamp("speculate", "abc", "cpu x2")


def turn(took_ms: float, engine_s: float) -> Turn:
    return Turn(Served(5, took_ns=[round(took_ms * 1e6)] * 10), Worked(2.0, engine_s, 50))


def test_a_ratio_is_of_two_turns_right_after_each_other() -> None:
    turns = {"on": [turn(2, 1.9), turn(9, 1.9), turn(3, 1.9)]}
    turns["off"] = [turn(1, 0), turn(6, 0), turn(3, 0)]
    turns["busy"] = [turn(2, 0), turn(9, 0), turn(3, 0)]
    rows = {row.metric: row for row in speculate_p99._rows(MARK, "case", turns)}
    assert rows["p99_over_off"].value == pytest.approx(1.5)
    assert rows["p99_over_busy"].value == 1.0
    assert rows["p99_over_off"].limit == speculate_p99.BAR
    assert rows["engine_share_on"].value == pytest.approx(0.95)
    assert rows["computed_on"].value == 25 and rows["unserved_on"].value == 0


def test_only_the_server_that_speculates_computes(tmp_path: Path) -> None:
    effort = replace(harness.SMOKE, only="foundation model")
    rows = speculate_p99.rows(MARK, tmp_path, smoke=True, effort=effort)
    found = {row.metric: row.value for row in rows}
    assert found["unserved_on"] == found["unserved_off"] == 0 < found["p99_over_off"]
    assert found["engine_share_off"] == found["computed_off"] == 0
