"""The native layers one by one: the first layer, averages, bags and small products."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from predawn.bench import limits_layers, models_first
from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.models_cases import agree, in_turn
from predawn.csrc import _layers
from predawn.server.request import F32, I64

_DIM, _PARTS = 64, 3
_KINDS = ("float32", "float16", "int8")
_IDS, _TABLE_ROWS = 10, 100_000
_BATCHES = 64  # of different bags
_FP16_MOST = 65_504.0


def rows(mark: Stamp, *, effort: Effort, smoke: bool) -> list[Row]:
    """Every case that is wanted, interleaved."""
    made = [make() for name, make in _named(smoke) if effort.wants(name)]
    return measure(mark, made, effort)


def _named(smoke: bool) -> Iterator[tuple[str, Callable[[], Case]]]:
    """A name and how to make the case."""
    yield from models_first.named(smoke)
    for width in (64, 256):
        for n in (4,) if smoke else (1, 4, 16, 64):
            name = f"dense layer {width} to {width}, {n} rows"
            yield name, partial(_products, name, width, n)
    for dtype in ("fp16", "int8"):
        for n in (16,) if smoke else (1, 64):
            name = f"mean of {_PARTS} x {_DIM} as {dtype}, {n} rows"
            yield name, partial(_averages, name, dtype, n)
    for kind in _KINDS:
        bags = 4 if smoke else 256
        name = f"{bags} bags of {_IDS} {kind} x {_DIM}"
        yield name, partial(_bags, name, kind, bags)


def _products(name: str, width: int, n: int) -> Case:
    rng = np.random.default_rng(2)
    x, weights, bias = (
        rng.normal(size=shape).astype(np.float32) for shape in ((n, width), (width, width), width)
    )
    panels, out, spare = _layers.Panels(weights), np.empty_like(x), np.empty_like(x)
    of_x, of_weights, of_bias = (torch.from_numpy(each) for each in (x, weights, bias))
    of_out = torch.empty(n, width)

    def own() -> object:
        _layers.matvec(x, panels, bias, out, True)
        return out

    def by_numpy() -> object:
        np.dot(x, weights, spare)
        np.add(spare, bias, spare)
        return np.maximum(spare, 0, out=spare)

    def by_torch() -> object:
        return torch.addmm(of_bias, of_x, of_weights, out=of_out).relu_()

    agree(name, "numpy", own(), by_numpy(), 1e-5)
    agree(name, "torch eager", own(), by_torch(), 1e-5)
    return Case(
        name,
        Subject("predawn", own, n),
        peers=(Subject("torch eager", by_torch, n), Subject("numpy", by_numpy, n)),
        limit=limits_layers.slowest(n * width * width, width * width * 4, n),
        per="row",
    )


def _averages(name: str, dtype: str, n: int) -> Case:
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(n, _DIM)).astype(np.float32)
    previous = rng.normal(size=(n, _DIM * (_PARTS - 1))).astype(np.float32)
    previous[::3, _DIM:] = np.nan
    out = np.empty((n, _DIM * _PARTS), np.float32)
    tensors = torch.from_numpy(raw), torch.from_numpy(previous)

    def own() -> object:
        _layers.average_quantise(raw, previous, out, dtype)
        return out

    by_numpy = partial(_average_numpy, raw, previous, dtype)
    by_torch = partial(_average_torch, *tensors, dtype)
    agree(name, "numpy", own(), by_numpy(), 1e-6)
    agree(name, "torch eager", own(), by_torch(), 1e-6)
    return Case(
        name,
        Subject("predawn", own, n),
        peers=(Subject("numpy", by_numpy, n), Subject("torch eager", by_torch, n)),
        limit=limits_layers.slowest(out.size, 4 * out.size, n),
        per="row",
    )


def _average_numpy(raw: F32, previous: F32, dtype: str) -> F32:
    """int8 is rounded once, which is a little less than ours. (`nanmean` takes longer.)"""
    parts = np.concatenate([raw[:, None], previous.reshape(len(raw), -1, _DIM)], axis=1)
    absent = np.isnan(parts)
    there = np.float32(_PARTS) - absent.sum(axis=1, dtype=np.float32)
    served = np.where(absent, np.float32(0), parts).sum(axis=1) / there
    rows = np.concatenate([served[:, None], parts[:, :-1]], axis=1)
    if dtype == "fp16":
        halves = np.clip(rows, -_FP16_MOST, _FP16_MOST).astype(np.float16)
        of_halves: F32 = halves.astype(np.float32).reshape(len(raw), -1)
        return of_halves
    scale = np.abs(rows).max(axis=2, keepdims=True) / np.float32(127)
    steps = np.rint(rows * (np.float32(1) / scale)) * scale
    of_steps: F32 = steps.astype(np.float32).reshape(len(raw), -1)
    return of_steps


def _average_torch(raw: torch.Tensor, previous: torch.Tensor, dtype: str) -> torch.Tensor:
    parts = torch.cat([raw[:, None], previous.view(len(raw), -1, _DIM)], dim=1)
    rows = torch.cat([parts.nanmean(dim=1)[:, None], parts[:, :-1]], dim=1)
    if dtype == "fp16":
        return rows.clamp(-_FP16_MOST, _FP16_MOST).half().float().flatten(1)
    scale = rows.abs().amax(dim=2, keepdim=True) / 127
    return (torch.round(rows * (1 / scale)) * scale).flatten(1)


def _bags(name: str, kind: str, bags: int) -> Case:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(_TABLE_ROWS, _DIM)).astype(np.float32)
    scales = np.abs(values).max(axis=1) / np.float32(127) if kind == "int8" else None
    steps = values if scales is None else np.rint(values / scales[:, None])
    table = steps.astype(kind)
    offsets = np.arange(0, bags * _IDS + 1, _IDS)
    batches = list(rng.integers(0, _TABLE_ROWS, (_BATCHES, bags * _IDS)))
    out = np.empty((bags, _DIM), np.float32)
    of_table, of_offsets = torch.from_numpy(table), torch.from_numpy(offsets[:-1])

    def own(ids: I64) -> object:
        _layers.bag_pool(table, ids, offsets, out, scales)
        return out

    narrow, rows = (np.empty((bags * _IDS, _DIM), each) for each in (kind, np.float32))
    taken = rows if kind == "float32" else narrow
    sums = np.empty_like(out)

    def by_numpy(ids: I64) -> object:
        table.take(ids, axis=0, out=taken, mode="clip")
        if scales is not None:
            np.multiply(narrow, scales.take(ids)[:, None], out=rows)
        elif taken is narrow:
            rows[:] = narrow
        return np.add.reduceat(rows, offsets[:-1], axis=0, out=sums)

    def by_torch(ids: torch.Tensor) -> object:
        return torch.nn.functional.embedding_bag(ids, of_table, of_offsets, mode="sum")

    def subject(name: str, call: Callable[[I64], object]) -> Subject:
        return Subject(name, in_turn([partial(call, ids) for ids in batches]), bags * _IDS)

    agree(name, "numpy", own(batches[0]), by_numpy(batches[0]), 1e-5)
    peers = [subject("numpy", by_numpy)]
    absent = {"torch embedding_bag": "takes no int8 rows"}
    if kind != "int8":
        tensors = [torch.from_numpy(ids) for ids in batches]
        within = 1e-5 if kind == "float32" else 2e-3
        agree(name, "torch embedding_bag", own(batches[0]), by_torch(tensors[0]), within)
        calls = [partial(by_torch, ids) for ids in tensors]
        peers.append(Subject("torch embedding_bag", in_turn(calls), bags * _IDS))
        absent = {}
    return Case(
        name,
        subject("predawn", own),
        peers=tuple(peers),
        limit=limits_layers.rows_read(table, batches),
        absent=absent,
        per="row",
    )
