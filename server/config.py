"""Every knob of the server, documented once, at its field.

The schema only; `config_load` reads it from a file, the environment and the command line, and
`config_sample` prints it as a commented predawn.toml. Durations are "250ms", "5m", "2h" (or a
number of milliseconds), sizes "64MiB" (or a number of bytes).
"""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|MB|GB)")
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def _scaled(value: object, pattern: re.Pattern[str], units: dict[str, int], example: str) -> object:
    if not isinstance(value, str):
        return value
    found = pattern.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value!r} is not {example}")
    return round(float(found[1]) * units[found[2]])


def duration_ms(value: object) -> object:
    """ "250ms", "5m" -> milliseconds; numbers pass through."""
    return _scaled(value, _DURATION, _MS, 'a duration such as "250ms", "30s", "5m", "2h", "1d"')


def size_bytes(value: object) -> object:
    """ "64MiB" -> bytes; numbers pass through."""
    return _scaled(value, _SIZE, _BYTES, 'a size such as "64KiB", "512MiB", "2GiB"')


DurationMs = Annotated[int, BeforeValidator(duration_ms), Field(ge=0)]
SizeBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


class Section(BaseModel):
    """A table of the file. Unknown keys are errors; a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpConfig(Section):
    host: str = Field("127.0.0.1", description="Address to bind. Anything but loopback is public.")
    port: int = Field(8471, ge=0, le=65535, description="TCP port; 0 picks a free one.")
    body_limit: SizeBytes = Field(2 * 2**20, description="Longest request body; longer: 413.")
    items_limit: int = Field(10_000, ge=1, description="Most candidates in one request.")
    events_limit: int = Field(10_000, ge=1, description="Most events in one request.")
    timeout: DurationMs = Field(50, ge=1, description="Deadline of a request that names none.")
    timeout_limit: DurationMs = Field(10_000, ge=1, description="Longest deadline accepted.")
    in_flight_limit: int = Field(1024, ge=1, description="Requests being served; above: 429.")
    drain_wait: DurationMs = Field(0, description="After SIGTERM: not ready, still accepting.")
    drain_timeout: DurationMs = Field(30_000, description="Then: time for open requests to end.")


class LogConfig(Section):
    format: Literal["text", "json"] = Field("text", description="One line or one object an event.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    access: float = Field(0.0, ge=0, le=1, description="Share of requests written to the log.")


class StoreConfig(Section):
    capacity: int = Field(1_000_000, ge=16, description="Users kept per user model and id kind.")
    dtype: Literal["fp16", "fp32"] = Field("fp16", description="How values are stored.")
    flush_delay: DurationMs = Field(5, description="Longest wait of a computed row for its write.")
    flush_rows: int = Field(256, ge=1, description="A write of this many rows goes at once.")


class EngineConfig(Section):
    device: str = Field("auto", description='"cpu", "cuda", or "auto": a GPU where there is one.')
    threads: int = Field(1, ge=1, description="CPU threads of the models.")
    background_share: float = Field(
        0.5, gt=0, le=1, description="Largest share of engine time for refreshes."
    )
    hang_after: DurationMs = Field(
        2_000, ge=1, description="A batch running longer counts as hung: nobody waits behind it."
    )


class BatcherConfig(Section):
    batch_limit: int = Field(64, ge=1, description="Most users in one batch.")
    wait_window: DurationMs = Field(1, description="Longest a waiting user is held for company.")
    refresh_window: DurationMs = Field(10, description="The same for background refreshes.")
    wait_queue_limit: int = Field(1024, ge=1, description="Waiting users queued; above: refused.")
    refresh_queue_limit: int = Field(8192, ge=1, description="Refreshes queued; above: shed.")


class HistoryConfig(Section):
    path: str = Field("", description='Directory of the event store; "": a temporary one.')
    length: int = Field(32, ge=1, le=1024, description="Events kept and shown to models per user.")
    types: list[Name] = Field(
        ["shown", "clicked", "liked", "hated", "long_view"],
        min_length=1,
        max_length=16,
        description="Event types, in the order of the models' type bits.",
    )
    attributes: list[Name] = Field(
        [], max_length=64, description="Names of numeric user attributes."
    )
    size_limit: SizeBytes = Field(4 * 2**30, ge=2**20, description="Largest size of the store.")
    durability: Literal["disk", "process"] = Field(
        "disk",
        description='"disk": an acknowledged event survives power loss; "process": kill -9.',
    )
    commit_delay: DurationMs = Field(2, description="Longest wait of an event for its group.")
    commit_events: int = Field(1024, ge=1, description="A group of this many events goes at once.")
    buffer_limit: int = Field(100_000, ge=1, description="Events waiting for a commit; above: 429.")


class UserModelConfig(Section):
    """One user model: where it comes from, and how its embeddings are cached (the policy table)."""

    snapshot: str = Field("", description="Directory written by `predawn train` (newest version).")
    factory: str = Field("", description='Your own: "package.module:function".')
    options: dict[str, str | int | float | bool] = Field(
        {}, description="Keyword arguments of the factory."
    )
    mode: Literal["realtime", "ercache", "soap", "batch", "frozen"] = Field(
        "soap", description="Row of the policy table."
    )
    direct_ttl: DurationMs = Field(5 * 60_000, description="Served without a recompute up to here.")
    failover_ttl: DurationMs = Field(2 * 3_600_000, description="Served at all up to here.")
    wait: DurationMs = Field(30, description="Longest a request waits for this model.")
    average_over: int = Field(
        1, ge=1, le=8, description="Newest embeddings averaged (SUM uses 3), also over snapshots."
    )
    default: Literal["zeros", "mean"] | list[float] = Field(
        "zeros", description='Vector of an unknown user; "mean": of the trained users.'
    )
    batch_every: DurationMs = Field(
        3_600_000, ge=1, description="mode batch: all users are recomputed this often."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "UserModelConfig":
        if not self.snapshot and not self.factory:
            raise ValueError("needs a snapshot or a factory")
        if self.failover_ttl < self.direct_ttl:
            raise ValueError("failover_ttl must be at least direct_ttl")
        return self


class RankerConfig(Section):
    snapshot: str = Field("", description="Directory written by `predawn train` (newest version).")
    factory: str = Field("", description='Your own: "package.module:function".')
    options: dict[str, str | int | float | bool] = Field(
        {}, description="Keyword arguments of the factory."
    )
    user_models: list[Name] = Field(..., min_length=1, description="Whose embeddings it reads.")
    task: str = Field("", description='Task whose score ranks; "": the first of the model.')

    @model_validator(mode="after")
    def _consistent(self) -> "RankerConfig":
        if not self.snapshot and not self.factory:
            raise ValueError("needs a snapshot or a factory")
        return self


class Config(Section):
    """The whole file. `models` and `rankers` are tables by name; at least one of each to serve."""

    http: HttpConfig = HttpConfig()  # pyright: ignore
    log: LogConfig = LogConfig()  # pyright: ignore
    store: StoreConfig = StoreConfig()  # pyright: ignore
    engine: EngineConfig = EngineConfig()  # pyright: ignore
    batcher: BatcherConfig = BatcherConfig()  # pyright: ignore
    history: HistoryConfig = HistoryConfig()  # pyright: ignore
    models: dict[Name, UserModelConfig] = Field({}, description="User models by name.")
    rankers: dict[Name, RankerConfig] = Field({}, description="Rankers by name; first: default.")
    seed: int = Field(0, ge=0, description="Of everything random, such as retry jitter.")

    @model_validator(mode="after")
    def _rankers_know_their_models(self) -> "Config":
        for name, ranker in self.rankers.items():
            for model in ranker.user_models:
                if model not in self.models:
                    known = ", ".join(sorted(self.models)) or "none"
                    raise ValueError(
                        f"rankers.{name}.user_models names {model!r}; known models: {known}"
                    )
        return self
