"""From the recent past of users to tokens of the foundation model. numpy only.

Invariant: a token is a function of its own event and of earlier events that it was encoded with,
never of later ones. So when events follow, the tokens stay and what was encoded can be extended;
and what a model sees is a function of the `UserBatch` alone, whatever was kept or forgotten.

Which events are encoded: all that the batch shows, while the user may have no others. From then on
a window of the newest `length` events would slide with every event, and nothing encoded could ever
be kept. So it starts at an anchor that stays in place while events come: of the
older half of the window the event whose hash is smallest (a minimizer: Schleimer et al. 2003,
"Winnowing"). Each new event moves it with chance 4 / `length`; between `length` / 2 and `length`
events are seen, three quarters on average.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.foundation_shape import NEWEST, FoundationShape
from predawn.server.models.item_table import embedding_rows
from predawn.server.models.mixing import mix
from predawn.server.request import F32, I64, U64, UserBatch

GAPS = 26
"""Classes of the time since the event before: 0 for the first token, 1 + log2 of seconds, and
`CANDIDATE` for what is not an event."""
CANDIDATE = GAPS - 1

_GAP_EDGES_MS = 1000 * 2 ** np.arange(GAPS - 3, dtype=np.int64)
_TYPES_AT = np.uint64(48)
_HOURS_ON_CIRCLE = np.pi / 12
_SMOOTHING = 4.0  # events at the prior that a user's rates begin with
_USUAL = 3.0  # log of a usual number of events
_FIRST_WAVE, _FIRST_WAVE_MS, _LAST_WAVE_MS = 4.0, 60_000.0, 14 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """n tokens. items: int64 [n] row of the hashed table, 0 for none; gaps: int64 [n];
    features: float32 [n, shape.features]."""

    items: I64
    gaps: I64
    features: F32


def histories(batch: UserBatch, length: int) -> list[U64]:
    """Events to be encoded of each user, oldest first: uint64 [n, 3] each, n <= `length`.

    Columns: item, event types, ms since the first of them: all that tokens are made of, so equal
    rows are equal tokens.
    """
    columns = batch.items.shape[1]
    shown = min(columns, length)
    counts = np.minimum(batch.lengths, shown).astype(np.int64)
    more = (batch.lengths > shown) | (batch.lengths == columns)  # or there may be
    if shown >= 4 and more.any():
        counts = np.where(more, _anchors(batch, shown), counts)
    events: U64 = np.empty((len(counts), shown, 3), np.uint64)
    parts: tuple[NDArray[Any], ...] = (batch.items, batch.types, batch.ages_ms)
    for column, values in enumerate(parts):
        events[:, ::-1, column] = values[:, :shown]
    return [_since_first(events[user, shown - n :]) for user, n in enumerate(counts.tolist())]


def _since_first(events: U64) -> U64:
    if len(events):
        events[:, 2] = events[0, 2] - events[:, 2]
    return events


def _anchors(batch: UserBatch, shown: int) -> I64:
    """Events from the anchor on, of full windows: shown / 2 + 1 .. shown - 1. int64 [B]."""
    first = shown // 2
    columns = slice(first, shown - 1)
    after = batch.ages_ms[:, columns] - batch.ages_ms[:, first - 1 : shown - 2]
    kinds = mix(after.astype(np.uint64) ^ (batch.types[:, columns].astype(np.uint64) << _TYPES_AT))
    hashes = mix(batch.items[:, columns] ^ kinds)
    oldest_smallest = hashes.shape[1] - 1 - hashes[:, ::-1].argmin(axis=1)
    counts: I64 = 1 + first + oldest_smallest
    return counts


def history_tokens(shape: FoundationShape, history: U64, first: int, stop: int) -> Tokens:
    """Tokens first .. stop - 1 of one user's history."""
    part = history[first:stop]
    since_ms = part[:, 2].astype(np.int64)
    before = history[max(first - 1, 0) : stop - 1, 2].astype(np.int64)
    if not first:
        before = np.append(since_ms[:1], before)
    gaps = np.searchsorted(_GAP_EDGES_MS, since_ms - before, side="right") + 1
    if not first:
        gaps[:1] = 0
    features = np.zeros((len(part), shape.features), np.float32)
    features[:, : shape.types] = (part[:, 1:2] >> np.arange(shape.types, dtype=np.uint64)) & 1
    features[:, shape.types : shape.types + 4 * shape.waves] = places(
        shape, np.arange(first, stop, dtype=np.float64), since_ms.astype(np.float64)
    )
    return Tokens(embedding_rows(part[:, 0], shape.item_rows), gaps, features)


def candidate_features(shape: FoundationShape, batch: UserBatch, counts: I64, since_ms: I64) -> F32:
    """What all candidates of a user share: float32 [B, shape.features].

    counts: int64 [B] tokens of each history; since_ms: int64 [B] time of its last token. ValueError
    when the batch has other types or attributes than the shape.
    """
    types, attributes = batch.counts.shape[1], batch.attributes.shape[1]
    if (types, attributes) != (shape.types, shape.attributes):
        raise ValueError(
            f"history has {types} types and {attributes} attributes, the model was trained on "
            f"{shape.types} and {shape.attributes}"
        )
    known = batch.counts.astype(np.float64)
    angle = batch.hour[:, None].astype(np.float64) * _HOURS_ON_CIRCLE
    own = batch.attributes.astype(np.float64)
    return np.concatenate(
        [
            np.zeros((len(counts), shape.types)),
            places(shape, counts.astype(np.float64), since_ms.astype(np.float64)),
            (np.log1p(known) - _USUAL) / 2,
            _log_odds(shape, known),
            *_newest_rates(shape, batch),
            np.sin(angle),
            np.cos(angle),
            np.sign(own) * np.log1p(np.abs(own)),
        ],
        axis=1,
    ).astype(np.float32)


def _log_odds(shape: FoundationShape, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each type's smoothed lifetime rate, less the prior's. [n, types]"""
    prior = np.array(shape.rates)
    shown = np.maximum(counts.max(axis=1, keepdims=True), 0)
    yes, no = counts + _SMOOTHING * prior, shown - counts + _SMOOTHING * (1 - prior)
    odds: NDArray[np.float64] = np.log(yes / no) - np.log(prior / (1 - prior))
    return odds


def _newest_rates(shape: FoundationShape, batch: UserBatch) -> list[NDArray[np.float64]]:
    """Of each type over the newest events, smoothed by one event, less the prior: [n, types] each
    for `NEWEST`."""
    prior = np.array(shape.rates)
    columns = min(NEWEST[-1], batch.types.shape[1])
    used = np.minimum(batch.lengths, columns)
    there = np.arange(columns) < used[:, None]
    newest = np.where(there, batch.types[:, :columns], np.uint16(0))
    bits = (newest[:, :, None] >> np.arange(shape.types, dtype=np.uint16)) & 1
    sums = np.zeros((len(used), columns + 1, shape.types))
    np.cumsum(bits, axis=1, out=sums[:, 1:])
    rates: list[NDArray[np.float64]] = []
    for depth in NEWEST:
        shown = np.minimum(used, depth)[:, None]
        rates.append(2 * ((sums[:, min(depth, columns)] + prior) / (shown + 1) - prior))
    return rates


def places(
    shape: FoundationShape, positions: NDArray[np.float64], since_ms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sines and cosines of position and of time, at geometric wavelengths. [n, 4 * waves]"""
    lengths, lengths_ms = _wavelengths(shape.waves, shape.length)
    angles = np.concatenate([positions[:, None] / lengths, since_ms[:, None] / lengths_ms], axis=1)
    angles *= 2 * np.pi
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


@cache
def _wavelengths(waves: int, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In tokens, from 4 to 4 * length, and in ms, from a minute to two weeks."""
    steps = np.linspace(0.0, 1.0, waves)
    return _FIRST_WAVE * length**steps, _FIRST_WAVE_MS * (_LAST_WAVE_MS / _FIRST_WAVE_MS) ** steps
