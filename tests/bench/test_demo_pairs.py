"""What the demo says of pairs is what the server has counted."""

import json

import numpy as np

from predawn.bench.demo_pairs import BAR, PairAccount, accounts_of, bar
from predawn.csrc._core import Histogram
from predawn.server.metrics import PAIR_OUTCOMES, LedgerCounts, Metrics, SpeculationCounts
from predawn.server.request import Source

SENTENCE = "3 % of the pairs of popular items are asked for in time, below break-even: they get 5 %"


def _metrics(throttle: float) -> Metrics:
    """Of 10 pairs asked for, 4 were exact and 3 filled; of 20 computed, 4 used and 6 not."""
    metrics = Metrics([], [], ["fm"])
    counts = [0] * len(Source)
    counts[Source.DIRECT], counts[Source.NEIGHBOUR], counts[Source.DEFAULT] = 4, 3, 3
    metrics.served_pairs("fm", counts, np.array([5] * 4))
    lead_ms = Histogram()
    lead_ms.record(30_000)
    shown = dict.fromkeys(PAIR_OUTCOMES, 0) | {"used": 4, "wasted": 5, "evicted": 1}
    ledger = LedgerCounts({"shown": shown}, {"shown": 10}, 8, lead_ms, Histogram())
    metrics.speculation = lambda: {
        "fm": SpeculationCounts(ledger, 2.0, 0.125, throttle, SENTENCE if throttle < 1 else "")
    }
    metrics.pairs_waiting = lambda: {"fm": 6}
    return metrics


def _account(throttle: float = 1.0) -> PairAccount:
    return accounts_of(json.loads(json.dumps(_metrics(throttle).snapshot())))["fm"]


def test_shares_are_of_the_pairs_asked_for() -> None:
    summary = _account().summary()
    assert summary["asked"] == sum(summary["sources"].values()) == 10
    assert (summary["coverage_exact"], summary["coverage_with_fills"]) == (0.4, 0.7)
    assert (summary["issued"], summary["unread"], summary["waste"]) == (20, 8, 0.6)
    assert "exact 40%, filled 30%, 20 computed, 4 used" in _account().line()


def test_rows_say_what_was_served_and_what_became_of_the_computed() -> None:
    served, computed = _account().rows()
    assert [row[0] for row in served] == ["pairs, exact", "filled: neighbours", "pairs, default"]
    found = {row[0]: row[1:] for row in computed}
    assert found["pairs computed"] == ("20", "2.00 per asked")
    assert found["used"] == ("4", bar(4, 10)) and found["wasted"][0] == "6"
    assert found["lead of used ones"][0].startswith("30")
    assert found["price"] == ("0.125", "least chance worth it; 6 wait")


def test_a_throttled_one_says_why() -> None:
    (label, price, why) = _account(0.05).rows()[1][-1]
    assert (label, price) == ("price", "0.125") and len(why) == 2 * BAR
    assert why.startswith("throttled to 5%: 3 % of the pairs of popular")


def test_a_server_that_speculates_nothing_has_zeroes() -> None:
    account = accounts_of(Metrics([], [], ["fm"]).snapshot())["fm"]
    assert account.asked == account.issued == account.summary()["coverage_with_fills"] == 0
    assert account.rows() and account.line()
    assert accounts_of({}) == {}
