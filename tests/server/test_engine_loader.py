"""Versions beside what serves: tried, compared, aligned, and refused without a trace."""

import threading
from pathlib import Path
from typing import Any

import engine_cases as cases
import numpy as np
import pytest
from engine_cases import NOBODY, histories, publish, ranking, recipe

from predawn.server import engine_loader
from predawn.server.clock import SystemClock
from predawn.server.engine import Described, ModelVersions
from predawn.server.engine_loader import Aside, Loader
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Roster
from predawn.server.errors import ConfigError, InferenceError, PredawnError, SnapshotError
from predawn.server.models.alignment_record import keep_alignment
from predawn.server.models.loading import Recipe
from predawn.server.request import F32, UserBatch


class Setup:
    def __init__(self, **recipes: Recipe) -> None:
        self.roster, self.recent = Roster(), Recent(NOBODY, 8)
        self.loader = Loader(recipes, self.roster, self.recent, SystemClock())

    def live(self) -> Any:
        return self.roster.live("m").model


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    publish(tmp_path, scale=1.0)
    publish(tmp_path, scale=2.0)
    return tmp_path


def test_a_start_makes_the_newest_live_and_describes_everything(versions: Path) -> None:
    setup = Setup(
        m=recipe("user", "scaled", versions),
        fm=recipe("pair", "sums"),
        r=recipe("ranker", "halves"),
        inline=recipe("ranker", "inline_halves"),
    )
    assert setup.loader.start_all() == {
        "m": Described(2, 2),
        "fm": Described(0, 2),
        "r": Described(0, 0, ("click",)),
        "inline": Described(0, 0, ("click",), (), True),
    }
    assert setup.roster.names() == ("m", "fm", "r")
    assert setup.live().scale == 2


def test_a_start_can_be_of_an_older_version(versions: Path) -> None:
    setup = Setup(m=recipe("user", "scaled", versions))
    assert setup.loader.start("m", 1) == Described(1, 2)
    assert setup.live().scale == 1


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"first": cases.RAISES}, "ZeroDivisionError: by zero"),
        ({"first": cases.NOT_FINITE}, "not finite"),
        ({"first": cases.WIDE}, r"expected float32 \[1, 2\]"),
    ],
)
def test_a_first_version_that_fails_its_trial_names_the_setting(
    tmp_path: Path, meta: dict[str, Any], reason: str
) -> None:
    publish(tmp_path, **meta)
    setup = Setup(m=recipe("user", "scaled", tmp_path))
    with pytest.raises(ConfigError, match=f"models.m: a trial .* failed: .*{reason}"):
        setup.loader.start_all()
    assert setup.roster.names() == ()


def test_a_load_is_tried_on_recent_batches_and_staged(versions: Path) -> None:
    setup = Setup(m=recipe("user", "scaled", versions), r=recipe("ranker", "halves", versions))
    setup.loader.start("m", 1)
    setup.loader.start("r", 1)
    rows = np.zeros((3, 2), np.float32)
    setup.recent.saw_users("m", histories([1, 2, 3]), rows, 1)
    setup.recent.saw_ranking("r", ranking(5))
    loaded, matrix = setup.loader.load("m", None)
    assert (loaded.name, loaded.version, loaded.warmed_rows) == ("m", 2, 1 + 3 + 8)
    assert loaded.default is None and loaded.alignment is None and matrix is None
    assert setup.loader.load("r", 2)[0].warmed_rows == 5
    assert setup.roster.versions() == {"m": ModelVersions(1, 2), "r": ModelVersions(1, 2)}


@pytest.mark.parametrize(
    ("meta", "kind", "reason"),
    [
        ({"first": cases.RAISES}, InferenceError, "version 3 failed on recent .*by zero"),
        ({"first": cases.EXITS}, InferenceError, "version 3 failed on recent .*SystemExit"),
        ({"first": cases.NOT_FINITE}, InferenceError, "not finite"),
        ({"first": cases.DOUBLES}, InferenceError, "returned float64"),
        ({"dim": 3}, InferenceError, "dim 3, the live version 2: that needs a restart"),
        ({"dim": "x"}, ConfigError, "models.m.factory: .*needs a property `dim`"),
    ],
)
def test_a_version_that_cannot_serve_changes_nothing(
    versions: Path, meta: dict[str, Any], kind: type[PredawnError], reason: str
) -> None:
    setup = Setup(m=recipe("user", "scaled", versions))
    setup.loader.start("m", 1)
    setup.loader.load("m", 2)
    publish(versions, **meta)
    with pytest.raises(kind, match=reason):
        setup.loader.load("m", None)
    assert setup.roster.versions() == {"m": ModelVersions(1, 2)}


def test_what_cannot_be_loaded_says_why(versions: Path) -> None:
    setup = Setup(m=recipe("user", "scaled", versions), fm=recipe("pair", "sums"))
    setup.loader.start_all()
    with pytest.raises(SnapshotError, match="has no version 9"):
        setup.loader.load("m", 9)
    with pytest.raises(ConfigError, match=r"pairs\.m: has no snapshot"):
        setup.loader.load("fm", None)
    with pytest.raises(ConfigError, match="x: the engine runs m, fm"):
        setup.loader.load("x", None)


def test_versions_are_aligned_in_a_chain_and_restored_as_they_were(tmp_path: Path) -> None:
    for turn in (0.0, 1.0, 2.5):
        publish(tmp_path, turn=turn)
    aligned = recipe("user", "turned", tmp_path)
    setup = Setup(m=Recipe(aligned.kind, aligned.source, align=True))
    setup.loader.start("m", 1)
    users = histories(list(range(1, 40)))
    first = setup.live().embed(users)
    matrix = None
    for version in (2, 3):
        seen = setup.live().embed(users)
        setup.recent.saw_users("m", users, seen, version - 1)
        loaded, matrix = setup.loader.load("m", version)
        fit = loaded.alignment
        assert fit is not None and fit.users == 39
        assert fit.cosine_before < 0.9 and fit.cosine_after > 0.999
        setup.roster.swap(["m"])
    np.testing.assert_allclose(setup.live().embed(users), first, atol=1e-5)

    again = Setup(m=Recipe(aligned.kind, aligned.source, align=True))
    again.loader.start("m", 3, matrix)
    np.testing.assert_allclose(again.live().embed(users), first, atol=1e-5)
    again.loader.restore("m", 1, None, again.roster.keep)
    assert again.roster.versions() == {"m": ModelVersions(3, previous=1)}


def test_a_model_that_prepares_sees_the_largest_batch_first(
    versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def prepare(model: cases.Scaled, example: UserBatch) -> None:
        seen.append(len(example.users))

    def embed(model: cases.Scaled, batch: UserBatch) -> F32:
        assert seen
        return np.zeros((len(batch.users), 2), dtype=np.float32)

    monkeypatch.setattr(cases.Scaled, "prepare", prepare, raising=False)
    monkeypatch.setattr(cases.Scaled, "embed", embed)
    setup = Setup(m=recipe("user", "scaled", versions))
    setup.loader.start("m", 1)
    setup.loader.load("m", 2)
    assert seen == [8, 8]


def test_a_model_that_cannot_prepare_is_refused(
    versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(model: cases.Scaled, example: UserBatch) -> None:
        raise RuntimeError("no memory for graphs")

    monkeypatch.setattr(cases.Scaled, "prepare", prepare, raising=False)
    setup = Setup(m=recipe("user", "scaled", versions))
    with pytest.raises(ConfigError, match=r"models\.m: cannot be prepared .*no memory for graphs"):
        setup.loader.start_all()


def test_compilations_count_but_for_those_of_a_load(
    versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = [0]
    monkeypatch.setattr(engine_loader, "compile_counter", lambda: lambda: compiled[0])

    def embed(model: cases.Scaled, batch: UserBatch) -> F32:
        compiled[0] += 1
        return np.zeros((len(batch.users), 2), dtype=np.float32)

    monkeypatch.setattr(cases.Scaled, "embed", embed)
    setup = Setup(m=recipe("user", "scaled", versions))
    setup.loader.start_all()
    compiled[0] = 0  # the real counter begins where it is made
    setup.loader.load("m", 1)
    assert compiled[0] > 0 and setup.loader.compiles() == 0
    setup.live().embed(NOBODY)
    assert setup.loader.compiles() == 1


def test_too_few_users_leave_a_version_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, turn=0.0)
    publish(tmp_path, turn=1.0)
    aligned = recipe("user", "turned", tmp_path)
    setup = Setup(m=Recipe(aligned.kind, aligned.source, align=True))
    setup.loader.start("m", 1)
    users = histories([1, 2])
    setup.recent.saw_users("m", users, setup.live().embed(users), 1)
    loaded, matrix = setup.loader.load("m", 2)
    assert loaded.alignment is None and matrix is None
    assert "model m: version 2 is not aligned: too few users (2)" in caplog.text


def test_a_restart_goes_on_in_the_language_of_the_rows_it_finds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Newer versions that were not loaded beside what served wait for that."""
    for turn in (0.0, 1.0):
        publish(tmp_path / "m", turn=turn)
    made = recipe("user", "turned", tmp_path / "m")
    kept = Recipe(made.kind, made.source, align=True, alignments=str(tmp_path / "store"))
    users = histories(list(range(1, 40)))

    def started() -> Setup:
        setup = Setup(m=kept)
        setup.loader.start_all()
        return setup

    first = cases.Turned(1.0).embed(users)
    assert np.array_equal(started().live().embed(users), first)
    for version, turn in ((3, 2.5), (4, -1.0)):
        publish(tmp_path / "m", turn=turn)
        caplog.clear()
        setup = started()
        assert setup.roster.live("m").version == version - 1
        assert f"version {version} has not been aligned" in caplog.text
        seen = setup.live().embed(users)
        setup.recent.saw_users("m", users, seen, version - 1)
        loaded, matrix = setup.loader.load("m", None)
        assert loaded.version == version and matrix is not None
        setup.roster.swap(["m"])
        again = started()
        assert again.roster.live("m").version == version
        assert np.array_equal(again.live().embed(users), setup.live().embed(users))
        np.testing.assert_allclose(again.live().embed(users), first, atol=1e-5)
        again.loader.restore("m", version - 1, None, again.roster.keep)
        again.roster.rollback(["m"])
        np.testing.assert_allclose(again.live().embed(users), first, atol=1e-5)


def test_a_record_that_cannot_be_read_or_written_is_no_start_and_no_load(tmp_path: Path) -> None:
    for turn in (0.0, 1.0):
        publish(tmp_path / "m", turn=turn)
    made = recipe("user", "turned", tmp_path / "m")
    (tmp_path / "file").touch()
    nowhere = Recipe(made.kind, made.source, align=True, alignments=str(tmp_path / "file"))
    setup = Setup(m=nowhere)
    with pytest.raises(ConfigError, match=r"store\.path: the alignment of m cannot be kept"):
        setup.loader.start_all()
    with pytest.raises(ConfigError, match=r"store\.path: the alignment of m cannot be kept"):
        setup.loader.load("m", 1)
    assert setup.roster.versions() == {"m": ModelVersions(2)}
    store = tmp_path / "store"
    kept = Recipe(made.kind, made.source, align=True, alignments=str(store))
    Setup(m=kept).loader.start_all()
    (store / "m.000002.alignment").write_bytes(b"cut")
    with pytest.raises(SnapshotError, match=r"m\.000002\.alignment: cannot be read"):
        Setup(m=kept).loader.start_all()
    turning = np.eye(3, dtype=np.float32)
    keep_alignment("m", kept, 2, 1, turning)
    with pytest.raises(ConfigError, match=r"models\.m: cannot be aligned again: .*\(3, 3\)"):
        Setup(m=kept).loader.start_all()


def test_things_aside_run_in_order_on_a_thread_of_their_own() -> None:
    aside, seen, ended = Aside(), list[Any](), threading.Event()
    for number in range(3):
        aside.run(lambda number=number: seen.append((number, threading.current_thread().name)))
    aside.run(ended.set)
    assert ended.wait(10)
    assert seen == [(number, "predawn-load") for number in range(3)]
    aside.close()
