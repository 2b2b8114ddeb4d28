"""`predawn models`: versions of models, of a running server and on disk."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from predawn.server.cli.options import Json
from predawn.server.cli.output import Output

if TYPE_CHECKING:
    from predawn.server.models.catalogue import Listed

models = typer.Typer(
    no_args_is_help=True,
    help="Versions of models: on disk, loaded beside what serves, swapped in, rolled back.\n\n"
    "A new version is one more directory in models.NAME.snapshot: `predawn train --out` writes it. "
    "`load` brings it into memory and tries it on recent requests, `swap` makes it serve.\n\n"
    "Example: predawn models load && predawn models swap",
)

_URL = "http://127.0.0.1:8471"
_MIB = 2**20

Url: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="PREDAWN_URL", help="The running server. Example: --url http://10.0.0.7:8471"
    ),
]
Names: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="Models or rankers, as in the configuration. Example: sum ctr"
    ),
]


@models.command("list")
def list_(
    path: Annotated[
        Path | None,
        typer.Argument(help="A directory of snapshots: lists what is in it, without a server. "
                       "Example: snapshots", show_default=False),
    ] = None,
    url: Url = _URL,
    json_: Json = None,
) -> None:  # fmt: skip
    """Lists models and their versions; with PATH the versions on disk.

    Example: predawn models list, or predawn models list snapshots
    """
    output = Output(json_)
    if path is not None:
        _list_directory(path, output)
        return
    told = _ask(url, "GET", "/v1/models")
    _show_models(told["models"], output)
    output.document(told)


@models.command()
def load(
    names: Names = None,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="Number of the version; without it the newest of each. "
                     "Example: --version 7", show_default=False),
    ] = None,
    url: Url = _URL,
    json_: Json = None,
) -> None:  # fmt: skip
    """Loads a version beside the one that serves, tries it on recent requests and stages it.

    Without names: of all models that have a snapshot. All of them are staged or none; what serves
    does not change. `predawn models swap` makes it serve.

    Example: predawn models load sum ctr --version 7
    """
    output = Output(json_)
    body = _body(names) | ({} if version is None else {"version": version})
    with output.console.status("loading"):
        told = _ask(url, "POST", "/v1/models/load", body)
    say = output.console.print
    for name, each in told["loaded"].items():
        tried = f"in {each['took_ms']:,} ms, tried on {each['warmed_rows']:,} rows"
        say(f"staged version {each['version']} of {name} {tried}", markup=False)
    for name in told["unchanged"]:
        say(f"{name}: nothing to load, that version serves or is staged", markup=False)
    if told["loaded"]:
        say("`predawn models swap` makes it serve", markup=False)
    output.document(told)


@models.command()
def swap(names: Names = None, url: Url = _URL, json_: Json = None) -> None:
    """Makes the staged versions serve, all at once; keeps those that served to roll back to.

    Without names: everything that is staged. No request is refused or waits meanwhile.

    Example: predawn models swap
    """
    _change("swap", names, url, Output(json_))


@models.command()
def rollback(names: Names = None, url: Url = _URL, json_: Json = None) -> None:
    """Goes back to the versions that served before; the newer ones stay staged.

    Without names: of all models that the last swap changed.

    Example: predawn models rollback sum
    """
    _change("rollback", names, url, Output(json_))


@models.command()
def prune(
    path: Annotated[Path, typer.Argument(help="A directory of snapshots. Example: snapshots")],
    keep: Annotated[
        int, typer.Option(min=1, help="How many sound versions stay. Example: --keep 5")
    ] = 3,
    json_: Json = None,
) -> None:
    """Removes old versions from disk, never the newest nor what is still being written.

    A running server keeps in memory what it has loaded, and can roll back to it all the same.

    Example: predawn models prune snapshots --keep 3
    """
    from predawn.server.models.catalogue import prune_snapshots

    output = Output(json_)
    removed = prune_snapshots(path, keep)
    freed = sum(each.size_bytes for each in removed)
    said = f"removed {len(removed)} versions, {freed / _MIB:,.1f} MiB"
    output.console.print(said if removed else "nothing to remove", markup=False)
    output.document({"removed": [each.version for each in removed], "bytes": freed})


def _change(change: str, names: Sequence[str] | None, url: str, output: Output) -> None:
    told = _ask(url, "POST", f"/v1/models/{change}", _body(names))
    for name, version in told["live"].items():
        output.console.print(f"version {version} of {name} serves now", markup=False)
    output.document(told)


def _ask(url: str, method: str, path: str, body: object = None) -> Any:
    from predawn.server.http.client import ask

    return ask(url, method, path, body)


def _body(names: Sequence[str] | None) -> dict[str, object]:
    return {"models": list(names)} if names else {}


def _show_models(told: Sequence[Mapping[str, Any]], output: Output) -> None:
    from rich.table import Table

    columns = ("model", "kind", "mode", "dim", "serves", "staged", "previous", "newest on disk")
    table = Table(*columns, "")
    for each in told:
        figures = [each[key] for key in ("mode", "dim", "live", "staged", "previous")]
        on_disk = [found["version"] for found in each["on_disk"]]
        cells = [each["name"], each["kind"], *figures, max(on_disk, default=None)]
        table.add_row(*("-" if cell is None else str(cell) for cell in cells), _state(each))
    output.console.print(table)
    if any(_behind(each) for each in told):
        output.console.print("`predawn models load` stages what is newer", markup=False)


def _state(each: Mapping[str, Any]) -> str:
    """What is going on or wrong: a load, the last failure, a newest version that is damaged."""
    if each["loading"]:
        return "loading"
    newest = max(each["on_disk"], key=lambda found: found["version"], default={"problem": ""})
    on_disk = f"version {newest['version']}: {newest['problem']}" if newest["problem"] else ""
    return str(each["error"] or on_disk)


def _behind(each: Mapping[str, Any]) -> bool:
    known = max(each["live"], each["staged"] or 0)
    return any(found["version"] > known for found in each["on_disk"])


def _list_directory(path: Path, output: Output) -> None:
    from rich.table import Table

    from predawn.server.models.catalogue import list_snapshots

    listed = list_snapshots(path)
    if not listed:
        said = f"no version in {path}; `predawn train --out {path}` writes one"
        output.console.print(said, markup=False)
    table = Table("version", "written, UTC", "MiB", "training", "problem", title=str(path))
    for each in listed:
        known = [(key, value) for key, value in each.training.items() if value is not None]
        training = ", ".join(f"{key} {value}" for key, value in known)
        size = f"{each.size_bytes / _MIB:,.1f}"
        table.add_row(str(each.version), _date(each.written_ms), size, training, each.problem)
    if listed:
        output.console.print(table)
    output.document({"versions": [_listed(each) for each in listed]})


def _date(written_ms: int) -> str:
    if not written_ms:
        return "unknown"
    return datetime.fromtimestamp(written_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _listed(each: "Listed") -> dict[str, object]:
    return {
        "version": each.version,
        "path": str(each.path),
        "bytes": each.size_bytes,
        "written_ms": each.written_ms,
        "training": dict(each.training),
        "problem": each.problem,
    }
