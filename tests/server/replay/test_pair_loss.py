import numpy as np
import pytest
from replay_cases import day, visits

from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_loss import PairLoss, Served, fitted_weights, products
from predawn.server.request import Source
from predawn.server.traces import Trace, Truth


def truth_of(trace: Trace) -> Truth:
    assert trace.truth is not None
    return trace.truth


def judged(trace: Trace) -> tuple[PairLoss, np.ndarray]:
    request = asks_of(trace).request
    fresh = products(truth_of(trace), request, trace.items.astype(np.int64))
    return PairLoss(trace, 0, fresh), fresh


def all_from(source: Source, trace: Trace) -> np.ndarray:
    return np.full(trace.rows, source, dtype=np.uint8)


def test_products_are_of_the_user_then_and_the_item_value_by_value() -> None:
    truth = truth_of(day())
    found = products(truth, np.array([3, -1]), np.array([2, 2]))
    expected = truth.user_vectors[3].astype(np.float32) * truth.item_vectors[2]
    assert found[0] == pytest.approx(expected, abs=1e-3) and not found[1].any()


def test_fresh_embeddings_keep_all_of_the_gain_and_defaults_none() -> None:
    trace = day()
    loss, fresh = judged(trace)
    found = loss.of(Served(fresh, all_from(Source.DIRECT, trace)))
    assert found["kept"] == pytest.approx(1.0)
    assert found["fm"] == found["served"] < 0.85 < 0.99 < found["no_fm"] < 1.01
    nothing = loss.of(Served(np.zeros_like(fresh), all_from(Source.DEFAULT, trace)))
    assert nothing["kept"] == pytest.approx(0.0, abs=1e-3)


def test_each_source_keeps_its_own_share() -> None:
    trace = day()
    loss, fresh = judged(trace)
    missed = np.random.default_rng(1).random(trace.rows) < 0.4
    rows = np.where(missed[:, None], 0, fresh).astype(np.float16)
    sources = np.where(missed, Source.DEFAULT, Source.DIRECT).astype(np.uint8)
    found = loss.of(Served(rows, sources))
    assert set(found["levels"]) == {"direct", "default"}
    assert found["levels"]["direct"]["kept"] == pytest.approx(1.0, abs=0.03)
    assert found["levels"]["default"]["kept"] == pytest.approx(0.0, abs=0.03)
    assert found["kept"] == pytest.approx(found["levels"]["direct"]["share"], abs=0.05)


def test_only_the_rows_named_count() -> None:
    trace = day()
    _, fresh = judged(trace)
    only = np.random.default_rng(1).random(trace.rows) < 0.6
    strangers = fresh[np.random.default_rng(2).permutation(len(fresh))]
    rows = np.where(only[:, None], fresh, strangers)
    found = PairLoss(trace, 0, fresh, only).of(Served(rows, all_from(Source.DIRECT, trace)))
    assert found["kept"] == pytest.approx(1.0)


def test_someone_elses_embeddings_keep_nothing() -> None:
    trace = day()
    loss, fresh = judged(trace)
    strangers = fresh[np.random.default_rng(1).permutation(len(fresh))]
    assert abs(loss.of(Served(strangers, all_from(Source.DIRECT, trace)))["kept"]) < 0.05


def test_a_ranker_of_its_own_is_put_to_scale_first() -> None:
    trace = day()
    loss, fresh = judged(trace)
    logits = (7 * fresh.astype(np.float32).sum(axis=1) + 100).astype(np.float32)
    assert loss.of_logits(logits)["kept"] == pytest.approx(1.0, abs=0.02)


def test_without_clicks_nothing_is_gained() -> None:
    trace = visits([(t, 1) for t in range(20)])
    loss = PairLoss(trace, 0, np.ones((20, 1), dtype=np.float16))
    found = loss.of(Served(np.ones((20, 1), dtype=np.float16), all_from(Source.DIRECT, trace)))
    assert found["kept"] is None


def test_the_fit_finds_the_weights_that_made_the_clicks() -> None:
    rng = np.random.default_rng(3)
    columns = rng.standard_normal((60_000, 2))
    chance = 1 / (1 + np.exp(-(columns @ [0.8, 0.0] - 2.0)))
    found = fitted_weights(columns, rng.random(60_000) < chance, np.zeros(1))
    assert found == pytest.approx([-2.0, 0.8, 0.0], abs=0.05)
