"""What the demo and the suites with real models need: a workload, and models trained on its past.

Made once per size and kept below the state directory; a kept snapshot is used only if it was made
by the same code with the same options and its checksums hold.
"""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from predawn.bench.workload import WorkloadOptions, generate
from predawn.server import models
from predawn.server.errors import SnapshotError
from predawn.server.models.snapshots import load_snapshot
from predawn.server.traces import Trace

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Size:
    """users, hours: of the workload; past: share of its requests that models are trained on and
    histories begin with; rows: most rows learned from; foundation: configuration of a model of
    pairs, which is then trained, too, and which the ranker reads."""

    users: int
    hours: float
    past: float
    rows: int
    seed: int = 1
    foundation: str | None = None


DEMO = Size(users=60_000, hours=3, past=0.35, rows=100_000, foundation="tiny")
SMALL = Size(users=400, hours=6, past=0.5, rows=5_000)


@dataclass(frozen=True, slots=True)
class Prepared:
    """past: what came before the first live request; live: what will be asked; snapshot: a
    directory with models trained on the past: a user tower, a ranker and perhaps a foundation
    model."""

    past: Trace
    live: Trace
    snapshot: Path


def state_dir() -> Path:
    """PREDAWN_STATE; else .state/ of the project one is in; else predawn/ of XDG_STATE_HOME."""
    told = os.environ.get("PREDAWN_STATE")
    if told:
        return Path(told)
    if Path("pyproject.toml").is_file():
        return Path(".state").resolve()
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "predawn"


def prepare(size: Size, folder: Path, progress: Progress) -> Prepared:
    """The workload of `size` and its models, from `folder` when they are there.

    progress(what, share in 0..1) is told what is being done.
    """
    progress("workload", 0.0)
    options = WorkloadOptions(users=size.users, hours=size.hours, seed=size.seed)
    trace = generate(options)
    progress("workload", 1.0)
    cut = int(len(trace) * size.past)
    past, live = trace.slice(0, cut), trace.slice(cut, len(trace))
    kept = folder / f"{size.users}x{size.hours:g}-{_fingerprint(size):08x}"
    return Prepared(past, live, _kept(kept) or _trained(past, size, kept, progress))


def _fingerprint(size: Size) -> int:
    """Changes with the options and with the code that trains."""
    code = sorted(Path(models.__file__).parent.glob("*.py"))
    return zlib.crc32(b"".join(path.read_bytes() for path in code) + repr(size).encode())


def _kept(folder: Path) -> Path | None:
    try:
        load_snapshot(folder)
    except SnapshotError:
        return None
    return folder


def _trained(past: Trace, size: Size, folder: Path, progress: Progress) -> Path:
    # torch: not worth its second of import when the models are there already
    from predawn.server.models.training import train

    train(
        past,
        out=folder,
        holdout=0.1,
        seed=size.seed,
        max_rows=size.rows,
        epochs=1,
        threads=1,
        foundation=size.foundation,
        on_progress=progress,
    )
    return folder
