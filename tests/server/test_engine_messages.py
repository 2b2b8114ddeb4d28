"""What crosses between a server and the process of its models arrives as it was sent."""

from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
from engine_cases import NOBODY, histories, items, ranking, recipe

from predawn.server.engine import Computed, Loaded, ModelVersions
from predawn.server.engine_jobs import pair_batch
from predawn.server.engine_messages import Beat, Fault, LoadDone, Setup, Work, WorkDone, fault_of
from predawn.server.errors import ConfigError, InferenceError, SnapshotError


def sent(message: Any) -> Any:
    ours, theirs = Pipe()
    with ours, theirs:
        ours.send(message)
        return theirs.recv()


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("models.m", "is wrong"),
        SnapshotError("out/000001", "is damaged"),
        InferenceError("m", "failed"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: Exception) -> None:
    arrived = sent(fault_of("other", error)).error()
    assert (type(arrived), str(arrived)) == (type(error), str(error))


class Own(Exception):
    """An error that only a model's code knows, and that cannot be copied."""

    def __reduce__(self) -> Any:
        raise TypeError("stays here")


def test_an_error_of_a_models_own_arrives_in_words() -> None:
    fault = sent(fault_of("m", Own("broken")))
    assert fault == Fault("inference", "m", "Own: broken")


def test_batches_and_results_arrive_whole() -> None:
    pairs = sent(Work(1, "fm", pair_batch(histories, [items(3, 2), items(1, 1)])))
    assert pairs.batch.offsets.tolist() == [0, 2, 3]
    assert pairs.batch.users.users.tolist() == [3, 1]
    assert sent(Work(2, "r", ranking(5))).batch.item_hashes.tolist() == [0, 1, 2, 3, 4]
    rows = np.array([[1, np.nan]], dtype=np.float32)
    done = sent(WorkDone(3, Computed(rows, np.array([False]), 7, 9, "not finite"), 9))
    assert np.array_equal(done.outcome.rows, rows, equal_nan=True)
    assert done.outcome.rows.dtype == np.float32
    assert (done.outcome.snapshot, done.outcome.error, done.spent_ns) == (7, "not finite", 9)


def test_what_a_process_needs_to_stand_where_the_last_one_stood_arrives() -> None:
    matrix = np.eye(2, dtype=np.float32)
    setup = Setup(
        {"m": recipe("user", "scaled", options=1)},
        NOBODY,
        64,
        19,
        1.0,
        20,
        {"m": ModelVersions(3, None, 2)},
        {("m", 3): matrix},
    )
    arrived = sent(setup)
    assert arrived.recipes == setup.recipes and arrived.versions == setup.versions
    assert arrived.matrices["m", 3].tolist() == matrix.tolist()
    assert sent(Beat(5, 1, {"fm": {"users": 2}})).kept == {"fm": {"users": 2}}
    loaded = LoadDone(1, Loaded("m", 2, 10, 64), None, {"m": ModelVersions(1, 2)})
    assert sent(loaded) == loaded
