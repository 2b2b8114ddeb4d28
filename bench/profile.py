"""`predawn profile`: open-loop load on a server, and where the time of its requests goes."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from predawn.bench import load, machine, report, rig, stages
from predawn.bench.load import Send, Totals
from predawn.bench.recorder import Recorder
from predawn.server.errors import PredawnError

_ASK = (("x-predawn-timing", "1"),)
_SLOWEST = 10


class ProfileError(PredawnError):
    """Nothing to show: the server did not answer, or does not stamp its replies."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes and what it is: bodies of /v1/rank, sent round and round."""

    host: str
    port: int
    bodies: list[bytes]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile run found."""

    rate: float
    totals: Totals
    recorder: Recorder
    found: stages.Breakdown


def target_of(url: str, users: int = 1000, items: int = 100, seed: int = 3) -> Target:
    """A running server at `url`: random users and items, its default ranker."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.hostname is None:
        raise ProfileError(f"--url {url!r}: expected http://HOST:PORT")
    rng = np.random.default_rng(seed)
    bodies = [
        orjson.dumps({"user": int(user), "items": rng.choice(100_000, items, False).tolist()})
        for user in rng.integers(1, 1_000_000, users)
    ]
    return Target(parts.hostname, parts.port or 80, bodies)


def run(target: Target, seconds: float, rate: float, seed: int = 1) -> Profile:
    """Drives `target` for `seconds` at `rate` per second (Poisson) and reads the stamps."""
    at_ns = load.poisson(rate, max(1, round(seconds * rate)), seed)
    messages = [load.http_message("/v1/rank", body, _ASK) for body in target.bodies]
    recorder = Recorder()
    sends = _sends(messages, at_ns.tolist())
    totals = rig.drive_sends(target.port, sends, recorder, host=target.host)
    found = stages.breakdown(recorder)
    if not len(found):
        said = recorder.errors() or "its replies have no x-predawn-timing header"
        raise ProfileError(f"nothing to break down at {target.host}:{target.port}: {said}")
    return Profile(rate, totals, recorder, found)


def _sends(messages: list[bytes], at_ns: list[int]) -> Iterator[Send]:
    return (Send(at, messages[i % len(messages)], i) for i, at in enumerate(at_ns))


def as_json(profile: Profile) -> bytes:
    """One JSON object; times in microseconds."""
    lines = {line.name: asdict(line) for line in stages.figures(profile.found)}
    return orjson.dumps(
        {
            "requests": profile.totals.answered,
            "timed": len(profile.found),
            "errors": sum(profile.recorder.errors().values()),
            "rate": profile.rate,
            "stages": [{**lines[name], "name": name} for name in stages.STAGES],
            "sum": lines["sum of the stages"],
            "residual": lines["residual"],
            "latency": lines["measured latency"],
            "residual_share": profile.found.residual_share,
            "sums_up": abs(profile.found.residual_share) <= stages.RESIDUAL_MAX,
            "sources": dict(profile.recorder.sources),
            "slowest": stages.slowest_rows(profile.found, _SLOWEST),
            "commit": machine.commit(),
            "device": machine.device(),
        }
    )


def show(profile: Profile, console: Console) -> None:
    """Two tables: the breakdown, and the slowest requests."""
    console.print(_breakdown_table(profile))
    console.print(_slowest_table(profile))


def _breakdown_table(profile: Profile) -> Table:
    errors = profile.recorder.errors() or "none"
    share = profile.found.residual_share
    verdict = "adds up" if abs(share) <= stages.RESIDUAL_MAX else "does NOT add up"
    table = Table(
        title=f"{len(profile.found):,} requests at {profile.rate:,.0f} per second",
        caption=f"errors: {errors}; residual {share:.1%} of the mean latency: {verdict}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("stage", no_wrap=True)
    for name in ("mean us", "p50 us", "p99 us", "of mean"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in stages.figures(profile.found):
        cells = (line.mean_us, line.p50_us, line.p99_us)
        if line.name == "sum of the stages":
            table.add_section()
        table.add_row(line.name, *(report.figure(cell) for cell in cells), f"{line.share:.1%}")
    return table


def _slowest_table(profile: Profile) -> Table:
    table = Table(title="slowest requests, us", title_justify="left")
    rows = stages.slowest_rows(profile.found, _SLOWEST)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(report.figure(value) for value in row.values()))
    return table
