"""stabilise_quant_scatter: the reference is the formula, and the later row wins."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.kernels.stabilise_quant_scatter import (
    Slots,
    empty_slots,
    served_rows,
    stabilise_quant_scatter,
)

INT8, HALF, FULL = torch.int8, torch.float16, torch.float32
NAN = torch.nan


def _rows(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)


def _put(table: Slots, rows: torch.Tensor, slots: list[int], first: int = 0, **how) -> object:
    """Rows with sequence numbers from `first` on."""
    sequence = torch.arange(first, first + len(slots))
    return stabilise_quant_scatter(rows, torch.tensor(slots), sequence, table, **how)


def test_exponential_mean_starts_with_the_first_row() -> None:
    table = empty_slots(1, 2, dtype=HALF)
    _put(table, _rows([4.0, 8.0]), [0], weight=0.25)
    assert served_rows(table, torch.tensor([0])).tolist() == [[4.0, 8.0]]
    _put(table, _rows([0.0, 0.0]), [0], 1, weight=0.25)
    assert served_rows(table, torch.tensor([0])).tolist() == [[3.0, 6.0]]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(-1, 4), st.integers(0, 99)), max_size=12, unique_by=lambda row: row[1]
    ),
    cut=st.integers(0, 12),
)
def test_largest_sequence_number_wins_however_batches_are_cut(
    rows: list[tuple[int, int]], cut: int
) -> None:
    table = empty_slots(4, 1, dtype=HALF)
    for part in (rows[:cut], rows[cut:]):
        slots = torch.tensor([slot for slot, _ in part], dtype=torch.int64)
        sequence = torch.tensor([number for _, number in part], dtype=torch.int64)
        stabilise_quant_scatter(sequence[:, None].float(), slots, sequence, table)
    for slot in range(4):
        last = max((number for to, number in rows if to == slot), default=-1)
        assert int(table.latest[slot]) == last
        served = served_rows(table, torch.tensor([slot])).item()
        assert served == last or (last == -1 and served != served)


def test_only_the_winner_is_averaged() -> None:
    table = empty_slots(1, 1, dtype=HALF, kept=2)
    _put(table, _rows([100.0], [2.0]), [0, 0])
    _put(table, _rows([4.0]), [0], 2)
    assert served_rows(table, torch.tensor([0])).tolist() == [[3.0]]
    assert table.kept is not None and table.kept[0, :, 0].tolist() == [4.0, 2.0]


def test_norm_is_clipped_only_where_it_is_too_large() -> None:
    table = empty_slots(3, 2, dtype=HALF)
    _put(table, _rows([3.0, 4.0], [0.3, 0.4], [0.0, 0.0]), [0, 1, 2], norm_max=2.5)
    expected = _rows([1.5, 2.0], [0.3, 0.4], [0.0, 0.0]).half().float()
    assert torch.equal(served_rows(table, torch.arange(3)), expected)


def test_drift_is_the_cosine_to_what_was_served() -> None:
    table = empty_slots(4, 2, dtype=HALF)
    _put(table, _rows([1.0, 0.0], [1.0, 1.0], [0.0, 0.0]), [0, 1, 2])
    new = _rows([5.0, 0.0], [1.0, -1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 9.0])
    drift = _put(table, new, [0, 1, 2, 3, 9, 0], 3, drift=True)
    assert isinstance(drift, torch.Tensor)
    assert drift[[1, 5]].tolist() == [0.0, 0.0]
    assert drift[[0, 2, 3, 4]].isnan().all()  # lost, all zero before, nothing before, no slot
    assert _put(table, new[:1], [0], 20) is None


@pytest.mark.parametrize("dtype", [INT8, HALF])
@pytest.mark.parametrize("wrong", [NAN, torch.inf])
def test_row_with_nan_or_infinity_leaves_nothing(dtype: torch.dtype, wrong: float) -> None:
    table = empty_slots(2, 2, dtype=dtype)
    _put(table, _rows([1.0, 2.0], [1.0, 2.0]), [0, 1])
    _put(table, _rows([1.0, wrong]), [0], 2)
    assert served_rows(table, torch.arange(2)).isnan().tolist() == [[True] * 2, [False] * 2]


def test_extremes_of_the_stored_types() -> None:
    rows = _rows([1e9, -1e9], [0.0, -0.0], [1e-44, 0.0], [3e38, -3.4e38])
    half, int8 = empty_slots(4, 2, dtype=HALF), empty_slots(4, 2)
    _put(half, rows, [0, 1, 2, 3])
    assert half.served.tolist()[0] == [65504.0, -65504.0]
    _put(int8, rows, [0, 1, 2, 3])
    assert int8.served.tolist() == [[127, -127], [0, 0], [0, 0], [112, -127]]
    assert torch.isfinite(served_rows(int8, torch.arange(4))).all()


def test_steps_are_rounded_to_even_at_halves() -> None:
    table = empty_slots(1, 4)
    _put(table, _rows([127.0, 0.5, 1.5, -2.5]), [0])
    assert table.served.tolist() == [[127, 0, 2, -2]]


BAD = [
    ({"new": torch.zeros(2, 3)}, r"needs new \[B, d\] and served \[S, d\], got \(2, 3\)"),
    ({"new": torch.zeros(2, 4).int()}, "new is torch.int32, needs a float dtype"),
    ({"slots": torch.zeros(3).long()}, r"slots is torch.int64 \(3,\), needs int64 \[2\]"),
    ({"sequence": torch.zeros(2).int()}, r"sequence is torch.int32 \(2,\), needs int64 \[2\]"),
    ({"weight": 0.0}, "weight 0.0, needs 0 < weight <= 1"),
    ({"weight": 0.5}, "an exponential mean keeps no raw vectors"),
    ({"norm_max": 0.0}, "norm_max 0.0, needs more than 0"),
]
BAD_TABLES = [
    ({"scale": None}, "served is torch.int8, needs torch.float16 without a scale"),
    ({"served": torch.zeros(5, 4).half()}, "needs torch.int8 with a scale"),
    ({"scale": torch.zeros(4)}, r"scale is torch.float32 \(4,\), needs float32 \[5\]"),
    ({"latest": torch.zeros(5)}, r"latest is torch.float32 \(5,\), needs int64 \[5\]"),
    ({"kept": torch.zeros(5, 4)}, r"kept is \(5, 4\), needs \[5, K, 4\]"),
    ({"kept": torch.zeros(5, 2, 4).int()}, "kept is torch.int32, needs a float dtype"),
    ({"served": torch.zeros(4, 5, dtype=INT8).t()}, "the table must be contiguous"),
]


@pytest.mark.parametrize(("change", "why"), BAD)
def test_wrong_argument_is_named(change: dict[str, object], why: str) -> None:
    ids = torch.arange(2)
    whole = {"new": torch.zeros(2, 4), "slots": ids, "sequence": ids}
    with pytest.raises(ValueError, match=f"stabilise_quant_scatter.*{why}"):
        stabilise_quant_scatter(**(whole | {"table": empty_slots(5, 4, kept=2)} | change))


@pytest.mark.parametrize(("change", "why"), BAD_TABLES)
def test_wrong_table_is_named(change: dict[str, object], why: str) -> None:
    table = replace(empty_slots(5, 4, kept=2), **change)
    with pytest.raises(ValueError, match=f"stabilise_quant_scatter.*{why}"):
        _put(table, torch.zeros(2, 4), [0, 1])
