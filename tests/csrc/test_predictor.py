"""What the native predictor learns from is what came of its proposals: a twin that keeps all of
them finds the same sums."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.csrc._predictor import THRESHOLDS, Predictor

TTL_MS = 1_000
REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 400),  # gap
        st.integers(0, 2),  # user
        st.booleans(),  # named by a text
        st.sets(st.integers(0, 12), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=30,
)


def small(**changed: Any) -> Predictor:
    """A small one that keeps every example."""
    sizes = {"users": 8, "items": 64, "lists": 3, "popular": 4, "ttl_ms": TTL_MS, "seed": 1}
    return Predictor(**({**sizes, "examples": 1 << 17} | changed))


def proposed(
    predictor: Predictor, user: int, is_text: bool, now_ms: int, least: float = 0
) -> list[tuple[int, float, int]]:
    """(item, chance, origin), best first."""
    items, chances = np.zeros(64, np.uint64), np.zeros(64, np.float32)
    origins = np.zeros(64, np.uint8)
    n = predictor.propose(user, is_text, now_ms, least, items, chances, origins)
    return list(zip(items[:n].tolist(), chances[:n].tolist(), origins[:n].tolist(), strict=True))


@dataclass(slots=True)
class Twin:
    """Every pair that was proposed: when it is due, its chance, whether it came in time."""

    waiting: list[list[Any]] = field(default_factory=list[list[Any]])

    def asked(self, user: tuple[int, bool], items: set[int], now_ms: int) -> None:
        """Pairs that come."""
        for each in self.waiting:
            each[3] |= each[0] == user and each[1] in items and now_ms <= each[4]

    def due(self, now_ms: int) -> list[list[Any]]:
        """Of which the outcome is known."""
        return [each for each in self.waiting if each[4] <= now_ms]


@given(REQUESTS)
@settings(deadline=None, max_examples=60)
def test_outcomes_are_those_of_a_twin(requests: list[tuple[int, int, bool, set[int]]]) -> None:
    predictor, twin, now = small(), Twin(), 0
    for gap, user, is_text, items in requests:
        now += gap
        listed = np.array(sorted(items), dtype=np.uint64)
        scores, known = np.zeros(len(listed), np.float32), np.zeros(len(listed), np.uint8)
        predictor.asked(user, is_text, listed, scores, known, now)
        twin.asked((user, is_text), items, now)
        for item, chance, _ in proposed(predictor, user, is_text, now):
            twin.waiting.append([(user, is_text), item, chance, False, now + TTL_MS])
    proposed(predictor, 99, False, now)
    due = twin.due(now)
    sums = predictor.reliability().sum(axis=0)
    assert predictor.sizes()["examples_refused"] == 0
    assert predictor.sizes()["outcomes"] == len(due)
    assert sums[0] == pytest.approx(len(due))
    assert sums[1] == pytest.approx(sum(each[2] for each in due), rel=1e-5)
    assert sums[2] == pytest.approx(sum(each[3] for each in due))
    for threshold, row in zip(THRESHOLDS, predictor.above(), strict=True):
        assert row[0] == pytest.approx(sum(each[2] >= threshold for each in due))


@given(REQUESTS)
@settings(deadline=None, max_examples=60)
def test_of_a_user_exactly_his_last_lists_are_shown(
    requests: list[tuple[int, int, bool, set[int]]],
) -> None:
    predictor, now = small(), 0
    last: dict[tuple[int, bool], list[set[int]]] = {}
    for gap, user, is_text, items in requests:
        now += gap
        listed = np.array(sorted(items), dtype=np.uint64)
        scores, known = np.zeros(len(listed), np.float32), np.ones(len(listed), np.uint8)
        known[0] = 0
        predictor.asked(user, is_text, listed, scores, known, now)
        last[user, is_text] = [items, *last.get((user, is_text), [])][:3]
        found = proposed(predictor, user, is_text, now)
        own = {item for item, _, origin in found if origin <= 1}
        assert own == set().union(*last[user, is_text])
        assert [item for item, _, origin in found if origin == 0] == [min(items)]
        chances = [chance for _, chance, _ in found]
        assert chances == sorted(chances, reverse=True)
        assert len({item for item, _, _ in found}) == len(found)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"lists": 17}, "lists: expected 1 to 16, got 17"),
        ({"users": 0}, "users: expected 1 to"),
        ({"ttl_ms": 0}, "ttl_ms: expected 1 to"),
    ],
)
def test_impossible_sizes_are_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        small(**changed)


def test_arrays_of_different_lengths_are_refused() -> None:
    predictor, two = small(), np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="scores: expected length 2, got 1"):
        predictor.asked(1, False, two, np.zeros(1, np.float32), np.zeros(2, np.uint8), 0)
    with pytest.raises(ValueError, match="origins: expected length 2, got 3"):
        predictor.propose(1, False, 0, 0, two, np.zeros(2, np.float32), np.zeros(3, np.uint8))


def test_beside_missed_pairs_are_the_others_with_the_same_chances() -> None:
    predictor, rng = small(popular=32, items=256), np.random.default_rng(3)
    for number in range(60):
        user, now_ms = int(rng.integers(4)), number * 60_000
        items = rng.choice(40, 6, replace=False).astype(np.uint64)
        scores, known = rng.random(6, dtype=np.float32), np.zeros(6, np.uint8)
        predictor.asked(user, False, items, scores, known, now_ms)
        alone = {
            item: (chance, of) for item, chance, of in proposed(predictor, user, False, now_ms)
        }
        missed = rng.permutation(np.append(items[:3], [7, 99])).astype(np.uint64)
        missed = np.array(list(dict.fromkeys(missed.tolist())), np.uint64)
        ids, chances, origins = (
            np.zeros(64, np.uint64),
            np.zeros(64, np.float32),
            np.zeros(64, np.uint8),
        )
        least, lowest = 0.2, 0.05
        m = len(missed)
        n = predictor.propose_beside(
            user, False, now_ms, least, lowest, missed, ids, chances, origins
        )
        assert ids[:m].tolist() == missed.tolist() and not origins[:m].any()
        for item, chance in zip(missed.tolist(), chances[:m].tolist(), strict=True):
            known_chance = alone.get(item, (-1.0, 0))[0]
            assert chance == (known_chance if known_chance >= np.float32(lowest) else -1)
        others = {i: c for i, c in alone.items() if i not in missed.tolist() and c[0] >= 0.2}
        found = zip(chances[m:n].tolist(), origins[m:n].tolist(), strict=True)
        assert dict(zip(ids[m:n].tolist(), found, strict=True)) == others
        assert (np.diff(chances[m:n]) <= 0).all()


def test_more_missed_pairs_than_there_is_room_for_are_refused() -> None:
    missed, out = np.zeros(3, np.uint64), np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="missed"):
        small().propose_beside(
            1, False, 0, 0, 0, missed, out, np.zeros(2, np.float32), np.zeros(2, np.uint8)
        )
