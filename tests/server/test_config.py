"""The schema: bounds, and rules between sections."""

from typing import Any

import pytest
from pydantic import ValidationError

from predawn.server.config import Config, HistoryConfig, HttpConfig


def config(**sections: Any) -> Config:
    """A validated config."""
    return Config.model_validate(sections)


def test_a_loaded_config_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config().http.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"http": {"timeout": "20s"}}, "above timeout_limit"),
        ({"http": {"port": True}}, "should be a number"),
        ({"log": {"access": "nan"}}, "less than or equal to 1"),
        ({"engine": {"device": "gpu"}}, "pattern"),
        ({"history": {"types": ["a", "b", "a"]}}, "names 'a' twice"),
        ({"history": {"types": [f"t{i}" for i in range(17)]}}, "at most 16"),
        (
            {"rankers": {"r": {"factory": "a:b", "user_models": ["m"]}}},
            "rankers.r.user_models: no user model 'm'; known: none",
        ),
        (
            {
                "models": {"m": {"factory": "a:b"}},
                "pairs": {"foundation": {"factory": "a:b"}},
                "rankers": {
                    "r": {"factory": "a:b", "user_models": ["m"], "pair_models": ["foundatoin"]}
                },
            },
            "rankers.r.pair_models: no pair model 'foundatoin'; did you mean 'foundation'?",
        ),
        (
            {"models": {"m": {"factory": "a:b"}}, "pairs": {"m": {"factory": "a:b"}}},
            "pairs.m: a user model has this name",
        ),
        ({"models": {"9": {"factory": "a:b"}}}, "pattern"),
        ({"htp": {}}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**sections)
    assert reason in str(caught.value)


def test_the_defaults_keep_their_own_rules() -> None:
    for section in (HttpConfig, HistoryConfig):
        defaults = section.model_validate({}).model_dump()
        assert section.model_validate(defaults).model_dump() == defaults
