"""What a training is fixed to before its first step."""

import numpy as np
import pytest
from model_cases import small_trace

from predawn.server.errors import ConfigError
from predawn.server.models.training_resume import Start
from predawn.server.models.training_run import Run

TRACE = small_trace(400)


def test_rows_learned_from_end_where_held_out_ones_begin() -> None:
    run = Run(TRACE, 0.2, 0, None, Start(size="tiny"))
    first, stop = run.learned_rows()
    assert (first, stop) == (0, run.split.row_cut)
    assert int(TRACE.offsets[run.held_out()[0]]) == stop
    assert run.newest()[-1] == run.split.cut - 1


def test_max_rows_takes_the_latest_and_thins_out_the_held_out() -> None:
    run = Run(TRACE, 0.2, 0, 60, Start(size="tiny"))
    first, stop = run.learned_rows()
    assert 57 <= stop - first <= 63
    assert run.rows <= 125 and (np.diff(run.held_out()) > 1).all()


def test_a_ranker_reads_the_pairs_it_is_told_of() -> None:
    run = Run(TRACE, 0.2, 0, None, Start(size="tiny"))
    assert run.ranker_shape.pair == 0
    run.read_pairs(64)
    assert (run.ranker_shape.pair, run.ranker_shape.pair_models) == (64, 1)
    assert run.examples().pairs is None


def test_what_cannot_be_learned_from_is_named() -> None:
    with pytest.raises(ConfigError, match="holdout"):
        Run(TRACE, 1.5, 0, None, Start())
    with pytest.raises(ConfigError, match="max_rows"):
        Run(TRACE, 0.2, 0, 0, Start())
