"""[models.NAME] and [rankers.NAME]: bounds and rules."""

from typing import Any

import pytest
from pydantic import ValidationError

from predawn.server.config import Config


def config(**sections: Any) -> Config:
    """A validated config."""
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
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
        ({"rankers": {"r": {"user_models": ["m"]}}}, "needs a snapshot, a factory or a program"),
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
