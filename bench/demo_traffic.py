"""The demo's users: the workload's requests at a steady rate, for ever, and what they then do.

Time is compressed: the order and the users are the workload's, the pace is the demo's. Events carry
the workload's own time, so that what models read of a history is what they were trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from predawn.bench.load import Send, http_message
from predawn.server.traces import Trace, event_types

EVENTS_TAG = -1
"""Tag of a send to /v1/events; requests to /v1/rank have tags from 0 on."""

_DAY_MS = 86_400_000
# Laps move event times on by a day each, and events from the future are refused: far enough back
# for a demo of a month.
_START_DAYS_AGO = 10_000
_GROUP = 8  # requests whose events go in one body, as a log shipper would send them
_TYPES = ("shown", "clicked")
_NAMES = {1: ["shown"], 2: ["clicked"], 3: ["shown", "clicked"]}


@dataclass(frozen=True, slots=True)
class Pace:
    """compression: seconds of the workload in a second of the demo."""

    rate: float
    compression: float

    def compressed_ms(self, ms: int) -> int:
        """A duration of the workload as it is in the demo; at least a millisecond."""
        return max(1, round(ms / self.compression))


def pace_of(live: Trace, rate: float) -> Pace:
    """The pace at which `live` takes len(live) / rate seconds."""
    span_s = max(1, int(live.t_ms[-1] - live.t_ms[0])) / 1000
    return Pace(rate, span_s / (len(live) / rate))


def start_shift_ms(trace: Trace, now_ms: int) -> int:
    """What to add to the times of `trace` so that it began long ago, at the same time of day."""
    days = (now_ms - int(trace.t_ms[0])) // _DAY_MS - _START_DAYS_AGO
    return max(days * _DAY_MS, -int(trace.t_ms[0]))


class Traffic:
    """The requests of `live`, lap after lap, evenly at `rate` per second."""

    def __init__(self, live: Trace, rate: float, rankers: Sequence[str], shift_ms: int) -> None:
        self._live = live
        self._rate = rate
        self._rankers = tuple(rankers)
        self._shift_ms = shift_ms
        self._bits = event_types(live, _TYPES)

    def sends(self) -> Iterator[Send]:
        """Without end. The events of a group of requests follow the last of them."""
        number = 0
        gap_ns = 1e9 / self._rate
        n = len(self._live)
        while True:
            lap, i = divmod(number, n)
            at_ns = round(number * gap_ns)
            yield Send(at_ns, http_message("/v1/rank", self.rank_body(i)), number)
            number += 1
            if number % _GROUP == 0:
                first = max(0, i + 1 - _GROUP)
                body = _events_body(self._live, self._bits, first, i + 1, self._time_of(lap))
                yield Send(at_ns, http_message("/v1/events", body), EVENTS_TAG)

    def rank_body(self, i: int) -> bytes:
        """The body of request i of the lap; rankers take turns."""
        live = self._live
        items = np.asarray(live.item_ids[live.offsets[i] : live.offsets[i + 1]]).tolist()
        ranker = self._rankers[i % len(self._rankers)]
        return orjson.dumps({"user": live.user(i), "items": items, "ranker": ranker})

    def _time_of(self, lap: int) -> int:
        span_ms = int(self._live.t_ms[-1] - self._live.t_ms[0])
        return self._shift_ms + lap * (span_ms // _DAY_MS + 1) * _DAY_MS


def _events_body(
    trace: Trace, bits: NDArray[np.uint16], first: int, last: int, shift_ms: int
) -> bytes:
    """What the users of requests first..last - 1 saw and clicked."""
    events: list[object] = []
    for i in range(first, last):
        user, t_ms = trace.user(i), int(trace.t_ms[i]) + shift_ms
        rows = slice(int(trace.offsets[i]), int(trace.offsets[i + 1]))
        items = np.asarray(trace.item_ids[rows]).tolist()
        events += [
            {"user": user, "item": item, "types": _NAMES[kind], "t_ms": t_ms}
            for item, kind in zip(items, bits[rows].tolist(), strict=True)
        ]
    return orjson.dumps({"events": events})


def past_bodies(past: Trace, shift_ms: int, events_each: int = 4000) -> Iterator[bytes]:
    """/v1/events bodies with everything that happened before the demo begins."""
    bits = event_types(past, _TYPES)
    first = 0
    while first < len(past):
        wanted = int(past.offsets[first]) + events_each
        last = max(first + 1, int(np.searchsorted(past.offsets, wanted, side="right")) - 1)
        yield _events_body(past, bits, first, last, shift_ms)
        first = last
