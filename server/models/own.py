"""What a factory returned, or a program holds, as a model of its kind: as it is where it has the
members of its protocol, else through an adapter.

Invariant: torch is imported only for what is made of torch. A trial on a user without a past finds
the number of values; whatever goes wrong in it is a ValueError that says what came.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np

from predawn.server.request import F32, PairBatch, UserBatch

if TYPE_CHECKING:
    from predawn.server.models.adapted import TensorFunction

Kind: TypeAlias = Literal["user", "pair", "ranker"]

_CALL = {"user": "embed", "pair": "embed_pairs", "ranker": "score"}


@dataclass(frozen=True, slots=True)
class Trial:
    """What a user without a past looks like here: event types, attributes, events kept."""

    types: int
    attributes: int
    length: int

    def user(self) -> UserBatch:
        """A batch of one such user."""
        return UserBatch(
            users=np.ones(1, np.uint64),
            items=np.zeros((1, self.length), np.uint64),
            types=np.zeros((1, self.length), np.uint16),
            ages_ms=np.zeros((1, self.length), np.int64),
            lengths=np.zeros(1, np.int32),
            counts=np.zeros((1, self.types), np.float32),
            attributes=np.zeros((1, self.attributes), np.float32),
            hour=np.zeros(1, np.float32),
        )

    def pair(self) -> PairBatch:
        """A batch of one such user and one item."""
        return PairBatch(self.user(), np.array([0, 1]), np.ones(1, np.uint64))


@dataclass(frozen=True, slots=True)
class FunctionUserModel:
    """A `UserModel` of a function: `UserBatch` -> float32 [B, dim]."""

    embed: Callable[[UserBatch], F32]
    dim: int


@dataclass(frozen=True, slots=True)
class FunctionPairModel:
    """A `PairModel` of a function: `PairBatch` -> float32 [R, dim]."""

    embed_pairs: Callable[[PairBatch], F32]
    dim: int


def adapted(kind: Kind, found: object, trial: Trial, device: Callable[[], str]) -> object:
    """`found`, or an adapter around it: of a `torch.nn.Module` moved to `device()`, or of a plain
    function of the batch (not for rankers). ValueError, TypeError and whatever the trial raises."""
    if hasattr(found, _CALL[kind]):
        return found
    if _is_module(found):
        from predawn.server.models.adapted import FIELDS, of_module

        named = {name: getattr(found, name, None) for name in ("tasks", "item_features")}
        function = of_module(cast(Any, found), device(), FIELDS[kind])
        return _of_tensors(kind, function, trial, named)
    if callable(found) and kind != "ranker":
        return _of_function(kind, found, trial)
    return found


def from_program(
    kind: Kind, path: str, options: Mapping[str, object], trial: Trial, device: str
) -> object:
    """The model of a `torch.export` program, which gets its tensors on `device`. options: of a
    ranker, its tasks and item_features, names divided by commas. OSError; ValueError and whatever
    the trial raises."""
    from predawn.server.models.adapted import FIELDS, of_program

    allowed = ("tasks", "item_features") if kind == "ranker" else ()
    for name in options:
        if name not in allowed:
            raise ValueError(
                f"option {name!r}: a {kind} program takes {', '.join(allowed) or 'none'}"
            )
    named: dict[str, object] = {name: _names(options.get(name, "")) for name in allowed}
    return _of_tensors(kind, of_program(path, device, FIELDS[kind]), trial, named)


def _of_tensors(
    kind: Kind, function: "TensorFunction", trial: Trial, named: Mapping[str, object]
) -> object:
    from predawn.server.models import adapted as adapters

    if kind == "user":
        fields = adapters.user_fields(trial.user())
        return adapters.TensorUserModel(function, _dim(lambda: function(fields)))
    if kind == "pair":
        fields = adapters.pair_fields(trial.pair())
        return adapters.TensorPairModel(function, _dim(lambda: function(fields)))
    return adapters.TensorRanker(
        function, cast(Any, named["tasks"]), cast(Any, named["item_features"] or ())
    )


def _of_function(kind: Kind, function: Callable[..., Any], trial: Trial) -> object:
    if kind == "user":
        return FunctionUserModel(function, _dim(lambda: function(trial.user())))
    return FunctionPairModel(function, _dim(lambda: function(trial.pair())))


def _dim(call: Callable[[], object]) -> int:
    """Columns of what `call` returns for one row."""
    found = call()
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[0] != 1:
        came = list(found.shape) if isinstance(found, np.ndarray) else type(found).__name__
        raise ValueError(f"a trial on one row returned {came}, expected float32 [1, values]")
    return int(found.shape[1])


def _is_module(found: object) -> bool:
    torch = sys.modules.get("torch")  # whoever made a module has imported it
    return torch is not None and isinstance(found, torch.nn.Module)


def _names(value: object) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(value).split(",") if part.strip())
