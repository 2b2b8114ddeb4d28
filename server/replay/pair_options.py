"""What a replay is asked for where a model of pairs is part of it."""

from dataclasses import dataclass, field
from pathlib import Path

from predawn.server.config_pairs import PairModelConfig
from predawn.server.errors import ConfigError

PREDICTORS = ("learned", "score", "recency", "none")
FILLS = ("user_mean", "recent", "neighbour")
NEIGHBOURS = ("similar", "clusters")
_DEFAULTS = PairModelConfig.model_fields


@dataclass(frozen=True, slots=True)
class PairCost:
    """Engine time of a batch: encode_ms for every user in it, per_pair_ms for every pair. The
    default is a small foundation model on two CPU cores."""

    per_pair_ms: float = 0.05
    encode_ms: float = 2.0

    def seconds(self, users: int, pairs: int) -> float:
        """Engine time of a batch of `pairs` of `users`."""
        return (users * self.encode_ms + pairs * self.per_pair_ms) / 1000


@dataclass(frozen=True, slots=True)
class PairOptions:
    """fm: None: the trace's truth, else a snapshot directory with a foundation model;
    budget: pairs computed per pair asked; budgets: all to run, beside it; predictor: who proposes;
    ttl_ms: an embedding is served so long; capacity: pairs that the store keeps;
    fills, recent_length, neighbours: as in [pairs.NAME]; failure_rate: chance that a batch fails;
    hang_rate: chance that it takes `hang_s` of the replay; baselines: add the figures of plain
    rules and of oracles."""

    fm: Path | None = None
    budget: float = 1.0
    budgets: tuple[float, ...] = ()
    predictor: str = "learned"
    ttl_ms: int = _DEFAULTS["ttl"].default
    capacity: int = _DEFAULTS["capacity"].default
    fills: tuple[str, ...] = tuple(_DEFAULTS["fills"].default)
    recent_length: int = 0
    neighbours: str = "similar"
    cost: PairCost = field(default_factory=PairCost)
    failure_rate: float = 0.0
    hang_rate: float = 0.0
    baselines: bool = False

    def __post_init__(self) -> None:
        _one_of("predictor", (self.predictor,), PREDICTORS)
        _one_of("neighbours", (self.neighbours,), NEIGHBOURS)
        _one_of("fills", self.fills, FILLS)
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ConfigError(name, f"must be at least {least}, got {getattr(self, name)}")
        for name in ("failure_rate", "hang_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(name, f"needs a share in 0..1, got {getattr(self, name)}")
        if len(set(self.fills)) != len(self.fills):
            raise ConfigError("fills", f"names a level twice: {', '.join(self.fills)}")
        if not all(budget > 0 for budget in self.budgets):
            raise ConfigError("budgets", "every one must be above 0")
        if "recent" in self.fills and not self.recent_length:
            raise ConfigError("fills", '"recent" needs a recent_length')


_LEAST = {"budget": 0, "ttl_ms": 1, "capacity": 16, "recent_length": 0}


def _one_of(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for each in given:
        if each not in known:
            raise ConfigError(name, f"{each!r} is unknown; use {', '.join(known)}")
