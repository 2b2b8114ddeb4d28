"""The ranker: rows stand alone, and unknown things are neutral."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from model_cases import PAIR_RANKER, RANKER, rank_batch, ranker

from predawn.server.models.ranker import (
    RANKER_SIZES,
    Encoding,
    Ranker,
    RankerShape,
    fit_encoding,
    ranker_shape,
)
from predawn.server.request import RankBatch, Source


def rows_of(batch: RankBatch, request: int, rows: slice) -> RankBatch:
    """Some candidates of one request, as a batch of their own."""
    start = int(batch.offsets[request])
    picked = slice(start + rows.start, start + rows.stop)
    return RankBatch(
        user=batch.user[request : request + 1],
        sources=batch.sources[request : request + 1],
        offsets=np.array([0, rows.stop - rows.start]),
        item_hashes=batch.item_hashes[picked],
        item_features=batch.item_features[picked],
        pairs=batch.pairs[picked],
        pair_sources=batch.pair_sources[picked],
    )


@pytest.mark.parametrize("shape", [RANKER, PAIR_RANKER])
def test_a_candidate_scores_the_same_alone_and_in_company_bit_by_bit(shape: RankerShape) -> None:
    parts = ranker(shape=shape)
    model = Ranker(shape, parts.tensors)
    counts = [5, 1, 0, 9, 60]
    batch = rank_batch(counts, parts.items, shape=shape)
    whole = model.score(batch)
    assert whole.shape == (75, 2) and whole.dtype == np.float32
    for request, count in enumerate(counts):
        for row in range(count):
            alone = model.score(rows_of(batch, request, slice(row, row + 1)))
            at = int(batch.offsets[request]) + row
            assert alone.tobytes() == whole[at : at + 1].tobytes()


@pytest.mark.parametrize("source", range(6))
def test_what_a_known_pair_holds_matters_and_what_a_missing_one_holds_does_not(source: int) -> None:
    parts = ranker(shape=PAIR_RANKER)
    model = Ranker(PAIR_RANKER, parts.tensors)
    batch = rank_batch([8], parts.items, shape=PAIR_RANKER)
    batch.pair_sources[:] = Source.DEFAULT, source
    batch.pairs[:] = 1
    before = model.score(batch)
    batch.pairs[:, :16] = np.nan
    assert model.score(batch).tobytes() == before.tobytes()
    batch.pairs[:, 16:] = 2
    assert np.abs(model.score(batch) - before).max() > 1e-4


@pytest.mark.parametrize("source", Source)
def test_the_source_of_a_pair_is_a_feature(source: Source) -> None:
    parts = ranker(shape=PAIR_RANKER)
    batch = rank_batch([8], parts.items, shape=PAIR_RANKER)
    batch.pair_sources[:] = source
    batch.pairs[:] = 1
    before = Ranker(PAIR_RANKER, parts.tensors).score(batch)
    parts.tensors["pair_source"][len(Source) + source] += 1
    assert np.abs(Ranker(PAIR_RANKER, parts.tensors).score(batch) - before).max() > 1e-4


def test_a_ranker_without_a_source_for_last_pairs_takes_them_for_means_of_all() -> None:
    parts = ranker(shape=PAIR_RANKER)
    batch = rank_batch([8], parts.items, shape=PAIR_RANKER)
    before = dict(parts.tensors)
    for name, models in (("source", PAIR_RANKER.user_models), ("pair_source", 2)):
        part = before[name].reshape(models, len(Source), -1)[:, : Source.RECENT]
        before[name] = part.reshape(models * Source.RECENT, -1).copy()
    old, new = Ranker(PAIR_RANKER, before), Ranker(PAIR_RANKER, parts.tensors)
    for source in (Source.DIRECT, Source.DEFAULT, Source.USER_MEAN):
        batch.pair_sources[:] = source
        assert old.score(batch).tobytes() == new.score(batch).tobytes()
    as_mean = old.score(batch)
    batch.pair_sources[:] = Source.RECENT
    assert old.score(batch).tobytes() == as_mean.tobytes()
    before["pair_source"] = before["pair_source"][:-1]
    with pytest.raises(ValueError, match="reshape"):
        Ranker(PAIR_RANKER, before)


def test_scores_are_probabilities_even_at_the_extremes() -> None:
    parts = ranker()
    batch = rank_batch([50], parts.items)
    wild = RankBatch(
        batch.user * 60_000, batch.sources, batch.offsets, batch.item_hashes, batch.item_features
    )
    scores = Ranker(RANKER, parts.tensors).score(wild)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("source", Source)
def test_the_source_of_an_embedding_is_a_feature(source: Source) -> None:
    parts = ranker()
    parts.tensors["source"][source] += 1
    batch = rank_batch([4], parts.items)
    batch.sources[:] = source
    changed = Ranker(RANKER, parts.tensors).score(batch)
    assert np.abs(changed - Ranker(RANKER, ranker().tensors).score(batch)).max() > 1e-4


def test_no_torch_is_imported() -> None:
    program = "import sys, predawn.server.models.ranker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_batch_of_other_dimensions_is_refused() -> None:
    parts = ranker()
    model = Ranker(RANKER, parts.tensors)
    batch = rank_batch([2], parts.items)
    with pytest.raises(ValueError, match=r"63 user values.*expected .64, 2."):
        model.score(
            RankBatch(
                batch.user[:, :63],
                batch.sources,
                batch.offsets,
                batch.item_hashes,
                batch.item_features,
            )
        )


def test_weights_of_another_shape_are_refused() -> None:
    tensors = ranker().tensors
    with pytest.raises(ValueError, match="user weights"):
        Ranker(RANKER, tensors | {"user": tensors["user"][:-1]})
    with pytest.raises(ValueError, match="weights: expected 32 rows, got 31"):
        Ranker(RANKER, tensors | {"out": tensors["out"][:-1]})
    del tensors["out"]
    with pytest.raises(KeyError):
        Ranker(RANKER, tensors)


def test_a_ranker_without_item_features_needs_none() -> None:
    encoding = fit_encoding(np.zeros((10, 0), np.float32), 8)
    assert encoding.encode(np.zeros((3, 0), np.float32)).shape == (3, 0)


def naive_encode(encoding: Encoding, value: float, column: int) -> list[float]:
    if value == 0:
        return [0.0] * encoding.low.shape[1]
    x = np.sign(value) * np.log1p(abs(value))
    bins = zip(encoding.low[column], encoding.width[column], encoding.mean[column], strict=True)
    return [min(max((x - low) / width, 0), 1) - mean for low, width, mean in bins]


def test_the_encoding_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(200, 2)) * 50).astype(np.float32)
    values[::3, 1] = 0
    encoding = fit_encoding(values, 8)
    got = encoding.encode(values).reshape(200, 2, 8)
    for row in range(0, 200, 7):
        for column in range(2):
            expected = naive_encode(encoding, float(values[row, column]), column)
            np.testing.assert_allclose(got[row, column], expected, atol=1e-5)
    present = got[values[:, 1] != 0, 1]
    np.testing.assert_allclose(present.mean(axis=0), 0, atol=1e-5)


def test_a_constant_or_absent_feature_is_harmless() -> None:
    values = np.array([[5, 0]] * 20, np.float32)
    assert np.isfinite(fit_encoding(values, 4).encode(values)).all()


@pytest.mark.parametrize("shape", [RANKER, PAIR_RANKER])
def test_the_shape_survives_json(shape: RankerShape) -> None:
    assert ranker_shape(json.loads(json.dumps(shape.describe()))) == shape


def test_a_shape_from_before_pairs_is_one_without_pairs() -> None:
    later = ("crosses", "mlp_2", "pair", "pair_models", "pair_dims")
    described = {key: value for key, value in RANKER.describe().items() if key not in later}
    assert ranker_shape(described) == RANKER


@pytest.mark.parametrize(
    "pairs",
    [
        {"pair": 8},
        {"pair_models": 1},
        {"pair": 9, "pair_models": 2},
        {"pair": 9, "pair_models": 2, "pair_dims": (8, 2)},
        {"pair": 8, "pair_models": 1, "pair_dims": (4, 4)},
        {"pair": 8, "pair_models": 2, "pair_dims": (8, 0)},
    ],
)
def test_dims_of_pairs_that_do_not_add_up_are_refused(pairs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pair models of dims"):
        RankerShape(("click",), (), 64, **pairs)


def test_pair_models_of_one_dim_need_not_say_it_each() -> None:
    assert RankerShape(("click",), (), 64, pair=48, pair_models=3).dims_of_pairs() == (16, 16, 16)


@pytest.mark.parametrize("size", RANKER_SIZES)
def test_every_size_has_widths_of_its_own(size: str) -> None:
    shape = RankerShape.of_size(size, ("click",), ("price",), user=64, embedding=32)
    same = RankerShape.of_size("small", ("click",), ("price",), user=64, embedding=32)
    assert (shape == same) == (size == "small")
    assert same == RankerShape(("click",), ("price",), 64)


def test_pairs_of_another_shape_are_refused() -> None:
    parts = ranker(shape=PAIR_RANKER)
    batch = rank_batch([2], parts.items)
    with pytest.raises(ValueError, match=r"got pairs .2, 0. and their sources .2, 0., expected 2"):
        Ranker(PAIR_RANKER, parts.tensors).score(batch)
