"""What a replay is asked for: the policy under test, the cost of an inference, the faults."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from predawn.server.config import UserModelConfig
from predawn.server.errors import ConfigError
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.replay.pair_options import PairOptions

FOREVER_MS = 10 * 365 * 86_400_000
MODES = ("realtime", "ercache", "soap", "batch", "frozen")
_DIRECT_TTL_MS: int = UserModelConfig.model_fields["direct_ttl"].default
_FAILOVER_TTL_MS: int = UserModelConfig.model_fields["failover_ttl"].default


@dataclass(frozen=True, slots=True)
class InferenceCost:
    """Time of a batch of B users on the engine: fixed_ms + B * per_user_ms. The default is a small
    user tower on two CPU cores."""

    fixed_ms: float = 4.0
    per_user_ms: float = 0.25

    def seconds(self, users: int) -> float:
        """Engine time of a batch of `users`."""
        return (self.fixed_ms + users * self.per_user_ms) / 1000


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """mode: a column of the policy table (`server.policy`).

    direct_ttl_ms, failover_ttl_ms: None: the server's defaults (the second at least the
    first), but entries of `batch` last two sweeps and those of `frozen` for ever;
    wait_ms: longest wait for the user model; timeout_ms: deadline of a request;
    capacity: users that the store holds; batch_every_ms: period of the sweeps of `batch`;
    retries: how often a request that has only the default asks again when its inference fails;
    failure_rate: chance that the inference of one user fails; hang_rate: chance that a batch takes
    hang_s; models: a snapshot directory to compute with, else the trace's truth, else a constant;
    warm_up: share of the trace's time after which `frozen` is computed and the comparison of modes
    begins to count, and the figures of pairs do;
    oracle: add the figures of plain dictionaries; compare_modes: add SUM's comparison;
    pairs: a foundation model beside the user model, None: none.
    """

    mode: str = "soap"
    direct_ttl_ms: int | None = None
    failover_ttl_ms: int | None = None
    wait_ms: int = 30
    timeout_ms: int = 50
    average_over: int = 1
    capacity: int = 1_000_000
    batch_every_ms: int = 3_600_000
    retries: int = 1
    failure_rate: float = 0.0
    hang_rate: float = 0.0
    hang_s: float = 10.0
    cost: InferenceCost = field(default_factory=InferenceCost)
    models: Path | None = None
    warm_up: float = 0.25
    seed: int = 0
    oracle: bool = False
    compare_modes: bool = False
    pairs: PairOptions | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError("mode", f"{self.mode!r} is unknown; use one of {', '.join(MODES)}")
        for name in ("failure_rate", "hang_rate", "warm_up"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(name, f"needs a share in 0..1, got {getattr(self, name)}")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ConfigError(name, f"must be at least {least}, got {getattr(self, name)}")
        try:
            self.ages()
        except ValueError:
            reason = f"must be at least direct_ttl, {self.direct_ttl()} ms"
            raise ConfigError("failover_ttl", f"{reason}; got {self.failover_ttl_ms} ms") from None

    def direct_ttl(self) -> int:
        """Milliseconds up to which an entry is served without a recompute."""
        return _DIRECT_TTL_MS if self.direct_ttl_ms is None else self.direct_ttl_ms

    def ages(self) -> Ages:
        """Both ages, with the defaults of the mode."""
        direct = self.direct_ttl()
        if self.failover_ttl_ms is not None:
            return Ages(direct, self.failover_ttl_ms)
        lasting = {"frozen": FOREVER_MS, "batch": 2 * self.batch_every_ms}
        return Ages(direct, max(direct, lasting.get(self.mode, _FAILOVER_TTL_MS)))

    def policy(self) -> ModelPolicy:
        """The row of the policy table under test."""
        mode = Mode[self.mode.upper()]
        return ModelPolicy(mode, self.ages(), self.wait_ms, self.batch_every_ms, self.retries)

    def cases(self) -> dict[str, "ReplayOptions"]:
        """SUM's comparison of ways to serve: the same options, mode by mode. "soap" is the paper's:
        a recompute behind every request, the previous embedding served at any age (unless a
        failover ttl is given); "soap_ttl" leaves entries within the direct ttl alone."""
        lasting = FOREVER_MS if self.failover_ttl_ms is None else self.failover_ttl_ms
        plain = replace(self, oracle=False, compare_modes=False, failover_ttl_ms=None, pairs=None)
        soap = replace(plain, mode="soap", failover_ttl_ms=lasting)
        return {
            "frozen": replace(plain, mode="frozen"),
            "batch": replace(plain, mode="batch"),
            "realtime": replace(plain, mode="realtime"),
            "ercache": replace(plain, mode="ercache", failover_ttl_ms=self.failover_ttl_ms),
            "soap": replace(soap, direct_ttl_ms=0),
            "soap_ttl": soap,
        }


_LEAST = {
    "wait_ms": 0,
    "timeout_ms": 1,
    "average_over": 1,
    "capacity": 16,
    "batch_every_ms": 1,
    "retries": 0,
    "hang_s": 0,
    "seed": 0,
}
