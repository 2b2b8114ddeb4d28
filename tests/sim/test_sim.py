"""The whole server in virtual time, under hundreds of seeds: safety in each step, and liveness.

Reproduce a failure with `pytest tests/sim -k "[SEED]"`.
"""

import asyncio
import random
from collections.abc import Awaitable, Sequence

import pytest
from sim.checkers import Checker
from sim.engine import Step
from sim.traffic import drive, one_request, random_setup
from sim.world import Setup, World

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.clock import Clock
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache, PairReading
from predawn.server.pair_stores import PairStores
from predawn.server.pipeline_rank import _side_by_side
from predawn.server.pipeline_wait import Wait, computed
from predawn.server.policy import Ages, Cell, Mode, ModelPolicy, decide_one
from predawn.server.request import F32, U8, U64, Lane, PairRows, Source, UserId, UserRow
from predawn.server.simloop import SimLoop, simulate
from predawn.server.speculation.scheduler import Candidates, Scheduler
from predawn.server.stabilise import average

SEEDS = 240


def play(seed: int, setup: Setup, chaos: bool) -> World:
    """One world under the checker's eyes."""
    loop = SimLoop(seed if chaos else None)
    checker = Checker.of(setup)
    world = World(loop, setup, checker)
    checker.attach(world)

    async def main() -> None:
        async with world.running():
            await drive(world, checker, random.Random(seed))
            checker_done(world, checker, setup)

    simulate(main(), loop)
    return world


def checker_done(world: World, checker: Checker, setup: Setup) -> None:
    """A batch model with a short period is never at rest: only the others end empty."""
    sweeping = any(policy.mode is Mode.BATCH for policy in setup.policies.values())
    if not sweeping:
        checker.at_the_end()
    assert checker.requests > 50


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_is_answered_correctly_and_on_time(seed: int) -> None:
    setup = random_setup(random.Random(seed))
    play(seed, setup, chaos=seed % 2 == 1)


def test_the_same_seed_gives_the_same_run() -> None:
    def trace(seed: int) -> list[tuple[str, object, int]]:
        world = play(seed, random_setup(random.Random(seed)), chaos=True)
        return [(call.model, call.users, call.began_ns) for call in world.engine.calls]

    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def test_an_engine_that_never_returns_leaves_every_request_answered_in_time() -> None:
    policies = {
        "waits": ModelPolicy(Mode.ERCACHE, Ages(0, 10**7), wait_ms=20),
        "soap": ModelPolicy(Mode.SOAP, Ages(0, 10**7)),
    }
    setup = Setup(
        policies,
        script=lambda number, model, users: Step(latency_s=1e9 if number >= 8 else 0.001),
        limits=BatcherLimits(hang_after_ms=100),
    )
    loop = SimLoop()
    checker = Checker.of(setup)
    world = World(loop, setup, checker)
    checker.attach(world)

    async def main() -> None:
        async with world.running():
            for number in range(200):
                await one_request(world, checker, number % 7, timeout_ms=50)
                await asyncio.sleep(0.01)

    simulate(main(), loop)
    served = world.metrics.models["waits"].served
    assert checker.requests == 200 and served[Source.FAILOVER] > 100
    assert world.metrics.models["soap"].fallbacks == 0


def ignore_age(mode: Mode, age_ms: int, ages: Ages) -> Cell:
    return decide_one(mode, 0 if age_ms >= 0 else -1, ages)


def forget_single_flight(self: Batcher, *key: object) -> object:
    self._entries.clear()
    return _entry(self, *key)  # type: ignore[arg-type]


def patient(
    batcher: Batcher,
    clock: Clock,
    metrics: Metrics,
    user: UserId,
    waits: dict[str, Wait],
    rows: dict[str, UserRow],
) -> Awaitable[None]:
    later = {model: Wait(wait.due_ns + 10**9, wait.retries) for model, wait in waits.items()}
    return computed(batcher, clock, metrics, user, later, rows)


def forget_the_user(stores: PairStores, user: UserId, items: U64) -> U64:
    return _keys(stores, "" if isinstance(user, str) else 0, items)


def never_stale(queue: Scheduler, user: UserId, *_: object) -> Candidates:
    return queue._users[user].pairs


def forget_the_ttl(
    cache: PairCache, model: str, user: UserId, items: U64, max_age_ms: int, vector: F32 | None
) -> PairReading:
    return _read(cache, model, user, items, 10**9, vector)


def swapped(pairs: Sequence[PairRows]) -> tuple[F32, U8]:
    return _side_by_side(pairs[::-1])


_entry = Batcher._entry
_keys = PairStores.keys
_read = PairCache.read


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ("predawn.server.pipeline.decide_one", ignore_age),
        ("predawn.server.pipeline.computed", patient),
        ("predawn.server.pipeline.Wait", lambda due_ns, retries: Wait(due_ns, 1)),
        ("predawn.server.pipeline_wait._failed", lambda caller: not caller.cancelled()),
        ("predawn.server.pipeline_wait._failed", lambda _: False),
        ("predawn.server.pipeline_wait.Metrics.retried", lambda *_: None),
        ("predawn.server.batcher.Batcher._entry", forget_single_flight),
        ("predawn.server.batcher.Batcher.invalidated", lambda *_: None),
        ("predawn.server.batcher.ShareAccount.may_start", lambda *_: True),
        ("predawn.server.batcher_queue.Entry.lane_wanted", lambda _: Lane.WAIT),
        ("predawn.server.cache_table.average", lambda raw, before, _: average(raw, before)),
        ("predawn.server.pair_table.PairStores.invalidate", lambda *_: None),
        ("predawn.server.pair_table.PairStores.keys", forget_the_user),
        ("predawn.server.pipeline_pairs.PairCache.read", forget_the_ttl),
        ("predawn.server.speculation.speculator.Speculator.invalidated", lambda *_: None),
        ("predawn.server.speculation.scheduler.Scheduler._worthwhile", never_stale),
        ("predawn.server.speculation.speculator.ShareAccount.spend", lambda *_: None),
        ("predawn.server.pipeline_rank._side_by_side", swapped),
    ],
)
def test_the_checker_notices_a_server_that_is_broken_on_purpose(
    target: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, broken)
    assert any(notices(seed) for seed in range(60)), f"nobody noticed that {target} is broken"


def notices(seed: int) -> bool:
    """A violation, in a request (in its task group) or reported by the checker."""
    try:
        play(seed, random_setup(random.Random(seed)), chaos=False)
    except AssertionError:
        return True
    except ExceptionGroup as group:
        return group.subgroup(AssertionError) is not None
    return False
