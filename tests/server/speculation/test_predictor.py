"""The learned predictor says true chances, follows what changes, and fears no traffic."""

from collections.abc import Iterator

import numpy as np
import pytest

from predawn.csrc._core import stable_hash
from predawn.server.request import F32, U8, U64, UserId
from predawn.server.speculation.contract import Origin, PredictsPairs, Proposal
from predawn.server.speculation.predictor import LearnedPairs, PredictorLimits, predictor_of
from predawn.server.speculation.rules import RecentPairs, ScoredPairs

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
TTL = 6 * HOUR
START = 1_000 * DAY


def learned(ttl_ms: int = TTL, least_chance: float = 0.02) -> LearnedPairs:
    """Of a few users and items."""
    return LearnedPairs(
        PredictorLimits(ttl_ms, users=1024, items=4096, popular=64, least_chance=least_chance)
    )


def show(predictor: PredictsPairs, user: UserId, items: list[int], now_ms: int) -> None:
    """A request of which nothing was known."""
    n = len(items)
    scores: F32 = np.linspace(1, 0, n, dtype=np.float32)
    known: U8 = np.zeros(n, dtype=np.uint8)
    predictor.asked(user, np.array(items, dtype=np.uint64), scores, known, now_ms)


def popular_draws(
    rng: np.random.Generator, items: U64, weights: np.ndarray, size: int
) -> list[int]:
    """Different items of a list, by weight."""
    return [int(item) for item in rng.choice(items, size, replace=False, p=weights)]


def day_of(
    predictor: PredictsPairs, items: U64, hours: Iterator[int], users: int, seed: int
) -> list[Proposal]:
    """Every user comes once an hour with five items drawn by Zipf's law; the last proposals."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(items) + 1)
    weights /= weights.sum()
    last: list[Proposal] = []
    for hour in hours:
        last = []
        for user in range(users):
            now = START + hour * HOUR + user * HOUR // users
            show(predictor, user, popular_draws(rng, items, weights, 5), now)
            last.append(predictor.propose(user, now, 64))
    return last


ITEMS: U64 = np.arange(100, 400, dtype=np.uint64)


def test_chances_of_a_known_law_are_true_after_a_day() -> None:
    predictor = learned()
    last = day_of(predictor, ITEMS, iter(range(36)), users=40, seed=0)
    report = predictor.report()
    assert report["expected_calibration_error"] <= 0.03
    assert report["mean_chance"] == pytest.approx(report["mean_outcome"], abs=0.01)
    assert 0 < report["brier"] < 0.2
    weights = 1 / np.arange(1, 301)
    rng = np.random.default_rng(9)
    drawn = [popular_draws(rng, ITEMS, weights / weights.sum(), 5) for _ in range(3000)]
    true = 1 - (1 - np.bincount(np.ravel(drawn) - 100, minlength=300) / 3000) ** 6
    said = np.concatenate([each.chances for each in last])
    truth = true[np.concatenate([each.items for each in last]).astype(int) - 100]
    assert np.abs(said - truth).mean() < 0.08
    assert np.corrcoef(said, truth)[0, 1] > 0.8


def test_recall_falls_and_precision_rises_with_the_threshold() -> None:
    predictor = learned()
    day_of(predictor, ITEMS, iter(range(30)), users=20, seed=1)
    rows = [row for row in predictor.report()["thresholds"] if row["precision"] is not None]
    assert len(rows) >= 4
    assert [row["recall"] for row in rows] == sorted((r["recall"] for r in rows), reverse=True)
    assert rows[0]["precision"] < rows[-1]["precision"]


def test_within_six_hours_new_items_take_over() -> None:
    predictor = learned()
    day_of(predictor, ITEMS, iter(range(30)), users=40, seed=2)
    new: U64 = ITEMS + np.uint64(10_000)
    last = day_of(predictor, new, iter(range(30, 36)), users=40, seed=3)
    best = [item for each in last for item in each.items[:10].tolist()]
    assert np.mean([item >= 10_000 for item in best]) > 0.9


def test_where_nothing_repeats_nothing_is_proposed() -> None:
    predictor, item = learned(ttl_ms=HOUR), 0
    for minute in range(24 * 60):
        now = START + minute * MINUTE
        show(predictor, minute % 30, list(range(item, item + 8)), now)
        proposal = predictor.propose(minute % 30, now, 64)
        item += 8
        if minute > 18 * 60:
            assert len(proposal.items) <= 4, proposal.chances
    assert predictor.report()["mean_chance"] < 0.02


def test_a_cold_start_has_sane_chances() -> None:
    predictor = learned()
    assert len(predictor.propose(1, START, 64).items) == 0
    show(predictor, 1, [1, 2, 3, 4], START)
    few = predictor.propose(1, START, 64)
    show(predictor, 2, list(range(10, 30)), START)
    many = predictor.propose(2, START, 64)
    own = many.chances[many.origins == Origin.MISSED]
    assert sorted(few.items.tolist()) == [1, 2, 3, 4]
    assert 0.05 < own.max() < few.chances.max() < 0.8
    assert set(few.origins.tolist()) == {Origin.MISSED}


def test_one_user_asking_a_hundred_times_more_leaves_the_others_theirs() -> None:
    """Others have about 27 fresh candidates of 300 within the ttl, one in eleven; he has all."""
    predictor, rng = learned(), np.random.default_rng(4)
    lists = rng.permuted(np.tile(ITEMS, (6_000, 1)), axis=1)[:, :5].tolist()
    light: list[float] = []
    heavy: list[float] = []
    for hour in range(54):
        for user in range(10):
            for turn in range(100 if user == 0 else 1):
                now = START + hour * HOUR + user * 6 * MINUTE + turn * 3_000
                show(predictor, user, lists[(hour * 109 + turn + user) % 6_000], now)
                chances = predictor.propose(user, now, 64).chances
                if hour > 50:
                    (light if user else heavy).append(float(np.median(chances)))
    assert 0.04 < np.median(light) < 0.2
    assert np.median(heavy) > 0.6


def test_a_clock_that_goes_back_stands_still() -> None:
    back, still = learned(), learned()
    for predictor, earlier in ((back, HOUR), (still, 0)):
        for minute in range(10):
            now = START + minute * MINUTE
            show(predictor, 5, [minute, minute + 1, 50], now)
            show(predictor, 6, [minute, 70], now - earlier)
    found, expected = (each.propose(5, START, 64) for each in (back, still))
    assert found.items.tolist() == expected.items.tolist()
    assert found.chances.tolist() == expected.chances.tolist()


def test_strings_and_integers_never_meet() -> None:
    predictor = learned()
    show(predictor, "7", [1, 2], START)
    assert len(predictor.propose(7, START, 9).items) == 0
    assert len(predictor.propose(stable_hash(b"7"), START, 9).items) == 0
    assert sorted(predictor.propose("7", START, 9).items.tolist()) == [1, 2]


def test_a_proposal_keeps_to_the_limit_and_to_the_least_chance() -> None:
    predictor = learned(least_chance=0.1)
    show(predictor, 1, list(range(6)), START)
    kept = predictor.propose(1, START, 3)
    assert len(kept.items) == len(kept.chances) == len(kept.origins) == 3
    everything = predictor.propose(1, START, 1000)
    assert everything.chances.min() >= 0.1
    assert kept.items.tolist() == everything.items[:3].tolist()
    show(predictor, 1, list(range(50, 90)), START + 1)
    assert kept.items.tolist() == everything.items[:3].tolist()  # nobody else writes there


def test_what_is_remembered_is_bounded() -> None:
    predictor = LearnedPairs(PredictorLimits(TTL, users=8, items=16, popular=4))
    for number in range(500):
        show(predictor, number, [number, number + 1], START + number * MINUTE)
        predictor.propose(number, START + number * MINUTE, 9)
    remembered = predictor.report()["remembered"]
    assert remembered["users"] <= 8 and remembered["items"] <= 16


def test_the_configuration_names_a_predictor() -> None:
    limits = PredictorLimits(TTL)
    assert isinstance(predictor_of("learned", limits), LearnedPairs)
    assert isinstance(predictor_of("score", limits), ScoredPairs)
    assert isinstance(predictor_of("recency", limits), RecentPairs)


def test_an_empty_report_says_so() -> None:
    report = learned().report()
    assert report["brier"] is None and report["expected_calibration_error"] is None
    assert len(report["calibration"]) == 20
