"""Examples keep states, rows and labels together."""

from collections.abc import Callable

import numpy as np
from model_cases import small_trace

from predawn.server.models.ranker import RankerShape
from predawn.server.models.training_data import UserPast, known_labels
from predawn.server.models.training_examples import (
    Examples,
    fit_items,
    make_examples,
    states_of,
)
from predawn.server.models.user_features import FeatureShape, UserFeatures
from predawn.server.request import I64, Source
from predawn.server.traces import EVENT_TYPES, Trace

TASKS = ("click", "like")
SHAPE = FeatureShape(types=5, attributes=0)
PRIOR = np.full(5, 0.2)


def states_with(trace: Trace, asked: list[I64]) -> Callable[[I64, I64], UserFeatures]:
    past = UserPast(trace, EVENT_TYPES, 8)

    def states(requests: I64, before_ms: I64) -> UserFeatures:
        asked.append(np.stack([requests, before_ms]))
        return states_of(past, past.request_users[requests], before_ms, SHAPE, PRIOR)

    return states


def examples_of(trace: Trace, requests: I64, asked: list[I64]) -> Examples:
    labels = known_labels(trace, TASKS)
    items = fit_items(trace, labels, trace.rows, bins=8)
    return make_examples(
        trace,
        labels,
        requests,
        items,
        RankerShape(TASKS, ("parity",), 64),
        states_with(trace, asked),
        np.random.default_rng(0),
    )


def test_rows_of_a_state_are_those_of_its_request() -> None:
    trace = small_trace(200)
    asked: list[I64] = []
    requests = np.arange(50, 180)
    examples = examples_of(trace, requests, asked)
    labels = known_labels(trace, TASKS)
    picked = np.array([140, 0, 7, len(examples.starts) - 1])
    rows, position = examples.rows_of(picked)
    request_of = asked[0][0]
    expected = [
        (place, row)
        for place, state in enumerate(picked)
        for row in range(trace.offsets[request_of[state]], trace.offsets[request_of[state] + 1])
    ]
    first = int(trace.offsets[50])
    assert position.tolist() == [place for place, _ in expected]
    assert (rows + first).tolist() == [row for _, row in expected]
    np.testing.assert_array_equal(
        examples.labels[rows].numpy(), labels[[row for _, row in expected]]
    )


def test_stale_states_are_older_and_say_so() -> None:
    trace = small_trace(600)
    asked: list[I64] = []
    examples = examples_of(trace, np.arange(600), asked)
    requests, before_ms = asked[0]
    behind_ms = trace.t_ms[requests] - before_ms
    sources = examples.sources.numpy()
    assert (behind_ms[:600] == 0).all()
    assert set(sources[:600].tolist()) == {Source.DIRECT, Source.COMPUTED}
    assert 240 < len(sources) - 600 < 360
    assert set(sources[600:].tolist()) == {Source.STALE, Source.FAILOVER}
    assert (behind_ms[600:] >= 60_000).all() and (behind_ms[600:] <= 2 * 86_400_000).all()


def test_unknown_labels_count_as_the_mean_of_an_item() -> None:
    trace = small_trace(100)
    labels = known_labels(trace, TASKS)
    items = fit_items(trace, labels, trace.rows, bins=4)
    item = int(trace.items[0])
    mine = labels[trace.items == item, 1]
    expected = np.where(np.isnan(mine), np.nanmean(labels[:, 1]), mine).sum()
    at = items.table.find(np.array([item], np.uint64))[0]
    np.testing.assert_allclose(items.table.sums[at, 1], expected, rtol=1e-5)
