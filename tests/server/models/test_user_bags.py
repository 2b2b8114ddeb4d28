"""Tables as they serve: sums near those of the trained rows, and nothing else is taken for one."""

import pytest
import torch
from torch import Tensor

from predawn.kernels.bag_pool import bag_pool_reference
from predawn.server.models.user_bags import (
    StoredBags,
    TableDtype,
    dequantised,
    pooled_natively,
    stored_bags,
    table_rows,
)

TABLES, ROWS, WIDTH, BAG = 3, 7, 16, 4


def weight(seed: int = 0) -> Tensor:
    rows = torch.randn((1 + TABLES * ROWS, WIDTH), generator=torch.Generator().manual_seed(seed))
    rows[0] = 0
    return rows


def slots(users: int = 50) -> Tensor:
    """Full, half full and empty bags."""
    draw = torch.Generator().manual_seed(1)
    row = torch.randint(0, ROWS, (users, TABLES, BAG), generator=draw)
    there = torch.rand((users, TABLES, BAG), generator=draw) < 0.6
    there[0] = False
    return torch.where(there, 1 + torch.arange(TABLES)[:, None] * ROWS + row, 0)


@pytest.mark.parametrize(("dtype", "error"), [("fp32", 0.0), ("fp16", 1e-3), ("int8", 0.03)])
def test_sums_are_those_of_the_trained_rows(dtype: TableDtype, error: float) -> None:
    trained = weight()
    expected = torch.nn.functional.embedding(slots(), trained.double()).sum(dim=2)
    got = stored_bags(trained, TABLES, dtype).pooled(slots(), torch.float64)
    assert got.dtype == torch.float64 and got.shape == (50, TABLES, WIDTH)
    assert float((got - expected).abs().max()) <= error * float(expected.abs().max())
    assert not got[0].any() and got[1:].any()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_a_cuda_device_s_way_gives_the_same_sums(
    dtype: TableDtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's contract (its reference computes here) fed as on a device."""
    bags = stored_bags(weight(), TABLES, dtype)
    expected = bags.pooled(slots(), torch.float32)
    calls: list[tuple[Tensor, ...]] = []

    def reference(
        rows: Tensor, first_row: Tensor, ids: Tensor, offsets: Tensor, *, scale: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        calls.append((rows, first_row, ids, offsets))
        return bag_pool_reference(rows, first_row, ids, offsets, scale=scale)

    monkeypatch.setattr("predawn.server.models.user_bags.bag_pool", reference)
    got = bags.pooled_by_kernel(slots()).float()
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3)
    assert len(calls) == 1 and calls[0][2].shape == (50 * TABLES * BAG,)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_native_sums_are_torch_s(dtype: TableDtype) -> None:
    bags = stored_bags(weight(), TABLES, dtype)
    got, expected = (bags.pooled(slots(), each) for each in (torch.float32, torch.float64))
    assert got.dtype == torch.float32 and got.shape == expected.shape
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.rand(slots().shape, generator=torch.Generator().manual_seed(2))
    weighted = pooled_natively(bags.rows, slots(), bags.scale, weights)
    rows = dequantised(bags.rows, bags.scale)[slots()]
    torch.testing.assert_close(weighted, (rows * weights[..., None]).sum(2), rtol=1e-5, atol=1e-5)
    strided = slots().transpose(0, 1)
    torch.testing.assert_close(pooled_natively(bags.rows, strided, bags.scale), got.transpose(0, 1))


def test_int8_rows_go_back_to_within_half_a_step() -> None:
    rows, scale = table_rows(weight(), "int8")
    assert scale is not None and rows.dtype == torch.int8
    assert int(rows[1:].abs().amax(dim=1).min()) == 127
    off = (dequantised(rows, scale) - weight()).abs()
    assert bool((off <= scale[:, None] * 0.5001).all())
    half, none = table_rows(weight(), "fp16")
    assert none is None
    torch.testing.assert_close(dequantised(half, None), weight(), rtol=1e-3, atol=1e-4)


def test_float32_tables_are_not_copied() -> None:
    trained = weight()
    assert stored_bags(trained, TABLES, "fp32").rows.data_ptr() == trained.data_ptr()


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        StoredBags(weight(), None, 5)
    with pytest.raises(RuntimeError, match="scale"):
        StoredBags(weight().to(torch.int8), None, TABLES)
    with pytest.raises(RuntimeError, match="scale"):
        StoredBags(weight(), torch.ones(len(weight())), TABLES)
