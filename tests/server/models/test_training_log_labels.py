"""Labels join the log by user, item and time: each event is of the impression before it."""

import numpy as np
import pytest
from training_log_cases import rows_of

from predawn.server.models.training_log_labels import CLOCKS_APART_MS, Join, joined_labels
from predawn.server.request import F32
from predawn.server.traces import Trace
from predawn.server.traces_data import Ids, hash_ids

T, HOUR = 1_700_000_000_000, 3_600_000


def trace_of(events: list[tuple[int, int | str, int]]) -> Trace:
    """Requests of one item each: (time after T, user, item)."""
    users = [user for _, user, _ in events]
    texts = [user for user in users if isinstance(user, str)]
    ids: Ids = texts if texts else np.array(users, np.uint64)
    items = np.array([item for _, _, item in events], np.uint64)
    n = len(events)
    return Trace(
        t_ms=np.array([T + after for after, _, _ in events], np.int64),
        users=ids,
        offsets=np.arange(n + 1, dtype=np.int64),
        items=hash_ids(items),
        item_ids=items,
        clicked=np.zeros(n, np.bool_),
        labels={},
        item_features=np.zeros((n, 0), np.float32),
    )


def labels_of(*values: float) -> F32:
    return np.array(values, np.float32)[:, None]


def join(
    logged: list[tuple[int, int | str, int]],
    events: list[tuple[int, int | str, int]],
    values: F32,
    how: Join,
) -> list[float | None]:
    """The labels of candidates logged at (time after T, user, item), all but item 99 shown."""
    t_ms = [T + after for after, _, _ in logged]
    items = [item for *_, item in logged]
    users = [user for _, user, _ in logged]
    rows = rows_of(t_ms, users, items, [item != 99 for item in items])
    found = joined_labels(rows, trace_of(events), values, how)[:, 0].tolist()
    return [None if np.isnan(value) else value for value in found]


@pytest.mark.parametrize(
    ("after", "label"),
    [(-CLOCKS_APART_MS - 1, None), (-CLOCKS_APART_MS, 1), (0, 1), (HOUR, 1), (HOUR + 1, None)],
)
def test_an_event_counts_from_a_second_before_to_the_end_of_the_window(
    after: int, label: float | None
) -> None:
    assert join([(0, 1, 7)], [(after, 1, 7)], labels_of(1), Join(HOUR)) == [label]


def test_it_must_be_the_same_user_and_the_same_item() -> None:
    events: list[tuple[int, int | str, int]] = [(10, 1, 8), (10, 2, 7), (10, 3, 3)]
    assert join([(0, 1, 7), (0, 5, 8)], events, labels_of(1, 1, 1), Join(HOUR)) == [None, None]


def test_string_users_are_joined_by_their_names_and_1_is_not_the_string_1() -> None:
    events: list[tuple[int, int | str, int]] = [(10, "1", 7), (20, "b", 7)]
    logged: list[tuple[int, int | str, int]] = [(0, "1", 7), (0, 1, 7), (0, "b", 7)]
    assert join(logged, events, labels_of(1, 0), Join(HOUR)) == [1, None, 0]


def test_of_several_events_the_largest_label_counts_and_unknown_ones_do_not() -> None:
    events: list[tuple[int, int | str, int]] = [(1, 1, 7), (50, 1, 7), (60, 1, 7)]
    assert join([(0, 1, 7)], events, labels_of(0, 1, np.nan), Join(HOUR)) == [1]
    assert join([(0, 1, 7)], events, labels_of(np.nan, np.nan, np.nan), Join(HOUR)) == [None]


def test_an_event_is_of_the_last_impression_before_it() -> None:
    logged: list[tuple[int, int | str, int]] = [(0, 1, 7), (600_000, 1, 7)]
    events: list[tuple[int, int | str, int]] = [(5, 1, 7), (700_000, 1, 7)]
    assert join(logged, events, labels_of(0, 1), Join(HOUR)) == [0, 1]
    assert join(logged, [(700_000, 1, 7)], labels_of(1), Join(HOUR)) == [None, 1]


def test_a_shown_candidate_without_an_event_is_negative_only_if_that_is_said() -> None:
    logged: list[tuple[int, int | str, int]] = [(0, 1, 7), (0, 1, 99), (0, 1, 8)]
    events: list[tuple[int, int | str, int]] = [(5, 1, 8)]
    assert join(logged, events, labels_of(1), Join(HOUR)) == [None, None, 1]
    assert join(logged, events, labels_of(1), Join(HOUR, "negative")) == [0, None, 1]


def test_against_a_naive_twin() -> None:
    rng = np.random.default_rng(3)
    logged = sorted((int(rng.integers(0, 50)) * 100_000, int(rng.integers(3)), int(rng.integers(4)))
                    for _ in range(80))  # fmt: skip
    logged = list(dict.fromkeys(logged))
    events = sorted((int(rng.integers(0, 50)) * 100_000 + 7, int(rng.integers(3)),
                     int(rng.integers(4))) for _ in range(120))  # fmt: skip
    values = rng.integers(0, 2, len(events)).astype(np.float32)
    expected: list[float | None] = []
    for t_ms, user, item in logged:
        again = [t for t, *who in logged if who == [user, item] and t > t_ms]
        stop = min([t_ms + 300_000 + 1, *(t - CLOCKS_APART_MS for t in again)])
        own = [
            float(value)
            for (t, *who), value in zip(events, values, strict=True)
            if who == [user, item] and t_ms - CLOCKS_APART_MS <= t < stop
        ]
        expected.append(max(own) if own else None)
    typed: list[tuple[int, int | str, int]] = list(logged)
    happened: list[tuple[int, int | str, int]] = list(events)
    assert join(typed, happened, values[:, None], Join(300_000)) == expected
    assert None in expected and {0.0, 1.0} <= set(expected)
