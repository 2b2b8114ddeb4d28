"""Accounts that are timed are those of whole lives, and all do the same."""

from predawn.bench import harness
from predawn.bench.pairs_ledger import ledger_cases

MARK = harness.Stamp("pairs", "abc", "cpu x2")


def test_all_ways_read_half_of_the_pairs_turn_after_turn() -> None:
    lives = ledger_cases(users=3, items=5)[0]
    calls = [subject.call for subject in lives.subjects()]
    assert [[call() for call in calls] for _ in range(7)] == [[3, 3, 3]] * 7


def test_a_life_is_timed_per_pair_and_a_request_as_a_whole() -> None:
    rows = harness.measure(MARK, ledger_cases(users=3, items=5), harness.SMOKE)
    lives, request = [row for row in rows if row.metric == "time"]
    assert (lives.peer, lives.unit) == ("dictionary", "ns/pair") and lives.limit
    assert request.case.startswith("account for a request of 5 pairs")
