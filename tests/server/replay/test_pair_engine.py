import asyncio

import numpy as np
import pytest

from predawn.server.engine import Computed
from predawn.server.errors import InferenceError
from predawn.server.replay.pair_embeddings import TrueProducts
from predawn.server.replay.pair_engine import SimPairEngine
from predawn.server.replay.pair_options import PairCost, PairOptions
from predawn.server.request import UserItems
from predawn.server.simloop import LoopClock, SimLoop, simulate
from predawn.server.traces import Truth

COST = PairCost(per_pair_ms=1, encode_ms=10)
WANTED = [UserItems(1, np.array([2, 1], np.uint64)), UserItems(2, np.array([2], np.uint64))]


def computed(options: PairOptions, batches: int = 1) -> tuple[SimPairEngine, list[Computed | str]]:
    """What so many batches of WANTED come to, one after the other."""
    vectors = np.array([[1, 2], [3, 4]], dtype=np.float16)
    items = np.array([[0, 0], [1, 10], [2, 20]], dtype=np.float32)
    embeddings = TrueProducts(Truth(vectors, items, 1.0, 0.0))
    embeddings.arrived(0, 1)
    embeddings.arrived(1, 2)
    loop = SimLoop()
    engine = SimPairEngine(embeddings, options, 5.0, LoopClock(loop, 1_000), seed=3)

    async def run() -> list[Computed | str]:
        found: list[Computed | str] = []
        for _ in range(batches):
            try:
                found.append(await engine.pairs("fm", WANTED))
            except InferenceError as error:
                found.append(str(error))
            await asyncio.sleep(0)
        return found

    return engine, simulate(run(), loop)


def test_a_batch_is_the_products_user_by_user_after_its_cost() -> None:
    engine, (found,) = computed(PairOptions(cost=COST))
    assert isinstance(found, Computed)
    assert found.rows.tolist() == [[2, 40], [1, 20], [6, 80]]
    assert found.ok.all() and found.engine_ns == 23_000_000
    assert engine.done == [(1_023, WANTED)] and engine.busy_ns == 23_000_000


@pytest.mark.parametrize(("rate", "failed"), [(1.0, 40), (0.5, 20), (0.0, 0)])
def test_batches_fail_at_the_stated_rate_and_leave_nothing(rate: float, failed: int) -> None:
    engine, found = computed(PairOptions(cost=COST, failure_rate=rate), batches=40)
    assert engine.failed == pytest.approx(failed, abs=8)
    assert sum(isinstance(each, str) for each in found) == engine.failed
    assert len(engine.done) == 40 - engine.failed


def test_a_hang_takes_as_long_as_it_is_said_to() -> None:
    _, (found,) = computed(PairOptions(cost=COST, hang_rate=1.0))
    assert isinstance(found, Computed) and found.engine_ns == 5_000_000_000
