"""The sections of the configuration that describe models: [models.NAME] and [rankers.NAME].

Every setting is documented once, at its field.
"""

from typing import Literal

from pydantic import Field, model_validator

from predawn.server.config_section import (
    DurationMs,
    Factory,
    Finite,
    Names,
    Options,
    Path,
    Section,
)

_AVERAGE_WEIGHT = 0.3  # the first new embedding after a swap counts about as in a mean of three


def one_source(snapshot: str, factory: str, program: str) -> None:
    """ValueError unless exactly one way to the model is given."""
    if not (snapshot or factory or program):
        raise ValueError("needs a snapshot, a factory or a program")
    if program and (snapshot or factory):
        raise ValueError("a program goes without snapshot and factory: it is the whole model")


class UserModelConfig(Section):
    """One user model: where it comes from, and how its embeddings are cached (the policy table)."""

    snapshot: Path = Field("", description="Directory written by `predawn train` (newest version).")
    factory: Factory = Field("", description='Your own: "package.module:function".')
    options: Options = Field({}, description="Keyword arguments of the factory.")
    program: Path = Field("", description="Your own: a file of torch.export.save (.pt2).")
    mode: Literal["realtime", "ercache", "soap", "batch", "frozen"] = Field(
        "soap", description="Row of the policy table."
    )
    direct_ttl: DurationMs = Field(5 * 60_000, description="Served without a recompute up to here.")
    failover_ttl: DurationMs = Field(86_400_000, description="Served at all up to here.")
    wait: DurationMs = Field(30, description="Longest a request waits for this model.")
    retries: int = Field(
        1,
        ge=0,
        le=3,
        description="Times a request that has only the default to serve asks again on failure.",
    )
    average: Literal["mean", "exponential"] = Field(
        "mean",
        description="What is served of a user's successive embeddings, also over snapshots: the "
        "mean of the newest, or the newest weighed against what was served before it.",
    )
    average_over: int = Field(
        1, ge=1, le=8, description='average "mean": of how many (SUM uses 3); 1: the newest alone.'
    )
    average_weight: float = Field(
        _AVERAGE_WEIGHT,
        gt=0,
        le=1,
        description='average "exponential": share of the newest. No more room in the store than '
        "without averaging.",
    )
    align: bool = Field(
        False,
        description="A new snapshot's embeddings are turned towards those of the one before it, by "
        "an orthogonal matrix fitted on users seen by both.",
    )
    default: Literal["zeros", "mean"] | list[Finite] = Field(
        "zeros", description='Vector of an unknown user; "mean": of the trained users.'
    )
    batch_every: DurationMs = Field(
        3_600_000, ge=1, description="mode batch: all users are recomputed this often."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "UserModelConfig":
        one_source(self.snapshot, self.factory, self.program)
        if self.failover_ttl < self.direct_ttl:
            ages = f"{self.failover_ttl} ms < {self.direct_ttl} ms"
            raise ValueError(f"failover_ttl must be at least direct_ttl, not {ages}")
        if self.average == "exponential" and self.average_over != 1:
            raise ValueError('average_over is for average = "mean"; exponential has average_weight')
        if self.average == "mean" and self.average_weight != _AVERAGE_WEIGHT:
            raise ValueError('average_weight is for average = "exponential"; mean has average_over')
        return self


class RankerConfig(Section):
    """One ranker: where it comes from, and whose embeddings it reads."""

    snapshot: Path = Field("", description="Directory written by `predawn train` (newest version).")
    factory: Factory = Field("", description='Your own: "package.module:function".')
    options: Options = Field({}, description="Arguments of the factory.")
    program: Path = Field("", description="Your own: a file of torch.export.save (.pt2).")
    user_models: Names = Field(..., min_length=1, description="Whose embeddings it reads.")
    pair_models: Names = Field([], description="Whose embeddings of its candidates it reads.")
    task: str = Field("", description='Task whose score ranks; "": the first of the model.')
    on_failure: Literal["error", "as_sent"] = Field(
        "error",
        description="When the ranker itself fails: an error, or the candidates in the order sent, "
        "scores 0 and degraded.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "RankerConfig":
        one_source(self.snapshot, self.factory, self.program)
        return self
