from typing import Any

import pytest

from predawn.server.errors import ConfigError
from predawn.server.replay.pair_options import PairCost, PairOptions


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"predictor": "best"}, "predictor: 'best' is unknown"),
        ({"neighbours": "near"}, "neighbours: 'near' is unknown"),
        ({"fills": ("user_mean", "mean")}, "fills: 'mean' is unknown"),
        ({"fills": ("user_mean", "user_mean")}, "fills: names a level twice"),
        ({"fills": ("recent",)}, 'fills: "recent" needs a recent_length'),
        ({"failure_rate": 1.5}, "failure_rate: needs a share in 0..1"),
        ({"hang_rate": -0.5}, "hang_rate: needs a share in 0..1"),
        ({"budget": -1.0}, "budget: must be at least 0"),
        ({"budget": float("nan")}, "budget: must be at least 0"),
        ({"capacity": 3}, "capacity: must be at least 16"),
        ({"ttl_ms": 0}, "ttl_ms: must be at least 1"),
        ({"budgets": (0.5, 0.0)}, "budgets: every one must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PairOptions(**given)


def test_a_batch_costs_what_its_users_and_pairs_do() -> None:
    assert PairCost(per_pair_ms=0.5, encode_ms=4).seconds(users=2, pairs=10) == 0.013
