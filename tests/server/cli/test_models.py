"""`predawn models`: what it asks of a server, what it prints, and how it says that it cannot."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from http_rig import Rig, Script, ScriptedVersions, run
from typer.testing import CliRunner

from predawn.bench.child import free_port
from predawn.server.cli.app import build
from predawn.server.errors import Conflict, LoadFailed
from predawn.server.models.loading import ModelSource, Recipe
from predawn.server.models.snapshots import MANIFEST, write_snapshot
from predawn.server.versions import ModelState, ServedModel


def ranker_of(path: str) -> ServedModel:
    return ServedModel(Recipe("ranker", ModelSource("rankers.quiet", path)))


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(build(), ["models", *arguments])


def against(script: ScriptedVersions, test: Callable[[Any], None], *arguments: str) -> None:
    """Runs a command against a server in this process."""

    async def main(it: Rig) -> None:
        url = f"http://127.0.0.1:{it.port}/"
        test(await asyncio.to_thread(invoke, *arguments, "--url", url))

    run(main, Script(versions=script))


def publish(out: Path, count: int = 1) -> list[Path]:
    tensors = {"a": np.zeros(4, np.float32)}
    meta = {"training": {"rows": 7, "seed": 1}}
    return [write_snapshot(out, {"a.safetensors": tensors}, meta) for _ in range(count)]


def test_models_of_a_server_are_a_table_and_a_document(tmp_path: Path) -> None:
    publish(tmp_path, 5)

    def table(result: Any) -> None:
        assert result.exit_code == 0, result.stderr
        row = next(line for line in result.stdout.splitlines() if "fresh" in line)
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells == ["fresh", "user", "soap", "2", "3", "4", "2", "5", "loading"]
        assert "it is torn" in result.stdout
        assert "`predawn models load` stages what is newer" in result.stdout

    def document(result: Any) -> None:
        told = json.loads(result.stdout)
        assert [each["name"] for each in told["models"]] == ["fresh", "blank", "ctr", "watch"]

    against(ScriptedVersions(snapshot=str(tmp_path)), table, "list")
    against(ScriptedVersions(snapshot=str(tmp_path)), document, "list", "--json", "-")


def test_a_damaged_newest_version_is_seen_before_it_is_loaded(tmp_path: Path) -> None:
    (publish(tmp_path, 2)[1] / "a.safetensors").unlink()

    def table(result: Any) -> None:
        row = next(line for line in result.stdout.splitlines() if "quiet" in line)
        assert "version 2: a.safetensors is missing" in row

    class Quiet(ScriptedVersions):
        def states(self) -> list[ModelState]:
            fresh = super().states()[0]
            return [replace(fresh, name="quiet", loading=False, model=ranker_of(self.snapshot))]

    against(Quiet(snapshot=str(tmp_path)), table, "list")


def test_a_directory_is_listed_without_a_server(tmp_path: Path) -> None:
    first, second = publish(tmp_path, 2)
    (second / "a.safetensors").unlink()
    os.utime(first / MANIFEST, (1_700_000_000, 1_700_000_000))
    result = invoke("list", str(tmp_path))
    assert "2023-11-14 22:13:20" in result.stdout and "rows 7, seed 1" in result.stdout
    assert "a.safetensors is missing" in result.stdout
    told = json.loads(invoke("list", str(tmp_path), "--json", "-").stdout)
    assert [each["version"] for each in told["versions"]] == [1, 2]
    assert told["versions"][0]["path"] == str(first)


def test_an_empty_directory_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "predawn train --out" in invoke("list", str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("arguments", "asked", "said"),
    [
        (["load"], ("load", None, None), "staged version 5 of fresh in 12 ms, tried on 64 rows"),
        (["load", "fresh", "ctr", "--version", "7"], ("load", ["fresh", "ctr"], 7),
         "ctr: nothing to load"),
        (["swap"], ("swap", None, None), "version 5 of fresh serves now"),
        (["swap", "fresh"], ("swap", ["fresh"], None), "version 5 of fresh serves now"),
        (["rollback", "fresh"], ("rollback", ["fresh"], None), "version 4 of fresh serves now"),
    ],
)  # fmt: skip
def test_a_change_is_asked_for_and_told(arguments: list[str], asked: object, said: str) -> None:
    script = ScriptedVersions()

    def test(result: Any) -> None:
        assert result.exit_code == 0, result.stderr
        assert script.asked == [asked]
        assert said in result.stdout

    against(script, test, *arguments)


@pytest.mark.parametrize("command", ["load", "swap", "rollback"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Conflict("models[0]", "no version of sum is staged: load one first"),
         "predawn: models[0]: no version of sum is staged: load one first\n"),
        (LoadFailed("models.sum", "a/b: is torn"), "predawn: models.sum: a/b: is torn\n"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line_with_its_reason(command: str, error: Exception, said: str) -> None:
    def test(result: Any) -> None:
        assert (result.exit_code, result.stderr, result.stdout) == (1, said, "")

    against(ScriptedVersions(error=error), test, command)


def test_no_server_says_which_address_and_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = invoke("swap", "--url", url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"predawn: {url}: ")
    assert "is `predawn serve` running there?" in result.stderr
    assert "is no address such as http" in invoke("list", "--url", "nonsense").stderr


def test_pruning_says_what_went(tmp_path: Path) -> None:
    publish(tmp_path, 4)
    result = invoke("prune", str(tmp_path), "--keep", "2", "--json", "-")
    assert json.loads(result.stdout)["removed"] == [1, 2]
    assert "removed 2 versions" in result.stderr
    assert "nothing to remove" in invoke("prune", str(tmp_path), "--keep", "2").stdout
    absent = invoke("prune", str(tmp_path / "absent"))
    assert absent.exit_code == 1 and "is not a directory" in absent.stderr


def test_every_command_and_option_is_explained_with_an_example() -> None:
    group = typer.main.get_command(build()).commands["models"]  # type: ignore[attr-defined]
    assert set(group.commands) == {"list", "load", "swap", "rollback", "prune"}
    for name, command in group.commands.items():
        assert "Example: predawn models " in command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
