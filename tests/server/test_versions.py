"""Versions of models under change, against a naive twin: all or nothing, and always consistent."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from engine_cases import ranking
from hypothesis import given, settings
from hypothesis import strategies as st
from version_cases import (
    BEHIND,
    FIXED,
    RANKERS,
    VERSIONED,
    Server,
    Twin,
    damage,
    publish,
    server,
    unpublish,
    with_server,
)

from predawn.server.engine import Loaded, ModelVersions
from predawn.server.errors import Conflict, InferenceError, LoadFailed, UnknownName
from predawn.server.versions import LoadReport

GOOD, BROKEN = (1, 2, 8), (3, 4, 5, 6, 7, 9)  # 8 is the newest, and there is no 9
NAMES = st.none() | st.lists(st.sampled_from(VERSIONED), min_size=1, max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("load"), NAMES, st.sampled_from([None, *GOOD, *GOOD, *BROKEN])),
    st.tuples(st.just("swap"), NAMES, st.none()),
    st.tuples(st.just("rollback"), NAMES, st.none()),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of everything, some of which cannot serve."""
    out = tmp_path_factory.mktemp("models")
    for name in VERSIONED:
        path = out / name
        assert [publish(path), publish(path)] == [1, 2]
        damage(path, publish(path))
        publish(path, value="nan")
        publish(path, value="inf")
        unpublish(path, publish(path))
        publish(path, dim=3, tasks=["click", "like"])
        assert publish(path) == 8
    return out


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=120, deadline=None)
def test_any_sequence_of_changes_leaves_what_the_twin_has(
    models: Path, steps: list[tuple[str, list[str] | None, int | None]]
) -> None:
    async def main() -> None:
        async with server(models) as it:
            twin = Twin(dict.fromkeys(VERSIONED, 8))
            for what, names, version in steps:
                await step(it, twin, what, names, version)
                await compare(it, twin)

    asyncio.run(main())


async def step(
    it: Server, twin: Twin, what: str, names: list[str] | None, version: int | None
) -> None:
    """The same on both; what the twin cannot do is refused."""
    if what == "load":
        if version in BROKEN:
            with pytest.raises(LoadFailed):
                await it.versions.load(names, version)
        else:
            report = await it.versions.load(names, version)
            staged = twin.load(names or VERSIONED, version or 8)
            assert {each.name for each in report.loaded} == staged
            assert {each.version for each in report.loaded} <= {version or 8}
            assert staged | set(report.unchanged) == set(names or VERSIONED)
        return
    change = it.versions.swap if what == "swap" else it.versions.rollback
    chosen = twin.swap(names) if what == "swap" else twin.rollback(names)
    if not chosen:
        with pytest.raises(Conflict):
            await change(names)
    else:
        assert await change(names) == {name: twin.live[name] for name in chosen}


async def compare(it: Server, twin: Twin) -> None:
    found = it.versions.versions()
    assert found.pop(FIXED) == ModelVersions(0)
    assert found == {
        name: ModelVersions(twin.live[name], twin.staged.get(name), twin.previous.get(name))
        for name in VERSIONED
    }
    assert await it.served() == twin.live
    assert it.cache.default("alone").tolist() == [twin.live["alone"]] * 2
    assert it.pairs.default(BEHIND).tolist() == [twin.live[BEHIND]] * 2


async def refused(it: Server, reason: str, names: list[str], version: int | None = None) -> None:
    """A load that fails says why, in its error and in the list, and changes nothing."""
    before, errors = it.versions.versions(), dict(it.metrics.model_changes)
    with pytest.raises(LoadFailed, match=reason) as caught:
        await it.versions.load(names, version)
    assert it.versions.versions() == before
    failed = next(each for each in it.versions.states() if each.error)
    assert caught.value.field == failed.model.recipe.source.setting
    assert failed.error == caught.value.reason and not failed.loading
    key = (failed.name, "load_failed")
    assert it.metrics.model_changes == errors | {key: errors.get(key, 0) + 1}


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("alone", 3, r"weights\.safetensors: has 3 bytes, the manifest says"),
        ("alone", 4, "not finite"),
        ("pair", 5, "ZeroDivisionError: by zero"),
        ("inline", 5, "not finite"),
        ("off_loop", 6, r"manifest\.json: is missing: the snapshot is half written"),
        ("pair", 7, "dim 3, the live version 2: that needs a restart"),
        ("inline", 7, r"tasks \('click', 'like'\), the live version .*: that needs a restart"),
        ("off_loop", 9, "has no version 9; it has 1, 2, 3, 4, 5, 6, 7, 8"),
    ],
)
def test_why_a_version_cannot_serve_is_said(
    models: Path, name: str, version: int, reason: str
) -> None:
    async def main() -> None:
        async with server(models) as it:
            await refused(it, reason, [name], version)
            assert (await it.versions.load([name], 1)).loaded
            assert not any(each.error for each in it.versions.states())

    asyncio.run(main())


def test_a_load_of_several_that_fails_puts_back_what_was_staged(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        for name in VERSIONED:
            publish(tmp_path / name)
        await it.versions.load(["alone"])
        for name in VERSIONED[:-1]:
            publish(tmp_path / name)
        publish(tmp_path / VERSIONED[-1], value="nan")
        await refused(it, "not finite", list(VERSIONED))
        assert it.versions.versions()["alone"] == ModelVersions(1, 2)
        assert await it.versions.swap() == {"alone": 2}
        assert it.cache.default("alone").tolist() == [2, 2]

    with_server(tmp_path, use)


def test_what_was_staged_and_is_gone_from_disk_is_staged_no_more(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        publish(tmp_path / "alone")
        await it.versions.load(["alone"])
        unpublish(tmp_path / "alone", 2)
        publish(tmp_path / "alone")
        publish(tmp_path / "pair", value="nan")
        with pytest.raises(LoadFailed):
            await it.versions.load(["alone", "pair"])
        assert it.versions.versions()["alone"] == ModelVersions(1)
        assert (await it.served())["alone"] == 1

    with_server(tmp_path, use)


def test_unknown_names_and_models_without_versions_are_refused(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        for change in (it.versions.load, it.versions.swap, it.versions.rollback):
            with pytest.raises(UnknownName, match=r"models\[1\]: .* did you mean 'alone'\?"):
                await change(["pair", "alon"])
        with pytest.raises(Conflict, match="fixed has no snapshot, so there are no versions"):
            await it.versions.load([FIXED])
        for change, reason in (
            (it.versions.swap, "staged: load one first"),
            (it.versions.rollback, "there to go back to"),
        ):
            with pytest.raises(Conflict, match=f"no version is {reason}"):
                await change()
            with pytest.raises(Conflict, match=rf"models\[0\]: no version of fixed is {reason}"):
                await change([FIXED])

    with_server(tmp_path, use)


def test_nothing_newer_is_nothing_to_do(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        assert await it.versions.load() == LoadReport((), VERSIONED)
        assert it.metrics.model_load_ns.count == 0
        publish(tmp_path / "inline")
        report = await it.versions.load()
        assert [(each.name, each.version) for each in report.loaded] == [("inline", 2)]
        assert report.loaded[0].warmed_rows == 3
        assert await it.versions.load() == LoadReport((), VERSIONED)

    with_server(tmp_path, use)


def test_while_a_model_is_loaded_others_may_change_and_it_may_not(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        publish(tmp_path / "pair")
        await it.versions.load(["pair"])
        for name in ("alone", *RANKERS):
            publish(tmp_path / name)
        loading = asyncio.create_task(it.versions.load(["alone", *RANKERS]))
        await asyncio.sleep(0)
        assert [each.loading for each in it.versions.states()] == [
            True,
            False,
            True,
            True,
            False,
            False,
        ]
        with pytest.raises(Conflict, match="a load of alone, inline, off_loop is under way"):
            await it.versions.load(["pair"])
        with pytest.raises(Conflict, match="a load of inline is under way"):
            await it.versions.swap(["inline"])
        assert await it.versions.swap() == {"pair": 2}
        assert len((await loading).loaded) == 3
        assert await it.versions.swap() == {"alone": 2, "inline": 2, "off_loop": 2}

    with_server(tmp_path, use)


def test_a_change_goes_on_when_the_caller_goes_away(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        publish(tmp_path / "alone")
        ended = asyncio.Event()
        with mock.patch.object(it.metrics, "model_changed", lambda name, change: ended.set()):
            impatient = asyncio.create_task(it.versions.load())
            await asyncio.sleep(0)
            impatient.cancel()
            with pytest.raises(asyncio.CancelledError):
                await impatient
            await ended.wait()
        assert it.versions.versions()["alone"] == ModelVersions(1, 2)

    with_server(tmp_path, use)


def test_requests_see_all_of_a_swap_or_nothing_of_it(tmp_path: Path) -> None:
    """The rankers on the loop and the default vector change in one step of it."""

    async def use(it: Server) -> None:
        seen: set[tuple[float, float]] = set()

        async def watch() -> None:
            while True:
                value = it.rankers["inline"].model.score(ranking())[0, 0]
                seen.add((float(value), float(it.cache.default("alone")[0])))
                await asyncio.sleep(0)

        for name in VERSIONED:
            publish(tmp_path / name)
        watcher = asyncio.create_task(watch())
        await it.versions.load()
        await it.versions.swap()
        await asyncio.sleep(0)
        await it.versions.rollback()
        await asyncio.sleep(0)
        watcher.cancel()
        assert seen == {(1, 1), (2, 2)}
        assert it.metrics.model_changes == {
            (name, change): 1 for name in VERSIONED for change in ("load", "swap", "rollback")
        }
        assert it.metrics.model_load_ns.count == 1

    with_server(tmp_path, use)


@pytest.mark.parametrize("change", ["swap", "rollback"])
def test_an_engine_that_is_lost_during_a_change_refuses_it(tmp_path: Path, change: str) -> None:
    async def lost(names: Sequence[str]) -> dict[str, int]:
        raise InferenceError(names[0], "the process of the models has died")

    async def use(it: Server) -> None:
        for _ in range(2):
            for name in VERSIONED:
                publish(tmp_path / name)
            await it.versions.load()
            await it.versions.swap()
        await it.versions.load(version=1)
        before = it.versions.versions()
        with (
            mock.patch.object(it.engine, change, lost),
            pytest.raises(Conflict, match=r"nothing has changed: .* has died"),
        ):
            await getattr(it.versions, change)()
        assert it.versions.versions() == before
        assert await it.served() == dict.fromkeys(VERSIONED, 3)
        await getattr(it.versions, change)()
        assert await it.served() == dict.fromkeys(VERSIONED, 1 if change == "swap" else 2)

    with_server(tmp_path, use)


def test_a_load_whose_engine_is_lost_is_refused(tmp_path: Path) -> None:
    async def lost(*arguments: object) -> None:
        raise InferenceError("pair", "the process of the models has died")

    async def use(it: Server) -> None:
        publish(tmp_path / "alone")
        publish(tmp_path / "pair", value="nan")
        with (
            mock.patch.object(it.engine, "discard", lost),
            pytest.raises(LoadFailed, match="not finite"),
        ):
            await it.versions.load(["alone", "pair"])
        with (
            mock.patch.object(it.engine, "load", lost),
            pytest.raises(LoadFailed, match="has died"),
        ):
            await it.versions.load(["pair"])
        assert not any(each.loading for each in it.versions.states())

    with_server(tmp_path, use)


def test_a_mean_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        publish(tmp_path / "alone", user_tower={"default": [1.0, 2.0, 3.0]})
        await refused(it, "has no mean embedding of 2 values", ["alone"])

    with_server(tmp_path, use)


def test_a_load_tells_what_it_did(tmp_path: Path) -> None:
    async def use(it: Server) -> None:
        publish(tmp_path / "alone")
        await it.engine.embed("alone", [1, 2, 3])
        (loaded,) = (await it.versions.load()).loaded
        assert isinstance(loaded, Loaded) and loaded.warmed_rows > 3
        assert np.array_equal(loaded.default if loaded.default is not None else [], [2, 2])

    with_server(tmp_path, use)
