"""`predawn demo`: a server under live traffic, from nothing."""

from typing import Annotated

import typer

from predawn.server.cli.bench import failures
from predawn.server.cli.options import Json
from predawn.server.cli.output import Output


def demo(
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Ends after so long; without it on Ctrl-C. "
                     "Example: --seconds 30", show_default=False),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=1, max=1e5, help="Requests per second. Example: --rate 50")
    ] = 200.0,
    json_: Json = None,
) -> None:  # fmt: skip
    """Prepares small models (once), starts a server on loopback and shows it under live traffic.

    Two rankers share the same user embeddings, which are refreshed behind the requests. The first
    run trains the models; they are kept in .state/ of a checkout, else in the user's state folder
    (PREDAWN_STATE names another).

    Example: predawn demo --seconds 30 --json -
    """
    from predawn.bench.demo import Demo

    output = Output(json_)
    with failures():
        found = Demo(output.console, seconds, rate).run()
    output.document(found)
