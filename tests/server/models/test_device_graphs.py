"""One graph a bucket, captured beforehand; rows of a batch come back as without graphs."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from device_cases import Host
from torch import Tensor

from predawn.server.models.device import Cuda
from predawn.server.models.device_graphs import GraphedRows
from predawn.server.models.device_staging import Column
from predawn.server.request import F32

TABLE = torch.arange(400, dtype=torch.float32).view(200, 2)
COLUMNS = (Column("ids", (3,), torch.int64), Column("weight", (), torch.float32))


def pooled(inputs: Mapping[str, Tensor]) -> Tensor:
    """float32 [rows, 2]: rows of the table, weighed. An id outside it would raise."""
    table = TABLE.to(inputs["ids"].device)
    return table[inputs["ids"]].sum(dim=1) * inputs["weight"][:, None]


def batch(rows: int, seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng([rows, seed])
    return {
        "ids": torch.from_numpy(rng.integers(0, 200, (rows, 3))),
        "weight": torch.from_numpy(rng.normal(size=rows)),  # float64, as features come
    }


def expected(arrays: dict[str, Tensor]) -> F32:
    out: F32 = pooled({**arrays, "weight": arrays["weight"].float()}).numpy()
    return out


def test_all_buckets_up_to_the_limit_are_captured_before_the_first_batch() -> None:
    host = Host()
    graphed = GraphedRows(host, pooled, COLUMNS, 2, rows_limit=130)
    assert host.captures == 4 and graphed.rows_limit == 192
    for rows in (1, 63, 64, 65, 130, 192):
        np.testing.assert_array_equal(graphed.run(batch(rows)), expected(batch(rows)))
    assert host.captures == 4


def test_what_has_no_graph_is_told_beforehand() -> None:
    graphed = GraphedRows(Host(), pooled, COLUMNS, 2, rows_limit=64)
    assert graphed.fits(batch(1)) and graphed.fits(batch(64))
    assert not graphed.fits(batch(65)) and not graphed.fits(batch(0))
    wider = {**batch(3), "ids": torch.zeros((3, 4), dtype=torch.int64)}
    assert not graphed.fits(wider)


def test_a_small_batch_after_a_large_one_is_not_touched_by_what_was_there() -> None:
    graphed = GraphedRows(Host(), pooled, COLUMNS, 2, rows_limit=64)
    first = graphed.run(batch(64))
    small = graphed.run(batch(2, seed=1))
    np.testing.assert_array_equal(small, expected(batch(2, seed=1)))
    np.testing.assert_array_equal(first, expected(batch(64)))  # and is a copy of its own


def test_a_call_stages_launches_once_and_waits_for_its_own_event_alone() -> None:
    host = Host(lag=1)
    graphed = GraphedRows(host, pooled, COLUMNS, 2, rows_limit=64)
    host.log.clear()
    for _ in range(6):  # more than there are slabs
        graphed.run(batch(5))
    once = ["online", "record", "launch", "record", "end", "wait"]
    assert host.log == once * 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graphs_on_a_device_give_what_the_host_gives() -> None:
    cuda = Cuda(torch.device("cuda"))
    table = TABLE.cuda()

    def on_device(inputs: Mapping[str, Tensor]) -> Tensor:
        return table[inputs["ids"]].sum(dim=1) * inputs["weight"][:, None]

    graphed = GraphedRows(cuda, on_device, COLUMNS, 2, rows_limit=200)
    for rows in (1, 64, 65, 200, 3):
        np.testing.assert_allclose(graphed.run(batch(rows)), expected(batch(rows)), rtol=1e-6)
