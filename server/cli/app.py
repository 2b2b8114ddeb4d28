"""The command line as a whole: which commands there are, and how they end.

Invariant: what goes wrong on purpose (`PredawnError`, usage) ends in `predawn: <field>: <reason>`
on standard error, a line each, without a traceback: exit code 2 for settings and usage, 1 for what
fails while running, 130 for Ctrl-C. Commands import what they need when they run, so that --help
is instant.
"""

import sys
from typing import Any, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from predawn.server.cli.about import collect_env, version
from predawn.server.cli.bench import bench, profile
from predawn.server.cli.check import check
from predawn.server.cli.demo import demo
from predawn.server.cli.models import models
from predawn.server.cli.replay import replay
from predawn.server.cli.serve import serve
from predawn.server.cli.served_log import served_log
from predawn.server.cli.train import train
from predawn.server.cli.verify import verify
from predawn.server.cli.workload import workload
from predawn.server.errors import ConfigError, PredawnError, RequestError

INTERRUPTED = 130


@runtime_checkable
class _UsageProblem(Protocol):
    """typer's own errors, by shape: where their class lives differs between its versions."""

    exit_code: int

    def format_message(self) -> str: ...


class Commands(TyperGroup):
    """The group of all commands, with the ends described above."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except (typer.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except Exception as error:
            code = _end(error)
        sys.exit(code if isinstance(code, int) else 0)


def _end(error: Exception) -> int:
    """Says what happened and returns the exit code; raises what nobody meant to happen."""
    if isinstance(error, _UsageProblem):
        return fail(error.format_message(), error.exit_code)
    match error:
        case ConfigError() | RequestError():
            return fail(str(error), 2)
        case PredawnError():
            return fail(str(error), 1)
        case ExceptionGroup(exceptions=[only]):  # from a TaskGroup around what failed
            return _end(only)
        case _:
            raise error


def fail(message: str, code: int) -> int:
    """Prints the message, a line per problem, and returns the exit code."""
    for line in message.splitlines():
        print(f"predawn: {line}", file=sys.stderr)
    return code


def build() -> typer.Typer:
    """All commands, in the order of --help."""
    app = typer.Typer(
        name="predawn",
        cls=Commands,
        help="Inference server for recommenders whose models are too expensive to run while a user "
        "waits: answers from embeddings computed before, and refreshes them behind the requests.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in (serve, demo, check, train, verify, workload, replay, bench, profile):
        app.command()(command)
    app.add_typer(models, name="models")
    app.command("served-log")(served_log)
    app.command("collect-env")(collect_env)
    app.command()(version)
    return app


def main() -> None:
    """Entry point of the `predawn` script."""
    if "" not in sys.path:  # as under `python -m`: factories beside the configuration are found
        sys.path.append("")
    build()()
