"""How commands end: exit codes, one line per problem, no traceback; and how fast help is."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from predawn.server.cli.app import Commands, build
from predawn.server.errors import ConfigError, SnapshotError


def app_that_raises(error: BaseException) -> typer.Typer:
    """The real group with one command that fails."""
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.command()
    def go() -> None:
        raise error

    @app.command()
    def other() -> None: ...

    return app


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("http.port", "is odd\nlog.level: too"), 2,
         "predawn: http.port: is odd\npredawn: log.level: too\n"),
        (SnapshotError("dir", "is torn"), 1, "predawn: dir: is torn\n"),
        (typer.BadParameter("odd"), 2, "predawn: Invalid value: odd\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(3), 3, ""),
        (ExceptionGroup("tasks", [ConfigError("http.port", "is taken")]), 2,
         "predawn: http.port: is taken\n"),
    ],
)  # fmt: skip
def test_an_error_on_purpose_is_a_line_and_a_code(
    error: BaseException, code: int, said: str
) -> None:
    result = CliRunner().invoke(app_that_raises(error), ["go"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, said, "")


def test_a_bug_is_not_hidden() -> None:
    result = CliRunner().invoke(app_that_raises(ZeroDivisionError()), ["go"])
    assert isinstance(result.exception, ZeroDivisionError)
    both = ExceptionGroup("tasks", [ConfigError("a", "b"), ZeroDivisionError()])
    assert CliRunner().invoke(app_that_raises(both), ["go"]).exception is both


def test_success_is_zero() -> None:
    assert CliRunner().invoke(app_that_raises(KeyError()), ["other"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["serv"], "Did you mean 'serve'"), (["serve", "--prt", "3"], "--port"),
     (["serve", "--port", "x"], "--port")],
)  # fmt: skip
def test_a_typing_error_names_the_nearest_and_exits_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1


def test_every_option_of_every_command_is_explained() -> None:
    group = typer.main.get_command(build())
    assert isinstance(group, Commands)
    for name, command in group.commands.items():
        assert "Example: predawn " in (command.help or ""), name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys; from predawn.server.cli.app import build; import typer.testing as t; "
        "assert t.CliRunner().invoke(build(), ['serve', '--help']).exit_code == 0; "
        "print([m for m in ('torch', 'pyarrow', 'aiohttp', 'numpy', 'pydantic') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # pydantic comes with some versions of typer; the others are ours to keep out.
    assert done.stdout.strip() in ("[]", "['pydantic']")


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "predawn.server", "serve", "--config", "none.toml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == "predawn: none.toml: cannot be read: No such file or directory\n"


WAITING = """
import signal, sys, typer
from predawn.server.cli.app import Commands
app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
@app.command()
def wait():
    print("waiting", flush=True)
    signal.pause()
@app.command()
def other(): ...
app()
"""


def test_ctrl_c_is_quiet_and_130() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said) == (130, "")


def test_the_script_finds_a_factory_beside_the_configuration(tmp_path: Path) -> None:
    factories = (Path(__file__).parents[2] / "factories.py").read_text()
    (tmp_path / "own_factories.py").write_text(factories)
    (tmp_path / "predawn.toml").write_text(
        '[models.sum]\nfactory = "own_factories:counting"\n'
        '[rankers.ctr]\nfactory = "own_factories:sum_ranker"\nuser_models = ["sum"]\n'
    )
    script = Path(sys.executable).parent / "predawn"
    done = subprocess.run([script, "check"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout
