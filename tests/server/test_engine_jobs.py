"""One batch: the live version, checked and marked, remembered when it went well."""

from collections.abc import Generator
from typing import Any

import engine_cases as cases
import numpy as np
import pytest
from engine_cases import NOBODY, Halves, Scaled, Sums, histories, items, ranking

from predawn.server.engine import Computed
from predawn.server.engine_jobs import Jobs, pair_batch
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Held, Roster
from predawn.server.errors import InferenceError
from predawn.server.request import PairBatch, UserId


class Whole(Sums):
    """A pair model without slices."""

    pair_slices = None  # type: ignore[assignment]

    def embed_pairs(self, batch: PairBatch) -> Any:
        return np.ones((len(batch.item_hashes), self.dim), dtype=np.float32)


def made() -> tuple[Jobs, Recent, Roster]:
    roster, recent = Roster(), Recent(NOBODY, 8)
    for name, model in {"m": Scaled(2), "fm": Sums(), "r": Halves()}.items():
        roster.hold(name, Held(model, 7))
    return Jobs(roster, recent), recent, roster


def run(slices: Any) -> tuple[Computed, int]:
    """The outcome and the number of slices."""
    assert isinstance(slices, Generator)
    for count in range(1_000):
        try:
            next(slices)
        except StopIteration as ended:
            return ended.value, count
    raise AssertionError("never ends")


def test_users_are_embedded_by_what_is_live_and_remembered() -> None:
    jobs, recent, roster = made()
    computed = jobs.embed("m", lambda: histories([1, 5]))
    assert computed.rows[:, 0].tolist() == [2, 10]
    assert (computed.snapshot, computed.ok.tolist(), computed.error) == (7, [True, True], "")
    assert recent.users("m")[0].users.tolist() == [1]
    roster.stage("m", Held(Scaled(3), 8))
    roster.swap(["m"])
    assert jobs.embed("m", lambda: histories([1])).snapshot == 8


def test_a_row_that_is_not_finite_is_marked_and_the_others_stand() -> None:
    computed = made()[0].embed("m", lambda: histories([cases.NOT_FINITE, 2]))
    assert computed.ok.tolist() == [False, True]
    assert "not finite" in computed.error


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (cases.NOTHING, "returned NoneType"),
        (cases.WIDE, r"returned float32 \[2, 4\], expected float32 \[2, 2\]"),
        (cases.DOUBLES, r"returned float64 \[2, 2\]"),
    ],
)
def test_wrong_rows_are_refused_and_not_remembered(user: int, reason: str) -> None:
    jobs, recent, _ = made()
    with pytest.raises(InferenceError, match=f"model 'm': {reason}"):
        jobs.embed("m", lambda: histories([user, 1]))
    with pytest.raises(InferenceError, match=f"model 'fm': {reason}"):
        run(jobs.pairs("fm", lambda: pair_batch(histories, [items(user, 2)])))
    assert recent.users("m")[0].users.tolist() == [0]


def test_pairs_run_user_by_user_with_the_version_that_they_began_with() -> None:
    jobs, recent, roster = made()
    wanted = [items(10, 2), items(20, 0), items(30, 1)]
    slices = jobs.pairs("fm", lambda: pair_batch(histories, wanted))
    next(slices)
    roster.stage("fm", Held(Sums(), 8))
    roster.swap(["fm"])
    computed, count = run(slices)
    assert count == 2
    assert computed.rows[:, 0].tolist() == [11, 12, 31]
    assert computed.snapshot == 7
    assert len(recent.pairs("fm")[-1].item_hashes) == 3


def test_a_pair_model_without_slices_runs_whole() -> None:
    jobs, _, roster = made()
    roster.hold("fm", Held(Whole(), 3))
    computed, count = run(jobs.pairs("fm", lambda: pair_batch(histories, [items(1, 3)])))
    assert (count, computed.rows.tolist()) == (0, [[1, 1]] * 3)


def test_scores_have_the_rankers_shape_and_are_remembered() -> None:
    jobs, recent, _ = made()
    assert jobs.score("r", ranking(4)).shape == (4, 1)
    assert [len(batch.item_hashes) for batch in recent.rankings("r")] == [4]
    with pytest.raises(InferenceError, match="model 'r': returned float64"):
        jobs.score("r", ranking(4, cases.DOUBLES))


def test_a_pair_batch_is_jagged_in_the_order_given() -> None:
    asked: list[list[UserId]] = []

    def gather(users: Any) -> Any:
        asked.append(list(users))
        return histories(users)

    batch = pair_batch(gather, [items(3, 2), items(1, 1)])
    assert asked == [[3, 1]]
    assert batch.offsets.tolist() == [0, 2, 3] and batch.offsets.dtype == np.int64
    assert batch.item_hashes.tolist() == [1, 2, 1]
