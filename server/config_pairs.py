"""The sections of the configuration that describe pair models: [pairs.NAME] and what is computed
for them ahead of time, [pairs.NAME.speculation].

Every setting is documented once, at its field.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from predawn.server.config_models import one_source
from predawn.server.config_section import (
    DurationMs,
    Factory,
    Finite,
    Options,
    Path,
    Section,
    distinct,
)

FillLevel: TypeAlias = Literal["user_mean", "recent", "neighbour"]
_Share = Annotated[float, Field(ge=0, le=1)]


class SpeculationConfig(Section):
    """Which pairs of the model are computed before they are asked for, and within what budget.
    Missed pairs count: whatever is computed is paid for."""

    predictor: Literal["learned", "score", "recency", "none"] = Field(
        "learned",
        description="Who proposes pairs: a model trained online; the ranker's best of what was "
        'shown lately; the last shown first; or nobody ("none": missed pairs are still computed).',
    )
    pairs_per_asked: float = Field(
        1.0,
        ge=0,
        le=1_000,
        allow_inf_nan=False,
        description="Pairs computed per pair that requests ask for.",
    )
    pairs_per_second: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Most pairs computed a second; 0: no limit."
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Largest share of what engine.background_share allows to all pairs together.",
    )
    entries: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of the store's capacity that pairs computed ahead and not asked "
        "for yet may hold.",
    )
    least_chance: float = Field(
        0.02,
        ge=0,
        le=1,
        description="A pair less likely than this to be asked for within its ttl is not computed, "
        "but for a small sample to learn from.",
    )
    encode_pairs: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Pairs that the engine could compute in the time of encoding one user's "
        "history; 0: as measured.",
    )
    user_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Largest share of the budget that one user may take while others wait.",
    )
    popular_items: int = Field(
        256, ge=0, le=65_536, description="Most popular items that are proposed to active users."
    )
    tracked_users: int = Field(
        100_000, ge=1, le=2**31 - 1, description="Users that the predictor remembers."
    )
    tracked_items: int = Field(
        65_536, ge=1, le=2**31 - 1, description="Items that the predictor remembers."
    )
    lists: int = Field(
        10, ge=1, le=64, description="Last lists shown to a user that the predictor remembers."
    )
    fill_value: dict[FillLevel, _Share] = Field(
        {"neighbour": 0.4},
        description="What a fill of a level is worth, as a share of the pair's own embedding: a "
        "pair that would be filled well anyway is worth less. Absent: 0.",
    )


class PairModelConfig(Section):
    """One model of user-item pairs (a foundation model). A request reads its embeddings and never
    waits for them: they are computed behind the requests, and before them."""

    snapshot: Path = Field("", description="Directory written by `predawn train` (newest version).")
    factory: Factory = Field("", description='Your own: "package.module:function".')
    options: Options = Field({}, description="Keyword arguments of the factory.")
    program: Path = Field("", description="Your own: a file of torch.export.save (.pt2).")
    ttl: DurationMs = Field(12 * 3_600_000, ge=1, description="Served up to here.")
    capacity: int = Field(1_000_000, ge=16, description="Pairs kept per id kind of the user.")
    default: Literal["zeros", "mean"] | list[Finite] = Field(
        "zeros", description='Vector of an unknown pair; "mean": of the trained pairs.'
    )
    fills: Annotated[list[FillLevel], AfterValidator(distinct)] = Field(
        ["neighbour", "user_mean"],
        description='What is served of an absent pair, the first that is there: "neighbour": what '
        'similar users have for the item; "user_mean": the mean of the user\'s own pairs; '
        '"recent": of his last `recent_length` ones. []: always the default.',
    )
    fill_ttl: DurationMs = Field(
        86_400_000, ge=1, description="Fills made of nothing younger are not served."
    )
    recent_length: int = Field(
        0, ge=0, le=256, description='Last embeddings kept per user, for fills "recent"; 0: none.'
    )
    neighbours: Literal["similar", "clusters"] = Field(
        "similar",
        description='How "neighbour" is made per item: by attention over all users that have the '
        "item; or as the mean of the user's cluster.",
    )
    neighbour_items: int = Field(
        4096, ge=1, le=2**24, description='Items that "neighbour" keeps sums of.'
    )
    clusters: int = Field(
        64, ge=1, le=4096, description='Clusters of users, for neighbours = "clusters".'
    )
    queue_limit: int = Field(
        65_536, ge=1, description="Pairs waiting to be computed; above: the least worth it go."
    )
    batch_users: int = Field(8, ge=1, description="Most users in one batch.")
    batch_pairs: int = Field(
        512,
        ge=1,
        description="Most pairs in one batch, and of one user; a model that cannot be sliced keeps "
        "the engine for all of it.",
    )
    speculation: SpeculationConfig = SpeculationConfig()  # pyright: ignore

    @model_validator(mode="after")
    def _consistent(self) -> "PairModelConfig":
        one_source(self.snapshot, self.factory, self.program)
        if "recent" in self.fills and not self.recent_length:
            raise ValueError('fills "recent" needs a recent_length')
        return self
