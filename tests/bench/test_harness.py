"""The frame: the JSON contract, fair interleaving, and refusal of subjects that disagree."""

import itertools
import math

import pytest

from predawn.bench import harness, machine
from predawn.bench.harness import BenchError, Case, Effort, Row, Stamp, Subject, measure

MARK = Stamp("suite", "abc", "cpu x2")
TINY = Effort(rounds=3, slice_ms=0.05)
CONTRACT = [
    *("suite", "case", "metric", "value", "unit", "better", "limit"),
    *("share_of_limit", "peer", "ratio", "n", "commit", "device"),
]


def test_a_row_has_the_members_of_the_contract_in_order() -> None:
    assert list(MARK.row("c", "time", 1.0, "ns").as_json()) == CONTRACT


def test_numbers_that_json_lacks_become_null() -> None:
    assert MARK.row("c", "time", math.nan, "ns").as_json()["value"] is None


def test_share_of_limit_is_a_share_in_both_directions() -> None:
    lower = MARK.row("c", "time", 4.0, "ns", limit=1.0)
    higher = MARK.row("c", "bandwidth", 4.0, "GB/s", "higher", limit=16.0)
    assert lower.share_of_limit == higher.share_of_limit == 0.25
    assert MARK.row("c", "time", 4.0, "ns").share_of_limit is None


def _rows(case: Case) -> dict[tuple[str, str | None], Row]:
    return {(row.metric, row.peer): row for row in measure(MARK, [case], TINY)}


def _spin(turns: int) -> Subject:
    return Subject(f"{turns} turns", lambda: sum(range(turns)))


def test_ratio_says_how_many_times_better_we_are_than_the_peer() -> None:
    rows = _rows(Case("c", _spin(10), peers=(_spin(5000),), limit=_spin(1)))
    row = rows["time", "5000 turns"]
    assert row.ratio is not None and row.ratio > 2
    assert row.limit is not None and row.share_of_limit == pytest.approx(row.limit / row.value)
    assert row.n >= 3 and rows["time_spread", None].value >= 0


def test_times_better_is_above_one_for_the_better_in_both_directions() -> None:
    assert harness.times_better(2.0, 3.0) == harness.times_better(3.0, 2.0, "higher") == 1.5


def test_only_the_cases_asked_for_are_timed() -> None:
    cases = [Case(name, _spin(10)) for name in ("get 1", "get 10", "put 1")]
    rows = measure(MARK, cases, Effort(rounds=1, slice_ms=0.05, only="GET *"))
    assert {row.case for row in rows} == {"get 1", "get 10"}


def test_absent_peers_are_named_without_a_ratio() -> None:
    row = _rows(Case("c", _spin(10), absent={"redis": "no server"}))[
        "time", "redis (absent: no server)"
    ]
    assert row.ratio is None


def test_work_and_bytes_scale_the_figures() -> None:
    subject = Subject("s", lambda: sum(range(1000)), work=10)
    rows = _rows(Case("c", subject, work_bytes=64, per="key"))
    time = rows["time", None]
    assert time.unit == "ns/key"
    assert rows["bandwidth", None].value == pytest.approx(64 / time.value)


def test_subjects_that_disagree_are_refused() -> None:
    case = Case("c", Subject("a", lambda: 1), peers=(Subject("b", lambda: 2),), same=("b",))
    with pytest.raises(BenchError, match="c: b computes something else"):
        measure(MARK, [case], TINY)


def test_all_subjects_take_turns_in_every_round() -> None:
    order: list[str] = []

    def named(name: str) -> Subject:
        return Subject(name, lambda: order.append(name))

    own, *peers = [named(name) for name in "abc"]
    measure(MARK, [Case("c", own, peers=tuple(peers))], Effort(rounds=4, slice_ms=0.001))
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns[-12:] == [*"abc", *"bca", *"cab", *"abc"]


def test_spread_is_the_distance_of_the_quartiles() -> None:
    assert harness.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert harness.spread([2.0, 2.0]) == 0


def test_the_machines_noise_is_a_row() -> None:
    row = harness.quiet_row(MARK, machine.Quiet(0.25, 900.0))
    assert (row.case, row.metric, row.value) == ("machine", "stall_share", 0.25)
