"""The server on the wire: CPU per request and latency against the least that Python can do.

Peers answer the same requests with a reply of the same size and decide nothing: a bare
asyncio.Protocol (the limit) and aiohttp, both on uvloop. Server and client have a core each where
there are two. Rounds of all servers are interleaved; p99 is the median of the rounds' p99.
"""

import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from predawn.bench import harness, load, machine, rig
from predawn.bench.bodies import rank_body
from predawn.bench.child import Child, free_port
from predawn.bench.harness import BenchError, Effort, Row, Stamp
from predawn.bench.prepare import SMALL, prepare, state_dir
from predawn.server.request import I64

_ECHOES = ("protocol", "aiohttp")
_WARM_TURNS = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the suite. rate: per second, open loop, uniform; slice_s: one server's turn;
    mode_rate, mode_slice_s: the same of the modes, with Poisson arrivals."""

    rate: float
    slice_s: float
    mode_rate: float
    mode_slice_s: float
    rounds: int
    users: int
    items: tuple[int, ...]

    def at_ns(self) -> I64:
        """Intended times of one turn."""
        return load.uniform(self.rate, max(1, round(self.rate * self.slice_s)))


FULL = Plan(1500, 2.0, mode_rate=200, mode_slice_s=5.0, rounds=5, users=512, items=(8, 100))
SMOKE = Plan(200, 0.25, mode_rate=100, mode_slice_s=0.3, rounds=1, users=16, items=(8,))


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """CPU and latency per request, p99 by mode, inferences shared by two rankers."""
    plan = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        return [
            *_against_echoes(mark, plan, Path(folder)),
            *_by_mode(mark, plan, Path(folder)),
            *_shared(mark, plan, Path(folder)),
        ]


def _messages(users: Iterable[int], items: int, ranker: str = "main") -> list[bytes]:
    return [load.http_message("/v1/rank", rank_body(items, u, ranker)) for u in users]


def warm(child: Child, messages: Sequence[bytes]) -> None:
    """Sends `messages` until every one is served `direct`; BenchError when that never happens."""
    at_ns = load.uniform(500, len(messages))
    sources: dict[str, int] = {}
    for _ in range(_WARM_TURNS):
        sources = dict(rig.drive(child, messages, at_ns).recorder.sources)
        if set(sources) == {"direct"}:
            return
    raise BenchError(f"serve: still not all direct after {_WARM_TURNS} turns: {sources}")


@contextmanager
def _echo(kind: str, size: int, folder: Path) -> Generator[Child, None, None]:
    port = free_port()
    arguments = ["-m", "predawn.bench.echo", kind, str(port), str(size)]
    with Child(arguments, port, folder / f"{kind}.log") as child:
        child.wait_ready("/", 30)
        yield child


def _against_echoes(mark: Stamp, plan: Plan, folder: Path) -> list[Row]:
    rows: list[Row] = []
    for items in plan.items:
        messages = _messages(range(plan.users), items)
        with rig.bare(folder / f"direct{items}") as own:
            warm(own, messages)
            body = rank_body(items, user=0)
            size = len(own.request("POST", "/v1/rank", body)[1])
            with _echo("protocol", size, folder) as least, _echo("aiohttp", size, folder) as usual:
                servers = {"predawn": own, "protocol": least, "aiohttp": usual}
                drives = _interleaved(servers, messages, plan)
        rows += _echo_rows(mark, f"rank {items} items, all direct", drives)
    return rows


def _interleaved(
    servers: dict[str, Child], messages: Sequence[bytes], plan: Plan
) -> dict[str, list[rig.Drive]]:
    """Rounds of each server, taking turns; pinned apart from the client."""
    drives: dict[str, list[rig.Drive]] = {name: [] for name in servers}
    with _apart(list(servers.values())):
        for _ in range(plan.rounds):
            for name, child in servers.items():
                drives[name].append(_clean(name, rig.drive(child, messages, plan.at_ns())))
    return drives


def _clean(name: str, drive: rig.Drive) -> rig.Drive:
    errors = drive.recorder.errors()
    if errors:
        raise BenchError(f"serve: {name} answered with errors (status: count): {errors}")
    return drive


@contextmanager
def _apart(children: Sequence[Child]) -> Generator[None, None, None]:
    """Servers on the first core, this process on the last, while there are two."""
    cores = machine.cores()
    if len(cores) < 2:
        yield
        return
    for child in children:
        machine.pin(child.pid, cores[0])
    machine.pin(0, cores[-1])
    try:
        yield
    finally:
        machine.unpin(0, cores)


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _count(drives: Sequence[rig.Drive]) -> int:
    return sum(drive.totals.answered for drive in drives)


def _echo_rows(mark: Stamp, case: str, drives: dict[str, list[rig.Drive]]) -> list[Row]:
    cpu = {name: [d.cpu_us_per_request for d in found] for name, found in drives.items()}
    least = _median(cpu["protocol"])
    n = _count(drives["predawn"])
    rows = _against(mark, case, "cpu_per_request", "us", cpu, _ECHOES, n, limit=least)
    rows += [
        mark.row(case, f"cpu_per_request_{peer}", _median(cpu[peer]), "us", n=n) for peer in _ECHOES
    ]
    return rows + _latency_rows(mark, case, drives, _ECHOES)


def _latency_rows(
    mark: Stamp, case: str, drives: dict[str, list[rig.Drive]], peers: Sequence[str]
) -> list[Row]:
    """p50 and p99 of the first of `drives` against `peers`."""
    n = _count(next(iter(drives.values())))
    rows: list[Row] = []
    for metric, q in (("p50", 0.5), ("p99", 0.99)):
        found = {name: [d.recorder.quantile_ms(q) for d in ds] for name, ds in drives.items()}
        rows += _against(mark, case, metric, "ms", found, peers, n)
    return rows


def _against(
    mark: Stamp,
    case: str,
    metric: str,
    unit: str,
    rounds: dict[str, list[float]],
    peers: Sequence[str],
    n: int,
    limit: float | None = None,
) -> list[Row]:
    """The median of the first of `rounds`, a row per peer, and its spread."""
    own = next(iter(rounds.values()))
    value = _median(own)
    rows = [
        mark.row(
            case,
            metric,
            value,
            unit,
            limit=limit,
            peer=peer,
            ratio=harness.times_better(value, _median(rounds[peer])),
            n=n,
        )
        for peer in peers
    ]
    return [*rows, mark.row(case, f"{metric}_spread", harness.spread(own), "share", n=n)]


def _by_mode(mark: Stamp, plan: Plan, folder: Path) -> list[Row]:
    """soap with direct_ttl 0, which recomputes behind every request, against frozen, which
    computes nothing; both have all cores, shared with the client."""
    messages = _messages(range(plan.users), plan.items[-1])
    count = max(1, round(plan.mode_rate * plan.mode_slice_s))
    drives: dict[str, list[rig.Drive]] = {"soap": [], "frozen": []}
    snapshot = prepare(SMALL, state_dir() / "models", lambda stage, share: None).snapshot
    with (
        _reference(folder / "soap", snapshot, mode="soap", direct_ttl=0) as soap,
        _reference(folder / "frozen", snapshot, mode="frozen") as frozen,
    ):
        servers = {"soap": soap, "frozen": frozen}
        for child in servers.values():
            rig.drive(child, messages, load.poisson(plan.mode_rate, count, seed=0))  # warm-up
        for turn in range(plan.rounds):
            at_ns = load.poisson(plan.mode_rate, count, seed=turn + 1)
            for name, child in servers.items():
                drives[name].append(_clean(name, rig.drive(child, messages, at_ns)))
        computed = rig.metrics(soap).total("predawn_inferences_total")
    case = "soap against frozen, reference models"
    rows = _latency_rows(mark, case, drives, ["frozen"])
    return [*rows, mark.row(case, "inferences_behind", computed, "users", n=_count(drives["soap"]))]


def _reference(folder: Path, snapshot: Path, **model: object) -> AbstractContextManager[Child]:
    return rig.running(rig.reference_settings(folder, free_port(), snapshot, model), folder)


def _shared(mark: Stamp, plan: Plan, folder: Path) -> list[Row]:
    """Two rankers over one user model: every user is computed once, not twice."""
    settings = rig.bare_settings(folder / "shared", free_port())
    settings["rankers"]["second"] = dict(settings["rankers"]["main"])
    users = range(plan.users)
    messages = [
        message
        for user in users
        for ranker in ("main", "second")
        for message in _messages([user], plan.items[0], ranker)
    ]
    with rig.running(settings, folder / "shared") as child:
        warm(child, messages)
        computed = rig.metrics(child).total("predawn_inferences_total")
    ratio = computed / len(users)
    case = "two rankers over one user model"
    return [mark.row(case, "inferences_per_user", ratio, "inferences", limit=1.0, n=len(messages))]
