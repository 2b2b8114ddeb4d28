import numpy as np
import pytest
from replay_cases import day

from predawn.server.replay.pair_asks import Asks, asks_of
from predawn.server.replay.pair_distilled import distilled
from predawn.server.replay.pair_loss import PairLoss, products


def teacher() -> tuple[Asks, PairLoss]:
    trace = day()
    asks = asks_of(trace)
    assert trace.truth is not None
    fresh = products(trace.truth, asks.request, trace.items.astype(np.int64))
    return asks, PairLoss(trace, 0, fresh)


def vectors() -> np.ndarray:
    truth = day().truth
    assert truth is not None
    return truth.user_vectors.astype(np.float32)


def test_a_student_keeps_a_part_and_more_when_it_is_given_the_user() -> None:
    asks, loss = teacher()
    alone = loss.of_logits(distilled(asks, loss.soft_labels, None, 0))["kept"]
    given = loss.of_logits(distilled(asks, loss.soft_labels, vectors(), 0))["kept"]
    assert -0.02 < alone < given < 1.0
    assert given > 0.03


@pytest.mark.parametrize("given", [False, True])
def test_what_comes_later_is_not_known(given: bool) -> None:
    asks, loss = teacher()
    altered = loss.soft_labels.copy()
    altered[10_000:] = 0.5
    known = vectors() if given else None
    one, other = (distilled(asks, labels, known, 0) for labels in (loss.soft_labels, altered))
    assert np.array_equal(one[:10_000], other[:10_000])
    assert not np.array_equal(one[10_500:], other[10_500:])
