"""Every knob of the server, documented once, at its field.

The schema only (models and pairs have modules of their own); `config_load` reads it from a file,
the environment and the command line, and `config_sample` prints it as a commented predawn.toml.
"""

from collections.abc import Collection
from typing import Literal

from pydantic import Field, model_validator

from predawn.server.config_models import RankerConfig, UserModelConfig
from predawn.server.config_pairs import FillLevel, PairModelConfig, SpeculationConfig
from predawn.server.config_section import (
    BYTES,
    MS,
    DurationMs,
    IsPath,
    Name,
    Names,
    Path,
    Section,
    SizeBytes,
    duration_ms,
    size_bytes,
)
from predawn.server.config_served_log import ServedLogConfig
from predawn.server.errors import nearest

__all__ = [
    "BYTES",
    "LONGEST_HISTORY",
    "MS",
    "BatcherConfig",
    "Config",
    "EngineConfig",
    "FillLevel",
    "HistoryConfig",
    "HttpConfig",
    "IsPath",
    "LogConfig",
    "PairModelConfig",
    "RankerConfig",
    "Section",
    "ServedLogConfig",
    "SpeculationConfig",
    "StoreConfig",
    "UserModelConfig",
    "duration_ms",
    "size_bytes",
]


class HttpConfig(Section):
    """The front door."""

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

    @model_validator(mode="after")
    def _consistent(self) -> "HttpConfig":
        if self.timeout > self.timeout_limit:
            raise ValueError(f"timeout {self.timeout} ms is above timeout_limit")
        return self


class LogConfig(Section):
    """What the server says about itself, on standard error."""

    format: Literal["text", "json"] = Field("text", description="A line or an object an event.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    access: float = Field(0.0, ge=0, le=1, description="Share of requests written to the log.")


_INT8_PARTS_LIMIT = 4  # a slot of the store has room for so many scales


class StoreConfig(Section):
    """Where embeddings are kept: one table per model and id kind of the user."""

    path: Path = Field(
        "",
        description="Directory (best in /dev/shm) of the tables' files, which outlive the server "
        'and may be shared by several; "": in its memory.',
    )
    capacity: int = Field(1_000_000, ge=16, description="Users kept per user model and id kind.")
    dtype: Literal["fp16", "fp32", "bf16", "int8"] = Field(
        "fp16", description="How values are stored; int8 has a scale per vector."
    )
    huge_pages: bool = Field(
        True, description="Take all memory of a table when it is made, on huge pages if possible."
    )
    flush_delay: DurationMs = Field(5, description="Longest wait of a computed row for its write.")
    flush_rows: int = Field(256, ge=1, description="A write of this many rows goes at once.")


class EngineConfig(Section):
    """Where models run, and how much of it background work may take."""

    isolation: Literal["process", "thread"] = Field(
        "process",
        description='"process": models run in one of their own, which is started again when it '
        'dies or hangs; "thread": in the server itself, which a model can then take down.',
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description='"cpu", "cuda" (or "cuda:1"), or "auto": a GPU where there is one.',
    )
    threads: int = Field(1, ge=1, description="CPU threads of the models.")
    nice: int = Field(
        19, ge=0, le=19, description="How far the models' thread gives way to requests (Linux)."
    )
    background_share: float = Field(
        0.5, gt=0, le=1, description="Largest share of engine time for refreshes and pairs."
    )
    hang_after: DurationMs = Field(
        2_000,
        ge=1,
        description="A batch running longer counts as hung: nobody waits behind it. A process of "
        "models is killed after five times as long.",
    )


class BatcherConfig(Section):
    """How users are put together for one run of a model."""

    batch_limit: int = Field(64, ge=1, description="Most users in one batch.")
    wait_window: DurationMs = Field(1, description="Longest a waiting user is held for company.")
    refresh_window: DurationMs = Field(50, description="The same for background refreshes.")
    wait_queue_limit: int = Field(1024, ge=1, description="Waiting users queued; above: refused.")
    refresh_queue_limit: int = Field(8192, ge=1, description="Refreshes queued; above: shed.")


LONGEST_HISTORY = 1024  # events per user


class HistoryConfig(Section):
    """What users did, as `POST /v1/events` tells it: the input of user models."""

    path: Path = Field("", description='Directory of the event store; "": a temporary one.')
    length: int = Field(
        32, ge=1, le=LONGEST_HISTORY, description="Events kept and shown to models per user."
    )
    types: Names = Field(
        ["shown", "clicked", "liked", "hated", "long_view"],
        min_length=1,
        max_length=16,
        description="Event types, in the order of the models' type bits.",
    )
    attributes: Names = Field([], max_length=64, description="Names of numeric user attributes.")
    size_limit: SizeBytes = Field(4 * 2**30, ge=2**20, description="Largest size of the store.")
    durability: Literal["disk", "process"] = Field(
        "disk",
        description="What an acknowledged event survives: kill -9, or also a power loss.",
    )
    commit_delay: DurationMs = Field(2, description="Longest wait of an event for its group.")
    commit_events: int = Field(1024, ge=1, description="A group of this many events goes at once.")
    buffer_limit: int = Field(100_000, ge=1, description="Events waiting for a commit; above: 429.")


def _known(where: str, kind: str, names: list[str], known: Collection[str]) -> None:
    """ValueError, which begins with the setting at fault, when a model is not configured."""
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ValueError(f"{where}: no {kind} {name!r}; {hint if known else 'known: none'}")


class Config(Section):
    """The whole file. `models` and `rankers` are tables by name; at least one of each to serve."""

    http: HttpConfig = HttpConfig()  # pyright: ignore
    log: LogConfig = LogConfig()  # pyright: ignore
    store: StoreConfig = StoreConfig()  # pyright: ignore
    engine: EngineConfig = EngineConfig()  # pyright: ignore
    batcher: BatcherConfig = BatcherConfig()  # pyright: ignore
    history: HistoryConfig = HistoryConfig()  # pyright: ignore
    served_log: ServedLogConfig = ServedLogConfig()  # pyright: ignore
    models: dict[Name, UserModelConfig] = Field({}, description="User models by name.")
    pairs: dict[Name, PairModelConfig] = Field({}, description="Pair models by name.")
    rankers: dict[Name, RankerConfig] = Field({}, description="Rankers by name; first: default.")
    seed: int = Field(0, ge=0, description="Of everything random, such as retry jitter.")

    @model_validator(mode="after")
    def _rankers_know_their_models(self) -> "Config":
        for name, ranker in self.rankers.items():
            where = f"rankers.{name}"
            _known(f"{where}.user_models", "user model", ranker.user_models, self.models)
            _known(f"{where}.pair_models", "pair model", ranker.pair_models, self.pairs)
        return self

    @model_validator(mode="after")
    def _names_are_of_one_model(self) -> "Config":
        for name in self.pairs:
            if name in self.models:
                raise ValueError(f"pairs.{name}: a user model has this name")
        for name in self.rankers:
            if name in self.models or name in self.pairs:
                raise ValueError(f"rankers.{name}: a user or pair model has this name")
        return self

    @model_validator(mode="after")
    def _rows_fit_the_store(self) -> "Config":
        for name, model in self.models.items():
            if self.store.dtype == "int8" and model.average_over > _INT8_PARTS_LIMIT:
                where = f"models.{name}.average_over"
                limit = f"at most {_INT8_PARTS_LIMIT} with store.dtype int8"
                raise ValueError(f"{where}: must be {limit}, not {model.average_over}")
        return self
