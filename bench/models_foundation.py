"""The foundation model on the CPU: candidates against a kept history, encoding, extending.

`share_of_limit` is the share of the rate of one large matrix product of the same run, in the same
dtype and with as many threads; only what the model must multiply is counted, up to the tap. The
peer of the scoring is the plain net of training, which has no kept history and encodes it for every
call; that of extending a history of 246 events by 10 is encoding the 256 anew, of one user and of
as many as the engine takes at once.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.models_cases import Product, agree, in_turn, rates
from predawn.server.models.foundation import FoundationNet, TokenBatch, untrained_foundation
from predawn.server.models.foundation_layers import computing_dtype
from predawn.server.models.foundation_model import FoundationModel
from predawn.server.models.foundation_shape import FoundationShape, named_foundation
from predawn.server.models.foundation_tokens import (
    CANDIDATE,
    candidate_features,
    histories,
    history_tokens,
)
from predawn.server.models.item_table import embedding_rows
from predawn.server.request import PairBatch, UserBatch
from predawn.server.traces import EVENT_TYPES

SIZES, SMOKE_SIZES = ("small", "medium"), ("tiny",)
CANDIDATES = 512
USERS = 8  # `[pairs.NAME] batch_users`
_NEW = 10
_WITHIN = {torch.float32: 1e-5, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class Scene:
    """One model, and users with histories of exactly so many events.

    longest: all that fit; short: 256 or fewer; changed: the same but for the newest ten; anew: the
    same of another user, and the same but for the oldest, so that neither extends the other.
    """

    size: str
    net: FoundationNet
    model: FoundationModel
    longest: UserBatch
    short: UserBatch
    changed: UserBatch
    anew: tuple[UserBatch, UserBatch]

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return computing_dtype(self.net.shape, "cpu")


def rows(mark: Stamp, *, effort: Effort, smoke: bool) -> list[Row]:
    """Pairs and tokens a second, and what an extension costs, with one thread and with all."""
    sizes = SMOKE_SIZES if smoke else SIZES
    before = torch.get_num_threads()
    found: list[Row] = []
    try:
        for threads in sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            for size in sizes:
                if any(map(effort.wants, _names(size, threads))):
                    found += _timed(mark, scene(size), threads, effort, smoke)
    finally:
        torch.set_num_threads(before)
    return found


def _names(size: str, threads: int) -> tuple[str, str, str, str]:
    on = "1 thread" if threads == 1 else f"{threads} threads"
    return (
        f"foundation model {size}, {CANDIDATES} candidates of a kept history, {on}",
        f"foundation model {size}, a history encoded, {on}",
        f"foundation model {size}, a kept history extended by {_NEW} events, {on}",
        f"foundation model {size}, {USERS} kept histories extended by {_NEW} events, {on}",
    )


def _timed(mark: Stamp, here: Scene, threads: int, effort: Effort, smoke: bool) -> list[Row]:
    product = Product(smoke=smoke, dtype=here.dtype)
    score, encode, extend, extend_all = _names(here.size, threads)
    scored = measure(mark, list(_scoring(here, score, product)), effort)
    encoded = measure(mark, [_encoding(here, encode, product)], effort)
    extended = measure(mark, [_extending(here, extend, 1)], effort)
    extended += measure(mark, [_extending(here, extend_all, USERS)], effort)
    return [
        *(*scored, *rates(mark, scored, "pairs")),
        *(*encoded, *rates(mark, encoded, "tokens")),
        *extended,
    ]


def scene(size: str) -> Scene:
    """Random weights and histories."""
    shape = named_foundation(size, types=len(EVENT_TYPES))
    net = untrained_foundation(shape, seed=0)
    short = min(256, shape.length)
    longest = history(shape.length, shape.length)
    base = history(short, shape.length)
    changed = replace(base, items=base.items.copy())
    changed.items[0, :_NEW] += np.uint64(1)
    stranger = replace(base, users=base.users + np.uint64(1))
    oldest = replace(stranger, items=base.items.copy())
    oldest.items[0, short - 1] += np.uint64(1)
    return Scene(size, net, FoundationModel(net), longest, base, changed, (stranger, oldest))


def history(events: int, length: int) -> UserBatch:
    """One user with exactly so many events; one column more shows that there are no others."""
    rng = np.random.default_rng(events)
    columns, types = length + 1, len(EVENT_TYPES)
    used = np.arange(columns) < events
    ages_ms = np.cumsum(rng.integers(1, 10**6, columns))
    return UserBatch(
        users=np.array([events], np.uint64),
        items=np.where(used, rng.integers(1, 2**63, columns, dtype=np.uint64), 0)[None],
        types=np.where(used, rng.integers(1, 2**types, columns), 0).astype(np.uint16)[None],
        ages_ms=np.where(used, ages_ms - ages_ms[0], 0)[None],
        lengths=np.array([events], np.int32),
        counts=np.full((1, types), events, np.float32),
        attributes=np.zeros((1, 0), np.float32),
        hour=np.zeros(1, np.float32),
    )


def pair_flop(shape: FoundationShape, seen: int) -> int:
    """Of one candidate that sees so many tokens: projections and attention, up to the tap."""
    return shape.tap * (10 * shape.width**2 + 4 * seen * shape.width)


def token_flop(shape: FoundationShape, tokens: int) -> int:
    """Of one token of a history of so many, on average: of the last layer only keys and values."""
    layer = 10 * shape.width**2 + 2 * tokens * shape.width
    return (shape.tap - 1) * layer + 4 * shape.width**2


def _scoring(here: Scene, name: str, product: Product) -> Iterator[Case]:
    rng = np.random.default_rng(1)
    items = rng.integers(0, 2**63, CANDIDATES, dtype=np.uint64)
    batch = PairBatch(here.longest, np.array([0, CANDIDATES]), items)
    peers: tuple[Subject, ...] = ()
    if here.size != "medium":  # a second a call
        plain = Plain(here.net, batch)
        agree(name, "plain net", here.model.embed_pairs(batch), plain(), _WITHIN[here.dtype])
        peers = (Subject("plain net, nothing kept", plain, work=CANDIDATES),)
    flop = pair_flop(here.net.shape, here.net.shape.length)
    yield Case(
        name,
        Subject("predawn", lambda: here.model.embed_pairs(batch), work=CANDIDATES),
        peers=peers,
        limit=product.subject(flop),
        per="pair",
    )


def _encoding(here: Scene, name: str, product: Product) -> Case:
    tokens = int(here.longest.lengths[0])
    other = replace(here.longest, items=here.longest.items + np.uint64(1))
    calls = [lambda: here.model.encode(here.longest), lambda: here.model.encode(other)]
    limit = product.subject(token_flop(here.net.shape, tokens))
    return Case(name, Subject("predawn", in_turn(calls), work=tokens), limit=limit, per="token")


def _extending(here: Scene, name: str, users: int) -> Case:
    """Two histories in turn that differ in their newest events, against two that do in the first:
    of another user each, so that no call finds what the other way's left."""
    batch = PairBatch(here.changed, np.array([0, 3]), np.arange(3, dtype=np.uint64))
    here.model.encode(here.short)
    extended, fresh = here.model.embed_pairs(batch), FoundationModel(here.net)
    agree(name, "encoded anew", extended, fresh.embed_pairs(batch), _WITHIN[here.dtype])
    newest, anew = (
        [partial(here.model.encode, alike(each, users)) for each in two]
        for two in ((here.short, here.changed), here.anew)
    )
    return Case(
        name,
        Subject("predawn", in_turn(newest), work=users),
        peers=(Subject("encoded anew", in_turn(anew), work=users),),
        per="user",
    )


def alike(one: UserBatch, users: int) -> UserBatch:
    """So many users with the history of `one`, each of another id."""
    columns = {each.name: getattr(one, each.name).repeat(users, axis=0) for each in fields(one)}
    first = int(one.users[0]) << 20
    ids = np.arange(first, first + users, dtype=np.uint64)
    return replace(UserBatch(**columns), users=ids)


class Plain:
    """The net of training on the same pairs, called."""

    def __init__(self, net: FoundationNet, batch: PairBatch) -> None:
        shape = net.shape
        [events] = histories(batch.users, shape.length)
        tokens = history_tokens(shape, events, 0, len(events))
        count = len(batch.item_hashes)
        ends = np.array([int(events[-1, 2])])
        shared = candidate_features(shape, batch.users, np.array([len(events)]), ends)
        self._net = net
        self._history = TokenBatch(
            *(torch.from_numpy(part)[None] for part in (tokens.items, tokens.gaps, tokens.features))
        )
        self._asked = TokenBatch(
            torch.from_numpy(embedding_rows(batch.item_hashes, shape.item_rows))[None],
            torch.full((1, count), CANDIDATE),
            torch.from_numpy(np.repeat(shared, count, axis=0))[None],
        )
        self._seen = torch.full((1, count), len(events))

    @torch.inference_mode()
    def __call__(self) -> object:
        return self._net(self._history, self._asked, self._seen).embedding[0].numpy()
