"""What a device serves (kernels/stabilise_quant_scatter.py) is what the store would serve."""

import numpy as np
import pytest
import torch

from predawn.kernels.stabilise_quant_scatter import (
    empty_slots,
    served_rows,
    stabilise_quant_scatter,
)
from predawn.server import stabilise

INT8, HALF, FULL = torch.int8, torch.float16, torch.float32


def _put(table, rows: torch.Tensor, slots: list[int], first: int = 0, **how) -> None:
    """Rows with sequence numbers from `first` on."""
    sequence = torch.arange(first, first + len(slots))
    stabilise_quant_scatter(rows, torch.tensor(slots), sequence, table, **how)


@pytest.mark.parametrize("dtype", ["int8", "fp16"])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_serves_what_the_store_would(parts: int, dtype: str) -> None:
    """Four batches, some rows absent at first: as server/stabilise.py has it for a host's store."""
    dice = np.random.default_rng(5)
    kept = np.full((6, (parts - 1) * 8), np.nan, dtype=np.float32)
    table = empty_slots(
        6, 8, dtype=INT8 if dtype == "int8" else HALF, kept=parts - 1, kept_dtype=FULL
    )
    for number in range(4):
        slots = [0, 2, 5] if number else [0, 1]
        new = dice.normal(size=(len(slots), 8)).astype(np.float32)
        whole = stabilise.average(new, kept[slots])
        kept[slots] = whole[:, 8:]
        _put(table, torch.from_numpy(new), slots, number * 10)
        expected = stabilise.compress(whole[:, :8].copy(), dtype)
        found = served_rows(table, torch.tensor(slots)).numpy()
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert served_rows(table, torch.tensor([3, 4])).isnan().all()


def test_exponential_mean_is_the_one_of_the_store() -> None:
    table = empty_slots(1, 2, dtype=HALF)
    _put(table, torch.tensor([[4.0, 8.0]]), [0], weight=0.25)
    assert served_rows(table, torch.tensor([0])).tolist() == [[4.0, 8.0]]
    _put(table, torch.zeros(1, 2), [0], 1, weight=0.25)
    raw, before = np.zeros((1, 2), np.float32), np.array([[4, 8]], np.float32)
    expected = stabilise.average_exponentially(raw, before, 0.25)
    assert served_rows(table, torch.tensor([0])).tolist() == expected.tolist() == [[3.0, 6.0]]
