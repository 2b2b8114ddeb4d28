"""The split of a log, and what a new ranker is made of."""

from pathlib import Path

import numpy as np
import pytest
from training_log_cases import LAYOUT, outcomes, read_log, served, write_log

from predawn.server.errors import ConfigError
from predawn.server.models.ranker import Ranker
from predawn.server.models.ranker_training import ranker_tensors
from predawn.server.models.training_fit import FitSettings
from predawn.server.models.training_log_labels import Join
from predawn.server.models.training_log_run import LogPlan, LogRun
from predawn.server.models.training_resume import Start
from predawn.server.served_log_columns import Layout, RankerInputs

SEEN = served(50, exact=True)
TRACE = outcomes(SEEN)


def run_of(directory: Path, holdout: float = 0.2, layout: Layout = LAYOUT) -> LogRun:
    rows = read_log(write_log(directory, SEEN))
    return LogRun(rows, TRACE, layout, "ctr", LogPlan(holdout, 0, Join(10**6), Start("tiny")))


def test_nothing_is_counted_from_the_held_out_time_on(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    assert run.table.counts.sum() == 40 * 5
    assert (run.labels[:, 0] == TRACE.labels["click"]).all()
    assert run_of(tmp_path / "all", holdout=0).table.counts.sum() == 50 * 5


def test_a_new_ranker_has_the_log_s_inputs(tmp_path: Path) -> None:
    shape = run_of(tmp_path).shape
    assert (shape.user, shape.user_models, shape.embedding) == (40, 1, 32)
    assert (shape.pair, shape.pair_models, shape.dims_of_pairs()) == (16, 1, (16,))
    assert (shape.tasks, shape.item_features) == (("click",), ("price",))


def test_a_user_embedding_may_be_narrow(tmp_path: Path) -> None:
    narrow = served(50, exact=True)
    for each in narrow:
        each.reply.users["sum"].row = each.reply.users["sum"].row[:3].copy()
    layout = Layout(LAYOUT.rankers, {"sum": 3}, LAYOUT.pair_dims, "fp32")
    rows = read_log(write_log(tmp_path, narrow, layout))
    run = LogRun(rows, TRACE, layout, "ctr", LogPlan(0.2, 0, Join(10**6), Start("tiny")))
    net = run.trained(FitSettings(epochs=1), lambda share: None)
    ranker = Ranker(run.shape, ranker_tensors(net, run.table, run.encoding, run.standard))
    assert np.isfinite(ranker.score(rows.batch())).all()


def test_without_rows_to_learn_from_it_says_so(tmp_path: Path) -> None:
    rows = read_log(write_log(tmp_path, SEEN)).take(np.arange(1))
    with pytest.raises(ConfigError, match="none is left to learn from"):
        LogRun(rows, TRACE, LAYOUT, "ctr", LogPlan(0.5, 0, Join(1), Start("tiny")))


def test_inputs_of_the_log_are_named_as_they_are(tmp_path: Path) -> None:
    described = run_of(tmp_path).describe()
    assert described["rows"] == 250 and described["size"] == "tiny"
    assert RankerInputs(("sum",), ("fm",), ("click",), ("price",)) == LAYOUT.rankers["ctr"]
