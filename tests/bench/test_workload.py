from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from predawn.bench.workload import START_MS, WorkloadOptions, generate
from predawn.server.errors import ConfigError
from predawn.server.traces import Trace, read_trace, write_trace
from predawn.server.traces_describe import describe, direct_hit_rate, gap_cdf, repeat_rate

MINUTE_MS = 60_000
SMALL = WorkloadOptions(users=150, hours=24, seed=3)


@cache
def week() -> Trace:
    """A week of 1,000 users: the set-up of the published figures, two thirds of its size."""
    return generate(WorkloadOptions(users=1_000, hours=168, seed=7))


@cache
def small() -> Trace:
    return generate(SMALL)


def test_gaps_of_a_week_match_the_published_law() -> None:
    found = gap_cdf(week(), [10_000, MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS, 60 * MINUTE_MS])
    assert found.tolist() == pytest.approx([0.139, 0.524, 0.744, 0.768, 0.814], abs=0.015)


def test_direct_hit_rates_of_a_week_match_the_published_ones() -> None:
    found = [direct_hit_rate(week(), minutes * MINUTE_MS) for minutes in (1, 5, 10, 60)]
    assert found == pytest.approx([0.439, 0.681, 0.733, 0.790], abs=0.02)


@pytest.mark.parametrize(("users", "hours"), [(4_000, 24), (2_000, 48), (1_500, 72)])
def test_shorter_windows_keep_the_two_published_gaps(users: int, hours: float) -> None:
    trace = generate(WorkloadOptions(users=users, hours=hours, seed=11))
    found = gap_cdf(trace, [MINUTE_MS, 10 * MINUTE_MS])
    assert found.tolist() == pytest.approx([0.52, 0.76], abs=0.02)


def test_repeats_match_the_default_workload() -> None:
    assert repeat_rate(week()) == pytest.approx(0.439, abs=0.03)


def test_lists_have_the_published_sizes_and_no_item_twice() -> None:
    trace = week()
    sizes = np.diff(trace.offsets)
    assert sizes.mean() == pytest.approx(10.1, abs=0.2)
    assert sizes.min() >= 4 and sizes.max() <= 100
    request = np.repeat(np.arange(len(trace)), sizes)
    assert len(np.unique(request * 2**32 + trace.items.astype(np.int64))) == trace.rows


def test_traffic_swings_with_the_time_of_day() -> None:
    per_hour = np.bincount((week().t_ms - START_MS) // 3_600_000 % 24, minlength=24)
    assert per_hour.max() / per_hour.mean() == pytest.approx(1.6, abs=0.2)
    assert per_hour.min() / per_hour.mean() == pytest.approx(0.4, abs=0.15)
    assert per_hour.argmax() in (19, 20, 21)


def test_the_busiest_tenth_makes_three_tenths_of_the_requests() -> None:
    _, users = week().user_indices()
    counts = np.sort(np.bincount(users))[::-1]
    assert counts[: len(counts) // 10].sum() / counts.sum() == pytest.approx(0.30, abs=0.05)


def probabilities(trace: Trace) -> np.ndarray:
    """Click probability of every row, from the truth."""
    truth = trace.truth
    assert truth is not None
    request = np.repeat(np.arange(len(trace)), np.diff(trace.offsets))
    users = truth.user_vectors[request].astype(np.float32)
    items = truth.item_vectors[trace.items.astype(np.int64)]
    logits = truth.scale * np.einsum("rd,rd->r", users, items) + truth.bias
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_clicks_follow_the_truth_in_every_tenth_of_probability() -> None:
    chance = probabilities(week())
    clicked = week().clicked
    order = np.argsort(chance)
    for tenth in np.array_split(order, 10):
        expected = chance[tenth].sum()
        spread = 4 * np.sqrt((chance[tenth] * (1 - chance[tenth])).sum()) + 1
        assert abs(clicked[tenth].sum() - expected) < spread


def test_a_list_gets_about_one_click_and_ads_half_a_percent() -> None:
    assert week().clicked.mean() == pytest.approx(1 / 11, rel=0.15)
    ads = generate(replace(SMALL, users=1_000, ctr="ads"))
    assert ads.clicked.mean() == pytest.approx(0.005, rel=0.25)


def test_tastes_last_for_a_minute_and_fade_in_a_day() -> None:
    trace = week()
    truth = trace.truth
    assert truth is not None
    _, users = trace.user_indices()
    order = np.lexsort((np.arange(len(trace)), users))
    vectors = truth.user_vectors[order].astype(np.float32)
    same = np.diff(users[order]) == 0
    gap = np.diff(trace.t_ms[order])
    dot = np.einsum("rd,rd->r", vectors[1:], vectors[:-1])
    cosine = dot / (np.linalg.norm(vectors[1:], axis=1) * np.linalg.norm(vectors[:-1], axis=1))
    assert cosine[same & (gap <= MINUTE_MS)].mean() > 0.98
    day = same & (gap > 24 * 60 * MINUTE_MS)
    assert 0.2 < cosine[day].mean() < 0.6


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_trace(tmp_path / f"{name}.jsonl.gz", generate(replace(SMALL, seed=seed)))
    for suffix in ("jsonl.gz", "jsonl.gz.truth.npz"):
        a, b, c = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_trace_and_truth_survive_the_file(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", small())
    found = read_trace(tmp_path / "t.parquet")
    np.testing.assert_array_equal(found.items, small().items)
    np.testing.assert_array_equal(found.clicked, small().clicked)
    np.testing.assert_array_equal(probabilities(found), probabilities(small()))


def test_requests_lie_in_the_window_in_order() -> None:
    trace = small()
    assert trace.t_ms[0] >= START_MS and trace.t_ms[-1] < START_MS + 24 * 3_600_000
    assert (np.diff(trace.t_ms) >= 0).all()
    assert min(trace.users) >= 1 and max(trace.users) <= 150


@pytest.mark.parametrize(("candidates", "mean"), [(10, 101), (50, 505)])
def test_ad_profiles_have_longer_lists(candidates: int, mean: float) -> None:
    options = replace(SMALL, users=60, candidates=candidates)
    assert describe(generate(options))["candidates_mean"] == pytest.approx(mean, rel=0.1)


def test_bursts_gather_requests_but_keep_the_users_gaps() -> None:
    options = WorkloadOptions(users=8_000, hours=6, seed=5)
    calm, mild, severe = (
        describe(generate(replace(options, bursts=bursts))) for bursts in ("none", "mild", "severe")
    )
    assert calm["dispersion_1s"] < mild["dispersion_1s"] < severe["dispersion_1s"]
    assert mild["dispersion_1s"] - calm["dispersion_1s"] > 0.1
    assert severe["dispersion_1s"] > 3 * calm["dispersion_1s"]
    for point in ("1m", "10m"):
        assert severe["gap_cdf"][point] == pytest.approx(calm["gap_cdf"][point], abs=0.015)


@pytest.mark.parametrize(
    ("field", "value"),
    [("users", 0), ("hours", -1), ("hours", float("nan")), ("drift_half_life_h", 0), ("seed", -1)],
)
def test_impossible_options_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        replace(SMALL, **{field: value})


def test_a_window_without_requests_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"1 users make no request in 0\.01 hours"):
        generate(WorkloadOptions(users=1, hours=0.01, seed=0))
