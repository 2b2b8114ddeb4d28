"""`predawn serve`: every flag reaches the configuration it says."""

import http.client
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predawn.server.cli import serve as command
from predawn.server.cli.app import build
from predawn.server.config import Config

MODELS = """
[models.sum]
factory = "a:b"
[rankers.ctr]
factory = "a:b"
user_models = ["sum"]
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What would be served; the current directory has models configured."""
    configs: list[Config] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "run", configs.append)
    Path("predawn.toml").write_text(MODELS)
    return configs


def test_every_flag_reaches_its_setting(served: list[Config]) -> None:
    flags = {
        "--host": "0.0.0.0",
        "--port": "1234",
        "--device": "cuda:1",
        "--log-level": "debug",
        "--log-format": "json",
        "--set": "engine.threads=3",
    }
    arguments = [text for flag in flags.items() for text in flag]
    result = CliRunner().invoke(build(), ["serve", *arguments, "--set", "models.sum.wait=1s"])
    assert result.exit_code == 0, result.stderr
    (config,) = served
    assert (config.http.host, config.http.port) == ("0.0.0.0", 1234)
    assert (config.engine.device, config.engine.threads) == ("cuda:1", 3)
    assert (config.log.level, config.log.format) == ("debug", "json")
    assert config.models["sum"].wait == 1000


def test_the_config_is_named_by_flag_or_environment(served: list[Config]) -> None:
    Path("a.toml").write_text("seed = 5\n" + MODELS)
    assert CliRunner().invoke(build(), ["serve", "-c", "a.toml"]).exit_code == 0
    environment = {"PREDAWN_CONFIG": "a.toml", "PREDAWN_HTTP__PORT": "7"}
    assert CliRunner(env=environment).invoke(build(), ["serve"]).exit_code == 0
    assert [config.seed for config in served] == [5, 5]
    assert [config.http.port for config in served] == [8471, 7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], "predawn: http.port: 99999 should be less than or equal to 65535"),
        (["--set", "http.prot=1"], "did you mean http.port?"),
        (["--set", "rankers.ctr.user_models=['summ']"], "no user model 'summ'; did you mean 'sum'"),
        (["--log-level", "loud"], 'log.level: "loud" should be'),
    ],
)
def test_a_wrong_setting_starts_nothing(
    served: list[Config], arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(build(), ["serve", *arguments])
    assert result.exit_code == 2 and said in result.stderr and not served


def test_without_models_it_says_how_to_get_them(served: list[Config]) -> None:
    Path("predawn.toml").write_text("")
    result = CliRunner().invoke(build(), ["serve"])
    assert result.exit_code == 2 and not served
    assert "models: at least one is needed" in result.stderr and "predawn train" in result.stderr


REAL = """
[models.sum]
factory = "predawn.bench.fault_models:user_model"
[rankers.ctr]
factory = "predawn.bench.fault_models:ranker"
user_models = ["sum"]
"""


def test_a_real_server_answers_refuses_a_taken_port_and_ends_on_sigterm(tmp_path: Path) -> None:
    (tmp_path / "predawn.toml").write_text(REAL)
    command = [sys.executable, "-m", "predawn.server", "serve", "--log-format", "json"]
    run = partial(subprocess.Popen, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    with run([*command, "--port", "0"]) as server:
        assert server.stderr is not None
        started = json.loads(server.stderr.readline())
        port = int(started["message"].rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
        with run([*command, "--port", str(port)]) as second:
            _, said = second.communicate()
            assert second.returncode == 2
            assert said.startswith("predawn: http.port: cannot listen") and said.count("\n") == 1
        server.send_signal(signal.SIGTERM)
        server.communicate()
        assert server.returncode == 0


SERVING = """
import gc
from predawn.server.cli.app import build
from predawn.server.http import run

async def serve(services):
    print(gc.get_freeze_count() > 10_000)

run.serve = serve
build()(["serve"])
"""


def test_the_garbage_collector_leaves_out_what_was_there_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "predawn.toml").write_text(REAL)
    program = [sys.executable, "-c", SERVING]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_numpy_in_a_server_has_one_thread_unless_told_otherwise(
    served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    assert CliRunner().invoke(build(), ["serve"]).exit_code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert CliRunner().invoke(build(), ["serve"]).exit_code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_the_command_line_does_not_import_numpy_before_it_is_told_its_threads() -> None:
    code = "import sys, predawn.server.cli.serve, predawn.server.config_load as c; c.load(None); "
    done = subprocess.run([sys.executable, "-c", code + "sys.exit('numpy' in sys.modules)"])
    assert done.returncode == 0
