"""`predawn replay`: what a policy would have done on a log, in virtual time."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from predawn.server.cli.options import Json, Seed, duration, taking
from predawn.server.cli.output import Output, progress
from predawn.server.cli.replay_pairs import pair_options


class ReplayMode(StrEnum):
    """A column of the policy table."""

    REALTIME = "realtime"
    ERCACHE = "ercache"
    SOAP = "soap"
    BATCH = "batch"
    FROZEN = "frozen"


def _duration(text: str, default: str | bool = False) -> Any:
    """An option that takes "5m"; default: as help shows it."""
    return typer.Option(parser=duration, metavar="DURATION", help=text, show_default=default)


_FAILURE = "Chance that an inference fails. Example: --failure-rate 0.05"
_RETRIES = "Times a request that has only the default asks again. Example: --retries 0"
_HANG = "Chance that a batch hangs (for --hang-s). Example: --hang-rate 0.001"
_MODELS = "Snapshot to compute with; without it the trace's truth. Example: --models snapshots"
_WARM_UP = "Share of the time before losses are counted; frozen is computed at its end."
_ORACLE = "Adds the figures of an independent computation with plain dictionaries."
_COMPARE = "Adds SUM's comparison of ways to serve: frozen, batch, realtime, ercache, soap."

LogFile: TypeAlias = Annotated[
    Path, typer.Argument(help="Log to replay, of any format that `predawn train` takes.")
]
Mode: TypeAlias = Annotated[
    ReplayMode, typer.Option(help="Policy under test. Example: --mode ercache")
]
DirectTtl: TypeAlias = Annotated[
    int | None,
    _duration("Served without a recompute up to here; without it 5m. Example: --direct-ttl 10m"),
]
FailoverTtl: TypeAlias = Annotated[
    int | None,
    _duration("Served at all up to here; without it 1d (batch: two sweeps, frozen: for ever). "
              "Example: --failover-ttl 6h"),
]  # fmt: skip
Wait: TypeAlias = Annotated[int, _duration("Longest wait for the user model.", "30ms")]
Timeout: TypeAlias = Annotated[int, _duration("Deadline of a request.", "50ms")]
BatchEvery: TypeAlias = Annotated[int, _duration("Period of the sweeps of batch.", "1h")]
AverageOver: TypeAlias = Annotated[
    int, typer.Option(min=1, max=8, help="Newest embeddings averaged; SUM uses 3.")
]
Retries: TypeAlias = Annotated[int, typer.Option(min=0, max=3, help=_RETRIES)]
Capacity: TypeAlias = Annotated[
    int, typer.Option(min=16, help="Users the store holds. Example: --capacity 10000")
]
FailureRate: TypeAlias = Annotated[float, typer.Option(min=0, max=1, help=_FAILURE)]
HangRate: TypeAlias = Annotated[float, typer.Option(min=0, max=1, help=_HANG)]
HangS: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1e6, help="Seconds that a hanging batch takes.")
]
CostFixed: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1e6, help="Engine time of a batch, whatever is in it.")
]
CostPerUser: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1e6, help="Engine time of every user in a batch.")
]
Snapshot: TypeAlias = Annotated[Path | None, typer.Option(help=_MODELS, show_default=False)]
WarmUp: TypeAlias = Annotated[float, typer.Option(min=0, max=1, help=_WARM_UP)]
Oracle: TypeAlias = Annotated[bool, typer.Option("--oracle", help=_ORACLE)]
Compare: TypeAlias = Annotated[bool, typer.Option("--compare-modes", help=_COMPARE)]


@taking(pair_options, "pairs")
def replay(
    trace: LogFile,
    mode: Mode = ReplayMode.SOAP,
    direct_ttl: DirectTtl = None,
    failover_ttl: FailoverTtl = None,
    wait: Wait = 30,
    timeout: Timeout = 50,
    average_over: AverageOver = 1,
    capacity: Capacity = 1_000_000,
    batch_every: BatchEvery = 3_600_000,
    retries: Retries = 1,
    failure_rate: FailureRate = 0.0,
    hang_rate: HangRate = 0.0,
    hang_s: HangS = 10.0,
    cost_fixed_ms: CostFixed = 4.0,
    cost_per_user_ms: CostPerUser = 0.25,
    models: Snapshot = None,
    warm_up: WarmUp = 0.25,
    seed: Seed = 0,
    oracle: Oracle = False,
    compare_modes: Compare = False,
    pairs: Any = None,
    json_: Json = None,
) -> None:
    """Runs the real policy, store, batcher and refresher on a log in virtual time, and with --fm
    the real store and speculation of pairs.

    An inference costs --cost-fixed-ms and --cost-per-user-ms, a batch of pairs --cost-encode-ms a
    user and --cost-per-pair-ms. The same seed: the same figures.

    Example: predawn replay day.jsonl.gz --mode ercache --direct-ttl 5m --oracle
    """
    from predawn.server.clock import SystemClock
    from predawn.server.replay import InferenceCost, ReplayOptions
    from predawn.server.replay import replay as run
    from predawn.server.replay.tables import tables
    from predawn.server.traces import read_trace

    options = ReplayOptions(
        mode=mode.value,
        direct_ttl_ms=direct_ttl,
        failover_ttl_ms=failover_ttl,
        wait_ms=wait,
        timeout_ms=timeout,
        average_over=average_over,
        capacity=capacity,
        batch_every_ms=batch_every,
        retries=retries,
        failure_rate=failure_rate,
        hang_rate=hang_rate,
        hang_s=hang_s,
        cost=InferenceCost(cost_fixed_ms, cost_per_user_ms),
        models=models,
        warm_up=warm_up,
        seed=seed,
        oracle=oracle,
        compare_modes=compare_modes,
        pairs=pairs,
    )
    output = Output(json_)
    with progress() as step:
        report = run(read_trace(trace), options, SystemClock(), step)
    for table in tables(report):
        output.console.print(table)
    output.document(report.document())
