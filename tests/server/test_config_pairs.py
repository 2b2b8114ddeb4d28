"""[pairs.NAME] and [pairs.NAME.speculation]: bounds, rules, and where a setting may come from."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from predawn.server.config import Config
from predawn.server.config_load import assignment, load
from predawn.server.config_text import effective


def config(**sections: Any) -> Config:
    """A validated config."""
    return Config.model_validate(sections)


def pairs(**settings: Any) -> dict[str, Any]:
    """A file with one pair model."""
    return {"pairs": {"fm": {"factory": "a:b", **settings}}}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"pairs": {"fm": {}}}, "needs a snapshot, a factory or a program"),
        (pairs(ttl=0), "greater than or equal to 1"),
        (pairs(fills=["neighbour", "neighbour"]), "names 'neighbour' twice"),
        (pairs(fills=["nearest"]), "'user_mean', 'recent' or 'neighbour'"),
        (pairs(fills=["recent"]), 'fills "recent" needs a recent_length'),
        (pairs(neighbours="both"), "'similar' or 'clusters'"),
        (pairs(speculation={"predictor": "oracle"}), "'learned', 'score', 'recency' or 'none'"),
        (pairs(speculation={"pairs_per_asked": "inf"}), "finite"),
        (pairs(speculation={"pairs_per_asked": -1}), "greater than or equal to 0"),
        (pairs(speculation={"share": 0}), "greater than 0"),
        (pairs(speculation={"fill_value": {"default": 0.5}}), "user_mean"),
        (pairs(speculation={"fill_value": {"recent": 1.5}}), "less than or equal to 1"),
        (pairs(speculation={"bytes": 5}), "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**sections)
    assert reason in str(caught.value)


def test_a_ring_of_recent_embeddings_is_a_fill_only_where_it_is_asked_for() -> None:
    kept = config(**pairs(recent_length=8)).pairs["fm"]
    assert (kept.recent_length, kept.fills) == (8, ["neighbour", "user_mean"])
    filled = config(**pairs(recent_length=8, fills=["recent", "user_mean"])).pairs["fm"]
    assert filled.fills == ["recent", "user_mean"]
    assert config(**pairs(fills=[])).pairs["fm"].fills == []


def test_speculation_is_set_from_everywhere_and_printed_as_it_loads(tmp_path: Path) -> None:
    file = tmp_path / "predawn.toml"
    file.write_text(
        '[pairs.fm]\nfactory = "a:b"\n'
        '[pairs.fm.speculation]\npredictor = "score"\nfill_value = { recent = 0.2 }\n'
    )
    environ = {"PREDAWN_PAIRS__FM__SPECULATION__PAIRS_PER_ASKED": "0.5"}
    loaded = load(file, environ, [assignment("pairs.fm.speculation.fill_value.neighbour=0.3")])
    speculation = loaded.config.pairs["fm"].speculation
    assert (speculation.predictor, speculation.pairs_per_asked) == ("score", 0.5)
    assert speculation.fill_value == {"recent": 0.2, "neighbour": 0.3}

    file.write_text(effective(loaded.config, loaded.sources))
    assert load(file, {}).config == loaded.config
