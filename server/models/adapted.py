"""Models of your own that know nothing of predawn: torch modules, exported programs, functions.

`forward` says by the names of its parameters what it reads of a batch, and gets it as tensors:
  user model   fields of `UserBatch`, [B, ...]                              -> [B, dim]
  pair model   fields of `UserBatch` of the U users; `row_user` int64 [R], the user of each pair,
               and `item_hashes` int64 [R]                                  -> [R, dim]
  ranker       `user`, `sources` of the U requests; `row_user` int64 [R], the request of each
               candidate; `item_hashes`, `item_features`, `pairs`, `pair_sources` [R, ...]
                                                                            -> [R, tasks]
Unsigned integers become int64, bit by bit. The result is one floating-point tensor.

Invariant: an adapter translates and checks nothing but that a tensor came back: shapes, dtypes and
values are the engine's to check, for every model alike. A row has to depend on its own user or
request (and item) alone.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from predawn.server.request import F32, PairBatch, RankBatch, UserBatch

USER_FIELDS = tuple(UserBatch.__slots__)
PAIR_FIELDS = (*USER_FIELDS, "row_user", "item_hashes")
RANK_FIELDS = (
    *("user", "sources", "row_user", "item_hashes", "item_features"),
    *("pairs", "pair_sources"),
)
FIELDS = {"user": USER_FIELDS, "pair": PAIR_FIELDS, "ranker": RANK_FIELDS}

Fields = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class TensorFunction:
    """A function of tensors and the fields that it reads, in order."""

    function: Callable[..., object]
    reads: tuple[str, ...]
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, fields: Fields) -> F32:
        """float32, of the shape that came back; TypeError when that is no tensor."""
        found = self.function(*(_as_tensor(fields[name], self.device) for name in self.reads))
        if not isinstance(found, Tensor):
            raise TypeError(f"returned {type(found).__name__}, not a tensor")
        if not found.is_floating_point():
            raise TypeError(f"returned {found.dtype}, not floating-point numbers")
        out: F32 = found.float().cpu().numpy()
        return out


@dataclass(frozen=True, slots=True)
class TensorUserModel:
    """A `UserModel`."""

    function: TensorFunction
    dim: int

    def embed(self, batch: UserBatch) -> F32:
        """float32 [B, dim]."""
        return self.function(user_fields(batch))


@dataclass(frozen=True, slots=True)
class TensorPairModel:
    """A `PairModel`."""

    function: TensorFunction
    dim: int

    def embed_pairs(self, batch: PairBatch) -> F32:
        """float32 [R, dim]."""
        return self.function(pair_fields(batch))


@dataclass(frozen=True, slots=True)
class TensorRanker:
    """A `RankerModel` that runs in the engine, not on the event loop."""

    function: TensorFunction
    tasks: tuple[str, ...]
    item_features: tuple[str, ...]
    inline: bool = False

    def score(self, batch: RankBatch) -> F32:
        """float32 [R, tasks]."""
        return self.function(rank_fields(batch))


def of_module(module: nn.Module, device: str, fields: Sequence[str]) -> TensorFunction:
    """The module in inference, on `device`; ValueError when it reads something not in `fields`."""
    reads = _reads(list(inspect.signature(module.forward).parameters.values()), fields)
    return TensorFunction(module.eval().to(device), reads, device)


def of_program(path: str, device: str, fields: Sequence[str]) -> TensorFunction:
    """A `torch.export` program (.pt2) that was exported for `device`. It may hold code, so it is to
    be trusted like a factory. OSError; ValueError when it reads something not in `fields`."""
    program = torch.export.load(path)
    if program.example_inputs is not None and program.example_inputs[1]:
        raise ValueError("was exported with keyword arguments: export it with positional ones")
    signature = program.module_call_graph[0].signature
    names = signature.forward_arg_names if signature is not None else None
    reads = tuple(str(name) for name in names or program.graph_signature.user_inputs)
    _known_fields(reads, fields)
    return TensorFunction(program.module(), reads, device)


def user_fields(batch: UserBatch) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a batch by name."""
    return {name: getattr(batch, name) for name in USER_FIELDS}


def pair_fields(batch: PairBatch) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a batch by name; `row_user` instead of offsets."""
    return user_fields(batch.users) | {
        "row_user": _row_user(batch.offsets),
        "item_hashes": batch.item_hashes,
    }


def rank_fields(batch: RankBatch) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a batch by name; `row_user` instead of offsets."""
    fields = {name: getattr(batch, name) for name in RANK_FIELDS if name != "row_user"}
    return fields | {"row_user": _row_user(batch.offsets)}


def _reads(parameters: Sequence[inspect.Parameter], fields: Sequence[str]) -> tuple[str, ...]:
    """Names of the positional parameters without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(each.kind not in kinds for each in parameters):
        raise ValueError("forward takes *args or keywords only: name the fields that it reads")
    names = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    _known_fields(names, fields)
    return tuple(names)


def _known_fields(names: Sequence[str], fields: Sequence[str]) -> None:
    for name in names:
        if name not in fields:
            raise ValueError(f"forward reads {name!r}; there are {', '.join(fields)}")


def _as_tensor(array: np.ndarray[Any, Any], device: str) -> Tensor:
    if array.dtype.kind == "u":
        array = array.view(np.int64) if array.dtype.itemsize == 8 else array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _row_user(offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
