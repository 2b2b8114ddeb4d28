"""bag_pool: the reference is the formula, and a bad id can only be counted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.kernels.bag_pool import bag_pool, bag_pool_reference

Bags = list[list[int]]


def _flat(bags: Bags) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([id for bag in bags for id in bag], dtype=torch.int64)
    lengths = torch.tensor([0, *(len(bag) for bag in bags)])
    return ids, lengths.cumsum(0)


def _naive(
    rows: list[list[float]], first: list[int], bags: Bags, mean: bool
) -> tuple[list[list[float]], int]:
    """Lists and loops: the twin of the reference."""
    out, bad = [], 0
    for number, bag in enumerate(bags):
        table = number % (len(first) - 1)
        size = first[table + 1] - first[table]
        good = [id for id in bag if 0 <= id < size]
        bad += len(bag) - len(good)
        total = [sum(rows[first[table] + id][d] for id in good) for d in range(len(rows[0]))]
        out.append([value / max(1, len(good)) if mean else value for value in total])
    return out, bad


@settings(max_examples=60, deadline=None)
@given(
    users=st.lists(
        st.tuples(*[st.lists(st.integers(-2, 6), max_size=5) for _ in range(3)]), max_size=4
    ),
    mean=st.booleans(),
)
def test_reference_equals_its_naive_twin(users: list[tuple[list[int], ...]], mean: bool) -> None:
    first = [0, 4, 4, 9]  # the middle table is empty
    rows = torch.arange(27, dtype=torch.float64).view(9, 3) ** 1.5
    bags = [bag for user in users for bag in user]
    out, bad = bag_pool_reference(rows, torch.tensor(first), *_flat(bags), mean)
    expected, expected_bad = _naive(rows.tolist(), first, bags, mean)
    assert out.shape == (len(users), 3, 3)
    assert torch.allclose(out.view(-1, 3), torch.tensor(expected).view(-1, 3).double())
    assert int(bad) == expected_bad


@settings(max_examples=40, deadline=None)
@given(
    users=st.lists(
        st.tuples(*[st.lists(st.integers(-2, 6), max_size=5) for _ in range(2)]), max_size=4
    ),
    mean=st.booleans(),
)
def test_scaled_and_weighted_rows_equal_their_naive_twin(
    users: list[tuple[list[int], ...]], mean: bool
) -> None:
    """Quantised rows pool as what they stand for; a weight of 2 is the id twice."""
    first = torch.tensor([0, 4, 9])
    steps = (torch.arange(27) * 37 % 255 - 127).view(9, 3).to(torch.int8)
    scale = torch.arange(1, 10).double() / 8
    bags = [bag for user in users for bag in user]
    ids, offsets = _flat(bags)
    expected, expected_bad = _naive((steps * scale[:, None]).tolist(), first.tolist(), bags, mean)
    out, bad = bag_pool(steps, first, ids, offsets, mean, scale=scale)
    assert out.dtype == torch.float64
    assert torch.allclose(out.view(-1, 3), torch.tensor(expected).view(-1, 3).double())
    assert int(bad) == expected_bad

    twos = torch.full(ids.shape, 2.0)
    weighted, _ = bag_pool(steps, first, ids, offsets, scale=scale, weights=twos)
    twice, _ = bag_pool(steps, first, *_flat([bag * 2 for bag in bags]), scale=scale)
    assert torch.allclose(weighted, twice)


def test_each_id_has_the_weight_at_its_place() -> None:
    rows = torch.tensor([[1.0], [10.0], [100.0]])
    weights = torch.tensor([1.0, 5.0, 2.0, 3.0])
    ids, offsets = _flat([[0, 7], [2, 1]])
    out, bad = bag_pool(rows, torch.tensor([0, 3]), ids, offsets, weights=weights)
    assert (out.flatten().tolist(), int(bad)) == ([1.0, 230.0], 1)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"scale": torch.ones(3)}, "float32 rows with a scale"),
        ({"rows": torch.ones(3, 1).to(torch.int8)}, "int8 rows without a scale"),
        (
            {"rows": torch.ones(3, 1).to(torch.int8), "scale": torch.ones(2)},
            r"scale is torch.float32 \(2,\), needs floats \[3\]",
        ),
        ({"weights": torch.ones(1), "mean": True}, "weights belong to a sum"),
        ({"weights": torch.ones(2)}, r"weights is torch.float32 \(2,\), needs float32 \[1\]"),
    ],
)
def test_wrong_scale_and_weights_are_refused(given: dict[str, torch.Tensor], why: str) -> None:
    ids, offsets = _flat([[0]])
    whole = {"rows": torch.ones(3, 1), "first_row": torch.tensor([0, 3])} | given
    with pytest.raises(ValueError, match=f"bag_pool: .*{why}"):
        bag_pool(**whole, ids=ids, offsets=offsets)


def test_id_past_its_table_does_not_read_the_next_one() -> None:
    rows = torch.tensor([[1.0], [2.0], [torch.nan], [torch.nan]])
    out, bad = bag_pool(rows, torch.tensor([0, 2, 4]), *_flat([[0, 1, 2, 2**62, -(2**63)], []]))
    assert out.flatten().tolist() == [3.0, 0.0]
    assert int(bad) == 3


def test_mean_does_not_count_bad_ids() -> None:
    rows = torch.tensor([[1.0], [3.0]])
    out, _ = bag_pool(rows, torch.tensor([0, 2]), *_flat([[0, 1, 9]]), mean=True)
    assert out.item() == 2.0


def test_half_rows_are_summed_in_float32() -> None:
    rows = torch.full((1, 1), 1.0, dtype=torch.float16)
    out, _ = bag_pool(rows, torch.tensor([0, 1]), *_flat([[0] * 4000]))
    assert out.dtype == torch.float16
    assert out.item() == 4000.0  # sums in float16 stop at 2,048


def test_gradient_reaches_the_rows_that_were_read() -> None:
    rows = torch.zeros(3, 2, requires_grad=True)
    out, _ = bag_pool(rows, torch.tensor([0, 3]), *_flat([[0, 0, 2, 7]]))
    out.sum().backward()
    assert rows.grad is not None
    assert rows.grad[:, 0].tolist() == [2.0, 0.0, 1.0]


def test_bags_that_do_not_divide_into_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bags do not divide into 2 tables"):
        bag_pool(torch.zeros(4, 1), torch.tensor([0, 2, 4]), *_flat([[0], [0], [0]]))


def test_wrong_dtype_and_shape_are_refused() -> None:
    ids, offsets = _flat([[0]])
    first = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="needs int64"):
        bag_pool(torch.zeros(1, 1), first, ids.int(), offsets)
    with pytest.raises(ValueError, match=r"needs rows \[N, D\]"):
        bag_pool(torch.zeros(1), first, ids, offsets)
