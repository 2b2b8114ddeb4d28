"""The first layer in one call equals its formula step by step, and a row stands alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import ISAS

from predawn.csrc._layers import GatherL1
from predawn.server.request import F32, I64, U8

SOURCES, MISSING = 7, 6


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a layer reads. counts: candidates of each request."""

    counts: tuple[int, ...]
    columns: int = 24
    vector: int = 10
    pair_dims: tuple[int, ...] = (8, 3)
    dense: int = 5
    dtype: str = "fp32"
    multiply: bool = True
    match: bool = True
    projected: bool = True
    relu: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """Of a layer and a batch; float64 values of the tables beside what is stored."""

    layer: dict[str, Any]
    batch: dict[str, Any]
    vectors: Any
    projected: Any


def stored(values: Any, dtype: str) -> tuple[Any, F32 | None, Any]:
    """As the table holds them, scales, and what that stands for."""
    if dtype == "fp32":
        return values.astype(np.float32), None, values.astype(np.float32)
    if dtype == "fp16":
        return values.astype(np.float16), None, values.astype(np.float16)
    scales = (np.abs(values).max(axis=1) / 127).astype(np.float32)
    steps = np.rint(values / scales[:, None]).astype(np.int8)
    return steps, scales, steps * scales[:, None].astype(np.float64)


def inputs(sizes: Sizes, seed: int = 0) -> Inputs:
    """Random ones; pairs are NaN where missing."""
    rng = np.random.default_rng(seed)
    rows, requests, models = sum(sizes.counts), len(sizes.counts), len(sizes.pair_dims)
    vectors, vector_scales, vector_values = stored(rng.normal(size=(9, sizes.vector)), sizes.dtype)
    projected, projected_scales, projected_values = stored(
        rng.normal(size=(4, sizes.columns)), sizes.dtype
    )
    depth = sizes.vector * sizes.multiply + sum(sizes.pair_dims) + sizes.dense
    sources = rng.integers(0, SOURCES, (rows, models)).astype(np.uint8)
    missing = np.repeat(sources == MISSING, sizes.pair_dims, axis=1)
    layer = {
        "weights": normal(rng, depth, sizes.columns),
        "multiply_vectors": sizes.multiply,
        "pair_dims": sizes.pair_dims,
        "dense": sizes.dense,
        "relu": sizes.relu,
    }
    batch: dict[str, Any] = {
        "offsets": np.concatenate([[0], np.cumsum(sizes.counts)]).astype(np.int64),
        "user_part": normal(rng, requests, sizes.columns),
    }
    if sizes.multiply or sizes.match:
        layer |= {"vectors": vectors, "vectors_scales": vector_scales}
        batch["vector_at"] = rng.integers(0, 9, rows)
    if sizes.match:
        layer["match"] = normal(rng, 1, sizes.columns)[0]
        batch["taste"] = normal(rng, requests, sizes.vector)
    if sizes.projected:
        layer |= {"projected": projected, "projected_scales": projected_scales}
        batch["projected_at"] = rng.integers(0, 4, rows)
    if models:
        layer["source_part"] = normal(rng, models * SOURCES, sizes.columns)
        layer["missing_source"] = MISSING
        pairs = normal(rng, rows, sum(sizes.pair_dims))
        batch |= {"pairs": np.where(missing, np.float32(np.nan), pairs), "pair_sources": sources}
    if sizes.dense:
        batch["dense"] = normal(rng, rows, sizes.dense)
    return Inputs(layer, batch, vector_values, projected_values)


def normal(rng: np.random.Generator, rows: int, columns: int) -> F32:
    """float32 [rows, columns]."""
    return rng.normal(size=(rows, columns)).astype(np.float32)


def by_steps(sizes: Sizes, given: Inputs) -> Any:
    """The formula in float64."""
    layer, batch = given.layer, given.batch
    request = np.repeat(np.arange(len(sizes.counts)), sizes.counts)
    x = batch["user_part"].astype(np.float64)[request]
    if sizes.projected:
        x = x + given.projected[batch["projected_at"]]
    segments = []
    if sizes.multiply or sizes.match:
        vectors = given.vectors[batch["vector_at"]]
        segments += [vectors] * sizes.multiply
    if sizes.match:
        taste = (batch["taste"].astype(np.float64)[request] * vectors).sum(axis=1, keepdims=True)
        x = x + taste * layer["match"]
    if sizes.pair_dims:
        sources: U8 = batch["pair_sources"]
        missing = np.repeat(sources == MISSING, sizes.pair_dims, axis=1)
        segments.append(np.where(missing, 0, batch["pairs"]))
        for model in range(len(sizes.pair_dims)):
            x = x + layer["source_part"][model * SOURCES + sources[:, model].astype(np.int64)]
    if sizes.dense:
        segments.append(batch["dense"])
    if segments:
        x = x + np.concatenate(segments, axis=1).astype(np.float64) @ layer["weights"]
    return np.maximum(x, 0) if sizes.relu else x


def run(given: Inputs, isa: str = "", **changed: Any) -> F32:
    """[R, columns], from a poisoned buffer."""
    layer = GatherL1(**given.layer, isa=isa)
    batch = given.batch | changed
    out = np.full((int(batch["offsets"][-1]), layer.columns), np.nan, dtype=np.float32)
    layer.run(out, **batch)
    return out


SIZES = st.builds(
    Sizes,
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=5).map(tuple),
    columns=st.sampled_from([1, 16, 24, 70]),
    vector=st.integers(1, 40),
    pair_dims=st.lists(st.integers(1, 20), max_size=3).map(tuple),
    dense=st.integers(0, 20),
    dtype=st.sampled_from(["fp32", "fp16", "int8"]),
    multiply=st.booleans(),
    match=st.booleans(),
    projected=st.booleans(),
    relu=st.booleans(),
)


@settings(max_examples=60)
@given(SIZES, st.integers(0, 99))
def test_the_layer_equals_its_formula(sizes: Sizes, seed: int) -> None:
    given_inputs = inputs(sizes, seed)
    expected = by_steps(sizes, given_inputs)
    for isa in ISAS:
        np.testing.assert_allclose(run(given_inputs, isa), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_stands_alone_bit_by_bit(isa: str) -> None:
    sizes = Sizes((50, 0, 1, 60))
    given_inputs = inputs(sizes)
    whole = run(given_inputs, isa)
    batch, offsets = given_inputs.batch, given_inputs.batch["offsets"]
    for request in (0, 2, 3):
        for row in range(int(offsets[request]), int(offsets[request + 1]), 7):
            one: dict[str, Any] = {
                name: batch[name][row : row + 1]
                for name in ("projected_at", "vector_at", "pairs", "pair_sources", "dense")
            }
            one |= {name: batch[name][request : request + 1] for name in ("user_part", "taste")}
            alone = run(given_inputs, isa, offsets=np.array([0, 1]), **one)
            assert alone[0].tobytes() == whole[row].tobytes()


def test_a_missing_pair_is_worth_its_row_of_the_sources_alone() -> None:
    sizes = Sizes((3,), vector=1, pair_dims=(4,), dense=0, multiply=False, match=False)
    given_inputs = inputs(sizes)
    missing = np.full((3, 1), MISSING, np.uint8)
    got = run(given_inputs, pair_sources=missing, pairs=np.full((3, 4), np.inf, np.float32))
    batch, source_part = given_inputs.batch, given_inputs.layer["source_part"]
    expected = batch["user_part"] + given_inputs.projected[batch["projected_at"]]
    np.testing.assert_allclose(got, expected + source_part[MISSING], rtol=1e-6, atol=1e-6)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"offsets": np.array([0, 5])}, "offsets: expected to ascend from 0 to 4"),
    ({"offsets": np.array([0, 3, 2, 4])}, "offsets: expected to ascend"),
    ({"offsets": np.array([], np.int64)}, "offsets: expected to ascend"),
    ({"projected_at": np.array([0, 1, 4, 0])}, "projected_at: position 4 is not in a table of 4"),
    ({"vector_at": np.array([0, -1, 0, 0])}, "vector_at: position -1 is not in a table of 9"),
    ({"vector_at": None}, "vector_at: this layer needs it"),
    ({"taste": None}, "taste: this layer needs it"),
    ({"pair_sources": np.full((4, 2), 7, np.uint8)}, "pair_sources: no source 7"),
    ({"pair_sources": np.zeros((4, 1), np.uint8)}, "pair_sources: expected 2 columns, got 1"),
    ({"dense": np.zeros((4, 4), np.float32)}, "dense: expected 5 columns, got 4"),
    ({"dense": np.zeros((4, 5))}, "dense: expected dtype float32, got float64"),
    ({"user_part": np.zeros((2, 24), np.float32)}, "user_part: expected 1 rows, got 2"),
]


@pytest.mark.parametrize(("changed", "reason"), WRONG)
def test_a_wrong_batch_is_refused_by_name(changed: dict[str, Any], reason: str) -> None:
    given_inputs = inputs(Sizes((4,)))
    layer = GatherL1(**given_inputs.layer)
    out = np.zeros((4, 24), np.float32)
    with pytest.raises(ValueError, match=f"^{reason}"):
        layer.run(out, **given_inputs.batch | changed)


def test_what_a_layer_was_not_made_for_is_refused() -> None:
    given_inputs = inputs(Sizes((4,), dense=0))
    with pytest.raises(ValueError, match="dense: this layer has no use for it"):
        run(given_inputs, dense=np.zeros((4, 5), np.float32))


MADE: list[tuple[dict[str, Any], str]] = [
    ({"weights": np.zeros((25, 24), np.float32)}, "weights: expected 26 rows"),
    ({"projected": np.zeros((4, 23), np.float32)}, "projected: expected 24 columns, got 23"),
    ({"projected": np.zeros((4, 24))}, "projected: expected dtype float32, float16 or int8"),
    ({"vectors": np.zeros((9, 10), np.int8)}, "vectors_scales: int8 rows need one float32 each"),
    ({"match": np.zeros(3, np.float32)}, "match: expected 24 values, got 3"),
    ({"source_part": np.zeros((13, 24), np.float32)}, "source_part: expected as many rows for"),
    ({"missing_source": 7}, "missing_source: expected 0 to 6, got 7"),
    ({"isa": "mmx"}, "isa: this machine does not know"),
]


@pytest.mark.parametrize(("changed", "reason"), MADE)
def test_parts_that_do_not_fit_are_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        GatherL1(**inputs(Sizes((4,))).layer | changed)


def test_tables_are_looked_into_and_stay_alive() -> None:
    given_inputs = inputs(Sizes((4,), multiply=False))
    layer = GatherL1(**given_inputs.layer)
    at: I64 = given_inputs.batch["projected_at"]
    first, second = np.zeros((4, 24), np.float32), np.zeros((4, 24), np.float32)
    layer.run(first, **given_inputs.batch)
    given_inputs.layer["projected"][at[0]] += 1
    given_inputs.layer.clear()
    layer.run(second, **given_inputs.batch)
    np.testing.assert_allclose(second[0], first[0] + 1, atol=1e-5)
