"""Values and configurations as TOML that reads back as the same."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.config import duration_ms, size_bytes
from predawn.server.config_load import assignment, load
from predawn.server.config_text import effective, toml_key, toml_text

scalars = st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
)


@given(values)
def test_a_value_reads_back(value: object) -> None:
    assert tomllib.loads(f"value = {toml_text(value)}")["value"] == value


@given(st.text())
def test_a_key_reads_back(name: str) -> None:
    assert tomllib.loads(f"{toml_key(name)} = 1") == {name: 1}


@given(st.integers(0, 2**53))
def test_durations_and_sizes_read_back_exactly(number: int) -> None:
    assert duration_ms(tomllib.loads(f"v = {toml_text(number, 'duration')}")["v"]) == number
    assert size_bytes(tomllib.loads(f"v = {toml_text(number, 'size')}")["v"]) == number


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [(300_000, "duration", '"5m"'), (0, "duration", '"0ms"'), (90_000, "duration", '"90s"'),
     (2 * 2**20, "size", '"2MiB"'), (1000, "size", '"1000B"')],
)  # fmt: skip
def test_units_are_the_largest_exact_ones(number: int, unit: str, text: str) -> None:
    assert toml_text(number, "duration" if unit == "duration" else "size") == text


def test_the_effective_config_loads_as_itself_and_says_where_it_is_from(tmp_path: Path) -> None:
    texts = [
        "seed=4",
        "http.host=0.0.0.0",
        "models.a-b.factory=x:y",
        "models.a-b.options.width=0.5",
        "rankers.r.factory=x:y",
        "rankers.r.user_models=['a-b']",
        "models.a-b.default=[1.5, 2]",
    ]
    loaded = load(environ={}, overrides=[assignment(text, "flag") for text in texts])
    text = effective(loaded.config, loaded.sources)
    (tmp_path / "printed.toml").write_text(text)
    assert load(tmp_path / "printed.toml", {}).config == loaded.config
    said = [line for line in text.splitlines() if line.endswith("# from flag")]
    assert len(said) == len(texts)
    assert "seed = 4  # from flag" in said and 'host = "0.0.0.0"  # from flag' in said
    assert text.startswith("seed = 4")
