"""What a server and the process of its models say to each other.

Invariant: everything here is plain data of this project and numpy, sent between a process and the
child that it started, over a pair of sockets that nobody else can open. Errors cross as what they
say (`Fault`), never as objects of a model's code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from predawn.server.engine import Computed, Described, Loaded, ModelVersions
from predawn.server.engine_roster import Change
from predawn.server.errors import ConfigError, InferenceError, PredawnError, SnapshotError
from predawn.server.models.loading import Recipe
from predawn.server.request import F32, PairBatch, RankBatch, UserBatch

_KINDS: dict[str, type[ConfigError] | type[SnapshotError] | type[InferenceError]] = {
    "config": ConfigError,
    "snapshot": SnapshotError,
    "inference": InferenceError,
}

Matrices: TypeAlias = Mapping[tuple[str, int], F32]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error on its way. subject: the setting, file or model at fault."""

    kind: str
    subject: str
    reason: str

    def error(self) -> PredawnError:
        """As it was raised."""
        return _KINDS[self.kind](self.subject, self.reason)


def fault_of(subject: str, error: BaseException) -> Fault:
    """subject: the model at fault where the error does not say."""
    match error:
        case ConfigError():
            return Fault("config", error.field, error.reason)
        case SnapshotError():
            return Fault("snapshot", error.path, error.reason)
        case InferenceError():
            return Fault("inference", error.model, error.reason)
        case _:
            return Fault("inference", subject, f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message. versions: what was there before the process was lost, {} at the first
    start; matrices: of the aligned ones, by name and version; described: what the models said of
    themselves then. log_level: least level to tell."""

    recipes: Mapping[str, Recipe]
    nobody: UserBatch
    batch_limit: int
    nice: int
    beat_s: float
    log_level: int
    versions: Mapping[str, ModelVersions] = field(default_factory=dict[str, ModelVersions])
    matrices: Matrices = field(default_factory=dict[tuple[str, int], F32])
    described: Mapping[str, Described] = field(default_factory=dict[str, Described])


@dataclass(frozen=True, slots=True)
class Work:
    """A batch for a model: of users, of pairs, or for a ranker."""

    id: int
    name: str
    batch: UserBatch | PairBatch | RankBatch


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody waits for this work any more."""

    id: int


@dataclass(frozen=True, slots=True)
class Load:
    """Answered by `LoadDone`."""

    id: int
    name: str
    version: int | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of versions; answered by `TurnDone`."""

    id: int
    change: Change
    names: tuple[str, ...]


ToChild: TypeAlias = Setup | Work | Drop | Load | Turn


@dataclass(frozen=True, slots=True)
class Started:
    """Every model is live."""

    described: Mapping[str, Described]
    versions: Mapping[str, ModelVersions]


@dataclass(frozen=True, slots=True)
class Refused:
    """A model cannot be made: the process ends."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Restored:
    """Staged and previous versions are back, as far as they could be."""

    versions: Mapping[str, ModelVersions]


@dataclass(frozen=True, slots=True)
class WorkDone:
    """spent_ns: on the device's thread."""

    id: int
    outcome: Computed | F32 | Fault
    spent_ns: int


@dataclass(frozen=True, slots=True)
class LoadDone:
    """matrix: that aligns the version."""

    id: int
    outcome: Loaded | Fault
    matrix: F32 | None
    versions: Mapping[str, ModelVersions]


@dataclass(frozen=True, slots=True)
class TurnDone:
    """outcome: live versions of the names that changed."""

    id: int
    outcome: Mapping[str, int] | Fault
    versions: Mapping[str, ModelVersions]


@dataclass(frozen=True, slots=True)
class Beat:
    """The process is there. busy_ns: how long the running step has been running, 0 when idle;
    compiles, kept: as in `EngineCounts`."""

    busy_ns: int
    compiles: int
    kept: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Logged:
    """A line for the log, traceback included. logger, level: as in `logging`."""

    logger: str
    level: int
    text: str


FromChild: TypeAlias = Started | Refused | Restored | WorkDone | LoadDone | TurnDone | Beat | Logged
