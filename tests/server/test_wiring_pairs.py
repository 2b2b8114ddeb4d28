"""What the pair models' part of a configuration becomes."""

from typing import Any

import pytest

from predawn.server.config import Config
from predawn.server.request import Source
from predawn.server.wiring_pairs import pair_limits


def fm(**settings: Any) -> Any:
    """The section of one pair model."""
    return Config.model_validate({"pairs": {"fm": {"factory": "a:b", **settings}}}).pairs["fm"]


def test_limits_are_those_of_the_settings() -> None:
    speculation = {
        "pairs_per_asked": 0.25,
        "pairs_per_second": 50,
        "share": 0.75,
        "entries": 0.125,
        "least_chance": 0.0625,
        "encode_pairs": 9,
        "user_share": 0.5,
    }
    settings = {"ttl": "1h", "capacity": 500, "queue_limit": 40, "batch_users": 3}
    limits = pair_limits(fm(**settings, batch_pairs=30, speculation=speculation))
    assert (limits.ttl_ms, limits.capacity, limits.queue_limit) == (3_600_000, 500, 40)
    assert (limits.batch_users, limits.batch_pairs) == (3, 30)
    assert {name: getattr(limits, name) for name in speculation} == speculation


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        ([], {}),
        (["neighbour"], {Source.NEIGHBOUR: 0.4}),
        (["user_mean", "neighbour"], {Source.NEIGHBOUR: 0.4}),
    ],
)
def test_a_fill_that_is_not_served_has_no_value(
    fills: list[str], expected: dict[Source, float]
) -> None:
    assert pair_limits(fm(fills=fills)).fill_value == expected
