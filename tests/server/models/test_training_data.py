"""Nothing is seen before its time, and histories are those that a server would have."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_cases import small_trace

from predawn.server.errors import ConfigError
from predawn.server.history_memory import MemoryHistory
from predawn.server.models.item_table import item_statistics
from predawn.server.models.training_data import (
    Timeline,
    UserPast,
    earlier_item_statistics,
    known_labels,
    split_by_time,
)
from predawn.server.request import UserBatch
from predawn.server.traces import EVENT_TYPES, Trace, event_types


def as_strings(trace: Trace) -> Trace:
    users = trace.users
    assert not isinstance(users, list)
    return dataclasses.replace(trace, users=[f"user {user}" for user in users.tolist()])


@pytest.mark.parametrize("length", [3, 16])
@pytest.mark.parametrize("strings", [False, True])
def test_histories_are_those_of_the_history_that_serves(length: int, strings: bool) -> None:
    """Replays the trace event by event; a request sees what was pushed before its own time."""
    trace = as_strings(small_trace(150)) if strings else small_trace(150)
    past = UserPast(trace, EVENT_TYPES, length)
    history = MemoryHistory(EVENT_TYPES, (), length)
    bits = event_types(trace)
    pushed = 0
    for request in range(len(trace)):
        while trace.t_ms[pushed] < trace.t_ms[request]:
            for row in range(trace.offsets[pushed], trace.offsets[pushed + 1]):
                t_ms, types = int(trace.t_ms[pushed]), int(bits[row])
                history.push(trace.user(pushed), int(trace.items[row]), t_ms, types)
            pushed += 1
        expected = history.gather([trace.user(request)])
        at = slice(request, request + 1)
        got = past.batch(past.request_users[at], trace.t_ms[at])
        for field in dataclasses.fields(UserBatch):
            mine, theirs = getattr(got, field.name), getattr(expected, field.name)
            np.testing.assert_array_equal(mine, theirs, err_msg=f"{field.name} at {request}")
            assert mine.dtype == theirs.dtype, field.name


events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=30)


@given(events, st.integers(0, 3), st.integers(-2, 9))
def test_the_past_is_strictly_earlier(drawn: list[tuple[int, int]], group: int, t: int) -> None:
    groups, times = (np.array(column, np.int64) for column in zip(*drawn, strict=True))
    timeline = Timeline(groups, times)
    first, stop = timeline.before(np.array([group]), np.array([t]))
    got = timeline.order[first[0] : stop[0]].tolist()
    earlier = [i for i, (g, at) in enumerate(drawn) if g == group and at < t]
    assert got == sorted(earlier, key=lambda i: drawn[i][1])


def test_item_statistics_come_from_earlier_rows_only() -> None:
    trace = small_trace(80)
    labels = np.nan_to_num(known_labels(trace, ("click", "like")), nan=0.3)
    times = np.repeat(trace.t_ms, np.diff(trace.offsets))
    items = trace.items.astype(np.int64)
    prior = labels.mean(axis=0)
    got = earlier_item_statistics(items, times, labels, prior)
    for row in range(trace.rows):
        earlier = (items == items[row]) & (times < times[row])
        expected = item_statistics(
            labels[earlier].sum(axis=0, keepdims=True),
            np.array([earlier.sum()], np.float32),
            prior,
        )
        np.testing.assert_allclose(got[row], expected[0], atol=1e-5)


def test_the_split_is_by_time_in_whole_requests() -> None:
    trace = small_trace(300)
    split = split_by_time(trace, 0.25)
    assert split.row_cut == trace.offsets[split.cut]
    assert 0.7 * trace.rows <= split.row_cut <= 0.8 * trace.rows
    assert split_by_time(trace, 0).cut == len(trace)
    with pytest.raises(ValueError, match=r"holdout 0\.95"):
        split_by_time(trace, 0.95)


def test_a_span_that_would_overflow_is_refused() -> None:
    with pytest.raises(ConfigError, match="too many"):
        Timeline(np.array([0, 2**40]), np.array([0, 2**40]))
