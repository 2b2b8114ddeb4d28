"""`predawn serve`: the server, until SIGTERM or Ctrl-C."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from predawn.server.cli.options import ConfigFile, Sets, load_config
from predawn.server.errors import ConfigError

if TYPE_CHECKING:
    from predawn.server.config import Config

_SWITCH_INTERVAL_S = 0.0005


def serve(
    config: ConfigFile = None,
    set_: Sets = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to bind (http.host). Example: --host 0.0.0.0"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="TCP port (http.port), 0 picks a free one. Example: --port 8080"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where models run (engine.device). Example: --device cuda:1"),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option("--log-level", help="Least log level (log.level). Example: --log-level debug"),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--log-format", help="text or json (log.format). Example: --log-format json"),
    ] = None,
) -> None:
    """Answers ranking requests over HTTP.

    Needs at least one user model and one ranker, from a file or --set; see examples/predawn.toml.
    SIGTERM or Ctrl-C drains: open requests are answered, then the process ends.

    Example: predawn serve --config predawn.toml --port 8080
    """
    flags: dict[str, object] = {
        "http.host": host,
        "http.port": port,
        "engine.device": device,
        "log.level": level,
        "log.format": format_,
    }
    one_thread_for_numpy()
    loaded = load_config(config, set_, flags)
    require_models(loaded.config)
    run(loaded.config)


def one_thread_for_numpy() -> None:
    """The ranker's small products on the event loop must not wait for a pool of threads: on two
    busy cores 2,000 candidates took 10 ms with OpenBLAS's own choice and .5 ms with one thread.
    Read when numpy is first imported; a value set from outside stays."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def require_models(config: "Config") -> None:
    """ConfigError if there is nothing to serve."""
    for section in ("models", "rankers"):
        if not getattr(config, section):
            hint = "`predawn train` writes one, examples/predawn.toml shows the setting"
            raise ConfigError(section, f"at least one is needed to serve; {hint}")


def run(config: "Config") -> None:
    """Serves until the process is told to stop."""
    import asyncio
    import sys

    import uvloop

    from predawn.server.engine_child import spare_collector
    from predawn.server.http import run as http_run
    from predawn.server.http.logging import Logs
    from predawn.server.wiring import running

    async def main() -> None:
        async with running(config) as services:
            spare_collector()
            await http_run.serve(services)

    # Python threads (the models', the history's writer) may keep the interpreter from the event
    # loop for one switch interval: half a millisecond instead of five.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    logs = Logs(config.log, sys.stderr)
    logs.open()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        logs.close()
