import numpy as np
import pytest
from replay_cases import day

from predawn.bench.coverage_levels import Filled
from predawn.bench.coverage_sweep import Sweep, aged
from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_loss import Served, products
from predawn.server.replay.pair_rivals import judge
from predawn.server.request import Source


def test_an_aged_embedding_is_of_that_many_requests_of_the_user_ago() -> None:
    trace = day().slice(0, 400)
    asks, truth = asks_of(trace), trace.truth
    assert truth is not None
    back = np.random.default_rng(2).integers(0, 6, trace.rows)
    found = aged(trace, asks, back)
    for row in range(0, trace.rows, 97):
        request = asks.request[row]
        mine = np.flatnonzero(asks.user[: request + 1] == asks.user[request])[::-1]
        then = mine[min(int(back[row]), len(mine) - 1)]
        expected = products(truth, np.array([then]), trace.items[row : row + 1].astype(np.int64))
        assert np.array_equal(found[row], expected[0])


def test_more_coverage_keeps_more_and_a_good_fill_keeps_some_without_any() -> None:
    trace = day().slice(0, 900)
    asks = asks_of(trace)
    loss = judge(trace, asks, None)
    assert loss is not None
    exact = aged(trace, asks, np.zeros(trace.rows, dtype=np.int64))
    half = np.random.default_rng(1).random(trace.rows) < 0.5
    rows = np.where(half[:, None], exact, 0).astype(np.float16)
    sources = np.where(half, Source.NEIGHBOUR, Source.DEFAULT).astype(np.uint8)
    good = Filled(Served(rows, sources), np.zeros(2, dtype=np.int64))
    sweep = Sweep(trace, asks, loss, {"good": good}, seed=0)
    points = {(each.level, each.coverage): each for each in sweep.points(2)}
    for level in ("default", "good"):
        kept = [points[level, c].kept for c in (0.0, 0.5, 1.0)]
        assert kept == sorted(kept) and kept[2] == pytest.approx(1.0)
        losses = [points[level, c].loss for c in (0.0, 0.5, 1.0)]
        assert losses == sorted(losses, reverse=True)
    assert points["default", 0.0].kept == pytest.approx(0.0, abs=0.02)
    assert points["good", 0.0].kept == pytest.approx(0.5, abs=0.12)
    (worth,) = sweep.worths()
    assert worth.level == "good" and worth.share == pytest.approx(0.5, abs=0.03)
    assert worth.value == pytest.approx(1.0, abs=0.2)
