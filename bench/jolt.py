"""What a new snapshot of a user model does to a ranker that was trained with the old one, and what
averaging and alignment leave of it (SUM, arXiv 2311.09544).

On the generated workload, whose users drift and whose items come and go. Snapshot A, tower and
ranker, learns from the first 40 hours, the new snapshot from the next 8 as well: "recurring" (A's
weights trained on, as `predawn train --resume` does), "recurring, full rate" (the same at a first
training's learning rate), "from scratch" (other random weights, the newest 40 hours). Then every
recompute is the new tower's; the ranker stays A's. `jolt_scene` says what each request is served,
through the server's own table. Compared with the same policy had there been no swap, at the same
requests:

jolt            rise of the normalised entropy of A's ranker at the users' first request that is
                served an embedding the new snapshot has part in
jolt_error      its standard error over users
jolt_left       jolt as a share of that without averaging or alignment: at most .5 is promised. Not
                given where there was no jolt to reduce (less than two standard errors)
largest_rise    largest increase of that rise from a request of a user to the next: an average
                takes the step in parts, and hides none of it; largest_rise_left: as jolt_left
rise_at_K       the rise at the K-th such request
loss_before, loss    normalised entropy at the last request before, and at the first
loss_unswapped  at the first, had there been no swap: what the averaging itself costs shows here
cosine          served before to served after; cosine_unswapped: without the swap
largest_step    mean |served - served before| / |served before| at the worst of the requests;
                largest_step_unswapped: without the swap

The ranker is never trained on what it is served here (averaged, of another snapshot), as it would
be in the end: this is the worst case. Users without an embedding of A are left out.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.jolt_scene import F64, Losses, Policy, Scene
from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.models.alignment import enough_users, fit_alignment
from predawn.server.models.contract import RankerModel
from predawn.server.models.loading import ModelSource, load_ranker, load_user_model
from predawn.server.models.training import train
from predawn.server.models.training_fit import FitSettings
from predawn.server.models.user_sizes import HISTORY_LENGTHS
from predawn.server.request import F32, I64
from predawn.server.traces import Trace

NUMBERS = 6
_HOUR_MS = 3_600_000
_ALIGNED_ON = 2048

POLICIES = (
    Policy("none"),
    Policy("mean of 3", average_over=3),
    Policy("exponential 0.3", average_weight=0.3),
    Policy("aligned", aligned=True),
    Policy("aligned, mean of 3", average_over=3, aligned=True),
)
TRAININGS = ("recurring", "recurring, full rate", "from scratch")


@dataclass(frozen=True, slots=True)
class Plan:
    """users: of the workload; first_h, newer_h: hours that A learns from, and the new snapshot
    besides; served_h: hours served after the swap, and before it; size: of the models."""

    users: int
    first_h: float
    newer_h: float
    served_h: float
    size: str

    @property
    def hours(self) -> float:
        """Of the whole trace."""
        return self.first_h + self.newer_h + self.served_h


FULL = Plan(users=6_000, first_h=40, newer_h=8, served_h=16, size="small")
SMOKE = Plan(users=150, first_h=8, newer_h=4, served_h=6, size="tiny")


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """Trains the snapshots, then serves what comes after the swap by every policy."""
    plan = SMOKE if smoke else FULL
    trace = generate(WorkloadOptions(users=plan.users, hours=plan.hours, seed=1))
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        swap_ms = _trained(trace, plan, Path(folder), effort)
        return list(_measured(mark, plan, trace, swap_ms, Path(folder), effort))


def _trained(trace: Trace, plan: Plan, folder: Path, effort: Effort) -> int:
    """Writes snapshot A and those of `TRAININGS` below `folder`; returns the swap's time."""
    first_ms = int(trace.t_ms[0] + plan.first_h * _HOUR_MS)
    swap_ms = first_ms + int(plan.newer_h * _HOUR_MS)
    first, second = np.searchsorted(trace.t_ms, [first_ms, swap_ms]).tolist()
    until, rows, old = trace.slice(0, second), int(trace.offsets[first]), folder / "A"
    newer = int(trace.offsets[second]) - rows
    train(trace.slice(0, first), out=old, holdout=0, seed=0, epochs=1, size=plan.size)
    again = partial(train, until, holdout=0, epochs=1)
    full = FitSettings().learning_rate
    trainings = (
        partial(again, seed=0, resume=old, max_rows=newer),
        partial(again, seed=0, resume=old, max_rows=newer, learning_rate=full),
        partial(again, seed=1, size=plan.size, max_rows=rows),
    )
    for done, (name, training) in enumerate(zip(TRAININGS, trainings, strict=True)):
        effort.progress(0.2 + 0.1 * done)
        training(out=folder / name)
    return swap_ms


def _measured(
    mark: Stamp, plan: Plan, trace: Trace, swap_ms: int, folder: Path, effort: Effort
) -> Iterator[Row]:
    span_ms, length = int(plan.served_h * _HOUR_MS), HISTORY_LENGTHS[plan.size]
    scene = Scene(trace, swap_ms - span_ms, swap_ms, swap_ms + span_ms, length)
    ranker = load_ranker(ModelSource("jolt", snapshot=str(folder / "A")))
    old = _raw(scene, folder / "A")
    unswapped = {policy: scene.served(old, old, policy) for policy in POLICIES}
    for done, training in enumerate(TRAININGS):
        new = _raw(scene, folder / training)
        aligned = _aligned(scene, old, new)
        bare: Jolt | None = None
        for number, policy in enumerate(POLICIES):
            served = scene.served(old, aligned if policy.aligned else new, policy)
            jolt = Jolt(scene, ranker, served, unswapped[policy])
            bare = bare or jolt
            yield from _rows(mark, f"{training}, {policy.name}", jolt, bare)
            share = (done * len(POLICIES) + number + 1) / (len(TRAININGS) * len(POLICIES))
            effort.progress(0.6 + 0.4 * share)


def _raw(scene: Scene, snapshot: Path) -> F32:
    return scene.raw(load_user_model(ModelSource("jolt", snapshot=str(snapshot))))


def _aligned(scene: Scene, old: F32, new: F32) -> F32:
    """`new` turned towards `old`, fitted on users last seen before the swap; unturned where there
    are too few (in a smoke run)."""
    at = scene.latest_before(_ALIGNED_ON)
    if not enough_users(len(at), old.shape[1]):
        return new
    return new @ fit_alignment(old[at], new[at])


class Jolt:
    """The figures of one policy. served, unswapped: float32 [n, dim] of the scene, with the swap
    and without."""

    def __init__(self, scene: Scene, ranker: RankerModel, served: F32, unswapped: F32) -> None:
        counted = scene.seasoned & (scene.previous >= 0)
        self._at = [np.flatnonzero(counted & (scene.number == k)) for k in range(NUMBERS + 1)]
        self._before = scene.previous[self._at[1]]
        self._scene, self._served, self._unswapped = scene, served, unswapped
        swapped = [scene.losses(ranker, at, served) for at in self._at[1:]]
        plain = [scene.losses(ranker, at, unswapped) for at in self._at[1:]]
        self.loss, self.loss_unswapped = swapped[0].normalised, plain[0].normalised
        self.loss_before = scene.losses(ranker, self._before, served).normalised
        found = [rise(mine, other) for mine, other in zip(swapped, plain, strict=True)]
        self.rises = [more for more, _ in found]
        self.error = found[0][1]
        self.users = len(self._at[1])

    @property
    def largest_rise(self) -> float:
        """Between two requests of a user, of those that follow each other."""
        return float(np.diff([0.0, *self.rises]).max())

    def cosine(self, swapped: bool) -> float:
        """Mean over users of the last embedding before and the first after."""
        rows = self._served if swapped else self._unswapped
        before, after = rows[self._before], rows[self._at[1]]
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        return float(((before * after).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())

    def largest_step(self, swapped: bool) -> float:
        """Of the mean steps at each of the requests."""
        rows = self._served if swapped else self._unswapped
        return max(self._step(rows, at) for at in self._at[1:])

    def _step(self, rows: F32, at: I64) -> float:
        before = rows[self._scene.previous[at]]
        lengths: F64 = np.linalg.norm(rows[at] - before, axis=1).astype(np.float64)
        return float((lengths / np.maximum(np.linalg.norm(before, axis=1), 1e-12)).mean())


def rise(swapped: Losses, plain: Losses) -> tuple[float, float]:
    """Rise of the normalised entropy and its standard error; every request is of another user."""
    more, rows = swapped.loss - plain.loss, plain.rows
    per_row = more.sum() / rows.sum()
    spread = np.sqrt(((more - per_row * rows) ** 2).sum()) / rows.sum()
    return float(per_row / plain.entropy), float(spread / plain.entropy)


def _rows(mark: Stamp, case: str, jolt: Jolt, bare: Jolt) -> Iterator[Row]:
    n = jolt.users
    yield mark.row(case, "jolt", jolt.rises[0], "NE", n=n)
    yield mark.row(case, "jolt_error", jolt.error, "NE", n=n)
    yield mark.row(case, "largest_rise", jolt.largest_rise, "NE", n=n)
    if bare.rises[0] > 2 * bare.error:
        left = {"jolt_left": jolt.rises[0] / bare.rises[0]}
        left["largest_rise_left"] = jolt.largest_rise / bare.largest_rise
        for name, share in left.items():
            yield mark.row(case, name, share, "share", n=n)
    for number, more in enumerate(jolt.rises[1:], 2):
        yield mark.row(case, f"rise_at_{number}", more, "NE", n=n)
    for name in ("loss_before", "loss_unswapped", "loss"):
        yield mark.row(case, name, getattr(jolt, name), "NE", n=n)
    for swapped, name in ((True, ""), (False, "_unswapped")):
        cosine, step = jolt.cosine(swapped), jolt.largest_step(swapped)
        yield mark.row(case, f"cosine{name}", cosine, "cosine", "higher", n=n)
        yield mark.row(case, f"largest_step{name}", step, "share", n=n)
