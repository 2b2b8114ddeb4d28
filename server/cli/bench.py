"""`predawn bench` and `predawn profile`: how fast it is, and where the time goes."""

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predawn.server.cli.options import Json, Seed
from predawn.server.cli.output import Output, progress
from predawn.server.cli.serve import one_thread_for_numpy
from predawn.server.cli.torture import torture
from predawn.server.errors import PredawnError

if TYPE_CHECKING:
    from collections.abc import Generator

    from predawn.bench.profile import Target


class BenchFailed(PredawnError):
    """A benchmark or a process that it started failed; the message says which and why."""


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE]...",
            help='Suites to run, in order; none: all. Example: store codec. "torture" alone: '
            "processes on one store that are killed and stopped at random.",
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Tiny sizes: shows that everything runs; no figure counts."),
    ] = False,
    case: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help='Cases whose name has this in it, "*" for anything. Example: --case "get 1,000"',
            show_default=False,
        ),
    ] = "",
    list_: Annotated[
        bool, typer.Option("--list", help="Prints the names of the suites, and runs none.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long the torture lasts. Example: --seconds 120")
    ] = 120.0,
    processes: Annotated[
        int, typer.Option(min=2, max=16, help="That are tortured. Example: --processes 8")
    ] = 4,
    seed: Seed = 1,
    json_: Json = None,
) -> None:
    """Measures parts of the server against their limits and their peers, interleaved.

    A ratio is how many times better than the peer: above 1 predawn is faster. JSON: one object per
    figure and line.

    Example: predawn bench store --json store.jsonl
    """
    one_thread_for_numpy()
    from predawn.bench import report
    from predawn.bench.suites import SUITES, run_suite

    if list_:
        typer.echo("\n".join(SUITES))
        return
    output = Output(json_)
    if suites == ["torture"]:
        with failures():
            torture(seconds, processes, seed, output)
        return
    rows: list[dict[str, object]] = []
    for name in suites or list(SUITES):
        notes: list[str] = []
        with progress() as step, failures():
            told = functools.partial(step, f"bench {name}")
            told(0.0)
            found = run_suite(name, smoke=smoke, only=case, note=notes.append, progress=told)
        report.show(found, output.console, "; ".join(notes))
        rows += [row.as_json() for row in found]
    output.lines(rows)


def profile(
    url: Annotated[
        str | None,
        typer.Option(help="A running server; without it one is started with models that cost "
                     "nothing. Example: --url http://127.0.0.1:8471", show_default=False),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long to send. Example: --seconds 20")
    ] = 10.0,
    rate: Annotated[
        float, typer.Option(min=1, help="Requests per second, open loop. Example: --rate 500")
    ] = 300.0,
    users: Annotated[int, typer.Option(min=1, help="Different users asked for.")] = 1000,
    items: Annotated[int, typer.Option(min=1, max=10_000, help="Candidates per request.")] = 100,
    seed: Seed = 1,
    json_: Json = None,
) -> None:  # fmt: skip
    """Sends requests at a steady rate and shows where their time goes, stage by stage.

    Latency counts from the moment a request should have been sent, so that a stall is seen by all
    that wait behind it. Ends with the slowest requests.

    Example: predawn profile --seconds 20 --rate 500
    """
    from predawn.bench import profile as profiling

    output = Output(json_)
    status = output.console.status(f"{rate:g} requests per second for {seconds:g} s")
    with failures(), _target(url, users, items, seed) as target, status:
        found = profiling.run(target, seconds, rate, seed)
    profiling.show(found, output.console)
    output.text(profiling.as_json(found))


@contextlib.contextmanager
def _target(url: str | None, users: int, items: int, seed: int) -> "Generator[Target]":
    from predawn.bench import rig
    from predawn.bench.profile import target_of

    if url is not None:
        yield target_of(url, users, items, seed)
        return
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder, rig.bare(Path(folder)) as child:
        yield target_of(f"http://127.0.0.1:{child.port}", users, items, seed)


@contextlib.contextmanager
def failures() -> "Generator[None]":
    """Errors of the bench, which is a layer apart, as errors of the command."""
    from predawn.bench.child import ChildDied
    from predawn.bench.harness import BenchError

    try:
        yield
    except (ChildDied, BenchError, OSError) as error:
        raise BenchFailed(str(error)) from error
