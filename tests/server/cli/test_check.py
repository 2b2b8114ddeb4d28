"""`predawn check`: what is in force, where it came from, and whether the models load."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predawn.server import wiring_models
from predawn.server.cli.app import build
from predawn.server.config import Config
from predawn.server.config_load import load
from predawn.server.config_sample import sample
from predawn.server.errors import SnapshotError

MODELS = """
[models.sum]
factory = "a:b"
[rankers.ctr]
factory = "a:b"
user_models = ["sum"]
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Configurations whose models were loaded."""
    configs: list[Config] = []
    monkeypatch.setattr(wiring_models, "load_models", configs.append)
    monkeypatch.chdir(tmp_path)
    Path("predawn.toml").write_text("[http]\nport = 5\n" + MODELS)
    return configs


def test_a_good_configuration_loads_its_models_and_says_so(loaded: list[Config]) -> None:
    result = CliRunner().invoke(build(), ["check", "predawn.toml"])
    assert (result.exit_code, result.stdout) == (0, "ok: it would start\n")
    assert [config.http.port for config in loaded] == [5]


def test_print_shows_all_that_is_in_force_and_its_sources(loaded: list[Config]) -> None:
    environment = {"PREDAWN_ENGINE__THREADS": "3"}
    arguments = ["check", "--print", "--set", "seed=9", "--no-models"]
    result = CliRunner(env=environment).invoke(build(), arguments)
    assert result.exit_code == 0, result.stderr
    for line in (
        "seed = 9  # from --set",
        "port = 5  # from predawn.toml",
        "threads = 3  # from PREDAWN_ENGINE__THREADS",
        'timeout = "50ms"',
        "ok: no setting is wrong",
    ):
        assert line in result.stdout.splitlines()
    assert not loaded
    Path("printed.toml").write_text(result.stdout.replace("ok: no setting is wrong", ""))
    assert load(Path("printed.toml"), {}).config.seed == 9


def test_as_json_the_config_and_its_sources(loaded: list[Config]) -> None:
    document = json.loads(CliRunner().invoke(build(), ["check", "--json", "-"]).stdout)
    assert document["config"]["http"]["port"] == 5
    assert document["sources"]["http.port"] == "predawn.toml"


def test_models_that_do_not_load_are_a_line(
    loaded: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(config: Config) -> None:
        raise SnapshotError("snap/manifest.json", "is torn")

    monkeypatch.setattr(wiring_models, "load_models", torn)
    result = CliRunner().invoke(build(), ["check"])
    assert (result.exit_code, result.stderr) == (1, "predawn: snap/manifest.json: is torn\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[htp]\n", "htp: unknown key (from predawn.toml); did you mean http"),
        ("", "models: at least one is needed to serve"),
        ("[http]\nport = 'x'\n" + MODELS, 'http.port: "x" should be a valid integer'),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_loaded(
    loaded: list[Config], text: str, said: str
) -> None:
    Path("predawn.toml").write_text(text)
    result = CliRunner().invoke(build(), ["check"])
    assert result.exit_code == 2 and said in result.stderr and not loaded


def test_sample_prints_the_sample_whatever_is_there(loaded: list[Config]) -> None:
    Path("predawn.toml").write_text("not toml")
    result = CliRunner().invoke(build(), ["check", "--sample"])
    assert (result.exit_code, result.stdout) == (0, sample())


def test_real_models_are_loaded_and_a_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    factories = MODELS.replace("a:b", "predawn.bench.fault_models:user_model", 1)
    factories = factories.replace("a:b", "predawn.bench.fault_models:ranker")
    Path("predawn.toml").write_text(factories)
    result = CliRunner().invoke(build(), ["check"])
    assert (result.exit_code, result.stdout) == (0, "ok: it would start\n"), result.stderr
    factory = "models.sum.factory=predawn.bench.fault_models:user_modle"
    result = CliRunner().invoke(build(), ["check", "--set", factory])
    assert result.exit_code == 2 and "did you mean 'user_model'" in result.stderr
