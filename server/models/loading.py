"""From a configuration entry to a model: a snapshot, a factory, or a factory given a snapshot.

Invariant: whatever is returned has the members of `contract.UserModel` or `contract.RankerModel`,
with usable values; anything else ends here, before the server answers its first request, with an
error that names the setting and the reason. torch is imported only where a user tower is loaded.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from predawn.server.errors import ConfigError, SnapshotError, nearest
from predawn.server.models.contract import RankerModel, UserModel
from predawn.server.models.snapshots import MANIFEST, Snapshot, load_snapshot
from predawn.server.request import F32

TOWER_FILE = "user_tower.safetensors"
RANKER_FILE = "ranker.safetensors"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from. setting: its dotted path in the config, for errors, such as
    "models.sum"; snapshot, factory, options: as in the config, "" where absent."""

    setting: str
    snapshot: str = ""
    factory: str = ""
    options: Mapping[str, object] = field(default_factory=dict[str, object])


def load_user_model(
    source: ModelSource,
    *,
    device: str = "cpu",
    threads: int = 1,
    types: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
) -> UserModel:
    """Loads a user model and checks that it fits the history it will be fed from.

    device: "cpu", "cuda" or "auto"; threads: CPU threads of torch, set here once; types,
    attributes: names of the history's columns, compared with those of the training when given.
    ConfigError names the setting, SnapshotError the file.
    """
    model = _make(source, lambda snapshot: _tower(snapshot, device, threads, types, attributes))
    dim = getattr(model, "dim", None)
    if type(dim) is not int or dim < 1:
        _refuse(source, f"needs a property `dim`, a positive int; it has {dim!r}")
    if not callable(getattr(model, "embed", None)):
        _refuse(source, "needs a method `embed(batch: UserBatch) -> float32 [B, dim]`")
    return cast(UserModel, model)


def load_ranker(source: ModelSource) -> RankerModel:
    """Loads a ranker. ConfigError names the setting, SnapshotError the file."""
    model = _make(source, _ranker)
    for name in ("tasks", "item_features"):
        names = getattr(model, name, None)
        if not isinstance(names, tuple) or not all(
            isinstance(each, str) for each in cast(tuple[object, ...], names)
        ):
            _refuse(source, f"needs a property `{name}`, a tuple of str; it has {names!r}")
    if not cast(RankerModel, model).tasks:
        _refuse(source, "has no tasks: nothing to rank by")
    if type(getattr(model, "inline", None)) is not bool:
        _refuse(source, "needs a property `inline`: True when cheap enough for the event loop")
    if not callable(getattr(model, "score", None)):
        _refuse(source, "needs a method `score(batch: RankBatch) -> float32 [R, tasks]`")
    return cast(RankerModel, model)


def trained_default(snapshot: str) -> F32:
    """Mean embedding of the users of the training, float32 [dim]: `default = "mean"`."""
    opened = load_snapshot(snapshot)
    values = opened.section("user_tower").get("default")
    try:
        default = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        default = np.zeros(0, np.float32)
    if default.ndim != 1 or not len(default) or not np.isfinite(default).all():
        raise SnapshotError(str(opened.path / MANIFEST), "user_tower.default is not a vector")
    return default


def _make(source: ModelSource, built_in: Callable[[Snapshot], object]) -> object:
    if source.factory:
        return _call(source, _find_factory(source))
    if not source.snapshot:
        raise ConfigError(source.setting, "needs a snapshot or a factory")
    if source.options:
        raise ConfigError(f"{source.setting}.options", "are for a factory; a snapshot takes none")
    snapshot = load_snapshot(source.snapshot)
    try:
        return built_in(snapshot)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"parts do not fit together: {type(error).__name__}: {error}"
        raise SnapshotError(str(snapshot.path), reason) from error


def _find_factory(source: ModelSource) -> Callable[..., object]:
    setting = f"{source.setting}.factory"
    module_name, _, name = source.factory.partition(":")
    if not module_name or not name:
        raise ConfigError(setting, f'{source.factory!r} is not "package.module:function"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = "is it on PYTHONPATH?" if error.name else ""
        raise ConfigError(setting, f"cannot import {module_name!r}: {error}; {where}") from error
    except Exception as error:
        reason = f"importing {module_name!r} raised {type(error).__name__}: {error}"
        raise ConfigError(setting, reason) from error
    found = getattr(module, name, None)
    if found is None:
        near = nearest(name, [each for each in vars(module) if not each.startswith("_")])
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(setting, f"module {module_name!r} has no {name!r}{hint}")
    if not callable(found):
        raise ConfigError(
            setting, f"{source.factory!r} is a {type(found).__name__}, not a function"
        )
    factory: Callable[..., object] = found
    return factory


def _call(source: ModelSource, factory: Callable[..., object]) -> object:
    directory: Path | None = load_snapshot(source.snapshot).path if source.snapshot else None
    try:
        return factory(directory, **source.options)
    except Exception as error:
        reason = f"{source.factory} raised {type(error).__name__}: {error}"
        raise ConfigError(f"{source.setting}.factory", reason) from error


def _refuse(source: ModelSource, reason: str) -> None:
    raise ConfigError(f"{source.setting}.factory", f"what {source.factory!r} returned {reason}")


def _ranker(snapshot: Snapshot) -> object:
    from predawn.server.models.ranker import Ranker, ranker_shape

    shape = ranker_shape(snapshot.section("ranker"))
    return Ranker(shape, snapshot.read(RANKER_FILE))


def _tower(
    snapshot: Snapshot,
    device: str,
    threads: int,
    types: Sequence[str] | None,
    attributes: Sequence[str] | None,
) -> object:
    described = snapshot.section("user_tower")
    history = snapshot.section("history")
    _same_columns(snapshot, "types", history.get("types"), types)
    _same_columns(snapshot, "attributes", history.get("attributes"), attributes)

    import torch

    from predawn.server.models.user_tower import tower_from_tensors

    torch.set_num_threads(threads)
    there = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if there else "cpu"
    if device != "cpu" and not (device == "cuda" and there):
        known = '"auto", "cpu" and "cuda"' if there else '"auto" and "cpu": torch sees no GPU'
        raise ConfigError("engine.device", f"{device!r} cannot be used; here are {known}")
    return tower_from_tensors(described["shape"], snapshot.read(TOWER_FILE), device)


def _same_columns(
    snapshot: Snapshot, name: str, trained: Any, served: Sequence[str] | None
) -> None:
    if served is not None and list(served) != trained:
        raise SnapshotError(
            str(snapshot.path),
            f"was trained on history.{name} = {trained}, this server keeps {list(served)}; "
            "set them to what the snapshot says",
        )
