import json

import pytest
from replay_cases import day, replayed

from predawn.server.replay.report import _quantiles


def test_the_document_has_the_promised_members() -> None:
    found = json.loads(json.dumps(replayed(day().slice(0, 200), mode="ercache").document()))
    assert {"requests", "users", "wall_s", "virtual_s", "models"} <= set(found)
    assert "oracle" not in found and "compare" not in found
    model = found["models"]["user"]
    assert sum(model["sources"].values()) == found["requests"] == 200
    assert set(model["sources"]) == {
        "direct", "computed", "stale", "failover", "user_mean", "neighbour", "default", "recent",
    }  # fmt: skip
    assert model["inferences"] + model["inferences_saved"] == 200
    assert model["direct_hit_rate"] == pytest.approx(model["sources"]["direct"] / 200)
    assert {"p50", "p99"} <= set(model["age_ms"])
    assert model["fallbacks_per_request_without_store"] is None
    assert model["retries"] == 0
    assert found["cost"] == {"fixed_ms": 4.0, "per_user_ms": 0.25}


def test_what_was_asked_for_is_there() -> None:
    found = replayed(day().slice(0, 60), oracle=True, compare_modes=True).document()
    assert set(found["oracle"]["hit_rate"]) == {"1m", "5m", "10m", "60m"}
    assert set(found["compare"]) >= {"frozen", "batch", "realtime", "soap"}


def test_retries_of_the_warm_up_do_not_count() -> None:
    options = {"mode": "ercache", "failure_rate": 0.3, "compare_modes": True}
    report = replayed(day(), **options)
    counted = report.compare["ercache"]
    assert 0 < counted.retries < report.models["user"].retries
    assert counted.inferences == counted.requests - counted.sources["direct"] + counted.retries


def test_quantiles_of_nothing_are_zero() -> None:
    assert _quantiles([]) == {"mean": 0.0, "p50": 0.0, "p99": 0.0}
