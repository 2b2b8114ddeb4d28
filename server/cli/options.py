"""Options that several commands share, and how they become a configuration."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import typer

if TYPE_CHECKING:
    from predawn.server.config_load import Loaded

DEFAULT_FILE = "predawn.toml"

ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="PREDAWN_CONFIG",
        help="Configuration file; without it ./predawn.toml where there is one. "
        "Example: --config /etc/predawn.toml",
        show_default=False,
    ),
]
Sets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Overrides one setting; may be given often. "
        "Example: --set models.sum.direct_ttl=10m --set engine.threads=2",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="PATH|-",
        help="Also writes the result as JSON to a file, or alone to standard output with '-' "
        "(tables then go to standard error). Example: --json result.json",
        show_default=False,
    ),
]
Seed: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Of everything random: same seed, same result. Example: --seed 7")
]


def duration(text: str | int) -> int:
    """ "5m" or "300000" -> milliseconds, as in the configuration; a default passes through."""
    from predawn.server.config import duration_ms

    if isinstance(text, int) or text.isdecimal():
        return int(text)
    try:
        return cast(int, duration_ms(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from error


def taking(
    part: Callable[..., object], parameter: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose `parameter` comes from `part`: the options that `part` takes are the
    command's, in that place."""

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        theirs = inspect.signature(part).parameters
        own = inspect.signature(command).parameters

        def run(**given: object) -> None:
            made = part(**{name: given.pop(name) for name in theirs})
            command(**given, **{parameter: made})

        both = [
            each
            for name, own_one in own.items()
            for each in (theirs.values() if name == parameter else [own_one])
        ]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {each.name: each.annotation for each in both}
        vars(run)["__signature__"] = inspect.Signature(both)
        return run

    return wrap


def load_config(
    file: Path | None, sets: Sequence[str] | None, flags: Mapping[str, object] | None = None
) -> "Loaded":
    """The configuration that a command's options name. flags: dotted path -> value or None (not
    given); the source shown is the flag named after the last part of the path."""
    from predawn.server.config_faults import Setting
    from predawn.server.config_load import assignment, load

    if file is None and Path(DEFAULT_FILE).exists():
        file = Path(DEFAULT_FILE)
    overrides = [assignment(text) for text in sets or ()]
    for path, value in (flags or {}).items():
        if value is not None:
            parts = tuple(path.split("."))
            overrides.append(Setting(parts, value, f"--{parts[-1].replace('_', '-')}"))
    return load(file, overrides=overrides)
