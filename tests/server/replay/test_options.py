import pytest

from predawn.server.config import UserModelConfig
from predawn.server.errors import ConfigError
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.replay.options import FOREVER_MS, InferenceCost, ReplayOptions

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "eager"),
        ("failure_rate", 1.5),
        ("hang_rate", -0.1),
        ("warm_up", float("nan")),
        ("capacity", 0),
        ("average_over", 0),
        ("timeout_ms", 0),
        ("batch_every_ms", 0),
        ("retries", -1),
        ("seed", -1),
    ],
)
def test_impossible_options_name_the_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{field}: .*{value}"):
        ReplayOptions(**{field: value})  # type: ignore[arg-type]


def test_the_failover_ttl_may_not_be_below_the_direct_one() -> None:
    with pytest.raises(ConfigError, match="failover_ttl: must be at least direct_ttl, 300000 ms"):
        ReplayOptions(failover_ttl_ms=MINUTE_MS)
    assert ReplayOptions(direct_ttl_ms=0, failover_ttl_ms=0).ages() == Ages(0, 0)


def test_ages_default_to_the_servers_and_sweeps_last() -> None:
    served = UserModelConfig(factory="a:b")  # pyright: ignore[reportCallIssue]
    assert ReplayOptions().ages() == Ages(served.direct_ttl, served.failover_ttl)
    assert ReplayOptions(direct_ttl_ms=30 * HOUR_MS).ages() == Ages(30 * HOUR_MS, 30 * HOUR_MS)
    assert ReplayOptions(mode="batch", batch_every_ms=HOUR_MS).ages().failover_ttl_ms == 2 * HOUR_MS
    assert ReplayOptions(mode="frozen").ages().failover_ttl_ms == FOREVER_MS
    assert ReplayOptions(mode="frozen", failover_ttl_ms=HOUR_MS).ages().failover_ttl_ms == HOUR_MS


def test_the_comparison_has_sums_modes_and_soap_as_the_paper_has_it() -> None:
    cases = ReplayOptions(mode="ercache", seed=7, oracle=True, compare_modes=True).cases()
    assert list(cases) == ["frozen", "batch", "realtime", "ercache", "soap", "soap_ttl"]
    assert cases["soap"].ages() == Ages(0, FOREVER_MS)
    assert cases["soap_ttl"].ages() == Ages(5 * MINUTE_MS, FOREVER_MS)
    assert cases["ercache"].ages() == ReplayOptions().ages()
    assert all(not case.oracle and not case.compare_modes for case in cases.values())
    assert {case.seed for case in cases.values()} == {7}
    given = ReplayOptions(failover_ttl_ms=HOUR_MS).cases()
    assert given["soap"].ages() == Ages(0, HOUR_MS)
    assert given["frozen"].ages().failover_ttl_ms == FOREVER_MS


def test_the_policy_is_the_row_of_the_table() -> None:
    policy = ReplayOptions(mode="batch", wait_ms=7, batch_every_ms=HOUR_MS, retries=2).policy()
    assert policy == ModelPolicy(Mode.BATCH, Ages(5 * MINUTE_MS, 2 * HOUR_MS), 7, HOUR_MS, 2)


def test_retries_default_to_the_servers() -> None:
    served = UserModelConfig(factory="a:b")  # pyright: ignore[reportCallIssue]
    assert ReplayOptions().policy().retries == served.retries


def test_a_batch_costs_a_fixed_and_a_per_user_part() -> None:
    assert InferenceCost(4.0, 0.25).seconds(8) == pytest.approx(0.006)
