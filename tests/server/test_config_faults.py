"""What is wrong, in words."""

import pytest

from predawn.server.config_faults import Setting, misplaced
from predawn.server.config_load import assignment, load
from predawn.server.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("http.prot", 1, "http.prot: unknown key (from here); did you mean http.port?"),
        ("zz.qq", 1, "known in the file: http, log, "),
        ("http.zzzzzzz", 1, "known in http: host, port, "),
        ("engine.device.x.y.zzzzzzz", 1, "engine.device is a value, not a table"),
        ("store", 1, "store: is a table, not a value (from here)"),
        ("models", [], "models: is a table, not a value"),
    ],
)
def test_a_key_at_the_wrong_place(path: str, value: object, said: str) -> None:
    (fault,) = misplaced(Setting(tuple(path.split(".")), value, "here"))
    assert said in str(fault)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["http.port=99999"], "http.port: 99999 should be less than or equal to 65535 (from x)"),
        (["log.level=loud"], "log.level: \"loud\" should be 'debug', 'info', 'warning' or 'error'"),
        (["http.timeout=5weeks"], 'http.timeout: "5weeks" is not a duration such as "250ms"'),
        (["history.types=['a','b c']"], 'history.types[1]: "b c" should match pattern'),
        (["engine.threads=true"], "engine.threads: true should be a number"),
        (["models.m.wait=1"], "models.m: needs a snapshot, a factory or a program (from x)"),
        (
            ["models.m.factory=a:b", "models.m.default=7"],
            "models.m.default: 7 should be 'zeros' or",
        ),
        (["rankers.r.factory=a:b"], "rankers.r.user_models: is required (from x)"),
        (
            ["rankers.r.factory=a:b", "rankers.r.user_models=['m']"],
            "rankers.r.user_models: no user model 'm'; known: none (from x)",
        ),
        (["models.b!d.factory=a:b"], "models.b!d: should match pattern"),
    ],
)
def test_a_wrong_value_names_itself_its_reason_and_its_source(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={}, overrides=[assignment(text, "x") for text in texts])
    assert said in str(caught.value)
    assert "pydantic" not in str(caught.value)
