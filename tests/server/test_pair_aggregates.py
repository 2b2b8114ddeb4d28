"""Means of a user's pairs: batches of many users against one embedding after the other."""

import numpy as np
import pytest
from fill_cases import HOUR_MS, SEED, SPEC, SetClock, filled, items_of, land
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace
from predawn.server.pair_aggregates import (
    FADES_AFTER,
    FillRules,
    Landing,
    UserAggregates,
)
from predawn.server.request import F32, Source, UserId

RECENT = FillRules((Source.RECENT,), HOUR_MS, recent_length=4)
MEANS = FillRules((Source.USER_MEAN,), HOUR_MS)
NOBODY = np.zeros(0, dtype=np.uint32)


def served(means: UserAggregates, users: list[UserId]) -> F32:
    """[users, dim + 1]"""
    table = means.served
    keys = np.zeros((len(users), 2), dtype=np.uint64)
    for i, user in enumerate(users):
        keys[i] = table.key_of_string(user) if isinstance(user, str) else (user, 0)
    rows, ages = np.full((len(users), 4), np.nan, np.float32), np.zeros(len(users), np.int64)
    table.get_many(keys, 0, HOUR_MS, rows, ages)
    return rows


@given(
    batches=st.lists(
        st.dictionaries(st.sampled_from("abc"), st.integers(1, 90), min_size=1), max_size=4
    ),
    rules=st.sampled_from([MEANS, RECENT]),
)
@settings(max_examples=40, deadline=None)
def test_a_batch_of_users_is_as_each_user_by_himself(
    batches: list[dict[str, int]], rules: FillRules
) -> None:
    together = UserAggregates(SPEC, rules, StorePlace(), _core.STRING, SEED)
    alone = UserAggregates(SPEC, rules, StorePlace(), _core.STRING, SEED)
    rng = np.random.default_rng(len(batches))
    for batch in batches:
        rows = [rng.normal(size=(n, 3)).astype(np.float32) for n in batch.values()]
        counts, never = list(batch.values()), np.full(len(batch), -1, np.int64)
        landing = Landing(list(batch), np.concatenate(rows), counts, 0, 1)
        together.add(landing, never, NOBODY)
        for user, each in zip(batch, rows, strict=True):
            alone.add(Landing([user], each, [len(each)], 0, 1), never[:1], NOBODY)
    users: list[UserId] = ["a", "b", "c"]
    found, expected = served(together, users), served(alone, users)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_few_embeddings_weigh_the_same_and_of_many_the_newest_a_share() -> None:
    means = UserAggregates(SPEC, MEANS, StorePlace(), _core.INTEGER, SEED)
    values = [1.0, 2, 6, *[5.0] * (FADES_AFTER - 3)]
    for value in values:
        row = np.full((1, 3), value, np.float32)
        means.add(Landing([7], row, [1], 0, 1), np.array([-1]), NOBODY)
    assert served(means, [7])[0].tolist() == pytest.approx([np.mean(values)] * 3 + [FADES_AFTER])
    for _ in range(3 * FADES_AFTER):
        row = np.full((1, 3), 100, np.float32)
        means.add(Landing([7], row, [1], 0, 1), np.array([-1]), NOBODY)
    left = (100 - np.mean(values)) * (1 - 1 / FADES_AFTER) ** (3 * FADES_AFTER)
    assert served(means, [7])[0, 0] == pytest.approx(100 - left, rel=1e-4)


@pytest.mark.parametrize("dtype", ["fp16", "fp32", "bf16", "int8"])
def test_of_a_ring_the_last_ones_count_whatever_the_pairs_are_stored_as(dtype: str) -> None:
    spec = type(SPEC)("fm", 3, 1, dtype, 64, SPEC.default, holds="pairs")
    cache = filled(SetClock(), RECENT, spec=spec)
    for item in range(10):
        land(cache, [(7, [item])], np.full((1, 3), 8 * item, np.float32))
    reading = cache.read("fm", 7, items_of([99]), HOUR_MS)
    assert reading.sources.tolist() == [Source.RECENT]
    assert reading.rows[0].tolist() == pytest.approx([8 * 7.5] * 3, rel=0.02)


def test_users_of_one_landing_are_told_apart_by_their_invalidations() -> None:
    means = UserAggregates(SPEC, MEANS, StorePlace(), _core.INTEGER, SEED)
    row, never = np.ones((2, 3), np.float32), np.full(2, -1, np.int64)
    means.add(Landing([7, 8], row, [1, 1], 10, 1), never, NOBODY)
    means.add(Landing([7, 8], 3 * row, [1, 1], 20, 1), np.array([10, 11]), NOBODY)
    assert served(means, [7, 8])[:, 0].tolist() == [3, 2]  # 10 ms ago: before, or just after
    means.forget([8])
    assert np.isnan(served(means, [8])).all() and not np.isnan(served(means, [7])).any()


def test_the_level_that_is_preferred_is_kept_alone() -> None:
    both = FillRules((Source.NEIGHBOUR, Source.RECENT, Source.USER_MEAN), HOUR_MS, 4)
    assert both.mean is Source.RECENT
    assert FillRules((Source.NEIGHBOUR,)).mean is FillRules().mean is Source.DEFAULT
    assert both.after(Source.RECENT) == {Source.USER_MEAN, Source.DEFAULT}
    assert both.after(Source.USER_MEAN) == {Source.DEFAULT}
    assert FillRules((Source.RECENT,)).after(Source.NEIGHBOUR) == set()
