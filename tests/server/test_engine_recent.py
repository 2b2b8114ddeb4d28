"""What new versions are tried on: real batches in three sizes, bounded, newest first."""

import numpy as np
from engine_cases import NOBODY, histories, ranking

from predawn.server.engine_recent import Recent, join_users, take_users
from predawn.server.request import F32, PairBatch, RankBatch


def rows(count: int, value: float = 0.0) -> F32:
    return np.full((count, 2), value, dtype=np.float32)


def pairs(*counts: int) -> PairBatch:
    users = histories(list(range(len(counts))))
    offsets = np.cumsum([0, *counts], dtype=np.int64)
    return PairBatch(users, offsets, np.arange(offsets[-1], dtype=np.uint64))


def test_a_model_that_has_seen_nothing_is_tried_on_nobody() -> None:
    recent = Recent(NOBODY, batch_limit=8)
    assert [batch.users.tolist() for batch in recent.users("m")] == [[0], [0] * 8]
    (batch,) = recent.pairs("m")
    assert (batch.offsets.tolist(), len(batch.item_hashes)) == ([0, 1], 1)
    assert recent.rankings("m") == []
    assert len(recent.embedded("m", 0)[1]) == 0


def test_users_come_back_as_one_a_typical_and_the_largest_batch() -> None:
    recent = Recent(NOBODY, batch_limit=6)
    for users in ([1, 2], [3, 4, 5], [6, 7, 8, 9]):
        recent.saw_users("m", histories(users), rows(len(users)), 1)
    recent.saw_users("other", histories([99]), rows(1), 1)
    batches = [batch.users.tolist() for batch in recent.users("m")]
    assert batches == [[1], [1, 2, 3], [1, 2, 3, 4, 5, 6]]


def test_a_batch_larger_than_what_was_seen_repeats_it() -> None:
    recent = Recent(NOBODY, batch_limit=5)
    recent.saw_users("m", histories([1, 2]), rows(2), 1)
    assert recent.users("m")[-1].users.tolist() == [1, 2, 1, 2, 1]


def test_pairs_and_rankings_come_back_in_the_sizes_seen() -> None:
    recent = Recent(NOBODY, batch_limit=4)
    for counts in ((0, 3), (1,), (4, 5)):
        recent.saw_pairs("fm", pairs(*counts))
    assert [len(batch.item_hashes) for batch in recent.pairs("fm")] == [1, 1, 3, 9]
    recent.saw_pairs("fm", pairs(0, 0, 2))
    first = recent.pairs("fm")[0]
    assert (first.users.users.tolist(), first.offsets.tolist()) == ([2], [0, 1])

    for count in (7, 3, 5):
        recent.saw_ranking("r", ranking(count))
    assert [len(batch.item_hashes) for batch in recent.rankings("r")] == [3, 5, 7]


def test_what_is_kept_is_bounded_and_the_newest() -> None:
    recent = Recent(NOBODY, batch_limit=64)
    for first in range(0, 64 * 100, 64):
        recent.saw_users("m", histories(list(range(first, first + 64))), rows(64), 1)
        recent.saw_ranking("r", ranking(1 + first))
    users, kept = recent.embedded("m", 1)
    assert len(kept) == 2048 and users.users.max() == 6399
    assert min(len(batch.item_hashes) for batch in recent.rankings("r")) > 64 * 80


def test_an_empty_batch_says_nothing() -> None:
    recent = Recent(NOBODY, batch_limit=4)
    recent.saw_users("m", histories([]), rows(0), 1)
    recent.saw_pairs("fm", pairs(0, 0))
    assert recent.users("m")[0].users.tolist() == [0]
    assert len(recent.pairs("fm")[0].item_hashes) == 1


def test_users_to_align_on_are_distinct_finite_and_of_that_version() -> None:
    recent = Recent(NOBODY, batch_limit=4)
    recent.saw_users("m", histories([1, 2]), rows(2, 1.0), 1)
    recent.saw_users("m", histories([2, 3]), rows(2, 2.0), 2)
    newer = rows(3, 3.0)
    newer[2, 1] = np.inf
    recent.saw_users("m", histories([3, 4, 5]), newer, 2)
    users, seen = recent.embedded("m", 2)
    assert dict(zip(users.users.tolist(), seen[:, 0].tolist(), strict=True)) == {2: 2, 3: 3, 4: 3}
    assert np.isfinite(seen).all()


def test_taking_and_joining_users_are_inverse() -> None:
    batch = histories([5, 6, 7])
    parts = [take_users(batch, np.array([place])) for place in range(3)]
    joined = join_users(parts)
    assert joined.users.tolist() == [5, 6, 7]
    assert joined.items.shape == batch.items.shape and joined.items.dtype == batch.items.dtype


def test_rankings_are_shared_not_copied() -> None:
    recent, batch = Recent(NOBODY, 4), ranking(2)
    recent.saw_ranking("r", batch)
    (kept,) = recent.rankings("r")
    assert isinstance(kept, RankBatch) and kept is batch
