"""The account of the background: its bound holds for any sequence of batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.batcher_share import ShareAccount


@given(
    st.sampled_from([0.1, 0.5, 1.0]),
    st.integers(1, 1_000),
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 2_000)), max_size=30),
)
def test_background_time_stays_within_share_plus_burst_plus_one_batch(
    share: float, burst_ns: int, batches: list[tuple[int, int]]
) -> None:
    account, now_ns, used_ns = ShareAccount(share, 0, burst_ns), 0, 0
    for pause_ns, engine_ns in batches:
        now_ns += pause_ns
        if account.may_start(now_ns):
            assert used_ns < share * now_ns + burst_ns + 1e-6
            account.spend(engine_ns)
            used_ns += engine_ns
            now_ns += engine_ns


@given(st.sampled_from([0.05, 0.3, 1.0]), st.integers(1, 10**9))
def test_the_instant_it_names_is_early_enough_and_not_too_early(
    share: float, spent_ns: int
) -> None:
    account = ShareAccount(share, 0, 100)
    account.spend(spent_ns)
    at_ns = account.allowed_ns(0)
    if spent_ns < 100:
        assert at_ns == 0
        return
    assert at_ns == pytest.approx((spent_ns - 100) / share, rel=1e-6, abs=2 / share + 1)
    assert account.may_start(at_ns)


@given(
    st.sampled_from([0.125, 0.5, 1.0]),  # exact in binary
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(1, 2_000), st.sampled_from(["upper", "lower"])),
        max_size=30,
    ),
)
def test_lower_work_takes_what_upper_work_leaves_and_nothing_from_it(
    share: float, batches: list[tuple[int, int, str]]
) -> None:
    upper, alone = ShareAccount(share, 0, 100), ShareAccount(share, 0, 100)
    lower = upper.below(0)
    now_ns = used_ns = 0
    for pause_ns, engine_ns, whose in batches:
        now_ns += pause_ns
        assert upper.may_start(now_ns) == alone.may_start(now_ns)
        if whose == "upper" and upper.may_start(now_ns):
            upper.spend(engine_ns)
            alone.spend(engine_ns)
        elif whose == "lower" and lower.may_start(now_ns):
            assert upper.may_start(now_ns)
            assert used_ns < share * now_ns + 100 + 1e-6
            lower.spend(engine_ns)
        else:
            continue
        used_ns += engine_ns
        now_ns += engine_ns


def test_credit_is_not_saved_up_beyond_the_burst() -> None:
    account = ShareAccount(0.5, 0, burst_ns=100)
    assert account.may_start(10**12)
    account.spend(100)
    assert not account.may_start(10**12)
    assert account.may_start(10**12 + 2)
