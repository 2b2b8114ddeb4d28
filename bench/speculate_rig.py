"""What the cases of the speculate suite share: a server with a model of pairs, and users who come
back to the same items.

Every user has a pool of items, half of it his own, half of it everybody's, and is shown a different
part of it at every request: pairs are asked for again, and users have items in common.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from predawn.bench import load, rig
from predawn.bench.bodies import events_body
from predawn.bench.child import Child
from predawn.bench.harness import BenchError
from predawn.bench.load import Answer, Send
from predawn.bench.recorder import OK
from predawn.server.clock import SystemClock
from predawn.server.models.foundation_shape import named_foundation
from predawn.server.models.loading import FOUNDATION_FILE
from predawn.server.models.snapshots import write_snapshot
from predawn.server.request import I64, U64
from predawn.server.traces import EVENT_TYPES

MODEL = "fm"
PAIR_FACTORY = "predawn.bench.fault_models:pair_model"
_CAPACITY = 200_000
_WARM_TURNS, _WARM_SEED = 30, 1_000_000
_SHARED = 1_000_000_000  # from here on items are everybody's, or nobody's
_ONCE = 2_000_000_000  # from here on items are shown once


@dataclass(frozen=True, slots=True)
class Traffic:
    """rate: requests per second; users come in turn; items: of a request, out of a pool of twice
    so many."""

    rate: float
    users: int
    items: int

    def at_ns(self, seconds: float, seed: int) -> I64:
        """Intended times of so many seconds: Poisson."""
        return load.poisson(self.rate, max(1, round(self.rate * seconds)), seed)

    def messages(self, seed: int, rounds: int = 4) -> list[bytes]:
        """`rounds` requests of every user, user after user."""
        rng = np.random.default_rng(seed)
        return [
            rank_message(user, self.pool(user)[rng.permutation(2 * self.items)[: self.items]])
            for _ in range(rounds)
            for user in range(1, self.users + 1)
        ]

    def pool(self, user: int) -> U64:
        """uint64 [2 * items], each once."""
        own = user * 10_000 + np.arange(self.items)
        shared = _SHARED + (user * 7 + np.arange(self.items)) % (4 * self.items)
        return np.concatenate([own, shared]).astype(np.uint64)

    def never_again(self, count: int, turn: int) -> list[bytes]:
        """`count` requests whose items are shown in no other request of any turn."""
        first = _ONCE + turn * 100_000_000
        items = np.arange(first, first + count * self.items, dtype=np.uint64)
        return [
            rank_message(1 + i % self.users, items[i * self.items : (i + 1) * self.items])
            for i in range(count)
        ]


def rank_message(user: int, items: U64) -> bytes:
    """A whole POST /v1/rank."""
    return load.http_message("/v1/rank", orjson.dumps({"user": user, "items": items.tolist()}))


def factory(**options: object) -> dict[str, Any]:
    """[pairs.NAME] of the model that does what `options` say."""
    return {"factory": PAIR_FACTORY, "options": options}


def settings(folder: Path, port: int, pairs: Mapping[str, Any] | None) -> rig.Settings:
    """A server that costs nothing else: one user model, one ranker, which reads a model of pairs
    with the settings `pairs`, or none. The models are in a process of their own and may have it to
    themselves."""
    made = rig.bare_settings(folder, port, mode="soap")
    made["models"]["user"] |= {"direct_ttl": "1h", "failover_ttl": "2h"}
    made["engine"] = {"isolation": "process", "background_share": 1.0}
    if pairs is not None:
        made["pairs"] = {MODEL: {"capacity": _CAPACITY, **pairs}}
        made["rankers"]["main"]["pair_models"] = [MODEL]
    return made


def foundation(folder: Path, size: str) -> dict[str, Any]:
    """[pairs.NAME] of a foundation model of that size with random weights, written to `folder`:
    what it costs does not depend on them."""
    from predawn.server.models.foundation import foundation_tensors, untrained_foundation

    shape = named_foundation(size, types=len(EVENT_TYPES))
    described = {"shape": shape.describe(), "dim": shape.dim, "length": shape.length}
    section = described | {"default": [0.0] * shape.dim}
    history = {"types": list(EVENT_TYPES), "attributes": [], "length": shape.length}
    files = {FOUNDATION_FILE: foundation_tensors(untrained_foundation(shape, seed=0))}
    write_snapshot(folder, files, {"foundation": section, "history": history})
    return {"snapshot": str(folder)}


def tell_past(child: Child, users: int, events: int) -> None:
    """Gives every user a history, so that the model has something to encode."""
    start_ms = SystemClock().wall_ms() - 10 * events * 60_000
    for user in range(1, users + 1):
        items = [user * 10_000 + i for i in range(events)]
        status, told = child.request(
            "POST", "/v1/events", events_body(user, items, "shown", start_ms + user)
        )
        if status // 100 != OK // 100:
            raise BenchError(f"speculate: events were answered {status}: {told.decode()}")


@dataclass(slots=True)
class Served:
    """A sink that adds up what the replies say of their pairs. wrong: replies whose pairs are not
    as many as their items; slowest_ns: from the intended time of sending."""

    items: int
    sources: Counter[str] = field(default_factory=Counter[str])
    took_ns: list[int] = field(default_factory=list[int])
    unserved: int = 0
    wrong: int = 0

    def __call__(self, answer: Answer) -> None:
        self.took_ns.append(answer.received_ns - answer.intended_ns)
        if answer.status != OK:
            self.unserved += 1
            return
        counts: dict[str, int] = orjson.loads(answer.body)["sources"]["pairs"][MODEL]
        self.sources.update(counts)
        self.wrong += sum(counts.values()) != self.items

    def share(self, *sources: str) -> float:
        """Of all pairs served, those from `sources`."""
        return sum(self.sources[each] for each in sources) / max(1, self.sources.total())

    def quantile_ms(self, q: float) -> float:
        """Latency at quantile q in 0..1."""
        return float(np.quantile(self.took_ns, q)) / 1e6


def drive(child: Child, traffic: Traffic, seconds: float, seed: int) -> Served:
    """So many seconds of the traffic, and what the replies said."""
    messages, served = traffic.messages(seed), Served(traffic.items)
    rig.drive_sends(child.port, _sends(messages, traffic.at_ns(seconds, seed)), served)
    return served


def warm(child: Child, traffic: Traffic, seconds: float) -> None:
    """So many seconds of the traffic, and again until a pair was served as computed for its user
    and item; BenchError when that never happens."""
    for turn in range(_WARM_TURNS):
        if drive(child, traffic, seconds, _WARM_SEED + turn).sources["direct"]:
            return
    raise BenchError(f"speculate: no pair was there after {_WARM_TURNS} times {seconds:g} s")


def _sends(messages: list[bytes], at_ns: I64) -> Iterator[Send]:
    return (Send(int(at), messages[i % len(messages)], i) for i, at in enumerate(at_ns))


@dataclass(frozen=True, slots=True)
class Worked:
    """What the models did between two looks at the server: engine_s: of pairs; computed: pairs
    that became readable."""

    seconds: float
    engine_s: float
    computed: float

    @property
    def share(self) -> float:
        """Of the engine's time."""
        return self.engine_s / self.seconds


class Meter:
    """The engine's time for pairs and the pairs that it brought, from a point in time on."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._clock = SystemClock()
        self._before = self._now()

    def read(self) -> Worked:
        """Since the meter was made."""
        before, now = self._before, self._now()
        at_ns, engine_s, computed = (b - a for a, b in zip(before, now, strict=True))
        return Worked(at_ns / 1e9, engine_s, computed)

    def _now(self) -> tuple[float, float, float]:
        found = rig.metrics(self._child)
        engine_s = found.total("predawn_engine_busy_seconds_total", lane="speculate")
        computed = sum(
            found.total(f"predawn_{which}_pairs_total", outcome="ok")
            for which in ("missed", "proposed")
        )
        return float(self._clock.monotonic_ns()), engine_s, computed
