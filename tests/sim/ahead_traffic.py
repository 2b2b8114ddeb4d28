"""Random worlds of pairs and what happens in them, all from one seed: users who come back to some
of their items, an engine with bad days, invalidations, hints, new versions, a clock that jumps and
tasks that are cancelled."""

import asyncio
import random
from collections.abc import Sequence

import numpy as np
from sim.ahead_engine import Script, Step
from sim.ahead_world import AheadSetup, AheadWorld, ModelSetup

from predawn.server.pair_cache import FillRules
from predawn.server.request import Source
from predawn.server.simloop import SimLoop, simulate
from predawn.server.speculation.limits import PairLimits

USERS, ITEMS = 24, 48
_FILLS: tuple[tuple[Source, ...], ...] = (
    (),
    (Source.USER_MEAN,),
    (Source.USER_MEAN, Source.NEIGHBOUR),
    (Source.NEIGHBOUR, Source.USER_MEAN),
    (Source.RECENT, Source.NEIGHBOUR),
    (Source.NEIGHBOUR, Source.RECENT),
)


def random_setup(rng: random.Random) -> AheadSetup:
    """One model or two, small limits, so that everything happens often."""
    jumps = rng.random() < 0.3
    return AheadSetup(
        models={f"p{i}": _model(rng, jumps) for i in range(rng.choice([1, 1, 2]))},
        script=random_script(rng),
        users=USERS,
        items=ITEMS,
        share=rng.choice([0.1, 0.5, 1.0]),
        hang_after_ms=rng.choice([50, 500]),
        jumps=jumps,
        seed=rng.randrange(10**6),
    )


def _model(rng: random.Random, jumps: bool) -> ModelSetup:
    order = rng.choice(_FILLS)
    length = rng.choice([1, 4]) if Source.RECENT in order else 0
    ttl_ms = rng.choice([300, 2_000, 20_000])
    full = rng.random() < 0.25
    limits = PairLimits(
        ttl_ms=ttl_ms,
        queue_limit=rng.choice([10, 100, 10_000]),
        batch_users=rng.choice([1, 3, 8]),
        batch_pairs=rng.choice([4, 16, 100]),
        capacity=64 if full else 4_096,
        pairs_per_asked=rng.choice([0.25, 1.0, 1.0, 4.0]),
        pairs_per_second=rng.choice([0.0, 0.0, 20.0]),
        share=rng.choice([0.3, 1.0]),
        entries=rng.choice([0.0, 0.1, 0.5]),
        least_chance=rng.choice([0.0, 0.02, 0.3]),
        fill_value={Source.USER_MEAN: 0.1, Source.RECENT: 0.1, Source.NEIGHBOUR: 0.4},
    )
    return ModelSetup(
        limits,
        FillRules(order, ttl_ms=rng.choice([ttl_ms, 5_000, 60_000]), recent_length=length),
        neighbours=rng.choice(["similar", "clusters"]),
        dtype=rng.choice(["fp16", "fp32"]),
        predictor=rng.choice(["learned", "learned", "score", "recency", "none"]),
        sure=not full and not jumps,
    )


def random_script(rng: random.Random) -> Script:
    """Latency with a tail, failures and bad rows at a rate, a hang or none, a lost process."""
    failing, bad = rng.choice([0.0, 0.0, 0.1, 0.9]), rng.choice([0.0, 0.0, 0.2])
    hangs = rng.sample(range(3, 100), 3) if rng.random() < 0.4 else []
    slow_from = rng.choice([10**9, 10**9, 50])
    latencies = (0.0, 0.001, 0.004, 0.02, 0.05)

    def script(number: int) -> Step:
        if number in hangs:
            return Step(2.5, "lost")
        fault = rng.choice(["failed", "failed", "lost"]) if rng.random() < failing else ""
        slow = 20 if slow_from <= number < slow_from + 50 else 1
        return Step(slow * rng.choice(latencies), fault, bad)

    return script


class Traffic:
    """Requests and other events of one world."""

    def __init__(self, world: AheadWorld, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._lists: dict[int, list[int]] = {}
        self._newest = 1
        self._hot = 0

    async def drive(self, requests: int) -> None:
        """So many requests, with everything else between them."""
        gaps = (0, 0, 0, 0, 0.001, 0.01, 0.05, 0.2)
        for number in range(requests):
            if gap := self._rng.choice(gaps):
                await asyncio.sleep(gap)
            chance = self._rng.random()
            if chance < 0.08:
                await self._event(chance / 0.08)
            self._request(self._user(), hot=number // 500)

    def _user(self) -> int:
        return min(int(self._rng.expovariate(0.2)), USERS - 1)

    def _request(self, user: int, hot: int) -> None:
        """Some of the items of the last list, some that everybody wants now, some others; from
        time to time what everybody wants changes."""
        rng, last = self._rng, self._lists.get(user, [])
        wanted = [item for item in last if rng.random() < 0.6]
        wanted += [(hot * 7 + int(rng.expovariate(0.3))) % ITEMS for _ in range(4)]
        wanted += [rng.randrange(ITEMS) for _ in range(rng.randrange(3))]
        items = list(dict.fromkeys(wanted))[:12]
        self._lists[user] = items
        self._world.ask(user, np.array(items, dtype=np.int64))

    async def _event(self, chance: float) -> None:
        world, rng = self._world, self._rng
        if chance < 0.25:
            world.invalidate([self._user(), rng.randrange(USERS)])
        elif chance < 0.7:
            world.hint(self._user())
        elif chance < 0.85:
            world.change_version(*self._next_version())
        elif chance < 0.92:
            await world.restart_tasks()
        elif world.setup.jumps:
            world.clock.jump(rng.choice([-40_000, -1_500, -30, 700, 5_000]))

    def _next_version(self) -> tuple[str, int]:
        """A newer one, alike or not, or the one before."""
        back = self._newest > 1 and self._rng.random() < 0.3
        version = self._newest - 1 if back else min(self._newest + 1, 60)
        self._newest = max(self._newest, version)
        return self._rng.choice(self._names()), version

    def _names(self) -> Sequence[str]:
        return tuple(self._world.setup.models)


def play(seed: int, requests: int) -> AheadWorld:
    """One world of a seed under the checker's eyes; odd seeds in random order of callbacks."""
    world = AheadWorld(SimLoop(seed if seed % 2 else None), random_setup(random.Random(seed)))

    async def main() -> None:
        async with world.running():
            await Traffic(world, random.Random(seed)).drive(requests)

    simulate(main(), world.loop)
    return world
