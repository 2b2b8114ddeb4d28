"""Every knob of the server, documented once, at its field.

The schema only; `config_load` reads it from a file, the environment and the command line, and
`config_sample` prints it as a commented predawn.toml. Durations are "250ms", "5m", "2h" (or a
number of milliseconds), sizes "64MiB" (or a number of bytes).
"""

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from predawn.server.errors import nearest

_DURATION = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)\s*(B|KiB|MiB|GiB|kB|MB|GB)", re.ASCII)
MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_LARGEST = 2**53  # exact also as a float


def _scaled(value: object, pattern: re.Pattern[str], units: dict[str, int], example: str) -> object:
    if not isinstance(value, str):
        return value
    found = pattern.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"is not {example}")
    return round(float(found[1]) * units[found[2]])


def duration_ms(value: object) -> object:
    """ "250ms", "5m" -> milliseconds; numbers pass through."""
    return _scaled(value, _DURATION, MS, 'a duration such as "250ms", "30s", "5m", "2h", "1d"')


def size_bytes(value: object) -> object:
    """ "64MiB" -> bytes; numbers pass through."""
    return _scaled(value, _SIZE, BYTES, 'a size such as "64KiB", "512MiB", "2GiB"')


T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"names {twice[0]!r} twice")
    return values


class IsPath:
    """Marks a field as a place in the file system: in a file, relative to that file."""


DurationMs = Annotated[int, BeforeValidator(duration_ms), Field(ge=0, le=_LARGEST)]
SizeBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=0, le=_LARGEST)]
Path = Annotated[str, IsPath()]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Names = Annotated[list[Name], AfterValidator(_distinct)]
Factory = Annotated[str, Field(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_][\w.]*)?$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Options = dict[str, str | int | float | bool]


class Section(BaseModel):
    """A table of the file. Unknown keys are errors; a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        wanted: tuple[object, ...] = (cls.model_fields[info.field_name or ""].annotation,)
        if isinstance(value, bool) and (int in wanted or float in wanted):
            raise ValueError("should be a number")
        return value


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


_AVERAGE_WEIGHT = 0.3  # the first new embedding after a swap counts about as in a mean of three


def _one_source(snapshot: str, factory: str, program: str) -> None:
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
        _one_source(self.snapshot, self.factory, self.program)
        if self.failover_ttl < self.direct_ttl:
            ages = f"{self.failover_ttl} ms < {self.direct_ttl} ms"
            raise ValueError(f"failover_ttl must be at least direct_ttl, not {ages}")
        if self.average == "exponential" and self.average_over != 1:
            raise ValueError('average_over is for average = "mean"; exponential has average_weight')
        if self.average == "mean" and self.average_weight != _AVERAGE_WEIGHT:
            raise ValueError('average_weight is for average = "exponential"; mean has average_over')
        return self


class PairModelConfig(Section):
    """One model of user-item pairs (a foundation model). A request reads its embeddings and never
    waits for them: those that it missed are computed behind it, for the next request."""

    snapshot: Path = Field("", description="Directory written by `predawn train` (newest version).")
    factory: Factory = Field("", description='Your own: "package.module:function".')
    options: Options = Field({}, description="Keyword arguments of the factory.")
    program: Path = Field("", description="Your own: a file of torch.export.save (.pt2).")
    ttl: DurationMs = Field(6 * 3_600_000, ge=1, description="Served up to here.")
    capacity: int = Field(1_000_000, ge=16, description="Pairs kept per id kind of the user.")
    default: Literal["zeros", "mean"] | list[Finite] = Field(
        "zeros", description='Vector of an unknown pair; "mean": of the trained pairs.'
    )
    queue_limit: int = Field(
        65_536, ge=1, description="Missed pairs waiting; above: those asked for longest ago go."
    )
    batch_users: int = Field(8, ge=1, description="Most users in one batch.")
    batch_pairs: int = Field(
        512,
        ge=1,
        description="Most pairs in one batch, and of one user; a model that cannot be sliced keeps "
        "the engine for all of it.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "PairModelConfig":
        _one_source(self.snapshot, self.factory, self.program)
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
        _one_source(self.snapshot, self.factory, self.program)
        return self


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
