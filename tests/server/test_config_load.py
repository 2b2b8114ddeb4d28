"""Where settings come from, and which of them wins."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.config import Config
from predawn.server.config_load import assignment, load, parsed
from predawn.server.errors import ConfigError

MODEL = '[models.Sum-1]\nsnapshot = "snap"\n'


def written(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "predawn.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = written(tmp_path, "seed = 1\n[http]\nport = 1\nitems_limit = 1\nevents_limit = 1\n")
    environ = {"PREDAWN_HTTP__PORT": "2", "predawn_http__items_limit": "2", "PATH": "x"}
    loaded = load(file, environ, [assignment("http.port=3", "--port")])
    http = loaded.config.http
    assert (http.port, http.items_limit, http.events_limit, http.in_flight_limit) == (3, 2, 1, 1024)
    assert loaded.sources == {
        "seed": str(file),
        "http.port": "--port",
        "http.items_limit": "predawn_http__items_limit",
        "http.events_limit": str(file),
    }


def test_without_anything_all_is_default() -> None:
    loaded = load(environ={})
    assert loaded.config == Config() and not loaded.sources


def test_the_environment_reaches_models_whatever_their_case(tmp_path: Path) -> None:
    file = written(tmp_path, MODEL)
    environ = {
        "PREDAWN_MODELS__SUM_1__DIRECT_TTL": "90s",
        "PREDAWN_MODELS__SUM_1__OPTIONS__DEPTH": "3",
        "PREDAWN_MODELS__SUM_1__OPTIONS__NAME": "x",
        "PREDAWN_SEED": "9",
    }
    config = load(file, environ).config
    model = config.models["Sum-1"]
    assert model.direct_ttl == 90_000 and model.options == {"depth": 3, "name": "x"}
    assert config.seed == 9 and list(config.models) == ["Sum-1"]


def test_other_variables_of_the_prefix_are_left_alone() -> None:
    assert load(environ={"PREDAWN_DATA": "x", "PREDAWN_DEBUG": "1"}).config == Config()


def test_a_single_underscore_does_not_pass_in_silence() -> None:
    with pytest.raises(ConfigError, match="did you mean PREDAWN_HTTP__PORT"):
        load(environ={"PREDAWN_HTTP_PORT": "1"})


def test_paths_in_a_file_are_relative_to_it_and_others_are_not(tmp_path: Path) -> None:
    file = written(tmp_path, MODEL + '[history]\npath = "events"\n')
    config = load(file, {}).config
    assert config.models["Sum-1"].snapshot == str(tmp_path / "snap")
    assert config.history.path == str(tmp_path / "events")
    flag = load(file, {}, [assignment("history.path=here")]).config
    assert flag.history.path == "here"
    absolute = written(tmp_path, '[history]\npath = "/var/events"\n')
    assert load(absolute, {}).config.history.path == "/var/events"
    empty = written(tmp_path, '[history]\npath = ""\n')
    assert load(empty, {}).config.history.path == ""


def test_everything_wrong_is_said_at_once_a_line_each(tmp_path: Path) -> None:
    file = written(tmp_path, "[http]\nprot = 1\nport = -1\n[models.m]\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {"PREDAWN_LOG__LEVEL": "loud"}, [assignment("engine.threads=0")])
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "http.prot", "http.port", "log.level", "engine.threads", "models.m",
    ]  # fmt: skip
    sources = [str(file), str(file), "PREDAWN_LOG__LEVEL", "--set", str(file)]
    assert all(f"from {source}" in line for line, source in zip(lines, sources, strict=True))
    assert caught.value.field == "http.prot"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[http\n", "is not TOML"), ("a = 1\na = 2\n", "is not TOML"), ("x = '\xff'", None)],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str, reason: str | None) -> None:
    file = tmp_path / "predawn.toml"
    file.write_bytes(text.encode("utf-8" if reason else "latin-1"))
    with pytest.raises(ConfigError, match=reason or "is not UTF-8") as caught:
        load(file, {})
    assert caught.value.field == str(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("http.port=80", 80),
        ("http.host=80", "80"),
        ('http.host="::1"', "::1"),
        ("http.timeout=5m", "5m"),
        ("history.types=['a', 'b']", ["a", "b"]),
        ("history.path=1", "1"),
        ("log.level=info", "info"),
        ("models.m.default=mean", "mean"),
        ("models.m.default=[0.5, 1]", [0.5, 1]),
        ("models.m.options.deep=true", True),
        ("http.host=a=b", "a=b"),
        ("history.path=", ""),
    ],
)
def test_an_assignment_takes_toml_where_the_field_does(text: str, value: object) -> None:
    setting = assignment(text)
    assert setting.value == value and type(setting.value) is type(value)


@pytest.mark.parametrize("text", ["http.port", "=3", "http..port=3", ""])
def test_an_assignment_needs_a_key_and_a_value(text: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value") as caught:
        assignment(text)
    assert caught.value.field == "--set"


@given(st.text())
def test_text_from_outside_cannot_smuggle_in_other_settings(raw: str) -> None:
    value = parsed(("http", "port"), raw)
    assert isinstance(value, str | int | float | bool | list | dict) or hasattr(value, "isoformat")
    assert parsed(("http", "port"), "1\nx = 2") == "1\nx = 2"


@given(st.dictionaries(st.from_regex(r"PREDAWN_[A-Za-z_]{0,12}", fullmatch=True), st.text()))
def test_no_environment_crashes_the_loader(environ: dict[str, str]) -> None:
    try:
        load(environ=environ)
    except ConfigError as error:
        assert error.field
