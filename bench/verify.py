"""Held to its word: a running server scores the held-out rows of a training as training did.

Starts a server on a snapshot in mode `realtime`, sends it every event from before the split, then
walks the held-out requests in time order: rank first, its events after (all requests of one instant
before the events of that instant). Scores must agree with those kept in the snapshot.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from predawn.bench import rig
from predawn.bench.child import free_port
from predawn.server.errors import PredawnError
from predawn.server.models.snapshots import Snapshot, load_snapshot
from predawn.server.models.training import HOLDOUT_FILE
from predawn.server.models.training_metrics import auc
from predawn.server.request import F32, I64
from predawn.server.traces import EVENT_TYPES, Trace, event_types

TOLERANCE = 1e-5
_EVENTS_A_BODY = 5_000
_WAIT = "10s"

Progress = Callable[[str, float], None]


class VerifyError(PredawnError):
    """The check cannot be made: snapshot and trace do not belong together, or a request failed."""


@dataclass(frozen=True, slots=True)
class Verified:
    """difference_max: largest |served - offline| of any row and task; auc: of the served scores."""

    requests: int
    rows: int
    difference_max: float
    auc: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether every served score is within TOLERANCE of its offline one."""
        return self.difference_max <= TOLERANCE

    def as_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "requests": self.requests,
            "rows": self.rows,
            "difference_max": self.difference_max,
            "tolerance": TOLERANCE,
            "agrees": self.agrees,
            "auc": self.auc,
        }


def verify(
    path: Path, trace: Trace, folder: Path, limit: int | None, progress: Progress
) -> Verified:
    """path: snapshot that `predawn train` wrote from `trace`; limit: held-out requests asked for at
    most, None: all. VerifyError, SnapshotError; ChildDied when the server does not start."""
    snapshot = load_snapshot(path)
    kept = snapshot.read(HOLDOUT_FILE)
    held_out = _requests(trace, kept["rows"])[:limit]
    rows = int(np.diff(trace.offsets)[held_out].sum())
    offline: F32 = kept["scores"][:rows]
    settings = rig.reference_settings(
        folder, free_port(), snapshot.path.resolve(), {"mode": "realtime", "wait": _WAIT}
    )
    settings["history"]["length"] = snapshot.section("history")["length"]
    settings["http"] |= {"timeout": _WAIT}
    with (
        rig.running(settings, folder) as child,
        closing(HTTPConnection("127.0.0.1", child.port, timeout=30)) as connection,
    ):
        walk = _Walk(connection, trace, snapshot)
        served = np.concatenate(list(walk.scores(held_out, progress)))
    return Verified(
        requests=len(held_out),
        rows=rows,
        difference_max=float(np.abs(served - offline).max(initial=0.0)),
        auc=_aucs(trace, kept["rows"][:rows], served),
    )


def _requests(trace: Trace, rows: I64) -> I64:
    """The requests that own the held-out rows. VerifyError for rows of another trace."""
    owners = np.searchsorted(trace.offsets, rows, side="right") - 1
    requests = np.unique(owners)
    if len(rows) and (
        rows[-1] >= trace.rows or np.diff(trace.offsets)[requests].sum() != len(rows)
    ):
        raise VerifyError("the snapshot was not trained on this trace: its held-out rows differ")
    return requests


def _aucs(trace: Trace, rows: I64, served: F32) -> dict[str, float]:
    found = {
        name: auc(trace.labels[name][rows], served[:, i]) for i, name in enumerate(trace.labels)
    }
    return {name: value for name, value in found.items() if value is not None}


class _Walk:
    """One connection to the server, and how far in the trace's events it has been told."""

    def __init__(self, connection: HTTPConnection, trace: Trace, snapshot: Snapshot) -> None:
        self._connection = connection
        self._trace = trace
        self._types = event_types(trace)
        self._owners = np.repeat(np.arange(len(trace)), np.diff(trace.offsets))  # request of a row
        self._tasks: list[str] = snapshot.section("ranker")["tasks"]
        self._told = 0

    def scores(self, requests: I64, progress: Progress) -> Iterator[F32]:
        """float32 [candidates, tasks] for each request, after everything from before its time."""
        for done, request in enumerate(requests.tolist()):
            until = int(np.searchsorted(self._trace.t_ms, self._trace.t_ms[request]))
            for told in self._tell(until):
                progress("telling the past" if done == 0 else "asking", told)
            yield self._ask(request)
            progress("asking", (done + 1) / len(requests))

    def _tell(self, until: int) -> Iterator[float]:
        """Posts the events of the requests before number `until`; yields the share that is done."""
        first, last = (int(self._trace.offsets[i]) for i in (self._told, until))
        events = (self._event(int(self._owners[row]), row) for row in range(first, last))
        sent = 0
        while chunk := list(itertools.islice(events, _EVENTS_A_BODY)):
            self._post("/v1/events", {"events": chunk})
            sent += len(chunk)
            yield sent / (last - first)
        self._told = until

    def _event(self, request: int, row: int) -> dict[str, Any]:
        bits = int(self._types[row])
        return {
            "user": self._trace.user(request),
            "item": _plain(self._trace.item_ids[row]),
            "t_ms": int(self._trace.t_ms[request]),
            "types": [name for bit, name in enumerate(EVENT_TYPES) if bits >> bit & 1],
        }

    def _ask(self, request: int) -> F32:
        trace = self._trace
        rows = range(int(trace.offsets[request]), int(trace.offsets[request + 1]))
        body = {
            "user": trace.user(request),
            "items": [{"id": _plain(trace.item_ids[row]), **self._features(row)} for row in rows],
            "explain": True,
        }
        reply = self._post("/v1/rank", body)
        if reply["degraded"]:
            raise VerifyError(f"a served embedding was not computed: {reply['sources']}")
        by_id = {item["id"]: at for at, item in enumerate(reply["items"])}
        order = [by_id[_plain(trace.item_ids[row])] for row in rows]
        tasks = reply["explain"]["tasks"]
        scores: F32 = np.array([tasks[name] for name in self._tasks], np.float32).T[order]
        return scores

    def _features(self, row: int) -> dict[str, Any]:
        values = self._trace.item_features[row].tolist()
        known = dict(zip(self._trace.item_feature_names, values, strict=True))
        return {"features": known} if known else {}

    def _post(self, path: str, body: object) -> Any:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise VerifyError(f"{path} answered {reply.status}: {text.decode(errors='replace')}")
        return json.loads(text)


def _plain(item: object) -> int | str:
    """An id as JSON has it."""
    return item if isinstance(item, str) else int(item)  # type: ignore[call-overload]
