"""A lane's queue: order, ripeness, limits, removal; and who an entry still serves."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from predawn.server.batcher_queue import Entry, LaneQueue
from predawn.server.request import Lane


def entry(model: str = "m", user: int = 0, arrived_ns: int = 0) -> Entry:
    return Entry(model, user, Lane.WAIT, arrived_ns)


def test_a_batch_is_ripe_when_its_oldest_entry_has_been_held_for_the_window() -> None:
    queue = LaneQueue(window_ns=10, limit=100, batch_limit=4)
    assert queue.ripe_ns() is None
    entries = [entry(user=user, arrived_ns=100 + user) for user in range(3)]
    for each in entries:
        queue.append(each)
    assert queue.ripe_ns() == 110
    assert queue.take(109) == []
    assert queue.take(110) == entries
    assert len(queue) == 0


def test_a_full_batch_is_ripe_at_once_and_leaves_the_rest() -> None:
    queue = LaneQueue(window_ns=10**9, limit=100, batch_limit=2)
    entries = [entry(user=user, arrived_ns=5) for user in range(5)]
    for each in entries:
        queue.append(each)
    assert [queue.take(5), queue.take(5), queue.take(5)] == [entries[:2], entries[2:4], []]
    assert list(queue) == entries[4:]


def test_a_batch_holds_one_model_and_the_one_that_is_ripe_longest_goes_first() -> None:
    queue = LaneQueue(window_ns=10, limit=100, batch_limit=4)
    late, early = entry("a", 1, arrived_ns=5), entry("b", 2, arrived_ns=3)
    queue.append(late)
    queue.append(early)
    assert [queue.take(20), queue.take(20), queue.take(20)] == [[early], [late], []]


def test_the_limit_counts_the_entries_of_all_models() -> None:
    queue = LaneQueue(window_ns=0, limit=2, batch_limit=4)
    first = entry("a")
    queue.append(first)
    assert not queue.full
    queue.append(entry("b"))
    assert queue.full
    queue.remove(first)
    assert not queue.full


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 3))))
def test_the_queue_equals_a_plain_list(steps: list[tuple[str, bool, int]]) -> None:
    queue, plain = LaneQueue(window_ns=2, limit=10, batch_limit=3), list[Entry]()
    for now_ns, (model, put, which) in enumerate(steps):
        if put:
            plain.append(entry(model, now_ns, now_ns))
            queue.append(plain[-1])
        elif which < len(plain):
            queue.remove(plain.pop(which))
        else:
            taken = queue.take(now_ns)
            if taken:
                assert taken == [e for e in plain if e.model == taken[0].model][:3]
                plain = [e for e in plain if e not in taken]
            else:
                for name in "ab":
                    waiting = [e for e in plain if e.model == name]
                    assert len(waiting) < 3
                    assert not waiting or now_ns < waiting[0].arrived_ns + 2
        assert len(queue) == len(plain)
        assert set(queue) == set(plain)


def test_an_entry_loses_the_late_and_those_who_gave_up_and_wants_the_highest_lane_left() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        late, gone, patient = (loop.create_future() for _ in range(3))
        one = entry()
        assert one.lane_wanted() is Lane.REFRESH
        one.callers = {
            late: (50, Lane.WAIT),
            gone: (99, Lane.WAIT),
            patient: (51, Lane.REFRESH),
        }
        assert one.lane_wanted() is Lane.WAIT
        gone.cancel()
        assert one.expire(50) == [late]
        assert list(one.callers) == [patient]
        assert one.lane_wanted() is Lane.REFRESH

    asyncio.run(main())
