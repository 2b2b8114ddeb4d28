"""Background slices: one in flight, in their own stream, never in the way."""

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from device_cases import Host
from engine_cases import Sums, histories, items

from predawn.server.engine_jobs import pair_batch
from predawn.server.models.contract import SlicedPairModel
from predawn.server.models.device import Cuda
from predawn.server.models.device_slices import BackgroundPairs, paced

BATCH = pair_batch(histories, [items(10, 2), items(20, 1)])


def drained(slices: Generator[None, None, Any]) -> tuple[Any, int]:
    """The result and how often it gave way."""
    for count in range(1000):
        try:
            next(slices)
        except StopIteration as ended:
            return ended.value, count
    raise AssertionError("never ends")


def test_the_next_slice_begins_when_the_one_before_is_done_and_not_sooner() -> None:
    host = Host(lag=3)

    def slices() -> Generator[None, None, str]:
        for piece in range(2):
            host.log.append(f"slice {piece}")
            yield
        return "rows"

    pauses: list[int] = []
    result, ways = drained(paced(slices(), host, lambda: pauses.append(1)))
    assert result == "rows"
    assert host.log == [
        *("background", "slice 0", "record", "end"),
        *("background", "slice 1", "record", "end"),
        "background",
    ]
    assert len(pauses) == 2 * 2  # the third query says done
    assert ways == 2 + len(pauses)


def test_a_model_in_the_background_computes_the_same() -> None:
    host, model = Host(), Sums()
    behind = BackgroundPairs(model, host)
    assert isinstance(behind, SlicedPairModel) and behind.dim == model.dim
    assert behind.kept() == model.kept()
    whole = model.embed_pairs(BATCH)
    np.testing.assert_array_equal(behind.embed_pairs(BATCH), whole)
    rows, ways = drained(behind.pair_slices(BATCH))
    np.testing.assert_array_equal(rows, whole)
    assert ways == 2 and host.log.count("background") == 1 + 3


def test_what_is_given_up_half_way_is_closed() -> None:
    closed: list[int] = []

    class Closing(Sums):
        def pair_slices(self, batch: Any) -> Any:
            try:
                yield
                return None
            finally:
                closed.append(1)

    slices = BackgroundPairs(Closing(), Host()).pair_slices(BATCH)
    next(slices)
    slices.close()
    assert closed == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_slices_on_a_device_are_waited_for_by_their_events() -> None:
    x = torch.randn((1024, 1024), device="cuda")

    def slices() -> Generator[None, None, float]:
        y = x
        for _ in range(4):
            y = (y @ x).clamp(-1, 1)
            yield
        return float(y.cpu().abs().max())

    result, ways = drained(paced(slices(), Cuda(torch.device("cuda")), lambda: None))
    assert 0 < result <= 1 and ways >= 4
