"""The foundation model on a device: histories encoded, extended, and pairs against them.

Times are the host's, from the batch's arrays to the results', as an engine sees them.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from predawn.bench.gpu_rig import Rig
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Row, Stamp
from predawn.server.models.foundation_model import FoundationModel, untrained_foundation
from predawn.server.models.foundation_shape import FoundationShape, named_foundation
from predawn.server.request import PairBatch, UserBatch

SIZES = ("medium", "large")
_TYPES = 4
_NEW = 10  # events that an extension adds
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Load:
    """users with full histories, and so many candidates each."""

    users: int = 8
    candidates: int = 512


FULL = Load()


def model_rows(
    rig: Rig, mark: Stamp, ceilings: Ceilings, *, sizes: tuple[str, ...] = SIZES, load: Load = FULL
) -> Iterator[Row]:
    """Of each size: tokens encoded, users extended and pairs scored a second, with their share of
    the measured matrix-product rate."""
    for name in sizes:
        if not rig.late():
            yield from _size_rows(name, rig, mark, ceilings, load)


def _size_rows(name: str, rig: Rig, mark: Stamp, ceilings: Ceilings, load: Load) -> Iterator[Row]:
    shape = named_foundation(name, types=_TYPES)
    model = FoundationModel(untrained_foundation(shape, seed=0), rig.device)
    events = shape.length - (1 + _ROUNDS) * _NEW
    kept = pairs_of(shape, load, 0, events)
    model.embed_pairs(kept)  # builds the kernels, keeps these histories

    def encode(users: UserBatch) -> float:
        return _seconds(lambda: model.encode(users))

    scored = [_seconds(lambda: model.embed_pairs(kept)) for _ in range(1 + _ROUNDS)][1:]
    fresh = [past_of(shape, load, 1 + number, events) for number in range(_ROUNDS)]
    encoded = [encode(users) for users in fresh]
    longer = [past_of(shape, load, 1 + _ROUNDS, events + n * _NEW) for n in range(1 + _ROUNDS)]
    extended = [encode(users) for users in longer][1:]

    case, pair = f"foundation model {name}", shape.tap * flop_of_row(shape, events)
    token, new = flop_of_event(shape, events // 2), flop_of_event(shape, events)
    for metric, spans, units, flop in (
        ("tokens_encoded", encoded, load.users * events, token),
        ("users_extended", extended, load.users, _NEW * new),
        ("pairs", scored, load.users * load.candidates, pair),
    ):
        rate, limit = units / median(spans), ceilings.flop_s / flop
        yield mark.row(case, metric, rate, "/s", "higher", limit=limit, n=len(spans))


def flop_of_row(shape: FoundationShape, keys: int) -> int:
    """One row through one layer: projections, and attention to so many keys."""
    return 10 * shape.width**2 + 4 * keys * shape.width


def flop_of_event(shape: FoundationShape, keys: int) -> int:
    """One event: of the last layer only its key and value."""
    return (shape.tap - 1) * flop_of_row(shape, keys) + 4 * shape.width**2


def pairs_of(shape: FoundationShape, load: Load, seed: int, events: int) -> PairBatch:
    """Users with so many events, and their candidates."""
    count = load.users * load.candidates
    hashes = np.random.default_rng(seed).integers(1, 2**63, count).astype(np.uint64)
    offsets = np.arange(load.users + 1, dtype=np.int64) * load.candidates
    return PairBatch(past_of(shape, load, seed, events), offsets, hashes)


def past_of(shape: FoundationShape, load: Load, seed: int, events: int) -> UserBatch:
    """Users whose history of one seed is the same for any number of events, but for the later
    ones; a minute apart."""
    users, length = load.users, shape.length
    dice = np.random.default_rng(seed)
    items = dice.integers(1, 2**63, (users, length)).astype(np.uint64)[:, :events]
    types = (1 << dice.integers(0, _TYPES, (users, length))).astype(np.uint16)[:, :events]
    rest = ((0, 0), (0, length - events))
    ages_ms = np.broadcast_to(np.arange(events, dtype=np.int64) * 60_000, (users, events))
    return UserBatch(
        users=np.arange(users, dtype=np.uint64) + np.uint64(1000 * seed),
        items=np.pad(items[:, ::-1], rest),
        types=np.pad(types[:, ::-1], rest),
        ages_ms=np.pad(ages_ms, rest),
        lengths=np.full(users, events, dtype=np.int32),
        counts=np.full((users, _TYPES), events / _TYPES, dtype=np.float32),
        attributes=np.zeros((users, 0), dtype=np.float32),
        hour=np.full(users, 12, dtype=np.float32),
    )


def _seconds(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin
