"""What is returned has the contract's members; everything else is refused with its setting."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from model_cases import PRIOR, RANKER, TOWER, rank_batch, ranker, tower, user_batch

from predawn.server.config import Config
from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.models.loading import (
    RANKER_FILE,
    TOWER_FILE,
    ModelSource,
    Recipe,
    load_model,
    load_ranker,
    load_user_model,
    trained_default,
)
from predawn.server.models.ranker import Ranker
from predawn.server.models.snapshots import write_snapshot
from predawn.server.models.user_tower import UserTower, tower_tensors
from predawn.server.request import RankBatch

TYPES = ["shown", "clicked", "liked", "hated", "long_view"]
ATTRIBUTES = ["age", "income"]
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    write_snapshot(
        tmp_path,
        {
            TOWER_FILE: tower_tensors(tower(), PRIOR.astype(np.float32)),
            RANKER_FILE: ranker().tensors,
        },
        {
            "user_tower": {"shape": TOWER.describe(), "default": [0.5] * TOWER.dim},
            "ranker": RANKER.describe(),
            "history": {"types": TYPES, "attributes": ATTRIBUTES, "length": 32},
        },
    )
    return tmp_path


def refused(source: ModelSource) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_user_model(source)
    return caught.value


def test_a_snapshot_gives_both_models_and_the_default(snapshot: Path) -> None:
    source = ModelSource("models.sum", snapshot=str(snapshot))
    user_model = load_user_model(source, types=TYPES, attributes=ATTRIBUTES)
    expected = UserTower(tower(), PRIOR.astype(np.float32)).embed(user_batch(6))
    np.testing.assert_array_equal(user_model.embed(user_batch(6)), expected)

    parts = ranker()
    batch = rank_batch([3, 4], parts.items)
    loaded = load_ranker(ModelSource("rankers.ctr", snapshot=str(snapshot)))
    assert (loaded.tasks, loaded.item_features) == (RANKER.tasks, RANKER.item_features)
    assert loaded.inline
    np.testing.assert_array_equal(loaded.score(batch), Ranker(RANKER, parts.tensors).score(batch))

    assert trained_default(str(snapshot)).tolist() == [0.5] * TOWER.dim


def test_a_ranker_is_loaded_without_torch(snapshot: Path) -> None:
    program = (
        "import sys; from predawn.server.models.loading import ModelSource, load_ranker;"
        f"load_ranker(ModelSource('r', snapshot={str(snapshot)!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_history_of_other_columns_is_refused_at_start(snapshot: Path) -> None:
    source = ModelSource("models.sum", snapshot=str(snapshot))
    with pytest.raises(SnapshotError, match=r"history\.types = .*clicked"):
        load_user_model(source, types=["shown"])
    with pytest.raises(SnapshotError, match=r"history\.attributes"):
        load_user_model(source, types=TYPES, attributes=[])


def test_parts_that_do_not_fit_together_name_the_snapshot(tmp_path: Path) -> None:
    tensors = tower_tensors(tower(), PRIOR.astype(np.float32))
    shape = TOWER.describe() | {"rank": 3}
    meta = {"user_tower": {"shape": shape}, "history": {}, "ranker": {"tasks": []}}
    path = write_snapshot(tmp_path, {TOWER_FILE: tensors, RANKER_FILE: {}}, meta)
    with pytest.raises(SnapshotError, match="size mismatch") as caught:
        load_user_model(ModelSource("models.sum", snapshot=str(tmp_path)))
    assert caught.value.path == str(path)
    with pytest.raises(SnapshotError, match="KeyError"):
        load_ranker(ModelSource("rankers.ctr", snapshot=str(tmp_path)))
    with pytest.raises(SnapshotError, match="default"):
        trained_default(str(tmp_path))


@pytest.mark.parametrize("device", ["tpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(snapshot: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.device"):
        load_user_model(ModelSource("models.sum", snapshot=str(snapshot)), device=device)


def test_a_snapshot_takes_no_options(snapshot: Path) -> None:
    source = ModelSource("models.sum", snapshot=str(snapshot), options={"depth": 2})
    assert refused(source).field == "models.sum.options"


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("factories", "package.module:function"),
        (":counting", "package.module:function"),
        ("factories:", "package.module:function"),
        ("no_such_module:make", "cannot import 'no_such_module'"),
        ("factories:countign", "did you mean 'counting'"),
        ("factories:DIM", "int, not a function"),
        ("model_faults:raises", "raised ValueError: no weights"),
        ("model_faults:no_dim", "`dim`"),
        ("model_faults:no_embed", "`embed"),
        ("broken_module:make", "raised ZeroDivisionError"),
    ],
)
def test_a_factory_that_is_no_factory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, reason: str
) -> None:
    (tmp_path / "model_faults.py").write_text(
        "class Nothing: pass\n"
        "class OnlyDim: dim = 3\n"
        "def raises(snapshot): raise ValueError('no weights')\n"
        "def no_dim(snapshot): return Nothing()\n"
        "def no_embed(snapshot): return OnlyDim()\n"
    )
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = refused(ModelSource("models.mine", factory=factory))
    assert error.field == "models.mine.factory"
    assert reason in error.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks": ["click"]}, "`tasks`, a tuple"),
        ({"tasks": ()}, "no tasks"),
        ({"item_features": None}, "`item_features`"),
        ({"inline": "yes"}, "`inline`"),
        ({"score": 3}, "`score"),
    ],
)
def test_a_ranker_of_another_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], reason: str
) -> None:
    import factories

    for name, value in changes.items():
        monkeypatch.setattr(factories.SumRanker, name, value)
    with pytest.raises(ConfigError, match="factories:sum_ranker") as caught:
        load_ranker(ModelSource("rankers.mine", factory="factories:sum_ranker"))
    assert reason in caught.value.reason


def test_a_factory_gets_the_checked_directory_and_the_options(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_seen.py").write_text(
        "class Seen:\n"
        "    def __init__(self, snapshot, **options):\n"
        "        self.dim, self.snapshot, self.options = 1, snapshot, options\n"
        "    def embed(self, batch): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = {"depth": 2, "name": "x"}
    source = ModelSource("m", factory="model_seen:Seen", options=options, snapshot=str(snapshot))
    seen = load_user_model(source)
    assert getattr(seen, "snapshot") == snapshot / "000001"  # noqa: B009
    assert getattr(seen, "options") == options  # noqa: B009
    (snapshot / "000001" / RANKER_FILE).unlink()
    with pytest.raises(SnapshotError, match="half written"):
        load_user_model(source)


def test_a_factory_may_return_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    options = {"dim": 12, "seed": 7}
    source = ModelSource("models.tower", factory="own_tower:build", options=options)
    model = load_user_model(source, types=TYPES, attributes=ATTRIBUTES)
    assert model.dim == 12
    assert model.embed(user_batch(5)).shape == (5, 12)


def test_a_module_that_cannot_be_used_is_refused_with_what_came(tmp_path: Path) -> None:
    error = refused(ModelSource("models.mine", factory="factories:one_number_per_user"))
    assert error.field == "models.mine.factory"
    assert "returned [1], expected float32 [1, values]" in error.reason


def test_a_program_is_loaded_with_its_file_in_the_error(tmp_path: Path) -> None:
    error = refused(ModelSource("models.mine", program=str(tmp_path / "absent.pt2")))
    assert error.field == "models.mine.program" and "absent.pt2" in error.reason


def test_a_program_has_no_versions(tmp_path: Path) -> None:
    recipe = Recipe("user", ModelSource("models.mine", program="m.pt2"))
    with pytest.raises(ConfigError, match="no versions"):
        load_model(recipe, 3)


@pytest.mark.parametrize("name", ["own_model", "own_pair_model", "own_ranker", "own_tower"])
def test_an_example_is_short(name: str) -> None:
    assert (EXAMPLES / f"{name}.py").read_text().count("\n") <= 40


def test_nothing_to_load_is_said() -> None:
    assert "snapshot, a factory or a program" in refused(ModelSource("models.sum")).reason


def test_the_example_is_short_and_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (EXAMPLES / "own_model.py").read_text()
    assert text.count("\n") <= 40
    settings = text.split("ask:\n")[1].split("    PYTHONPATH")[0]
    config = Config.model_validate(tomllib.loads(settings))
    monkeypatch.syspath_prepend(EXAMPLES)
    model = config.models["rates"]
    user_model = load_user_model(
        ModelSource("models.rates", factory=model.factory, options=model.options)
    )
    own = load_ranker(ModelSource("rankers.own", factory=config.rankers["own"].factory))
    embeddings = user_model.embed(user_batch(4))
    assert embeddings.shape == (4, user_model.dim) and embeddings.dtype == np.float32
    batch = rank_batch([2, 0, 3, 1], ranker().items)
    scores = own.score(
        RankBatch(
            embeddings,
            batch.sources,
            batch.offsets,
            batch.item_hashes,
            np.zeros((6, 0), np.float32),
        )
    )
    assert scores.shape == (6, 1) and scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
