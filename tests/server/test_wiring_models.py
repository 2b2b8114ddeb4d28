"""Which models a configuration names, and which of them the server refuses to start with."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wiring_cases import config, of_snapshot, trained

from predawn.server.config import Config
from predawn.server.engine import Described
from predawn.server.errors import ConfigError, InferenceError, SnapshotError
from predawn.server.request import RankBatch
from predawn.server.wiring_models import (
    EngineRanker,
    described_on_disk,
    engine_recipes,
    load_models,
    models_of,
    nobody,
    recipes,
    try_in_engine,
)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"model": {"factory": "factories:wrong_shape"}}, "models.sum", "expected float32 [1, 4]"),
        ({"model": {"factory": "factories:countin"}}, "models.sum.factory", "mean 'counting'"),
        ({"model": {"default": [1.0, 2.0]}}, "models.sum.default", "has 2 values, the model has 4"),
        ({"model": {"default": "mean"}}, "models.sum.default", "needs a snapshot"),
    ],
)
def test_a_model_that_cannot_serve_is_refused(
    changes: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load_models(config(**changes))
    assert raised.value.field == field
    assert reason in raised.value.reason


@pytest.mark.parametrize(
    ("ranker", "field", "reason"),
    [
        ({"task": "clik"}, "rankers.ctr.task", "did you mean 'click'?"),
        ({"user_models": ["sum", "two"]}, "rankers.ctr", "got 8 user values, expected 4"),
    ],
)
def test_a_ranker_that_does_not_fit_is_refused(
    ranker: dict[str, Any], field: str, reason: str
) -> None:
    two = {name: {"factory": "factories:counting"} for name in ("sum", "two")}
    given = {"factory": "factories:sum_ranker", "user_models": ["sum"], **ranker}
    with pytest.raises(ConfigError) as raised:
        load_models(config(models=two, rankers={"ctr": given}))
    assert raised.value.field == field
    assert reason in raised.value.reason


def test_the_engine_makes_everything_but_rankers_from_snapshots(tmp_path: Path) -> None:
    rankers = {
        "ctr": {"factory": "factories:sum_ranker", "user_models": ["sum"]},
        "like": {"snapshot": str(tmp_path), "user_models": ["sum"]},
    }
    pairs = {"fm": {"factory": "engine_cases:sums"}}
    wired = config({"align": True}, rankers=rankers, pairs=pairs)
    made = recipes(wired)
    assert {name: each.kind for name, each in made.items()} == {
        "sum": "user",
        "fm": "pair",
        "ctr": "ranker",
        "like": "ranker",
    }
    assert made["sum"].align and made["sum"].types == tuple(wired.history.types)
    assert made["fm"].source.setting == "pairs.fm"
    assert set(engine_recipes(wired)) == {"sum", "fm", "ctr"}


def test_manifests_tell_what_the_engine_will_say_where_nothing_is_of_ones_own(
    tmp_path: Path,
) -> None:
    on_disk = of_snapshot(trained(tmp_path))
    described = described_on_disk(Config(**on_disk))
    assert described is not None
    dim = described["sum"].dim
    assert described == {"sum": Described(1, dim)} and dim > 0
    own = {"ctr": {"factory": "factories:sum_ranker", "user_models": ["sum"]}}
    assert described_on_disk(Config(**{**on_disk, "rankers": own})) is None
    nowhere = {"sum": {"snapshot": "nowhere"}}
    with pytest.raises(SnapshotError):
        described_on_disk(Config(**{**on_disk, "models": nowhere}))


def test_what_the_server_must_know_comes_from_the_descriptions() -> None:
    off_loop = Described(0, 0, ("click", "like"))
    pairs = {"fm": {"factory": "engine_cases:sums", "default": [1.0, 2.0]}}
    ranker = {"factory": "factories:off_loop_ranker", "user_models": ["sum"], "task": "like"}
    wired = config(pairs=pairs, rankers={"ctr": {**ranker, "pair_models": ["fm"]}})
    models = models_of(wired, {"sum": Described(3, 4), "fm": Described(0, 2), "ctr": off_loop})
    assert models.dims == {"sum": 4, "fm": 2}
    assert models.defaults["sum"].tolist() == [0] * 4 and models.defaults["fm"].tolist() == [1, 2]
    assert models.versions == {"sum": 3, "fm": 0, "ctr": 0}
    served = models.rankers["ctr"]
    assert (served.task, served.model.tasks, served.model.inline) == (1, ("click", "like"), False)


class Scores:
    """An engine that keeps the batches that it is asked to score, or refuses them."""

    def __init__(self, error: InferenceError | None = None) -> None:
        self.batches: list[RankBatch] = []
        self.error = error

    async def score(self, ranker: str, batch: RankBatch) -> Any:
        self.batches.append(batch)
        if self.error is not None:
            raise self.error
        return np.zeros((1, 2), dtype=np.float32)


def test_rankers_in_the_engine_are_tried_on_one_candidate_with_all_that_they_read() -> None:
    pairs = {"fm": {"factory": "engine_cases:sums"}}
    ranker = {"factory": "factories:off_loop_ranker", "user_models": ["sum"]}
    wired = config(pairs=pairs, rankers={"ctr": {**ranker, "pair_models": ["fm"]}})
    told = {"sum": Described(0, 4), "fm": Described(0, 2), "ctr": Described(0, 0, ("click",))}
    models = models_of(wired, told)
    engine: Any = Scores()
    asyncio.run(try_in_engine(wired, models, engine))
    (batch,) = engine.batches
    assert (batch.user.shape, batch.pairs.shape) == ((1, 4), (1, 2))
    assert (batch.sources.tolist(), batch.pair_sources.tolist()) == ([[6]], [[6]])
    refusing: Any = Scores(InferenceError("ctr", "reads 7 values"))
    with pytest.raises(ConfigError, match=r"rankers\.ctr: .*6 values of sum, fm .*reads 7 values"):
        asyncio.run(try_in_engine(wired, models, refusing))


def test_a_ranker_in_the_engine_cannot_be_run_here() -> None:
    ranker = EngineRanker("ctr", Described(0, 0, ("click",), ("price",)))
    assert (ranker.tasks, ranker.item_features, ranker.inline) == (("click",), ("price",), False)
    with pytest.raises(InferenceError, match="model 'ctr': runs in the engine"):
        ranker.score(RankBatch(*[np.zeros((0, 0))] * 5))  # type: ignore[arg-type]


def test_nobody_has_the_columns_of_the_history() -> None:
    batch = nobody(config(history={"attributes": ["age"], "length": 7}))
    assert (batch.items.shape, batch.attributes.shape, batch.lengths.tolist()) == (
        (1, 7),
        (1, 1),
        [0],
    )
