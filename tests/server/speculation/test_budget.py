"""Token buckets: over any stretch, no more is spent than asked pairs and time have paid for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.speculation.budget import BURST_BATCHES, PairBudget, TokenBucket
from predawn.server.speculation.limits import PairLimits

S = 1_000_000_000
STEP = st.tuples(st.integers(0, 40), st.floats(0, 2), st.integers(0, 60), st.floats(1, 4))


def test_a_bucket_holds_its_burst() -> None:
    bucket = TokenBucket(burst=10)
    bucket.fill(7)
    bucket.fill(7)
    bucket.spend(4)
    assert bucket.tokens == 6


@settings(deadline=None)
@given(
    st.lists(STEP, min_size=1, max_size=40),
    st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    st.sampled_from([0.0, 5.0, 50.0]),
)
def test_no_stretch_costs_more_than_it_brought_in(
    steps: list[tuple[int, float, int, float]], per_asked: float, per_second: float
) -> None:
    limits = PairLimits(
        1_000, batch_pairs=4, pairs_per_asked=per_asked, pairs_per_second=per_second
    )
    budget, now_ns = PairBudget(limits, 0), 0
    log: list[tuple[int, int, float]] = []  # when, asked, spent
    for asked, pause_s, wanted, cost in steps:
        now_ns += round(pause_s * S)
        budget.asked(asked)
        pairs = min(wanted, int(budget.room(now_ns) / cost))
        budget.spend(pairs, pairs * cost)
        log.append((now_ns, asked, pairs))
    assert budget.spent_pairs <= per_asked * budget.asked_pairs + 1e-6
    for i, (begin_ns, _, _) in enumerate(log):
        for j in range(i, len(log)):
            spent = sum(each[2] for each in log[i : j + 1])
            asked = sum(each[1] for each in log[i : j + 1])
            assert spent <= per_asked * asked + BURST_BATCHES * 4 + 1e-6
            if per_second:
                length_s = (log[j][0] - begin_ns) / S
                assert spent <= per_second * length_s + max(1.0, per_second) + 1e-6


def test_a_clock_that_goes_back_brings_nothing_in_and_takes_nothing_away() -> None:
    budget = PairBudget(PairLimits(1_000, pairs_per_second=10), 100 * S)
    budget.asked(1_000)
    assert budget.room(101 * S) == 10
    budget.spend(10, 10)
    assert budget.room(50 * S) == 0
    assert budget.room(101 * S) == 0
    assert budget.room(101 * S + S // 2) == pytest.approx(5)


def test_it_says_when_time_alone_pays_for_the_next_pair() -> None:
    budget = PairBudget(PairLimits(1_000, pairs_per_second=4), 0)
    assert budget.due_ns(0) is None  # nobody has asked
    budget.asked(10)
    assert budget.due_ns(0) == S // 4
    assert budget.due_ns(S) is None
    assert PairBudget(PairLimits(1_000), 0).due_ns(0) is None


def test_unread_pairs_leave_less_room_for_more() -> None:
    budget = PairBudget(PairLimits(1_000, capacity=100, entries=0.5), 0)
    assert [budget.room_ahead(unread) for unread in (0, 49, 50, 70)] == [50, 1, 0, 0]
