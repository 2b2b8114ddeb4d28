"""Examples are what was served; item statistics come from rows before each row alone."""

from pathlib import Path

import numpy as np
from training_log_cases import LAYOUT, outcomes, read_log, served, write_log

from predawn.server.models.item_table import SMOOTHING, count_items
from predawn.server.models.ranker import RankerShape, fit_encoding
from predawn.server.models.ranker_training import fit_standard
from predawn.server.models.training_log_examples import log_examples, statistics_before

SEEN = served(60, exact=True)
TRACE = outcomes(SEEN)
CLICKS = TRACE.labels["click"][:, None]


def test_statistics_count_the_rows_of_the_item_from_before_alone(tmp_path: Path) -> None:
    rows = read_log(write_log(tmp_path, SEEN))
    stop = int(TRACE.offsets[50])
    table = count_items(TRACE.items[:stop], CLICKS[:stop])
    found = statistics_before(rows, TRACE, CLICKS[:stop], table)
    times = np.repeat(TRACE.t_ms, np.diff(TRACE.offsets))[:stop]
    at = np.repeat(rows.t_ms, rows.counts) - 1_000
    for row in range(len(rows.items)):
        own = (TRACE.items[:stop] == rows.items[row]) & (times < at[row])
        count, total = int(own.sum()), float(CLICKS[:stop, 0][own].sum())
        mean = (total + SMOOTHING * table.prior[0]) / (count + SMOOTHING) - table.prior[0]
        np.testing.assert_allclose(found[row, 0], mean, atol=1e-5)
        np.testing.assert_allclose(found[row, 2:], [np.log1p(count), count > 0], atol=1e-6)


def test_what_was_served_is_what_is_learned_from(tmp_path: Path) -> None:
    rows = read_log(write_log(tmp_path, served(60)))
    shape = RankerShape(("click",), ("price",), 40, pair=16, pair_models=1, embedding_rows=64)
    statistics = np.zeros((len(rows.items), 4), np.float32)
    encoding = fit_encoding(rows.item_features, shape.bins)
    labels = np.full((len(rows.items), 1), np.nan, np.float32)
    made = log_examples(rows, labels, statistics, shape, encoding, fit_standard(statistics))
    assert made.pairs is not None and made.pair_sources is not None
    assert (made.pairs.numpy() == rows.pairs).all() and (made.user.numpy() == rows.user).all()
    assert (made.pair_sources.numpy() == rows.pair_sources).all()
    at, position = made.rows_of(np.array([3, 1]))
    assert at.tolist() == [*range(15, 20), *range(5, 10)]
    assert position.tolist() == [0] * 5 + [1] * 5


def test_a_ranker_without_pairs_has_none(tmp_path: Path) -> None:
    rows = read_log(write_log(tmp_path, served(4)))
    shape = RankerShape(("click",), ("price",), 40, embedding_rows=64)
    statistics = np.zeros((len(rows.items), 4), np.float32)
    encoding = fit_encoding(rows.item_features, shape.bins)
    made = log_examples(rows, statistics[:, :1], statistics, shape, encoding,
                        fit_standard(statistics))  # fmt: skip
    assert made.pairs is None and made.pair_sources is None
    assert LAYOUT.pair_dims == {"fm": 16}
