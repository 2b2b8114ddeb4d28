import numpy as np
import pytest
from replay_cases import day, visits

from predawn.bench.coverage_levels import Filled
from predawn.bench.coverage_sweep import Sweep
from predawn.bench.harness import BenchError
from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_loss import Served, products
from predawn.server.request import Source


def sweep() -> Sweep:
    """Half of the candidates were served fresh; the level has something for half of these."""
    trace = day()
    asks, truth = asks_of(trace), trace.truth
    assert truth is not None
    fresh = products(truth, asks.request, trace.items.astype(np.int64))
    direct, filled = np.random.default_rng(1).random((2, trace.rows)) < 0.5
    served = Served(
        np.where(direct[:, None], fresh, 7).astype(np.float16),
        np.where(direct, Source.DIRECT, Source.USER_MEAN).astype(np.uint8),
    )
    absent = Served(
        np.where(filled[:, None], fresh, 0).astype(np.float16),
        np.where(filled, Source.NEIGHBOUR, Source.DEFAULT).astype(np.uint8),
    )
    return Sweep(trace, asks, {"good": Filled(absent, served)}, seed=0)


def test_more_coverage_keeps_more_and_a_good_fill_keeps_some_without_any() -> None:
    points = {(each.level, each.coverage): each for each in sweep().points(2)}
    for level in ("default", "good"):
        kept = [points[level, c].kept for c in (0.0, 0.5, 1.0)]
        assert kept == sorted(kept) and kept[2] == pytest.approx(1.0)
        losses = [points[level, c].loss for c in (0.0, 0.5, 1.0)]
        assert losses == sorted(losses, reverse=True)
    assert points["default", 0.0].kept == pytest.approx(0.0, abs=0.05)
    assert points["good", 0.0].kept == pytest.approx(0.5, abs=0.2)


def test_a_fill_as_good_as_the_pair_itself_is_worth_as_much() -> None:
    (worth,) = sweep().worths()
    assert worth.level == "good" and worth.share == pytest.approx(0.5, abs=0.05)
    assert worth.value == pytest.approx(1.0, abs=0.35)


def test_a_trace_without_truth_is_refused() -> None:
    trace = visits([(0, 1)])
    with pytest.raises(BenchError, match="needs the truth"):
        Sweep(trace, asks_of(trace), {}, seed=0)
