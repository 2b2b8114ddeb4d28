"""Rivals that compute something else are refused; rates follow from times."""

import numpy as np
import pytest
import torch

from predawn.bench.harness import BenchError, Stamp
from predawn.bench.models_cases import Product, agree, in_turn, rates

MARK = Stamp("models", "abc", "cpu x2")


def test_rivals_may_differ_by_rounding_and_by_nothing_else() -> None:
    ours = np.array([1.0, np.nan, -2.0])
    agree("case", "peer", ours, ours + 1e-7, 1e-6)
    for theirs in (ours + 1e-3, ours[:2], np.nan_to_num(ours)):
        with pytest.raises(BenchError, match="case: peer"):
            agree("case", "peer", ours, theirs, 1e-6)


def test_a_rate_is_how_many_fit_into_a_second() -> None:
    times = [
        MARK.row("a", "time", 250.0, "ns/pair", limit=100.0, peer="x", ratio=2.0, n=3),
        MARK.row("a", "time_spread", 0.1, "share"),
    ]
    (rate,) = rates(MARK, times, "pairs")
    assert (rate.metric, rate.value, rate.limit) == ("pairs_a_second", 4e6, 1e7)
    assert (rate.better, rate.ratio, rate.share_of_limit) == ("higher", 2.0, 0.4)


def test_calls_take_turns() -> None:
    call = in_turn([lambda: 1, lambda: 2])
    assert [call() for _ in range(5)] == [1, 2, 1, 2, 1]


def test_a_product_is_the_limit_of_as_much_work_as_its_flop_are_enough_for() -> None:
    product = Product(smoke=True)
    limit = product.subject(64 * 64)
    assert limit.work == 128 and limit.call is product
    out = limit.call()
    assert isinstance(out, torch.Tensor) and out.shape == (64, 64)
    assert product.subject(10**9).work == 1
