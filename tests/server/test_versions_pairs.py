"""Which version's pairs are served while versions change."""

from pathlib import Path
from unittest import mock

import numpy as np
from engine_cases import items
from version_cases import BEHIND, Server, publish, with_server

from predawn.server.models.loading import ModelSource


def test_pairs_are_served_of_the_live_version_alone(tmp_path: Path) -> None:
    """After a swap those of the old one count as absent; a rollback finds them again."""

    async def use(it: Server) -> None:
        wanted = [items(1, 2)]
        hashes = wanted[0].item_hashes

        async def compute() -> None:
            assert await it.pairs.ready(BEHIND, [1])
            computed = await it.engine.pairs(BEHIND, wanted)
            it.pairs.land(BEHIND, wanted, computed.rows, computed.snapshot)

        def served() -> tuple[list[list[float]], list[bool]]:
            reading = it.pairs.read(BEHIND, 1, hashes, 60_000)
            return reading.rows.tolist(), (reading.ages_ms >= 0).tolist()

        await compute()
        assert served() == ([[1, 1]] * 2, [True, True])
        publish(tmp_path / BEHIND, value=20)
        await it.versions.load()
        assert served() == ([[1, 1]] * 2, [True, True])
        await it.versions.swap()
        assert served() == ([[2, 2]] * 2, [False, False])  # the new version's mean
        await it.versions.rollback()
        assert served() == ([[1, 1]] * 2, [True, True])
        await it.versions.swap()
        await compute()
        assert served() == ([[20, 20]] * 2, [True, True])

    with_server(tmp_path, use)


def test_users_are_known_to_neighbours_by_vectors_of_the_live_version(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        def known() -> list[bool]:
            return [it.pairs.knows_by("alone", version) for version in (1, 2)]

        publish(tmp_path / "alone")
        await it.versions.load()
        assert known() == [True, True]  # nothing has changed yet: any is as good
        await it.versions.swap()
        assert known() == [False, True]
        await it.versions.rollback()
        assert known() == [True, False]

    with_server(tmp_path, use)


def test_pairs_of_a_version_alike_are_served_over_a_swap_and_back(tmp_path: Path) -> None:
    """Version 2 has the foundation model of version 1, which was loaded before it was there."""

    def alike(source: ModelSource, version: int) -> frozenset[int]:
        there = {int(each.name) for each in Path(source.snapshot).iterdir()}
        return frozenset({1, 2} & there if version < 3 else {version})

    async def use(it: Server) -> None:
        wanted = [items(1, 2), items(2, 2)]
        assert await it.pairs.ready(BEHIND, [1])

        def served(user: int) -> list[int]:
            reading = it.pairs.read(BEHIND, user, wanted[0].item_hashes, 60_000)
            return sorted(set((reading.ages_ms >= 0).tolist()))

        it.pairs.land(BEHIND, wanted[:1], np.ones((2, 2), np.float32), 1)
        for version, there in ((2, True), (3, False)):
            publish(tmp_path / BEHIND)
            await it.versions.load()
            await it.versions.swap()
            assert served(1) == [there]
            if version == 2:
                it.pairs.land(BEHIND, wanted[1:], np.ones((2, 2), np.float32), 2)
                await it.versions.rollback()
                assert served(1) == served(2) == [True]
                await it.versions.swap()
        await it.versions.rollback()
        assert served(1) == served(2) == [True]

    with mock.patch("predawn.server.versions.pairs_alike", alike):
        with_server(tmp_path, use)
