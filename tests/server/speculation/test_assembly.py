"""The parts together: what a speculator of some models is told and tells."""

import asyncio
from dataclasses import replace

from speculation_rig import LIMITS, Rig, play


def test_it_hears_of_invalidations_and_the_metrics_of_it() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(7, [1, 2])
        assert rig.metrics.pairs_waiting() == {"m": 2, "n": 0}
        await asyncio.sleep(0.1)
        ledger = rig.speculator.models["m"].planner.ledger
        assert ledger.unread == 2
        rig.cache.invalidate([7], None)
        assert ledger.unread == 0
        assert set(rig.metrics.speculation()) == {"m", "n"}

    play(use)


def test_a_model_has_its_share_of_what_the_background_may_use() -> None:
    async def use(rig: Rig) -> None:
        own = rig.speculator.models["m"].share
        own.spend(1_100_000_000)  # the burst and a second more
        assert own.allowed_ns(0) >= 8_000_000_000
        assert rig.share.may_start(0)

    play(use, limits=replace(LIMITS, share=0.25))
