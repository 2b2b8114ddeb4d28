"""gather_l1: the reference is the formula, bad ids add nothing, wrong arguments are named."""

import pytest
import torch

from predawn.kernels.gather_l1 import Gathered, gather_l1, gather_l1_reference, rows_or_zero


def given(dtype: torch.dtype = torch.float64) -> Gathered:
    """5 rows, 2 users, 4 items of 3, 3 pairs of 2, 1 dense feature, 3 sources, 2 outputs."""
    dice = torch.Generator().manual_seed(3)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=dice, dtype=torch.float64).to(dtype)

    return Gathered(
        user_part=normal(2, 2),
        row_user=torch.tensor([0, 1, 1, 0, 2]),
        items=torch.randint(-127, 128, (4, 3), generator=dice).to(torch.int8),
        item_scale=torch.tensor([0.5, 1, 0.25, 2]).to(torch.float32),
        item=torch.tensor([3, 0, 4, -1, 2]),
        pairs=normal(3, 2).half(),
        pair=torch.tensor([-1, 2, 3, 0, -9]),
        miss=normal(2),
        dense=normal(5, 1),
        w_item=normal(3, 2),
        w_pair=normal(2, 2),
        w_dense=normal(1, 2),
        source_part=normal(3, 2),
        source=torch.tensor([0, 2, 3, 1, 255], dtype=torch.uint8),
    )


def _row(table: torch.Tensor, at: int, absent: list[float]) -> list[float]:
    return table[at].tolist() if 0 <= at < len(table) else absent


def _naive(g: Gathered, i: int, column: int) -> float:
    """One output, from lists."""
    assert g.item_scale is not None and g.source_part is not None and g.source is not None
    item, pair, source = int(g.item[i]), int(g.pair[i]), int(g.source[i])
    scale = _row(g.item_scale[:, None], item, [0.0])[0]
    segments = (
        ([scale * value for value in _row(g.items, item, [0.0] * 3)], g.w_item),
        (_row(g.pairs, pair, g.miss.tolist()), g.w_pair),
        (g.dense[i].tolist(), g.w_dense),
    )
    out = _row(g.user_part, int(g.row_user[i]), [0.0, 0.0])[column]
    out += _row(g.source_part, source, [0.0, 0.0])[column]
    for values, weight in segments:
        out += sum(v * w for v, w in zip(values, weight[:, column].tolist(), strict=True))
    return out


@pytest.mark.parametrize("relu", [False, True])
def test_reference_is_the_formula_of_every_row(relu: bool) -> None:
    g = given()
    out = gather_l1(*g, relu=relu)
    for i in range(5):
        naive = [_naive(g, i, column) for column in range(2)]
        expected = [max(0.0, value) for value in naive] if relu else naive
        assert out[i].tolist() == pytest.approx(expected, rel=1e-6)
    assert (out < 0).any() != relu


def test_parts_that_are_not_there_add_nothing() -> None:
    g = given()
    without = g._replace(
        items=g.items[:, :0],
        w_item=g.w_item[:0],
        pairs=g.pairs[:, :0],
        miss=g.miss[:0],
        w_pair=g.w_pair[:0],
        source_part=None,
        source=None,
    )
    expected = rows_or_zero(g.user_part, g.row_user) + g.dense @ g.w_dense
    assert torch.allclose(gather_l1(*without, relu=False), expected)


def test_empty_tables_are_all_misses() -> None:
    g = given()
    empty = g._replace(pairs=g.pairs[:0], items=g.items[:0], item_scale=torch.zeros(0))
    missed = g._replace(pair=torch.full((5,), -1), item=torch.full((5,), -1))
    assert torch.equal(gather_l1(*empty), gather_l1(*missed))


def test_gradients_flow_to_weights_and_the_miss_vector() -> None:
    g = given()
    names = ("user_part", "miss", "dense", "w_item", "w_pair", "w_dense", "source_part")
    wanted = [g._asdict()[name].requires_grad_() for name in names]

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        return gather_l1_reference(g._replace(**dict(zip(names, tensors, strict=True))), False)

    assert torch.autograd.gradcheck(call, wanted)


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("items", lambda t: t[0], "has shape .*, needs 2 axes"),
        ("item", lambda t: t[:4], r"has shape \(4,\), needs \(5,\)"),
        ("item_scale", lambda t: t[1:], r"has shape \(3,\), needs \(4,\)"),
        ("miss", lambda t: t[1:], r"has shape \(1,\), needs \(2,\)"),
        ("w_dense", lambda t: t.T, r"has shape \(2, 1\), needs \(1, 2\)"),
        ("source_part", lambda t: t[:, 1:], r"has shape \(3, 1\), needs \(3, 2\)"),
        ("source", lambda t: None, "and source are given both or neither"),
        ("items", lambda t: t.float(), "is torch.float32, needs torch.int8"),
        ("item_scale", lambda t: None, "is torch.int8, needs torch.float16 or torch.float32"),
        ("pairs", lambda t: t.double(), "is torch.float64, needs torch.float16 or torch.float32"),
        ("pair", lambda t: t.int(), "is torch.int32, needs torch.int64"),
        ("source", lambda t: t.float(), "is torch.float32, needs torch.int64 or torch.uint8"),
        ("dense", lambda t: t.float(), "is torch.float32, needs torch.float64"),
        ("w_item", lambda t: t.long(), "is torch.int64, needs one of"),
    ],
)
def test_wrong_argument_is_named(name: str, change, why: str) -> None:
    g = given()
    with pytest.raises(ValueError, match=f"gather_l1: .*{why}"):
        gather_l1(*g._replace(**{name: change(g._asdict()[name])}))
