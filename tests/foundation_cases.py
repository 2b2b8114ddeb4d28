"""Histories, batches and the plain truth that the tests of the foundation model share."""

from typing import Any

import numpy as np
import torch
from model_cases import some_users, user_batch
from numpy.typing import NDArray

from predawn.server.models.foundation import FoundationNet, Pairs, TokenBatch, untrained_foundation
from predawn.server.models.foundation_shape import FoundationShape, named_foundation
from predawn.server.models.foundation_tokens import (
    CANDIDATE,
    Tokens,
    candidate_features,
    histories,
    history_tokens,
)
from predawn.server.models.item_table import embedding_rows
from predawn.server.request import I64, PairBatch, UserBatch

SHAPE = named_foundation("tiny", types=5, attributes=2, tasks=("click", "like"))


def foundation(shape: FoundationShape = SHAPE, seed: int = 1) -> FoundationNet:
    """Random weights, none of them at a value that hides a mistake."""
    net = untrained_foundation(shape, seed)
    chance = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        if name == "statistics":
            parameter.data = torch.randn(parameter.shape, generator=chance)
        elif name != "items.weight":
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=chance)
    return net


def pair_batch(counts: list[int], seed: int = 0, history: int = 70) -> PairBatch:
    """Users of random histories (user 0 has none) with so many candidates each."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items = rng.integers(0, 2**64, int(offsets[-1]), dtype=np.uint64)
    return PairBatch(user_batch(len(counts), seed, history), offsets, items)


def some_pairs(batch: PairBatch, users: list[int], rows: list[I64]) -> PairBatch:
    """Some users of a batch, and of each some of its rows, in an order of one's own."""
    index = np.array(users, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in rows])]).astype(np.int64)
    return PairBatch(
        some_users(batch.users, index), offsets, batch.item_hashes[np.concatenate(rows)]
    )


def one_user(events: int, columns: int = 70, seed: int = 0, user: int = 7) -> UserBatch:
    """The same endless history of one user for all `events`, as of its event number `events`."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 30, 2000, dtype=np.uint64)  # items repeat
    types = rng.integers(1, 32, 2000).astype(np.uint16)
    t_ms = np.cumsum(rng.integers(0, 100_000, 2000))
    used = min(events, columns)
    newest = slice(events - used, events)

    def column(values: NDArray[Any], dtype: type) -> NDArray[Any]:
        row: NDArray[Any] = np.zeros((1, columns), dtype)
        row[0, :used] = values[newest][::-1]
        return row

    ages = t_ms[events - 1] - t_ms if events else t_ms
    return UserBatch(
        users=np.array([user], np.uint64),
        items=column(items, np.uint64),
        types=column(types, np.uint16),
        ages_ms=column(ages, np.int64),
        lengths=np.array([used], np.int32),
        counts=np.full((1, 5), events, np.float32),
        attributes=np.zeros((1, 2), np.float32),
        hour=np.array([events % 24], np.float32),
    )


def asked(users: UserBatch, items: int, seed: int = 0) -> PairBatch:
    """So many candidates of the one user."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, items, dtype=np.uint64)
    return PairBatch(users, np.array([0, items], np.int64), hashes)


def as_token_batch(tokens: Tokens) -> TokenBatch:
    """One user's, in float64."""
    features = torch.tensor(np.ascontiguousarray(tokens.features)).double()
    return TokenBatch(
        torch.tensor(tokens.items)[None], torch.tensor(tokens.gaps)[None], features[None]
    )


def true_pairs(net: FoundationNet, batch: PairBatch) -> list[Pairs]:
    """By the plain net in float64, whole sequences, user by user."""
    shape = net.shape
    wide = untrained_foundation(shape, 0)
    wide.load_state_dict(net.state_dict())
    wide = wide.double()
    past = histories(batch.users, shape.length)
    counts = np.array([len(events) for events in past])
    since_ms = np.array([int(events[-1, 2]) if len(events) else 0 for events in past])
    shared = candidate_features(shape, batch.users, counts, since_ms)
    found: list[Pairs] = []
    for user, events in enumerate(past):
        items = batch.item_hashes[batch.offsets[user] : batch.offsets[user + 1]]
        rows = embedding_rows(items, shape.item_rows)
        features = np.broadcast_to(shared[user], (len(rows), shared.shape[1]))
        candidates = Tokens(rows, np.full(len(rows), CANDIDATE), features)
        seen = torch.full((1, len(rows)), len(events))
        history = as_token_batch(history_tokens(shape, events, 0, len(events)))
        with torch.inference_mode():
            found.append(wide(history, as_token_batch(candidates), seen))
    return found


def true_embeddings(net: FoundationNet, batch: PairBatch) -> NDArray[np.float64]:
    """float64 [R, dim]."""
    return np.concatenate([pairs.embedding[0].numpy() for pairs in true_pairs(net, batch)])
