"""Recurring training: the weights of a snapshot go on to learn from newer rows.

What the weights were learned on stays as it was: scales of dense features, bins of item features,
smoothing priors. What is counted is counted anew on the new trace: item statistics and the default
embedding. The optimiser starts afresh. The embedding tables go on, too, so rows that the snapshot
was trained on should not come again (`max_rows`): a table that has seen an example overfits it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.models.loading import RANKER_FILE, TOWER_FILE
from predawn.server.models.ranker import (
    Encoding,
    RankerShape,
    ranker_shape,
    with_all_sources,
)
from predawn.server.models.ranker_training import RankerNet, Standard, untrained_ranker
from predawn.server.models.snapshots import Snapshot, Tensors, load_snapshot
from predawn.server.models.training_examples import Items
from predawn.server.models.training_fit import FitSettings
from predawn.server.models.user_features import F64
from predawn.server.models.user_sizes import HISTORY_LENGTHS
from predawn.server.models.user_tower import TowerNet, TowerShape, tower_shape, trainable_tower
from predawn.server.traces import EVENT_TYPES

SIZES: Final = tuple(HISTORY_LENGTHS)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a training starts. size: None for the snapshot's, without one for small; table_rows:
    None for the size's; resume: a snapshot to be trained further."""

    size: str | None = None
    table_rows: int | None = None
    resume: Path | None = None

    def __post_init__(self) -> None:
        """ConfigError for what is no start."""
        if self.size is not None and self.size not in SIZES:
            raise ConfigError("size", f"{self.size!r} is unknown; use one of {', '.join(SIZES)}")
        if self.table_rows is not None and self.table_rows < 1:
            raise ConfigError("table_rows", f"{self.table_rows} is not positive")
        if self.resume is not None and (self.size or self.table_rows):
            setting = "size" if self.size else "table_rows"
            raise ConfigError(setting, "is that of the snapshot to resume: leave it out")

    @property
    def learning_rate(self) -> float:
        """Weights that know something already are moved more gently. On the generated workload's
        second day a quarter of the rate of a first training learned more than the whole one
        (normalised entropy .9845 against .9862; second half of the KuaiRand subset: .8311, .8434),
        and the ranker trained before did not feel the new snapshot (`predawn bench jolt`)."""
        full = FitSettings().learning_rate
        return full if self.resume is None else full / 4

    def open(
        self, tasks: tuple[str, ...], item_features: tuple[str, ...]
    ) -> "tuple[str, Resumed | None]":
        """The size, and what the snapshot hands on; errors as of `resume_from`."""
        if self.resume is None:
            return self.size or "small", None
        resumed = resume_from(self.resume, tasks, item_features)
        return resumed.size, resumed


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a snapshot hands on. length: of the histories it was trained with; prior: float64
    [types]; ranker: its tensors as kept, weights by the names of `RankerNet`."""

    version: int
    size: str
    tower_shape: TowerShape
    ranker_shape: RankerShape
    length: int
    prior: F64
    tower: TowerNet
    ranker: Tensors

    def items(self, fitted: Items) -> Items:
        """Counts of the new trace in the scales that the weights know."""
        encoding = (self.ranker[f"encoding.{name}"] for name in Encoding.__slots__)
        standard = (self.ranker[f"statistics.{name}"] for name in Standard.__slots__)
        return replace(fitted, encoding=Encoding(*encoding), standard=Standard(*standard))

    def networks(self) -> tuple[TowerNet, RankerNet]:
        """Both as the snapshot has them, to be trained further; to be called once."""
        ranker = untrained_ranker(self.ranker_shape, self.tower.items, seed=0)
        for name, parameter in ranker.named_parameters():
            kept = torch.from_numpy(self.ranker[name.removesuffix(".weight")].copy())
            if kept.shape != parameter.shape:
                raise RuntimeError(f"size mismatch: {name} is {list(kept.shape)}")
            parameter.data = kept
        return self.tower, ranker


def resume_from(path: Path, tasks: tuple[str, ...], item_features: tuple[str, ...]) -> Resumed:
    """Opens a snapshot (the newest version below a parent directory) to be trained further.

    tasks, item_features: of the new trace. ConfigError where they are not the snapshot's,
    SnapshotError names a file at fault.
    """
    snapshot = load_snapshot(path)
    try:
        resumed = _read(snapshot)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"parts do not fit together: {type(error).__name__}: {error}"
        raise SnapshotError(str(snapshot.path), reason) from error
    shape, history = resumed.ranker_shape, snapshot.section("history")
    pairs = {
        "labels": (shape.tasks, tasks),
        "item features": (shape.item_features, item_features),
        "event types": (tuple(history["types"]), EVENT_TYPES),
        "user attributes": (tuple(history["attributes"]), ()),
    }
    for what, (kept, found) in pairs.items():
        if kept != tuple(found):
            reason = f"was trained on {what} {_listed(kept)}, the trace has {_listed(found)}"
            raise ConfigError("resume", f"{snapshot.path} {reason}")
    return resumed


def _read(snapshot: Snapshot) -> Resumed:
    described = snapshot.section("user_tower")["shape"]
    tower = snapshot.read(TOWER_FILE)
    shape = ranker_shape(snapshot.section("ranker"))
    return Resumed(
        version=snapshot.version,
        size=str(snapshot.section("training").get("size", "small")),
        tower_shape=tower_shape(described),
        ranker_shape=shape,
        length=int(snapshot.section("history")["length"]),
        prior=tower["prior"].astype(np.float64),
        tower=trainable_tower(described, tower),
        ranker=with_all_sources(snapshot.read(RANKER_FILE), shape),
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
