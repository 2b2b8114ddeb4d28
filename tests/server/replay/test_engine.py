import numpy as np
import pytest

from predawn.server.engine import Computed
from predawn.server.replay.embeddings import LatestRequests
from predawn.server.replay.engine import SimEngine
from predawn.server.replay.options import InferenceCost, ReplayOptions
from predawn.server.simloop import SimLoop, simulate


def run(options: ReplayOptions, batches: list[int]) -> tuple[list[Computed], float]:
    """The results of batches of so many users, one after the other, and the virtual time."""
    engine = SimEngine(LatestRequests(), options)
    loop = SimLoop()

    async def main() -> list[Computed]:
        return [await engine.embed("user", list(range(count))) for count in batches]

    return simulate(main(), loop), loop.time()


def test_a_batch_takes_its_cost() -> None:
    found, took_s = run(ReplayOptions(cost=InferenceCost(10.0, 1.0)), [1, 5])
    assert took_s == pytest.approx(0.026)
    assert [computed.engine_ns for computed in found] == [11_000_000, 15_000_000]
    assert found[1].rows.shape == (5, 1) and found[1].ok.all() and found[1].error == ""


def test_inferences_fail_at_the_given_rate_and_by_the_seed() -> None:
    def failures(seed: int) -> np.ndarray:
        found, _ = run(ReplayOptions(failure_rate=0.05, seed=seed), [100] * 100)
        return np.concatenate([~computed.ok for computed in found])

    assert failures(1).mean() == pytest.approx(0.05, abs=0.01)
    assert (failures(1) == failures(1)).all()
    assert (failures(1) != failures(2)).any()


def test_failures_do_not_depend_on_how_users_are_batched() -> None:
    options = ReplayOptions(failure_rate=0.3, seed=4)
    one, many = run(options, [12])[0], run(options, [3, 4, 5])[0]
    assert one[0].ok.tolist() == [ok for computed in many for ok in computed.ok.tolist()]


def test_hangs_take_their_time() -> None:
    cost = InferenceCost(1.0, 0.0)
    _, took_s = run(ReplayOptions(hang_rate=1.0, hang_s=10.0, cost=cost), [1, 1])
    assert took_s == pytest.approx(20.0)
    _, took_s = run(ReplayOptions(hang_rate=0.5, hang_s=1.0, cost=cost, seed=3), [1] * 100)
    assert 30 < took_s < 70
