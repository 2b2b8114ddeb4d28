"""Random worlds: policies, limits, an engine with bad days, and traffic; all from one seed."""

import asyncio
import random
from collections.abc import Sequence

from sim.checkers import Checker
from sim.engine import Script, Step
from sim.world import ITEMS as FIXED
from sim.world import Setup, World

from predawn.server.batcher import BatcherLimits
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.request import UserId
from predawn.server.speculation.limits import PairLimits

USERS: tuple[UserId, ...] = (*range(12), "0", "1", "ada", "grace")
ITEMS = range(40)
REQUESTS = 120
_NEVER = (-1, 0.0)


def random_setup(rng: random.Random) -> Setup:
    """One to three models of any mode, small limits, so that everything happens often."""
    modes = rng.sample([Mode.REALTIME, Mode.ERCACHE, Mode.SOAP, Mode.BATCH, Mode.FROZEN], 3)
    policies = {f"m{i}": _policy(rng, mode) for i, mode in enumerate(modes[: rng.randint(1, 3)])}
    limits = BatcherLimits(
        batch_limit=rng.choice([1, 2, 8]),
        wait_window_ms=rng.choice([0, 1, 4]),
        refresh_window_ms=rng.choice([0, 10]),
        wait_queue_limit=rng.choice([2, 100]),
        refresh_queue_limit=rng.choice([3, 100]),
        background_share=rng.choice([0.1, 0.5, 1.0]),
        hang_after_ms=rng.choice([50, 500]),
        seed=rng.randrange(100),
    )
    return Setup(
        policies,
        pairs={f"p{i}": _pair_limits(rng) for i in range(rng.choice([0, 1, 1, 2]))},
        script=random_script(rng),
        limits=limits,
        average_over=rng.choice([1, 3]),
        dtype=rng.choice(["fp16", "fp32"]),
        users=lambda: USERS[::2],
        sweep_rows=4,
    )


def _policy(rng: random.Random, mode: Mode) -> ModelPolicy:
    direct_ms = rng.choice([0, 50, 400])
    ages = Ages(direct_ms, direct_ms + rng.choice([0, 300, 5_000]))
    wait_ms, sweep_ms = rng.choice([5, 30, 200]), rng.choice([200, 60_000])
    return ModelPolicy(mode, ages, wait_ms, sweep_ms, retries=rng.choice([0, 1, 3]))


def _pair_limits(rng: random.Random) -> PairLimits:
    return PairLimits(
        ttl_ms=rng.choice([30, 400, 5_000]),
        queue_limit=rng.choice([5, 30, 1000]),
        batch_users=rng.choice([1, 3]),
        batch_pairs=rng.choice([4, 8, 100]),
        least_chance=0,
    )


def random_script(rng: random.Random) -> Script:
    """Latency with a tail, failures and bad rows at a rate, and a hang or none."""
    failing, bad = rng.choice([0, 0, 0.1, 0.9]), rng.choice([0, 0, 0.2])
    hang_at, hang_s = rng.choice([_NEVER, _NEVER, (3, 2.0), (10, 0.6)])

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        if number == hang_at:
            return Step(latency_s=hang_s)
        bad_rows = tuple(i for i in range(len(users)) if rng.random() < bad)
        error = "broken" if rng.random() < failing else ""
        return Step(rng.choice([0.0, 0.001, 0.004, 0.02, 0.05]), error, bad_rows)

    return script


async def drive(world: World, checker: Checker, rng: random.Random) -> None:
    """Open-loop requests with some invalidations and hints, then quiet until all is done."""
    async with asyncio.TaskGroup() as requests:
        for _ in range(REQUESTS):
            await asyncio.sleep(rng.choice([0, 0, 0.001, 0.01, 0.05, 0.2]))
            user = USERS[min(int(rng.expovariate(0.25)), len(USERS) - 1)]
            action = rng.random()
            if action < 0.02:
                checker.invalidate([user, rng.choice(USERS)])
            elif action < 0.08:
                world.refresher.hint(user)
            else:
                timeout_ms = rng.choice([0, 1, 10, 50, 50, 300])
                items = rng.sample(ITEMS, rng.randint(1, 8))
                requests.create_task(one_request(world, checker, user, timeout_ms, items))

    await asyncio.sleep(20)


async def one_request(
    world: World,
    checker: Checker,
    user: UserId,
    timeout_ms: float,
    items: Sequence[int] = FIXED,
) -> None:
    """A request, checked against the oracle at its start and at its end."""
    began_ns = world.clock.monotonic_ns()
    request = world.request(user, timeout_ms, items=items)
    expected, expected_pairs = checker.before(request), checker.pairs.before(request)

    reply = await world.pipeline.rank(request)

    checker.after(request, reply, expected, began_ns)
    checker.after_pairs(request, reply, expected_pairs)
    world.pipeline.after_reply(request, reply)
