"""From a configuration entry to a model: a snapshot, a factory (given a snapshot or not), or an
exported program.

Invariant: whatever is returned has the members of its protocol in `contract`, with usable values;
anything else ends here, with an error that names the setting and the reason, before it can be asked
for a row. torch is imported only where a user tower or a foundation model is loaded.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from predawn.server.errors import ConfigError, SnapshotError, nearest
from predawn.server.models.contract import PairModel, RankerModel, UserModel
from predawn.server.models.own import Kind, Trial, adapted, from_program
from predawn.server.models.snapshots import (
    MANIFEST,
    Snapshot,
    load_snapshot,
    read_manifest,
    snapshot_directories,
    snapshot_version,
)
from predawn.server.request import F32

if TYPE_CHECKING:
    from predawn.server.models.foundation_model import FoundationModel

FOUNDATION_FILE = "foundation.safetensors"
TOWER_FILE = "user_tower.safetensors"
RANKER_FILE = "ranker.safetensors"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from. setting: its dotted path in the config, for errors, such as
    "models.sum"; snapshot, factory, options, program: as in the config, "" where absent."""

    setting: str
    snapshot: str = ""
    factory: str = ""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    program: str = ""

    @property
    def is_own(self) -> bool:
        """Not wholly told by a snapshot: it has to be made to be known."""
        return bool(self.factory or self.program)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that it takes to make a model, here or in another process. device, threads, types,
    attributes, length: as in `load_user_model`; align: turn new versions into the space of the live
    one; alignments: directory that keeps how they were turned, "": no longer than the process."""

    kind: Kind
    source: ModelSource
    device: str = "cpu"
    threads: int = 1
    types: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    align: bool = False
    length: int = 32
    alignments: str = ""

    @property
    def trial(self) -> Trial:
        """A user without a past, as this server would show it to the model."""
        return Trial(len(self.types or ()), len(self.attributes or ()), self.length)


def load_model(recipe: Recipe, version: int | None = None) -> UserModel | PairModel | RankerModel:
    """Makes the model, of one version of its snapshot (None: the newest). ConfigError names the
    setting, SnapshotError the file."""
    match recipe.kind:
        case "user":
            return _user_model(recipe, version)
        case "pair":
            return _pair_model(recipe, version)
        case "ranker":
            return _ranker_model(recipe, version)


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
    columns = (_columns(types), _columns(attributes))
    return _user_model(Recipe("user", source, device, threads, *columns), version)


def load_ranker(source: ModelSource, *, version: int | None = None) -> RankerModel:
    """Loads a ranker, of one version of its snapshot (None: the newest). ConfigError names the
    setting, SnapshotError the file."""
    return _ranker_model(Recipe("ranker", source), version)


def _user_model(recipe: Recipe, version: int | None) -> UserModel:
    source, model = recipe.source, _make(recipe, version, _tower)
    _require_dim(source, model)
    if not callable(getattr(model, "embed", None)):
        _refuse(source, "needs a method `embed(batch: UserBatch) -> float32 [B, dim]`")
    return cast(UserModel, model)


def _pair_model(recipe: Recipe, version: int | None) -> PairModel:
    source, model = recipe.source, _make(recipe, version, _foundation)
    _require_dim(source, model)
    if not callable(getattr(model, "embed_pairs", None)):
        _refuse(source, "needs a method `embed_pairs(batch: PairBatch) -> float32 [R, dim]`")
    return cast(PairModel, model)


def _ranker_model(recipe: Recipe, version: int | None) -> RankerModel:
    source, model = recipe.source, _make(recipe, version, _ranker)
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


def _columns(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


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
    recipe: Recipe, version: int | None, built_in: Callable[[Snapshot, Recipe], object]
) -> object:
    source = recipe.source
    if source.program:
        return _from_program(recipe, version)
    if source.factory:
        return _adapted(recipe, _call(source, version, _find_factory(source)))
    if not source.snapshot:
        raise ConfigError(source.setting, "needs a snapshot, a factory or a program")
    if source.options:
        raise ConfigError(f"{source.setting}.options", "are for a factory; a snapshot takes none")
    snapshot = load_snapshot(source.snapshot, version)
    try:
        return built_in(snapshot, recipe)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"parts do not fit together: {type(error).__name__}: {error}"
        raise SnapshotError(str(snapshot.path), reason) from error


def _adapted(recipe: Recipe, found: object) -> object:
    source = recipe.source
    try:
        return adapted(recipe.kind, found, recipe.trial, lambda: _torch_device(recipe))
    except ConfigError:
        raise
    except Exception as error:
        reason = f"what {source.factory!r} returned cannot be used: {type(error).__name__}: {error}"
        raise ConfigError(f"{source.setting}.factory", reason) from error


def _from_program(recipe: Recipe, version: int | None) -> object:
    source = recipe.source
    if version:
        raise _unversioned(source)
    device = _torch_device(recipe)
    try:
        return from_program(recipe.kind, source.program, source.options, recipe.trial, device)
    except Exception as error:
        reason = f"{source.program} cannot be used: {type(error).__name__}: {error}"
        raise ConfigError(f"{source.setting}.program", reason) from error


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
        raise _unversioned(source)
    try:
        return factory(directory, **source.options)
    except Exception as error:
        reason = f"{source.factory} raised {type(error).__name__}: {error}"
        raise ConfigError(f"{source.setting}.factory", reason) from error


def _unversioned(source: ModelSource) -> ConfigError:
    return ConfigError(source.setting, "has no snapshot, so there are no versions of it")


def _refuse(source: ModelSource, reason: str) -> None:
    raise ConfigError(f"{source.setting}.factory", f"what {source.factory!r} returned {reason}")


def _require_dim(source: ModelSource, model: object) -> None:
    dim = getattr(model, "dim", None)
    if type(dim) is not int or dim < 1:
        _refuse(source, f"needs a property `dim`, a positive int; it has {dim!r}")


def _ranker(snapshot: Snapshot, recipe: Recipe) -> object:
    from predawn.server.models.ranker import Ranker, ranker_shape

    shape = ranker_shape(snapshot.section("ranker"))
    return Ranker(shape, snapshot.read(RANKER_FILE))


def _tower(snapshot: Snapshot, recipe: Recipe) -> object:
    described = snapshot.section("user_tower")
    history = snapshot.section("history")
    _same_columns(snapshot, "types", history.get("types"), recipe.types)
    _same_columns(snapshot, "attributes", history.get("attributes"), recipe.attributes)
    device = _torch_device(recipe)

    from predawn.server.models.user_tower import tower_from_tensors

    tensors = snapshot.read(TOWER_FILE)
    return tower_from_tensors(described["shape"], tensors, device, history.get("length"))


def _foundation(snapshot: Snapshot, recipe: Recipe) -> object:
    described = snapshot.section("foundation")
    _same_columns(snapshot, "types", snapshot.section("history").get("types"), recipe.types)
    device = _torch_device(recipe)

    from predawn.server.models.foundation_model import foundation_from_tensors

    model = foundation_from_tensors(described["shape"], snapshot.read(FOUNDATION_FILE), device)
    return model if device == "cpu" else _in_background(model, device)


def _in_background(model: "FoundationModel", device: str) -> object:
    import torch

    from predawn.server.models.device import Cuda
    from predawn.server.models.device_slices import BackgroundPairs

    return BackgroundPairs(model, Cuda(torch.device(device)))


def _torch_device(recipe: Recipe) -> str:
    """The device meant; torch computes with so many CPU threads from here on."""
    import torch

    torch.set_num_threads(recipe.threads)
    device, there = recipe.device, torch.cuda.is_available()
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
