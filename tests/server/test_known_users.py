"""Which vectors users are known by, and what waits for a newer one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.known_users import KnownUsers, Late
from predawn.server.request import F32


def vector_of(value: float) -> F32:
    return np.full(3, value, dtype=np.float32)


def late(user: int, items: int = 2, version: int = 1) -> Late:
    return Late(user, np.arange(items, dtype=np.uint64), np.zeros((items, 4), np.float32), version)


def test_what_lands_for_a_user_who_is_being_computed_waits_for_his_new_vector() -> None:
    known = KnownUsers()
    assert known.heard(7, vector_of(1), "sum") == []
    landed = late(7)
    assert known.landed(landed) == []
    assert known.renewed("other", 7, vector_of(9)) == []
    assert known.renewed("sum", 7, vector_of(2)) == [landed]
    vector = known.vector(7)
    assert vector is not None and vector[0] == 2
    again = late(7)
    assert known.landed(again) == [again]


def test_a_later_request_with_a_new_vector_ends_the_wait() -> None:
    known = KnownUsers()
    known.heard(7, None, "sum")
    landed = late(7)
    assert known.landed(landed) == [] and known.vector(7) is None
    assert known.heard(7, vector_of(2)) == [landed]


def test_who_is_not_known_waits_for_nobody() -> None:
    landed = late(7)
    assert KnownUsers().landed(landed) == [landed]


def test_what_there_is_no_room_for_is_given_out_oldest_user_first() -> None:
    known = KnownUsers()
    for user in (1, 2, 3):
        known.heard(user, vector_of(user), "sum")
    assert known.landed(first := late(1, items=4_000)) == []
    assert known.landed(late(2, items=4_000)) == []
    assert known.landed(late(3, items=4_000)) == [first]


def test_users_who_are_forgotten_take_with_them_what_waits() -> None:
    known = KnownUsers()
    known.heard(7, vector_of(1), "sum")
    known.landed(late(7))
    known.forget(7)
    assert known.vector(7) is None and known.heard(7, vector_of(2)) == []
    known.heard(8, vector_of(1), "sum")
    known.landed(late(8))
    known.clear()
    assert known.heard(8, vector_of(2)) == []


STEPS = st.tuples(
    st.sampled_from(["heard", "stale", "renewed", "landed", "forget"]), st.integers(0, 3)
)


@given(st.lists(STEPS, max_size=60))
def test_nothing_is_given_out_twice_and_nothing_stays_of_who_was_forgotten(
    steps: list[tuple[str, int]],
) -> None:
    known = KnownUsers()
    waiting: dict[int, list[Late]] = {}
    stale: set[int] = set()
    for step, user in steps:
        if step == "landed":
            landed = late(user)
            expected = [] if user in stale else [landed]
            waiting.setdefault(user, []).extend([landed] if user in stale else [])
            assert known.landed(landed) == expected
        elif step == "forget":
            known.forget(user)
            waiting.pop(user, None)
            stale.discard(user)
        elif step == "stale":
            assert known.heard(user, vector_of(1), "sum") == []
            stale.add(user)
        elif step == "heard":
            assert known.heard(user, vector_of(2)) == waiting.pop(user, [])
            stale.discard(user)
        else:
            expected = waiting.pop(user, []) if user in stale else []
            assert known.renewed("sum", user, vector_of(3)) == expected
            stale.discard(user)
