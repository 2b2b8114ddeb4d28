"""The sample file is what the generator writes, says everything, and works."""

import re
from pathlib import Path

from predawn.server.config import Config
from predawn.server.config_load import load
from predawn.server.config_sample import sample
from predawn.server.config_schema import leaves

REPOSITORY = Path(__file__).parents[2]


def test_the_file_in_examples_is_current() -> None:
    written = (REPOSITORY / "examples" / "predawn.toml").read_text(encoding="utf-8")
    assert written == sample(), "run: predawn check --sample > examples/predawn.toml"


def test_as_it_is_it_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "predawn.toml").write_text(sample())
    assert load(tmp_path / "predawn.toml", {}).config == Config()


def test_with_all_comments_off_it_is_the_defaults_and_one_example(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(?! )", "", sample())
    (tmp_path / "predawn.toml").write_text(text)
    config = load(tmp_path / "predawn.toml", {}).config
    examples = {"models", "pairs", "rankers"}
    plain = config.model_dump(exclude=examples)
    assert plain == Config().model_dump(exclude=examples)
    assert list(config.models) == config.rankers["ctr"].user_models == ["sum"]
    assert list(config.pairs) == ["fm"]


def test_every_setting_is_there_with_a_meaning() -> None:
    lines = sample().splitlines()
    assert max(map(len, lines)) <= 100
    for path in leaves():
        found = [i for i, line in enumerate(lines) if line.startswith(f"#{path[-1]} = ")]
        assert found, path
        assert all(lines[i - 1].startswith("# ") for i in found), path
