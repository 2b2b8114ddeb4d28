"""`predawn check`: is this configuration right, and what is in force?"""

from pathlib import Path
from typing import Annotated

import typer

from predawn.server.cli.options import Json, Sets, load_config
from predawn.server.cli.output import Output
from predawn.server.cli.serve import require_models


def check(
    config: Annotated[
        Path | None,
        typer.Argument(help="Configuration file; without it ./predawn.toml where there is one."),
    ] = None,
    set_: Sets = None,
    print_: Annotated[
        bool,
        typer.Option("--print", help="Prints the whole configuration in force as TOML, with where "
                     "each setting that is not a default came from."),
    ] = False,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Prints a commented sample with every default, and checks "
                     "nothing. Example: predawn check --sample > predawn.toml"),
    ] = False,
    models: Annotated[
        bool,
        typer.Option("--models/--no-models", help="Whether to load every model and ranker, as "
                     "serve would."),
    ] = True,
    json_: Json = None,
) -> None:  # fmt: skip
    """Checks a configuration, loads its models as `predawn serve` would, says what is wrong.

    Exit code 0: it would start. Environment variables (PREDAWN_HTTP__PORT=80) count, too.

    Example: predawn check predawn.toml --print
    """
    from predawn.server.config_sample import sample as sample_text
    from predawn.server.config_text import effective

    if sample:
        typer.echo(sample_text(), nl=False)
        return
    loaded = load_config(config, set_)
    if models:
        from predawn.server.wiring_models import load_models

        require_models(loaded.config)
        load_models(loaded.config)
    output = Output(json_)
    if print_:
        output.console.print(effective(loaded.config, loaded.sources), markup=False, soft_wrap=True)
    output.console.print("ok: it would start" if models else "ok: no setting is wrong")
    output.document({"config": loaded.config.model_dump(), "sources": loaded.sources})
