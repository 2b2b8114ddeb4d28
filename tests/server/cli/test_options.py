"""Shared options become a configuration."""

import inspect
from pathlib import Path

import pytest
import typer

from predawn.server.cli.options import duration, load_config, taking
from predawn.server.errors import ConfigError


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_file_in_the_current_directory_is_found_unless_another_is_named() -> None:
    Path("predawn.toml").write_text("seed = 1\n")
    Path("other.toml").write_text("seed = 2\n")
    assert load_config(None, None).config.seed == 1
    assert load_config(Path("other.toml"), None).config.seed == 2


def test_a_flag_goes_before_set_and_that_before_the_file() -> None:
    Path("predawn.toml").write_text("[http]\nport = 1\nitems_limit = 1\n")
    sets = ["http.port=2", "http.items_limit=2"]
    loaded = load_config(None, sets, {"http.port": 3, "http.host": None})
    assert (loaded.config.http.port, loaded.config.http.items_limit) == (3, 2)
    assert loaded.sources == {"http.port": "--port", "http.items_limit": "--set"}


def test_a_malformed_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--set: 'port' is not of the form"):
        load_config(None, ["port"])


def test_a_command_takes_the_options_of_its_parts_in_their_place() -> None:
    def part(left: int = 1, right: int = 2) -> int:
        return 10 * left + right

    seen: list[tuple[int, int | None, int]] = []

    @taking(part, "made")
    def command(first: int, made: int | None = None, last: int = 0) -> None:
        """What it does."""
        seen.append((first, made, last))

    assert list(inspect.signature(command).parameters) == ["first", "left", "right", "last"]
    assert command.__doc__ == "What it does."
    command(first=5, left=3, right=4, last=6)
    assert seen == [(5, 34, 6)]


@pytest.mark.parametrize(("text", "ms"), [("5m", 300_000), ("250ms", 250), ("7", 7), (7, 7)])
def test_a_duration_is_as_in_the_configuration(text: str | int, ms: int) -> None:
    assert duration(text) == ms


@pytest.mark.parametrize("text", ["5 weeks", "-1", "", "1e3"])
def test_another_text_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration"):
        duration(text)
