"""What the pairs of one model may cost: [pairs.NAME] of the config as the parts of speculation
read it. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from predawn.server.request import Source

__all__ = ["PairLimits"]


@dataclass(frozen=True, slots=True)
class PairLimits:
    """ttl_ms: an embedding lasts so long, and a missed pair is not worth computing when it was
    asked for longer ago. capacity: pairs that the store keeps. fill_value: worth of a fill of a
    level as a share of the pair's own embedding. The others: as the settings of these names."""

    ttl_ms: int
    queue_limit: int = 65_536
    batch_users: int = 8
    batch_pairs: int = 512
    capacity: int = 1_000_000
    pairs_per_asked: float = 1.0
    pairs_per_second: float = 0.0
    share: float = 1.0
    entries: float = 0.5
    least_chance: float = 0.02
    encode_pairs: float = 0.0
    user_share: float = 0.1
    fill_value: Mapping[Source, float] = field(default_factory=dict[Source, float])
