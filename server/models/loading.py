"""From a configuration entry to a model: a snapshot, a factory, or a factory given a snapshot.

Invariant: whatever is returned has the members of its protocol in `contract`, with usable values;
anything else ends here, with an error that names the setting and the reason, before it can be asked
for a row. torch is imported only where a user tower or a foundation model is loaded.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from predawn.server.errors import ConfigError, SnapshotError, nearest
from predawn.server.models.contract import PairModel, RankerModel, UserModel
from predawn.server.models.snapshots import (
    MANIFEST,
    Snapshot,
    load_snapshot,
    read_manifest,
    snapshot_directories,
    snapshot_version,
)
from predawn.server.request import F32

FOUNDATION_FILE = "foundation.safetensors"
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


Kind: TypeAlias = Literal["user", "pair", "ranker"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that it takes to make a model, here or in another process. device, threads, types,
    attributes: as in `load_user_model`; align: turn new versions into the space of the live one."""

    kind: Kind
    source: ModelSource
    device: str = "cpu"
    threads: int = 1
    types: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    align: bool = False


def load_model(recipe: Recipe, version: int | None = None) -> UserModel | PairModel | RankerModel:
    """Makes the model, of one version of its snapshot (None: the newest). ConfigError names the
    setting, SnapshotError the file."""
    source, device, threads = recipe.source, recipe.device, recipe.threads
    if recipe.kind == "ranker":
        return load_ranker(source, version=version)
    types, attributes = recipe.types, recipe.attributes
    if recipe.kind == "pair":
        return load_pair_model(source, device=device, threads=threads, types=types, version=version)
    return load_user_model(
        source, device=device, threads=threads, types=types, attributes=attributes, version=version
    )


def load_user_model(
    source: ModelSource,
    *,
    device: str = "cpu",
    threads: int = 1,
    types: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
    version: int | None = None,
) -> UserModel:
    """Loads a user model and checks that it fits the history it will be fed from.

    device: "cpu", "cuda" or "auto"; threads: CPU threads of torch, set here once; types,
    attributes: names of the history's columns, compared with those of the training when given;
    version: of the snapshot, None for the newest. ConfigError names the setting, SnapshotError the
    file.
    """
    model = _make(
        source, version, lambda snapshot: _tower(snapshot, device, threads, types, attributes)
    )
    _require_dim(source, model)
    if not callable(getattr(model, "embed", None)):
        _refuse(source, "needs a method `embed(batch: UserBatch) -> float32 [B, dim]`")
    return cast(UserModel, model)


def load_pair_model(
    source: ModelSource,
    *,
    device: str = "cpu",
    threads: int = 1,
    types: Sequence[str] | None = None,
    version: int | None = None,
) -> PairModel:
    """Loads a model of user-item pairs; parameters and errors as in `load_user_model`."""
    model = _make(source, version, lambda snapshot: _foundation(snapshot, device, threads, types))
    _require_dim(source, model)
    if not callable(getattr(model, "embed_pairs", None)):
        _refuse(source, "needs a method `embed_pairs(batch: PairBatch) -> float32 [R, dim]`")
    return cast(PairModel, model)


def load_ranker(source: ModelSource, *, version: int | None = None) -> RankerModel:
    """Loads a ranker, of one version of its snapshot (None: the newest). ConfigError names the
    setting, SnapshotError the file."""
    model = _make(source, version, _ranker)
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


def trained_default(snapshot: str, section: str = "user_tower", version: int | None = None) -> F32:
    """Mean embedding of the training, float32 [dim], of a user tower or a "foundation" model:
    `default = "mean"`. Reads the manifest alone."""
    opened = read_manifest(snapshot_directories(snapshot)[version or snapshot_version(snapshot)])
    values = opened.section(section).get("default")
    try:
        default = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        default = np.zeros(0, np.float32)
    if default.ndim != 1 or not len(default) or not np.isfinite(default).all():
        raise SnapshotError(str(opened.path / MANIFEST), f"{section}.default is not a vector")
    return default


def _make(
    source: ModelSource, version: int | None, built_in: Callable[[Snapshot], object]
) -> object:
    if source.factory:
        return _call(source, version, _find_factory(source))
    if not source.snapshot:
        raise ConfigError(source.setting, "needs a snapshot or a factory")
    if source.options:
        raise ConfigError(f"{source.setting}.options", "are for a factory; a snapshot takes none")
    snapshot = load_snapshot(source.snapshot, version)
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


def _call(source: ModelSource, version: int | None, factory: Callable[..., object]) -> object:
    directory: Path | None = None
    if source.snapshot:
        directory = load_snapshot(source.snapshot, version).path
    elif version:
        raise ConfigError(source.setting, "has no snapshot, so there are no versions of it")
    try:
        return factory(directory, **source.options)
    except Exception as error:
        reason = f"{source.factory} raised {type(error).__name__}: {error}"
        raise ConfigError(f"{source.setting}.factory", reason) from error


def _refuse(source: ModelSource, reason: str) -> None:
    raise ConfigError(f"{source.setting}.factory", f"what {source.factory!r} returned {reason}")


def _require_dim(source: ModelSource, model: object) -> None:
    dim = getattr(model, "dim", None)
    if type(dim) is not int or dim < 1:
        _refuse(source, f"needs a property `dim`, a positive int; it has {dim!r}")


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

    device = _torch_device(device, threads)

    from predawn.server.models.user_tower import tower_from_tensors

    return tower_from_tensors(described["shape"], snapshot.read(TOWER_FILE), device)


def _foundation(
    snapshot: Snapshot, device: str, threads: int, types: Sequence[str] | None
) -> object:
    described = snapshot.section("foundation")
    _same_columns(snapshot, "types", snapshot.section("history").get("types"), types)
    device = _torch_device(device, threads)

    from predawn.server.models.foundation_model import foundation_from_tensors

    return foundation_from_tensors(described["shape"], snapshot.read(FOUNDATION_FILE), device)


def _torch_device(device: str, threads: int) -> str:
    """The device meant; torch computes with `threads` CPU threads from here on."""
    import torch

    torch.set_num_threads(threads)
    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and there):
        known = '"auto", "cpu" and "cuda"' if there else '"auto" and "cpu": torch sees no GPU'
        raise ConfigError("engine.device", f"{device!r} cannot be used; here are {known}")
    return device


def _same_columns(
    snapshot: Snapshot, name: str, trained: Any, served: Sequence[str] | None
) -> None:
    if served is not None and list(served) != trained:
        raise SnapshotError(
            str(snapshot.path),
            f"was trained on history.{name} = {trained}, this server keeps {list(served)}; "
            "set them to what the snapshot says",
        )
