"""Every cell of the policy table, written out by hand, and a naive twin over random ages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.policy import Ages, Mode, State, decide, decide_one, states
from predawn.server.request import Source

AGES = Ages(direct_ttl_ms=100, failover_ttl_ms=1_000)
FRESH, STALE, EXPIRED, ABSENT = 100, 101, 1_001, -1

# (mode, age) -> (source, wait, refresh, fill), from DESIGN section 3.
TABLE = {
    (Mode.REALTIME, FRESH): (Source.DEFAULT, True, False, False),
    (Mode.REALTIME, STALE): (Source.DEFAULT, True, False, False),
    (Mode.REALTIME, EXPIRED): (Source.DEFAULT, True, False, False),
    (Mode.REALTIME, ABSENT): (Source.DEFAULT, True, False, False),
    (Mode.ERCACHE, FRESH): (Source.DIRECT, False, False, False),
    (Mode.ERCACHE, STALE): (Source.FAILOVER, True, False, False),
    (Mode.ERCACHE, EXPIRED): (Source.DEFAULT, True, False, False),
    (Mode.ERCACHE, ABSENT): (Source.DEFAULT, True, False, False),
    (Mode.SOAP, FRESH): (Source.DIRECT, False, False, False),
    (Mode.SOAP, STALE): (Source.STALE, False, True, False),
    (Mode.SOAP, EXPIRED): (Source.DEFAULT, False, True, False),
    (Mode.SOAP, ABSENT): (Source.DEFAULT, False, True, False),
    (Mode.BATCH, FRESH): (Source.DIRECT, False, False, False),
    (Mode.BATCH, STALE): (Source.STALE, False, False, False),
    (Mode.BATCH, EXPIRED): (Source.DEFAULT, False, False, False),
    (Mode.BATCH, ABSENT): (Source.DEFAULT, False, False, False),
    (Mode.FROZEN, FRESH): (Source.DIRECT, False, False, False),
    (Mode.FROZEN, STALE): (Source.STALE, False, False, False),
    (Mode.FROZEN, EXPIRED): (Source.DEFAULT, False, False, False),
    (Mode.FROZEN, ABSENT): (Source.DEFAULT, False, False, False),
    (Mode.SOLARIS, FRESH): (Source.DIRECT, False, False, False),
    (Mode.SOLARIS, STALE): (Source.DIRECT, False, False, False),
    (Mode.SOLARIS, EXPIRED): (Source.DEFAULT, False, True, True),
    (Mode.SOLARIS, ABSENT): (Source.DEFAULT, False, True, True),
}

Plain = tuple[Source, bool, bool, bool]


def naive(mode: Mode, age_ms: int, direct_ms: int, failover_ms: int) -> Plain:
    """The rule as a person would tell it."""
    if mode is Mode.REALTIME:
        return Source.DEFAULT, True, False, False
    if 0 <= age_ms <= direct_ms:
        return Source.DIRECT, False, False, False
    stale = 0 <= age_ms <= failover_ms
    if mode is Mode.ERCACHE:
        return (Source.FAILOVER if stale else Source.DEFAULT), True, False, False
    if mode is Mode.SOAP:
        return (Source.STALE if stale else Source.DEFAULT), False, True, False
    if mode is Mode.SOLARIS:
        return (
            (Source.DIRECT, False, False, False) if stale else (Source.DEFAULT, False, True, True)
        )
    return (Source.STALE if stale else Source.DEFAULT), False, False, False


def decided(mode: Mode, ages_ms: list[int], ages: Ages) -> list[Plain]:
    decision = decide(mode, np.array(ages_ms, dtype=np.int64), ages)
    columns = (decision.source, decision.wait, decision.refresh, decision.fill)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(Source(source), wait, refresh, fill) for source, wait, refresh, fill in rows]


def decided_one(mode: Mode, age_ms: int, ages: Ages) -> Plain:
    cell = decide_one(mode, age_ms, ages)
    return cell.source, cell.wait, cell.refresh, cell.fill


@pytest.mark.parametrize(("mode", "age_ms"), TABLE)
def test_every_cell_is_as_the_design_says(mode: Mode, age_ms: int) -> None:
    assert decided(mode, [age_ms], AGES) == [TABLE[mode, age_ms]]
    assert decided_one(mode, age_ms, AGES) == TABLE[mode, age_ms]
    assert naive(mode, age_ms, 100, 1_000) == TABLE[mode, age_ms]


@given(
    st.sampled_from(Mode),
    st.lists(st.integers(-1, 2**62), max_size=8),
    st.lists(st.integers(0, 2**62), min_size=2, max_size=2).map(sorted),
    st.lists(st.integers(-2, 2), max_size=4),
)
def test_decide_equals_the_naive_twin(
    mode: Mode, ages_ms: list[int], ttls: list[int], around: list[int]
) -> None:
    direct_ms, failover_ms = ttls
    ages = Ages(direct_ms, failover_ms)
    near = [max(-1, ttl + offset) for ttl in ttls for offset in around]
    every = ages_ms + near
    expected = [naive(mode, age, direct_ms, failover_ms) for age in every]
    assert decided(mode, every, ages) == expected
    assert [decided_one(mode, age, ages) for age in every] == expected


def test_an_entry_is_served_up_to_and_including_its_age() -> None:
    ages_ms = np.array([0, 100, 101, 1_000, 1_001, -1], dtype=np.int64)
    expected = [State.FRESH, State.FRESH, State.STALE, State.STALE, State.EXPIRED, State.EXPIRED]
    assert states(ages_ms, AGES).tolist() == expected


def test_soap_of_the_paper_recomputes_at_every_request_but_that_of_the_same_instant() -> None:
    paper = Ages(direct_ttl_ms=0, failover_ttl_ms=1_000)
    assert decided(Mode.SOAP, [0, 1], paper) == [
        (Source.DIRECT, False, False, False),
        (Source.STALE, False, True, False),
    ]


@pytest.mark.parametrize(("direct_ms", "failover_ms"), [(-1, 5), (6, 5)])
def test_ages_that_contradict_each_other_are_refused(direct_ms: int, failover_ms: int) -> None:
    with pytest.raises(ValueError, match="direct_ttl_ms <= failover_ttl_ms"):
        Ages(direct_ms, failover_ms)
