"""Sizes of the foundation model, by name, and what a snapshot says of them. No torch.

The named configurations are those that the kernels are measured at; `small` is the one to train
and serve on CPUs.
"""

from dataclasses import dataclass
from typing import Any

from predawn.server.errors import UnknownName

NEWEST = (1, 2, 4, 8, 16, 32)
"""Depths into a history at which a candidate is told the rates of the event types."""


@dataclass(frozen=True, slots=True)
class FoundationShape:
    """What a foundation model was built for.

    types, attributes: columns of `UserBatch`; tasks: labels it predicts in training;
    width D = heads * head_dim; layers L; length N: tokens of a history at most, also the fixed
    scale 1 / N of attention; tap: layers that run before the pair embedding is read off,
    1 .. layers (serving runs no others); dim: values of a pair embedding; item_rows, item_width:
    of the hashed item table; waves: sines a token has for its position and for its time; prior:
    rate of each type per event in training, () for 0.1 each.
    """

    types: int
    attributes: int
    tasks: tuple[str, ...]
    heads: int
    head_dim: int
    layers: int
    length: int
    tap: int
    dim: int = 64
    item_rows: int = 16_384
    item_width: int = 64
    waves: int = 8
    prior: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.tap <= self.layers:
            raise ValueError(f"tap {self.tap} is not in 1 .. {self.layers}")
        if self.prior and len(self.prior) != self.types:
            raise ValueError(f"prior has {len(self.prior)} rates for {self.types} types")

    @property
    def width(self) -> int:
        """D: values of a token between layers."""
        return self.heads * self.head_dim

    @property
    def rates(self) -> tuple[float, ...]:
        """The prior as it is computed with: inside 0 .. 1."""
        return tuple(min(max(rate, 1e-3), 1 - 1e-3) for rate in self.prior or (0.1,) * self.types)

    @property
    def context(self) -> int:
        """Numbers that describe the user of a candidate."""
        return (2 + len(NEWEST)) * self.types + 2 + self.attributes

    @property
    def features(self) -> int:
        """Numbers of a token besides item and gap: event types, places, context."""
        return self.types + 4 * self.waves + self.context

    def describe(self) -> dict[str, Any]:
        """As JSON; `foundation_shape` reads it back."""
        return {name: getattr(self, name) for name in FoundationShape.__slots__}


def foundation_shape(described: dict[str, Any]) -> FoundationShape:
    """Inverse of `FoundationShape.describe`; KeyError and TypeError on anything else."""
    tuples: dict[str, Any] = {name: tuple(described[name]) for name in ("tasks", "prior")}
    return FoundationShape(**(described | tuples))


_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "tiny": {
        **{"heads": 2, "head_dim": 32, "layers": 2, "length": 64, "tap": 1, "dim": 64},
        **{"item_rows": 16_384, "item_width": 32},
    },
    "small": {
        **{"heads": 4, "head_dim": 32, "layers": 4, "length": 256, "tap": 3, "dim": 64},
        **{"item_rows": 65_536, "item_width": 32},
    },
    "mlperf-like": {
        **{"heads": 4, "head_dim": 128, "layers": 5, "length": 1024, "tap": 4, "dim": 64},
        **{"item_rows": 65_536, "item_width": 128},
    },
    "medium": {
        **{"heads": 4, "head_dim": 128, "layers": 8, "length": 2048, "tap": 7, "dim": 64},
        **{"item_rows": 65_536, "item_width": 128},
    },
    "large": {
        **{"heads": 16, "head_dim": 128, "layers": 16, "length": 4096, "tap": 14, "dim": 128},
        **{"item_rows": 65_536, "item_width": 256},
    },
}
CONFIGURATIONS = tuple(_CONFIGURATIONS)
"""Names of the configurations, smallest first."""


def named_foundation(
    name: str, *, types: int, attributes: int = 0, tasks: tuple[str, ...] = ("click",)
) -> FoundationShape:
    """A configuration for a history of so many types and attributes. UnknownName for others."""
    if name not in _CONFIGURATIONS:
        raise UnknownName("foundation model", name, CONFIGURATIONS)
    return FoundationShape(types, attributes, tasks, **_CONFIGURATIONS[name])
