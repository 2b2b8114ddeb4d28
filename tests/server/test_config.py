"""The schema: units, bounds, and rules between settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from predawn.server.config import Config, HistoryConfig, HttpConfig, UserModelConfig


def config(**sections: Any) -> Config:
    """A validated config."""
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250ms", 250), ("1.5s", 1500), (" 5 m ", 300_000), ("2h", 7_200_000), ("1d", 86_400_000),
     (7, 7), ("7", None), ("5 weeks", None), ("-1s", None), (-1, None), ("9" * 400 + "s", None),
     ("999999999999999d", None), (True, None), (1.5, None), ("\u0665m", None)],
)  # fmt: skip
def test_durations(text: object, ms: int | None) -> None:
    if ms is None:
        with pytest.raises(ValidationError):
            config(engine={"hang_after": text})
    else:
        assert config(engine={"hang_after": text}).engine.hang_after == ms


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 2**16), ("1.5MiB", 3 * 2**19), ("1GB", 10**9), ("12B", 12), (5, 5), ("1 KB", None)],
)
def test_sizes(text: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValidationError, match='a size such as "64KiB"'):
            config(http={"body_limit": text})
    else:
        assert config(http={"body_limit": text}).http.body_limit == size


@given(st.text())
def test_no_text_makes_a_duration_crash(text: str) -> None:
    try:
        UserModelConfig.model_validate({"factory": "a:b", "wait": text})
    except ValidationError as error:
        assert error.error_count() >= 1


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
        ({"models": {"m": {}}}, "needs a snapshot, a factory or a program"),
        ({"models": {"m": {"factory": "no colon"}}}, "pattern"),
        (
            {"models": {"m": {"factory": "a:b", "program": "m.pt2"}}},
            "a program goes without snapshot and factory",
        ),
        (
            {"models": {"m": {"factory": "a:b", "direct_ttl": "25h"}}},
            "failover_ttl must be at least direct_ttl, not 86400000 ms < 90000000 ms",
        ),
        ({"models": {"m": {"factory": "a:b", "default": [float("inf")]}}}, "finite"),
        (
            {"models": {"m": {"factory": "a:b", "average": "exponential", "average_over": 3}}},
            'average_over is for average = "mean"',
        ),
        (
            {"models": {"m": {"factory": "a:b", "average_over": 3, "average_weight": 0.5}}},
            'average_weight is for average = "exponential"',
        ),
        ({"models": {"m": {"factory": "a:b", "average_weight": 0}}}, "greater than 0"),
        ({"models": {"m": {"factory": "a:b", "average": "median"}}}, "'mean' or 'exponential'"),
        ({"models": {"m": {"factory": "a:b", "retries": 4}}}, "less than or equal to 3"),
        ({"models": {"m": {"factory": "a:b", "retries": -1}}}, "greater than or equal to 0"),
        (
            {"rankers": {"r": {"factory": "a:b", "user_models": ["m"]}}},
            "rankers.r.user_models: no user model 'm'; known: none",
        ),
        ({"rankers": {"r": {"user_models": ["m"]}}}, "needs a snapshot, a factory or a program"),
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
        ({"pairs": {"fm": {}}}, "needs a snapshot, a factory or a program"),
        ({"pairs": {"fm": {"factory": "a:b", "ttl": 0}}}, "greater than or equal to 1"),
        ({"models": {"9": {"factory": "a:b"}}}, "pattern"),
        ({"htp": {}}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**sections)
    assert reason in str(caught.value)


def test_a_model_retries_once_unless_told_otherwise() -> None:
    for setting, expected in (({}, 1), ({"retries": 0}, 0), ({"retries": 3}, 3)):
        models = {"m": {"factory": "a:b", **setting}}
        assert config(models=models).models["m"].retries == expected


def test_the_defaults_keep_their_own_rules() -> None:
    for section in (HttpConfig, HistoryConfig):
        defaults = section.model_validate({}).model_dump()
        assert section.model_validate(defaults).model_dump() == defaults
