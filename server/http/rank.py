"""POST /v1/rank: bytes -> RankRequest -> pipeline -> bytes.

Invariant: a request is either refused before the pipeline hears of it, or answered; refreshes are
scheduled only after its reply has been handed to the transport.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray

from predawn.csrc._codec import RankBody, decode_rank
from predawn.server.errors import BadRequest, UnknownName
from predawn.server.http.errors import HEADERS
from predawn.server.http.intake import Call, read_body, timeout_ns
from predawn.server.http.services import RankerColumns, Services
from predawn.server.metrics import PAIR_SOURCES
from predawn.server.request import F32, PairRows, RankReply, RankRequest, Source, UserRow

TIMING_HEADER = "x-predawn-timing"
"""Sent as "1" in a request, it asks for a reply header of the same name: "recv_ns=..,decode=..,
lookup=..,wait=..,rank=..,encode=..,send_ns=..", the first and last as points on the server's
monotonic clock, the stages between as durations, all in nanoseconds."""


_LABELS = tuple(source.label for source in Source)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a ranker's features are among those of all rankers. own: None where they are all of
    them, in order; others: columns that this ranker does not take."""

    own: NDArray[np.intp] | None
    others: NDArray[np.intp]


class RankRoute:
    """Handler of POST /v1/rank."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._http = services.config.http
        self._features = feature_names(services)
        self._columns = {
            name: columns_of(self._features, ranker) for name, ranker in services.rankers.items()
        }
        self._default = next(iter(services.rankers), "")

    async def __call__(self, call: Call) -> web.Response:
        """CodecError, RequestError, and what `Pipeline.rank` raises."""
        clock = self._services.clock
        body = await read_body(call.request, self._http)
        sent = decode_rank(body, self._features, self._http.items_limit)
        request = self._request(call, sent)
        decoded_ns = clock.monotonic_ns()

        reply = await self._services.pipeline.rank(request)

        ranked_ns = clock.monotonic_ns()
        took_us = (ranked_ns - call.arrived_ns) // 1000
        tail = reply_tail(request, reply, took_us)
        encoded = sent.encode_reply(request.ranker, reply.order, reply.scores, tail)
        # The callback runs after this task's step, which writes the response.
        asyncio.get_running_loop().call_soon(self._services.pipeline.after_reply, request, reply)
        sent_ns = clock.monotonic_ns()
        self._services.metrics.stage("decode", decoded_ns - call.arrived_ns)
        self._services.metrics.stage("encode", sent_ns - ranked_ns)
        headers = HEADERS
        if call.request.headers.get(TIMING_HEADER) == "1":
            stages = {
                "recv_ns": call.arrived_ns,
                "decode": decoded_ns - call.arrived_ns,
                **reply.stages_ns,
                "encode": sent_ns - ranked_ns,
                "send_ns": sent_ns,
            }
            timing = ",".join(f"{stage}={ns}" for stage, ns in stages.items())
            headers = {**HEADERS, TIMING_HEADER: timing}
        return web.Response(body=encoded, content_type="application/json", headers=headers)

    def _request(self, call: Call, sent: RankBody) -> RankRequest:
        name = sent.ranker or self._default
        columns = self._columns.get(name)
        if columns is None:
            raise UnknownName("ranker", name, self._columns)
        call.ranker = name
        return RankRequest(
            user=sent.user,
            item_hashes=sent.item_hashes,
            item_features=self._own_features(name, columns, sent.item_features),
            ranker=name,
            deadline_ns=call.arrived_ns + timeout_ns(call.request, sent.timeout_ms, self._http),
            top_k=min(sent.top_k or sent.count, sent.count),
            explain=sent.explain,
            request_id=call.request_id,
        )

    def _own_features(self, ranker: str, columns: Columns, features: F32) -> F32:
        if columns.own is None:
            return features
        others = features[:, columns.others]
        if others.any():
            item, other = np.argwhere(others)[0]
            name = self._features[columns.others[other]]
            reason = f"ranker {ranker!r} does not take this feature"
            raise BadRequest(f"items[{item}].features.{name}", reason)
        return np.ascontiguousarray(features[:, columns.own])


def feature_names(services: Services) -> tuple[str, ...]:
    """Names that items may send: those of all rankers, each once."""
    names = (name for ranker in services.rankers.values() for name in ranker.item_features)
    return tuple(dict.fromkeys(names))


def columns_of(names: tuple[str, ...], ranker: RankerColumns) -> Columns:
    """The columns of `names` that `ranker` takes, in its order."""
    own = np.array([names.index(name) for name in ranker.item_features], dtype=np.intp)
    everything = np.arange(len(names))
    complete = len(own) == len(names) and bool((own == everything).all())
    return Columns(None if complete else own, np.setdiff1d(everything, own))


def reply_tail(request: RankRequest, reply: RankReply, took_us: int) -> bytes:
    """The members of a reply after "items", without the braces around."""
    tail: dict[str, object] = {
        "sources": {
            "user": {
                name: {"source": _LABELS[row.source], "age_ms": age_of(row)}
                for name, row in reply.users.items()
            },
            "pairs": {name: pair_counts(rows) for name, rows in reply.pairs.items()},
        },
        "degraded": reply.degraded,
        "took_us": took_us,
        "request_id": request.request_id,
    }
    if request.explain:
        tail["explain"] = explanation(reply)
    return orjson.dumps(tail, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def pair_counts(rows: PairRows) -> dict[str, int]:
    """Candidates by what their pair's embedding came from."""
    return {source.label: rows.counts[source] for source in PAIR_SOURCES}


def age_of(row: UserRow) -> int | None:
    """None where a vector has no age: nothing was known of the user."""
    return row.age_ms if row.age_ms >= 0 else None


def explanation(reply: RankReply) -> dict[str, object]:
    """Snapshot and reason of each user model; scores of each task, sources and ages of each pair
    model in the order of "items"."""
    tasks: dict[str, F32] = {}
    if reply.task_scores is not None:
        best = reply.task_scores[reply.order]
        tasks = {name: best[:, i].copy() for i, name in enumerate(reply.tasks)}
    models = {
        name: {"snapshot": row.snapshot, "reason": row.reason} for name, row in reply.users.items()
    }
    pairs = {
        name: {
            "sources": [_LABELS[source] for source in rows.sources[reply.order].tolist()],
            "ages_ms": [age if age >= 0 else None for age in rows.ages_ms[reply.order].tolist()],
        }
        for name, rows in reply.pairs.items()
    }
    return {"models": models, "tasks": tasks, "pairs": pairs}
